"""The figures of a benchmark as one SVG, written by hand: bars of what is compared, lines of what grows.

Only the standard library. A bar or a line has its number beside it, so that no axis has to be read.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ._page import written

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
OURS_COLOUR, OTHERS_COLOUR = COLOURS[0], "#BBBBBB"
# Benchmark -> what makes a group of bars, whose bar it is, and how long it is.
BARS = {
    "train": (("workload",), "side", "tokens_per_second"),
    "generate": (("rows", "beams"), "side", "tokens_per_second"),
    "memory": ((), "side", "peak_mb"),
    "mask": (("tokens",), "tokens", "ratio"),
    "serve": (("clients",), "side", "requests_per_second"),
    "export": (("rows",), "side", "sentences_per_second"),
}
WIDTH, LABEL, BAR, LINE = 760, 170, 18, 22
PLOT = (LABEL - 100, 20, 420, 380)  # left, top, width, height of the lines


def picture(result: Mapping[str, Any]) -> str:
    """An SVG of the figures that `run` of any benchmark has returned."""
    if result["benchmark"] == "scaling":
        return lines(result["settings"]["lengths"], {row["layer"]: row for row in result["rows"]})
    return bars(result["rows"], *BARS[result["benchmark"]])


def bars(rows: Sequence[Mapping[str, Any]], group: Sequence[str], label: str, length: str) -> str:
    """Groups of bars, in each the longest as wide as the picture allows; ours are coloured."""
    parts, y, last = [text(8, 16, length.replace("_", " "), bold=True)], 24, None
    longest: dict[tuple[Any, ...], float] = {}
    for row in rows:
        key = tuple(row[name] for name in group)
        longest[key] = max(longest.get(key, 0.0), number(row[length]))
    for row in rows:
        key = tuple(row[name] for name in group)
        if key != last and group != (label,):
            y += LINE
            parts.append(text(8, y - 5, ", ".join(f"{name} {row[name]}" for name in group), bold=True))
        last = key
        value = number(row[length])
        most = longest[key] if group != (label,) else max(longest.values())
        wide = (WIDTH - LABEL - 80) * value / (most or 1)
        colour = OURS_COLOUR if str(row[label]).startswith("selfattn") else OTHERS_COLOUR
        parts.append(text(LABEL - 8, y + BAR - 5, str(row[label]), anchor="end"))
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{wide:.1f}" height="{BAR - 3}" fill="{colour}"/>')
        parts.append(text(LABEL + wide + 6, y + BAR - 5, written(value)))
        y += LINE
    return svg(parts, y + 8)


def lines(lengths: Sequence[int], layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Milliseconds over length, both in logarithms; names stand at the ends of the lines."""
    left, top, wide, high = PLOT
    points = {
        name: [(length, number(row[f"ms_{length}"])) for length in lengths if row[f"ms_{length}"] is not None]
        for name, row in layers.items()
    }
    values = [math.log(value) for of in points.values() for _, value in of] or [0.0]
    low, high_value = min(values), max(values)
    first, last = math.log(lengths[0]), math.log(lengths[-1])

    def place(length: int, value: float) -> tuple[float, float]:
        x = left + wide * (math.log(length) - first) / ((last - first) or 1)
        return x, top + high * (1 - (math.log(value) - low) / ((high_value - low) or 1))

    parts = [text(8, 14, "ms, forward and backward, over the length of rows; both in logarithms", bold=True)]
    for tick in (digit * 10**power for power in range(7) for digit in (1, 2, 5)):
        if low <= math.log(tick) <= high_value:
            _, y = place(lengths[0], tick)
            parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + wide}" y2="{y:.1f}" stroke="#DDDDDD"/>')
            parts.append(text(left - 8, y + 4, f"{tick:,}", anchor="end"))
    for length in lengths:
        x, _ = place(length, math.exp(low))
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + high}" stroke="#DDDDDD"/>')
        parts.append(text(x, top + high + 16, str(length), anchor="middle"))
    ends = []
    for turn, (name, of) in enumerate((name, of) for name, of in points.items() if of):
        colour, dashed = COLOURS[turn % len(COLOURS)], ' stroke-dasharray="5 3"' if turn >= len(COLOURS) else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in of))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        ends.append((place(*of[-1]), f"{name} {written(of[-1][1])}", colour))
    below = -math.inf
    for (x, y), label, colour in sorted(ends, key=lambda end: end[0][1]):
        below = max(y, below + 14)  # names do not cover each other
        parts.append(text(x + 8, below + 4, label, colour=colour))
    return svg(parts, max(top + high + 28, below + 12))


def number(value: Any) -> float:
    """A figure; of median and quartiles the median."""
    return float(value[0] if isinstance(value, list) else value)


def text(x: float, y: float, content: str, *, anchor: str = "start", bold: bool = False, colour: str = "#222") -> str:
    """One line of text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(content)}</text>'


def svg(parts: Sequence[str], height: float) -> str:
    """A whole file, on white."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>',
        *parts,
        "</svg>\n",
    ])  # fmt: skip
