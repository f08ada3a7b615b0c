"""How a model learned: the rows of training_curve.csv as a picture that travels with the folder, and as a table."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfattn_hf.insight.drawing import Drawing, Line, Text

from .card_words import NAMES, table

CURVE, PICTURE = "training_curve.csv", "training_curve.svg"
ROWS = 10  # of the table, at most
WIDTH, HEIGHT, GAP = 300.0, 180.0, 90.0  # of a panel, and between two
TICKS = 6  # spaces between them, at most
Points = list[tuple[float, float]]


def curve_section(folder: Path, metric: str, smoothed: str) -> str:
    """What a card shows of it; empty without evaluations.

    Args:
        folder: of the model.
        metric: that chose the weights.
        smoothed: said of the losses.
    """
    rows, loss = [], ""
    for line in _lines(folder):
        loss = line.get("loss") or loss
        if line.get("eval_loss"):
            value = line.get(f"eval_{metric}") or ""
            rows.append((line["step"], f"{float(loss):.3f}" if loss else "", f"{float(line['eval_loss']):.3f}",
                         f"{float(value):.2f}" if value else ""))  # fmt: skip
    if not rows:
        return ""
    chosen = _spread(rows, ROWS)
    which = f"all of it is in `{CURVE}`" if len(chosen) < len(rows) else "every evaluation"
    shown = f"![Losses and {NAMES[metric]} over the steps of the training]({PICTURE})\n\n"
    return (
        f"How it learned ({which}; losses in nats per token{smoothed}):\n\n"
        + (shown if (folder / PICTURE).is_file() else "")
        + table(("step", "training loss", "validation loss", NAMES[metric]), chosen)
    )


def curve_picture(folder: Path, metric: str) -> str | None:
    """Losses and metric over steps, as SVG; None where there is no line to draw, which takes two points."""
    lines = _lines(folder)
    losses = {"training": points_of(lines, "loss"), "validation": points_of(lines, "eval_loss")}
    panels = {
        "loss, in nats per token": losses,
        f"{NAMES[metric]}, validation": {"": points_of(lines, f"eval_{metric}")},
    }
    drawing = Drawing()
    said: list[str] = []
    for title, given in panels.items():
        series = {name: points for name, points in given.items() if len(points) > 1}
        if series:
            _panel(drawing, len(said) * (WIDTH + GAP), title, series)
            said.append(f"{title}: {'; '.join(_words(name, points) for name, points in series.items())}")
    return drawing.svg("How the model learned", ". ".join(said)) if said else None


def points_of(lines: Sequence[dict[str, str]], column: str) -> Points:
    """Step and value of every row that has one."""
    found = [(float(line["step"]), float(line[column])) for line in lines if line.get(column)]
    return [point for point in found if all(map(math.isfinite, point))]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others.

    Examples:
        >>> ticks(1.3, 6.2)
        [2.0, 3.0, 4.0, 5.0, 6.0]
    """
    raw = (high - low) / TICKS
    size = 10 ** math.floor(math.log10(raw))
    step = next(times * size for times in (1, 2, 5, 10) if times * size >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def _panel(drawing: Drawing, left: float, title: str, series: dict[str, Points]) -> None:
    """One pair of axes with its lines; the first is drawn through, the second dashed."""
    xs, ys = zip(*[point for points in series.values() for point in points], strict=True)
    (x0, x1), (y0, y1) = _range(xs), _range(ys)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (point[0] - x0) / (x1 - x0), (point[1] - y0) / (y1 - y0)
        return round(left + WIDTH * x, 2), round(HEIGHT * (1 - y), 2)

    drawing.texts.append(Text(left, -34, title, 13, bold=True))
    drawing.lines.append(Line(((left, 0.0), (left, HEIGHT), (left + WIDTH, HEIGHT)), plain=True))
    for value in ticks(y0, y1):
        y = place((x0, value))[1]
        drawing.lines.append(Line(((left - 4, y), (left, y)), plain=True))
        drawing.texts.append(Text(left - 8, y + 4, f"{value:g}", 11, anchor="end"))
    for value in ticks(x0, x1):
        x = place((value, y0))[0]
        drawing.lines.append(Line(((x, HEIGHT), (x, HEIGHT + 4)), plain=True))
        drawing.texts.append(Text(x, HEIGHT + 18, f"{value:g}", 11, anchor="middle"))
    drawing.texts.append(Text(left + WIDTH, HEIGHT + 34, "step", 11, anchor="end"))
    for number, (name, points) in enumerate(series.items()):
        role, dashed = (("think", False), ("mix", True))[number]
        drawing.lines.append(Line(tuple(map(place, points)), role, dashed=dashed, plain=True, key=name or title))
        if len(series) > 1:  # with one line the title says it
            start = left + 110 * number
            drawing.lines.append(Line(((start, -16.0), (start + 24, -16.0)), role, dashed=dashed, plain=True))
            drawing.texts.append(Text(start + 30, -12, name, 11))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _words(name: str, points: Points) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return f"{name} {start:.4g} at step {first:g}, {end:.4g} at step {last:g}".strip()


def _lines(folder: Path) -> list[dict[str, str]]:
    path = folder / CURVE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    """So many rows at most, evenly chosen, the last one among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(number * (len(rows) - 1) / (most - 1))] for number in range(most)]
