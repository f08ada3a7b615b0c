r"""The exact tree of every SCAN command, from the grammar that made it.

Lake and Baroni 2018, https://arxiv.org/abs/1711.00350, figure 6:

    C -> S and S | S after S | S          S -> V twice | V thrice | V
    V -> D[1] opposite D[2] | D[1] around D[2] | D | U
    D -> U left | U right | turn left | turn right          U -> walk | look | run | jump

The tree says in which order meaning is put together: the word that does something to a phrase is its head, as in the
paper's interpretation function (figure 7). `and` and `after` stand above their two clauses, `twice` and `thrice` above
what is repeated, `opposite` and `around` above verb and direction, `left` and `right` above their verb:

    jump around left twice after walk right
                    after
                   /     \
              twice       right
                |           |
             around        walk
             /    \
         jump      left
"""

from collections.abc import Sequence

from .heads import TreeError

_VERBS = ("walk", "look", "run", "jump")
_TURN = "turn"  # a verb that needs a direction
_DIRECTIONS = ("left", "right")
_MANNERS = ("opposite", "around")
_TIMES = ("twice", "thrice")
_JOINTS = ("and", "after")


def scan_heads(words: Sequence[str]) -> list[int]:
    """Heads of a SCAN command, from 0 on, the root its own.

    Raises:
        TreeError: naming the first word that does not fit, and what would.

    Examples:
        >>> scan_heads(["jump", "left", "twice"])
        [1, 2, 2]
    """
    heads = [-1] * len(words)
    place, root = _clause(words, 0, heads)
    if place < len(words):
        joint = _expect(words, place, _JOINTS)
        place, right = _clause(words, joint + 1, heads)
        heads[root] = heads[right] = joint
        root = joint
    if place < len(words):
        raise TreeError(f"word {place + 1} ({words[place]!r}) follows a whole SCAN command", "no SCAN command")
    heads[root] = root
    return heads


def _clause(words: Sequence[str], start: int, heads: list[int]) -> tuple[int, int]:
    """Reads an S; returns the place after it and its root."""
    place, root = _phrase(words, start, heads)
    if place < len(words) and words[place] in _TIMES:
        heads[root] = place
        return place + 1, place
    return place, root


def _phrase(words: Sequence[str], start: int, heads: list[int]) -> tuple[int, int]:
    """Reads a V; returns the place after it and its root."""
    verb = _expect(words, start, (*_VERBS, _TURN))
    place = start + 1
    following = words[place] if place < len(words) else None
    if following in _MANNERS:
        direction = _expect(words, place + 1, _DIRECTIONS)
        heads[verb] = heads[direction] = place
        return direction + 1, place
    if following in _DIRECTIONS:
        heads[verb] = place
        return place + 1, place
    if words[verb] == _TURN:
        _expect(words, place, (*_DIRECTIONS, *_MANNERS))
    return place, verb


def _expect(words: Sequence[str], place: int, legal: Sequence[str]) -> int:
    if place < len(words) and words[place] in legal:
        return place
    found = f"word {place + 1} is {words[place]!r}" if place < len(words) else f"the text ends after {place} words"
    raise TreeError(f"{found}, where a SCAN command has {' or '.join(legal)}", "no SCAN command")
