"""What happens inside of a box of the architecture, drawn small: who reads whom, word by word.

Five words stand side by side in every box of a stack, at the same `COLUMNS`, so that a mixer is seen to move what it
knows from column to column, and a feed-forward layer to stay within one.
"""

import math
from typing import Any

from .drawing import arrow_head, block, colour, dot, path

WIDTH = 300
COLUMNS = (40, 95, 150, 205, 260)
WORDS = len(COLUMNS)
MIXER_HEIGHT, THINK_HEIGHT, ROW_HEIGHT, POSITION_WIDTH, POSITION_HEIGHT = 96, 76, 34, 166, 90
HIGH, LOW = 38, 84  # of the words after and before a mixer
ATTENTIONS = ("self_attention", "local_attention")


def seen_by(mixer: str, place: int, radius: int, causal: bool) -> list[int]:
    """The words that the word at a place is computed from, in one layer."""
    reach = radius if mixer in ("window", "local_attention") else WORDS
    return [other for other in range(WORDS) if abs(other - place) <= reach and not (causal and other > place)]


def draw_mixer(mixer: str, config: Any, causal: bool, cheats: bool = False) -> str:
    """Words below, the same words one layer on above, and between them who reads whom; one word's reading is strong."""
    if mixer == "rnn":
        return _cells(causal)
    strong = 3 if causal or cheats else 2
    links = [(low, high) for high in range(WORDS) for low in seen_by(mixer, high, config.window_radius, causal)]
    # Fixed weights are drawn as what they are, different from pair to pair and the same for every input.
    thick = (lambda low, high: 0.6 + (7 * low + 3 * high) % 5 * 0.55) if mixer == "dense" else (lambda low, high: 1.1)
    faint = [
        path([(COLUMNS[low], LOW), (COLUMNS[high], HIGH)], "", thick(low, high), 0.16)
        for low, high in links
        if high != strong
    ]
    # What a decoder is to write next stands below on the right: who reads it, cheats.
    heads = config.num_attention_heads if mixer in ATTENTIONS else 1
    marked = [
        _reading(low, strong, "warn" if cheats and low > strong else "mix", heads, 1.2 + thick(low, strong))
        for low, high in links
        if high == strong
    ]
    gone = [_masked(low, strong) for low in range(strong + 1, WORDS) if causal and mixer in ATTENTIONS]
    mark = block if mixer in ("window", "dense") else dot
    return "".join([*faint, *gone, *marked, *_words(mark, LOW, ""), *_words(mark, HIGH, "mix", strong)])


def draw_read(heads: int) -> str:
    """The states of the source above, as the encoder drew them; one target word below reads all of them."""
    strong = 3
    faint = [
        path([(x, LOW), (column, HIGH)], "", 1, 0.12) for x in COLUMNS for column in COLUMNS if x != COLUMNS[strong]
    ]
    marked = [_reading(strong, high, "read", heads, 2.2) for high in range(WORDS)]
    return "".join([*faint, *marked, *_words(dot, LOW, "", strong), *_words(dot, HIGH, "mix", size=5)])


def draw_think(gated: bool) -> str:
    """Every word alone: made wide, bent, made narrow again."""
    parts = []
    for x in COLUMNS:
        parts.append(path([(x, 70), (x, 30)], "think", 1.2, 0.7))
        wide = 17 if not gated else 9
        for shift in (0,) if not gated else (-10, 10):
            half = [(4, 65), (wide, 56), (wide, 46), (4, 37)]
            corners = [(x + shift - a, b) for a, b in half] + [(x + shift + a, b) for a, b in reversed(half)]
            points = " ".join(f"{a:g},{b:g}" for a, b in corners)
            parts.append(f'<polygon points="{points}" style="fill:{colour("think")}" opacity=".62"/>')
    return "".join(parts)


def draw_states() -> str:
    """The states that are handed on, one for each word."""
    return "".join(_words(dot, 17, "mix", size=5))


def draw_position(name: str) -> str:
    """What an encoding is made of: waves, rows of a table, a turn, a table of affinities, a tree."""
    middle = POSITION_WIDTH / 2
    if name.startswith("tree"):
        nodes = {
            "a": (middle, 33),
            "b": (middle - 26, 47),
            "c": (middle + 26, 47),
            "d": (middle + 8, 62),
            "e": (middle + 44, 62),
        }
        ways = [path([nodes[a], nodes[b]], "position", 1.6) for a, b in ("ab", "ac", "cd", "ce")]
        return "".join([*ways, *(dot(x, y, 4, "position") for x, y in nodes.values())])
    if name == "sinusoidal":
        waves = []
        for k, waves_in_row in enumerate((4.0, 2.0, 1.0)):
            half, y = 134 / (2 * waves_in_row), 36 + 11 * k
            arcs = [f"q{half / 2:g} {-8 if n % 2 else 8} {half:g} 0" for n in range(int(2 * waves_in_row))]
            waves.append(
                f'<path class="line" d="M16 {y} {" ".join(arcs)}" style="stroke:{colour("position")}" '
                f'stroke-width="1.7" opacity="{1 - 0.25 * k:g}"/>'
            )
        return "".join(waves)
    if name == "learned":
        cells = [(column, row) for column in range(9) for row in range(3)]
        return "".join(
            block(middle - 63 + 14 * c, 33 + 11 * r, 12, 8, "position", 0.2 + 0.75 * ((5 * c + 3 * r + c * r) % 7) / 6)
            for c, r in cells
        )
    if name == "rope":
        turns = []
        for k in range(4):
            x, angle = middle - 54 + 36 * k, k * 0.9
            tip = (x + 11 * math.cos(angle), 47 - 11 * math.sin(angle))
            turns.append(
                f'<circle cx="{x:g}" cy="47" r="13" class="line" style="stroke:{colour("position")}" opacity=".45"/>'
            )
            turns.append(path([(x, 47), tip], "position", 2.2) + dot(*tip, 2.6, "position"))
        return "".join(turns)
    return "".join(  # a table of affinities, darker where words are near
        block(
            middle - 28 + 8 * column + 8, 30 + 6.8 * row, 7, 5.6, "position", max(0.12, 1 - 0.22 * abs(row - column)), 1
        )
        for row in range(5)
        for column in range(5)
    )


def _reading(low: int, high: int, role: str, heads: int, width: float) -> str:
    """One word read by another: a line for every head, up to four."""
    (x0, y0), (x1, y1), count = (COLUMNS[low], LOW), (COLUMNS[high], HIGH), min(heads, 4)
    length = math.hypot(x1 - x0, y1 - y0)
    lines = []
    for head in range(count):
        shift = 2.7 * (head - (count - 1) / 2) / length
        across, along = shift * (y1 - y0), shift * (x0 - x1)
        ends = [(round(x0 + across, 2), round(y0 + along, 2)), (round(x1 + across, 2), round(y1 + along, 2))]
        lines.append(path(ends, role, width if count == 1 else 1.1))
    return "".join(lines)


def _masked(low: int, high: int) -> str:
    """A reading that the mask forbids."""
    x, y = (COLUMNS[low] + COLUMNS[high]) / 2, (LOW + HIGH) / 2
    way = path([(COLUMNS[low], LOW), (COLUMNS[high], HIGH)], "", 1.2, 0.4).replace(
        "<path", '<path stroke-dasharray="2 4"'
    )
    return f'{way}<text x="{x + 9:g}" y="{y + 1:g}" font-size="11.5" class="soft">−∞</text>'


def _words(mark: Any, y: float, role: str, strong: int | None = None, size: float = 4) -> list[str]:
    """A mark for every word: round, or square where nothing is compared."""
    marks = []
    for place, x in enumerate(COLUMNS):
        is_soft = strong is not None and place != strong
        opacity = 0.45 if is_soft else 0.9
        if mark is block:
            marks.append(block(x - size, y - size, 2 * size, 2 * size, role, opacity, round=1.5))
        else:
            marks.append(dot(x, y, size, role, opacity))
    return marks


def _cells(causal: bool) -> str:
    """Cells of a recurrent layer, unrolled: each waits for the one before it; in an encoder a second row reads back."""
    lanes = [(61.0, 1)] if causal else [(51.0, 1), (73.0, -1)]
    parts = []
    for x in COLUMNS:
        parts.append(path([(x, 91), (x, 33)], "", 1.1, 0.3))
        parts.append(arrow_head([(x, 91), (x, 31)], "", 5).replace("<polygon", '<polygon opacity=".45"'))
    for y, step in lanes:
        order = COLUMNS[::step]
        for here, there in zip(order, order[1:], strict=False):
            way = [(here + 15 * step, y), (there - 15 * step, y)]
            parts.append(path([way[0], (way[1][0] - 4 * step, y)], "mix", 2) + arrow_head(way, "mix", 7))
        for x in COLUMNS:
            parts.append(block(x - 14, y - 8, 28, 16, "mix", 0.85, round=4))
    return "".join(parts)
