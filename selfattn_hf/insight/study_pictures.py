"""Pictures of a study's results, as SVG: the length-generalisation curve, and dots for what has no length.

Everything drawn is read from the results as they stand in results.json, and nothing is computed anew. Text stays text,
takes the page's side in light and dark, and a description stands beside the picture; matplotlib is the extra `viz`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people who see few colours, and readable on white and on near-black; None is the ink of the text.
COLOURS = ("#2F7FC1", "#D55E00", "#0A9873", "#C0609A", None, "#B07A00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d")
SHARES = ("token_accuracy", "exact_match")
TITLES = {"exact_match": "whole outputs right, in %", "token_accuracy": "tokens right, teacher-forced, in %",
          "bleu": "BLEU", "chrf": "chrF", "loss": "loss", "tokens_per_second": "target tokens a second, training",
          "parameters": "parameters"}  # fmt: skip
_INK = "#010203"  # stands for the colour of the text until the picture is written
_STYLE = (
    "svg{color:#1b1f24;background:#ffffff}"
    "@media(prefers-color-scheme:dark){svg{color:#e6e8eb;background:#14171b}}"
    "text{font-family:system-ui,sans-serif}"
)


def draw_study(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the results hold: length_curve.svg, cells.svg, or both.

    Raises:
        ValueError: if matplotlib is missing.
    """
    drawn = []
    if curve_of(results, results["metric"]):
        drawn.append(folder / "length_curve.svg")
        draw_length_curve(results, drawn[-1])
    if any(one["length"] is None for one in results["summary"]):
        drawn.append(folder / "cells.svg")
        draw_cells(results, drawn[-1])
    return drawn


def curve_of(results: Mapping[str, Any], metric: str) -> dict[str, list[tuple[float, float, float, float]]]:
    """Cell -> (length, mean, least, greatest) by rising length, where there is such a figure.

    Examples:
        >>> curve_of(results, "exact_match")["rope"]
        [(8.0, 100.0, 100.0, 100.0), (16.0, 41.5, 33.0, 50.0)]
    """
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for one in results["summary"]:
        if one["length"] is not None and one[f"{metric}_mean"] is not None:
            point = (one["length"], *(one[f"{metric}_{what}"] for what in ("mean", "min", "max")))
            points.setdefault(one["cell"], []).append(point)
    return {cell: sorted(points[cell]) for cell in results["cells"] if cell in points}


def length_curve(results: Mapping[str, Any]) -> "Figure":
    """The metric over length, a line for each cell, a band from the worst to the best seed; beside it tokens right."""
    metrics = [name for name in dict.fromkeys((results["metric"], "token_accuracy")) if curve_of(results, name)]
    figure = _figure(4.6 * len(metrics) + 1.7, 4.4)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        curves = curve_of(results, metric)
        for cell, points in curves.items():
            look = _look(results["cells"].index(cell))
            lengths, means, least, greatest = zip(*points, strict=True)
            axes.plot(lengths, means, label=cell, linewidth=1.6, markersize=5, **look)
            axes.fill_between(lengths, least, greatest, color=look["color"], alpha=0.15, linewidth=0)
        _frame(axes, results["axis"], TITLES.get(metric, metric))
        if metric in SHARES:
            axes.set_ylim(-3, 103)
        if results["trained_to"] is not None:
            axes.axvline(results["trained_to"], color=_INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                f"trained to {results['trained_to']:g}", (results["trained_to"], 1), xytext=(0, 2), va="bottom",
                ha="center", fontsize=8, color=_INK, xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
    handles, labels = panels[0].get_legend_handles_labels()
    plain: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 3.2, "labelcolor": _INK}
    figure.legend(handles, labels, loc="outside right center", **plain)
    return figure


def cells_picture(results: Mapping[str, Any]) -> "Figure":
    """A row for each cell: a dot for the mean with its number, a line from the worst to the best seed."""
    tests = list(dict.fromkeys(one["test"] for one in results["summary"] if one["length"] is None))
    panels = [(test, results["metric"]) for test in tests] + [(tests[0], "tokens_per_second")]
    cells = results["cells"]
    figure = _figure(3.6 * len(panels) + 1.6, 0.42 * len(cells) + 1.2)
    for place, (axes, (test, metric)) in enumerate(
        zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True)
    ):
        by_cell = {one["cell"]: one for one in results["summary"] if one["test"] == test and one["length"] is None}
        for row, cell in enumerate(cells):
            one = by_cell.get(cell)
            if one is None or one[f"{metric}_mean"] is None:
                continue
            mean, least, greatest = (one[f"{metric}_{what}"] for what in ("mean", "min", "max"))
            axes.plot([least, greatest], [row, row], color=COLOURS[0], linewidth=4, alpha=0.35)
            axes.plot([mean], [row], color=COLOURS[0], marker="o", markersize=7, label=cell)
            axes.annotate(number(mean, metric), (mean, row), xytext=(0, 6), textcoords="offset points", color=_INK,
                          ha="center", fontsize=8)  # fmt: skip
        title = TITLES.get(metric, metric)
        _frame(axes, title if metric == "tokens_per_second" or len(tests) == 1 else f"{test}: {title}", "")
        axes.set_xlim(0, 1.15 * max((one[f"{metric}_max"] or 0.0 for one in by_cell.values()), default=0.0) or 1.0)
        if place == 0:
            axes.set_yticks(range(len(cells)), cells)
            axes.set_ylim(len(cells) - 0.5, -0.8)
    return figure


def draw_length_curve(results: Mapping[str, Any], path: Path) -> None:
    """Write `length_curve` as SVG, with its figures in words."""
    metric = results["metric"]
    curves = curve_of(results, metric)
    words = [
        f"{cell}: " + ", ".join(f"{number(mean, metric)} at {length:g}" for length, mean, *_ in points)
        for cell, points in curves.items()
    ]
    _save(
        length_curve(results),
        path,
        f"Study {results['study']}: {TITLES.get(metric, metric)} by {results['axis']}",
        words,
    )


def draw_cells(results: Mapping[str, Any], path: Path) -> None:
    """Write `cells_picture` as SVG, with its figures in words."""
    metric = results["metric"]
    words = [
        f"{one['cell']}, {one['test']}: {number(one[f'{metric}_mean'], metric)}"
        for one in results["summary"]
        if one["length"] is None and one[f"{metric}_mean"] is not None
    ]
    _save(cells_picture(results), path, f"Study {results['study']}: {TITLES.get(metric, metric)}", words)


def number(value: float, metric: str) -> str:
    """A figure as it is written beside its dot."""
    if not math.isfinite(value):
        return "none"
    return f"{value:.3f}" if metric == "loss" else f"{value:,.0f}" if metric == "tokens_per_second" else f"{value:.1f}"


def _look(place: int) -> dict[str, Any]:
    """Colour, marker and line of a cell: no two of the first 13 have the same marker."""
    colour = COLOURS[place % len(COLOURS)]
    return {
        "color": _INK if colour is None else colour,
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": ("-", (0, (5, 2)), (0, (1, 1)))[place // len(COLOURS) % 3],
    }


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "pictures are drawn by matplotlib, which is not installed: pip install 'selfattn_hf[viz]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _frame(axes: "Axes", xlabel: str, ylabel: str) -> None:
    axes.set_facecolor("none")
    axes.set_xlabel(xlabel, color=_INK, fontsize=9)
    axes.set_title(ylabel, color=_INK, fontsize=10, loc="left", pad=18)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(color="#7F7F7F", alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)


def _save(figure: "Figure", path: Path, title: str, words: Sequence[str]) -> None:
    """Write an SVG that follows the page's theme and says in words what it shows; the same results, the same file."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "selfattn_hf"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    text = path.read_text(encoding="utf-8").replace(_INK, "currentColor")
    said = f"<title>{escape(title)}</title><desc>{escape('; '.join(words))}</desc><style>{_STYLE}</style>"
    text = re.sub(r"(<svg [^>]*?)>", rf'\1 role="img" aria-label="{escape(title, quote=True)}">', text, count=1)
    start = text.index(">", text.index("<svg ")) + 1
    path.write_text(text[:start] + said + text[start:], encoding="utf-8")
