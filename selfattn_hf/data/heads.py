"""Dependency trees as heads: those that data bring are checked, those that serve as controls are made.

Heads of n words count from 0 here, and the root is its own head. Universal Dependencies count from 1, with 0 above the
root; data and callers write them that way (https://universaldependencies.org/format.html).
"""

from collections.abc import Sequence
from random import Random
from typing import Any


class TreeError(ValueError):
    """A text without a tree that can be used; `reason` is what such rows are counted under."""

    def __init__(self, message: str, reason: str = "broken tree") -> None:
        super().__init__(message)
        self.reason = reason


def check_heads(heads: Sequence[Any] | None, words: Sequence[str]) -> list[int]:
    """Heads in the way of Universal Dependencies, as numbers or digits -> heads from 0 on, the root its own.

    Args:
        heads: one per word: the number of its head word, from 1 on; 0 for the root.
        words: for messages.

    Raises:
        TreeError: naming the word, if there are more or fewer heads than words, one is no number or no word's, or they
            are no tree with one root.

    Examples:
        >>> check_heads(["2", "0"], ["old", "cats"])
        [1, 1]
    """
    if not isinstance(heads, Sequence) or isinstance(heads, str) or len(heads) != len(words):
        given = f"{len(heads)} are given" if isinstance(heads, list | tuple) else f"{heads!r} is given"
        raise TreeError(f"its {len(words)} words need a list of as many heads, and {given}")
    numbers = [_number(head, place, words) for place, head in enumerate(heads)]
    roots = [place for place, number in enumerate(numbers) if number == 0]
    if not roots:
        raise TreeError(f"none of its {len(words)} words has the head 0, and a tree has a root")
    if len(roots) > 1:
        first, second = (_name(root, words) for root in roots[:2])
        raise TreeError(f"{first} and {second} have the head 0, and a tree has one root")
    checked = [place if number == 0 else number - 1 for place, number in enumerate(numbers)]
    _refuse_cycles(checked, roots[0], words)
    return checked


def chain(length: int) -> list[int]:
    """Every word hangs on the one before it; the first is the root."""
    return [max(place - 1, 0) for place in range(length)]


def flat(length: int) -> list[int]:
    """Every word hangs on the first."""
    return [0] * length


def random_heads(length: int, seed: int) -> list[int]:
    """A tree drawn uniformly from all trees over these words, each word as likely the root.

    The first steps of a random walk into every word make such a tree (Aldous 1990,
    https://doi.org/10.1137/0403039). Only `Random.random` promises the same numbers in every version of Python.
    """
    if length == 0:
        return []
    draw = Random(seed)
    heads = [-1] * length
    here = int(draw.random() * length)
    heads[here] = here
    missing = length - 1
    while missing:
        there = int(draw.random() * length)
        if heads[there] < 0:
            heads[there] = here
            missing -= 1
        here = there
    return heads


def _number(head: Any, place: int, words: Sequence[str]) -> int:
    text = str(head)
    if isinstance(head, bool) or not (text.isascii() and text.isdigit()):
        raise TreeError(
            f"{_name(place, words)} has the head {head!r}, which is no number from 0 on. What stands in no tree, "
            "such as a multi-word token beside its words, must not be among the words"
        )
    if int(text) > len(words):
        raise TreeError(f"{_name(place, words)} has the head {text}, and there are {len(words)} words")
    return int(text)


def _refuse_cycles(heads: list[int], root: int, words: Sequence[str]) -> None:
    reaches_root = [place == root for place in range(len(heads))]
    for start in range(len(heads)):
        path, place = set(), start
        while not reaches_root[place]:
            if place in path:
                above = "its own head" if heads[place] == place else "above itself"
                raise TreeError(f"{_name(place, words)} is {above}, and a tree has no circle")
            path.add(place)
            place = heads[place]
        for place in path:
            reaches_root[place] = True


def _name(place: int, words: Sequence[str]) -> str:
    return f"word {place + 1} ({words[place]!r})"
