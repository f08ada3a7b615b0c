"""The results of a study: a row for every cell, seed and test set; means and spreads; a table."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from .disk import write_text, writing
from .report import versions
from .run_folder import RESULTS_FILE
from .study import FIGURES, Run, Study
from .study_runs import CELL_FILE, FAILED_FILE, commit, state_of_run, tested

SHARES = ("token_accuracy", "exact_match")


def gather(study: Study) -> dict[str, Any]:
    """What is known of a study so far; reads folders and trains nothing.

    Returns:
        `rows`: one for each run and test set, and for each length where a test set is told apart by it; `summary`: one
        for each cell and test set, with mean, standard deviation, least and greatest over the seeds, and the seeds;
        `failed` and `missing`: runs without rows; and what the study is.
    """
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    varied = list(dict.fromkeys(name for run in study.runs for name in run.varies))
    for run in study.runs:
        place = {"cell": run.cell, "seed": run.seed, "folder": run.name}
        state, figures = state_of_run(run), tested(run)
        if state == "failed":
            error = json.loads((run.folder / FAILED_FILE).read_text(encoding="utf-8"))
            failed.append({**place, "error": error["error"], "commit": error["commit"]})
        elif state != "finished" or any(test.key not in figures for test in study.tests):
            missing.append({**place, "state": "not tested" if state == "finished" else state})
        if state == "finished":
            known = [(test.name, figures.get(test.key, [])) for test in study.tests]
            rows += _rows_of(run, varied, known)
    return {
        "study": study.name,
        "metric": study.metric,
        "trained_to": study.trained_to,
        "axis": study.axis,
        "varies": varied,
        "cells": list(dict.fromkeys(run.cell for run in study.runs)),
        "seeds": list(dict.fromkeys(run.seed for run in study.runs)),
        "left_out": study.left_out,
        "rows": rows,
        "summary": summarise(rows),
        "failed": failed,
        "missing": missing,
        "gathered_with": {"commit": commit(), **versions()},
    }


def _rows_of(run: Run, varied: Sequence[str], known: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    trained = json.loads((run.folder / "model" / RESULTS_FILE).read_text(encoding="utf-8"))
    cell = run.folder / CELL_FILE
    made = json.loads(cell.read_text(encoding="utf-8")) if cell.is_file() else {}
    return [
        {
            "cell": run.cell,
            **{name: run.varies.get(name) for name in varied},
            "seed": run.seed,
            "test": name,
            "length": one["length"],
            "low": one["low"],
            "high": one["high"],
            "test_rows": one["rows"],
            **{figure: one.get(figure) for figure in FIGURES},
            "error": one.get("error"),
            "validation_loss": trained.get("validation", {}).get("loss"),
            "parameters": trained["parameters"],
            "steps": trained["steps"],
            "seconds": trained["seconds"],
            "tokens_per_second": trained["target_tokens_per_second"],
            "kept_step": trained["kept_step"],
            "device": trained["device"],
            "version": trained["versions"]["selfattn_hf"],
            "commit": made.get("commit"),
            "folder": run.name,
        }
        for name, figures in known
        for one in figures
    ]


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over the seeds of each cell and test set: `METRIC_mean`, `_sd` (of a sample), `_min` and `_max`, n and seeds.

    A figure that is absent, because a model does not know so many places, is None.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["test"], row["low"], row["high"]), []).append(row)
    summary = []
    for (cell, test, low, high), group in groups.items():
        one: dict[str, Any] = {"cell": cell, "test": test, "length": group[0]["length"], "low": low, "high": high,
                               "n": len(group), "seeds": [row["seed"] for row in group]}  # fmt: skip
        for name in (*FIGURES, "validation_loss", "parameters", "steps", "seconds", "tokens_per_second"):
            values = [row[name] for row in group if row[name] is not None]
            one[f"{name}_mean"] = statistics.fmean(values) if values else None
            one[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            one[f"{name}_min"], one[f"{name}_max"] = (min(values), max(values)) if values else (None, None)
        summary.append(one)
    return summary


def write_study(folder: Path, results: Mapping[str, Any], table: str) -> list[Path]:
    """Write results.json, results.parquet (the rows) and results.md (the table), each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("results.json", "results.md", "results.parquet")]
    write_text(paths[0], json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(paths[1], table)
    if not results["rows"]:
        return paths[:2]
    with writing(paths[2]):
        aside = paths[2].with_name(".results.parquet.part")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(results["rows"])), aside)
        aside.replace(paths[2])
    return paths


def study_table(results: Mapping[str, Any], more: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The summary as Markdown: a line for each cell, a column for each test set or length.

    Args:
        results: what `gather` returned.
        more: further columns, title -> cell -> value: what theory says of a cell, for one.
    """
    metric, summary = results["metric"], results["summary"]
    columns = list(dict.fromkeys((one["test"], one["low"], one["high"]) for one in summary))
    columns.sort(key=lambda column: -1.0 if column[1] is None else float(column[1]))
    by_place = {(one["cell"], one["test"], one["low"], one["high"]): one for one in summary}
    titles = [_title(results, column) for column in columns]
    head = ["cell", *(more or {}), "parameters", "steps", "tokens/s", *titles, "seeds"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for cell in results["cells"]:
        known = [by_place.get((cell, *column)) for column in columns]
        first = next((one for one in known if one is not None), None)
        lines.append([
            cell,
            *(str(values.get(cell, "")) for values in (more or {}).values()),
            *(_whole(first, name) for name in ("parameters", "steps", "tokens_per_second")),
            *(_spread(one, metric) for one in known),
            "none yet" if first is None else ", ".join(map(str, first["seeds"])),
        ])  # fmt: skip
    unit = "%" if metric in SHARES else ""
    note = (
        f"{metric}{f' in {unit}' if unit else ''}: mean over the seeds (least to greatest). Parameters, steps and "
        "target tokens a second are means."
    )
    trouble = [f"Failed: {one['cell']}, seed {one['seed']}: {one['error']}" for one in results["failed"]]
    trouble += [f"Not there yet: {one['cell']}, seed {one['seed']} ({one['state']})" for one in results["missing"]]
    trouble += [f"Left out: {cell}: {reason}" for cell, reason in results["left_out"].items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"# Study {results['study']}", note, table, *trouble]) + "\n"


def _title(results: Mapping[str, Any], column: tuple[str, Any, Any]) -> str:
    test, low, high = column
    if low is None:
        return test
    span = f"{low:g}" if low == high else f"{low:g}-{high:g}"
    beyond = results["trained_to"] is not None and low > results["trained_to"]
    return f"{test} {span}{' (beyond)' if beyond else ''}"


def _whole(one: Mapping[str, Any] | None, name: str) -> str:
    value = None if one is None else one[f"{name}_mean"]
    return "" if value is None else f"{value:,.0f}"


def _spread(one: Mapping[str, Any] | None, metric: str) -> str:
    if one is None:
        return ""
    mean, least, greatest = (one[f"{metric}_{what}"] for what in ("mean", "min", "max"))
    if mean is None or not math.isfinite(mean):
        return "none"
    digits = 3 if metric == "loss" else 1
    return f"{mean:.{digits}f}" + (f" ({least:.{digits}f} to {greatest:.{digits}f})" if one["n"] > 1 else "")
