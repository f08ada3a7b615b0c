"""Figures of a benchmark as tables in Markdown, for the screen and for docs/performance.md.

Only the standard library: what was measured stands in JSON files, and the page is written from them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN = "<!-- From here on made by scripts/benchmark.py page; measure again, do not change this text. -->"
END = "<!-- Up to here made by scripts/benchmark.py. -->"
TITLES = {
    "train": "Training",
    "generate": "Decoding",
    "scaling": "Growth with length",
    "memory": "Memory of training",
    "mask": "The mask and the slow way",
    "serve": "Serving",
    "export": "Exports beside the model",
}


def fill_page(page: str, results: Sequence[tuple[Mapping[str, Any], str | None]]) -> str:
    """The page with its tables made anew; the text around them stays.

    Args:
        page: its text.
        results: figures of a benchmark, and where their picture lies as seen from the page, if there is one.

    Raises:
        ValueError: if the page lacks one of the lines `BEGIN` and `END`.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for its tables: it needs the lines {BEGIN!r} and, below it, {END!r}.")
    order = list(TITLES)
    ordered = sorted(results, key=lambda given: order.index(given[0]["benchmark"]))
    sections = [section(result, picture) for result, picture in ordered]
    return f"{before}{begin}\n\n" + "\n\n".join(sections) + f"\n\n{end}{after}"


def read(path: Path) -> dict[str, Any]:
    """What `--json` wrote.

    Raises:
        ValueError: for a file that no benchmark has written.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}). Give what scripts/benchmark.py --json has written.") from error
    if not isinstance(result, dict) or result.get("benchmark") not in TITLES:
        raise ValueError(
            f"{path} holds figures of none of: {', '.join(TITLES)}. Give what scripts/benchmark.py --json has written."
        )
    return result


def section(result: Mapping[str, Any], picture: str | None) -> str:
    """Heading, how and where it was measured, picture, goals, figures."""
    settings = " ".join(
        f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in result["settings"].items()
        if value is not None
    )
    name = result["benchmark"]
    kinds = dict.fromkeys(row["workload"] for row in result["rows"] if "workload" in row)
    what = [TITLES[name], *filter(None, [result["settings"].get("dtype"), " ".join(kinds)])]
    parts = [f"## {', '.join(what)}", f"`scripts/benchmark.py {name} {settings}`", where(result)]
    parts += [] if picture is None else [f"![{TITLES[name]}]({picture})"]
    return "\n\n".join([*parts, *tables(result)])


def where(result: Mapping[str, Any]) -> str:
    """One sentence: machine, versions, commit, date, peaks, what was checked and what is left out."""
    around = result["surroundings"]
    versions = ", ".join(f"{name} {version}" for name, version in around["versions"].items() if version)
    text = (
        f"{around['device']}, {around['threads']} {'thread' if around['threads'] == 1 else 'threads'}; {versions}; "
        f"commit {around['commit']}, {around['date'][:10]}."
    )
    if peaks := result.get("peaks"):
        text += f" Peaks: matrix product {peaks['matmul_gflops']:.0f} GFLOP/s, memory {peaks['stream_gb_s']:.0f} GB/s."
    if checks := result["checks"]:
        text += f" Largest difference from the plain path: {max(check['difference'] for check in checks):.0e}."
    left_out = "; ".join(f"{name} ({why})" for name, why in result["left_out"].items())
    return text + (f" Left out: {left_out}." if left_out else "")


def tables(result: Mapping[str, Any]) -> list[str]:
    """Goals, where there are any, and figures."""
    return [table(result[name]) for name in ("goals", "rows") if result[name]]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a table; numbers stand on the right."""
    heads = list(rows[0])
    lines = [[head.replace("_", " ") for head in heads], *([written(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    right = [isinstance(rows[0][head], int | float | list) for head in heads]
    rule = ["-" * (width - 1) + ":" if number else "-" * width for width, number in zip(widths, right, strict=True)]
    padded = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def written(value: Any) -> str:
    """A figure for a reader; median and quartiles as 2.41 (2.30-2.55)."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value):
        median, low, high = (written(float(one)) for one in value)
        return f"{median} ({low}-{high})"
    return str(value)
