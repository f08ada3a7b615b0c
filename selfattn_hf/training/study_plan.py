"""What a study will train, before it does; and what it has found, when it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .study import BUDGET, Run, Study
from .study_results import gather, study_table, write_study
from .study_runs import state_of_run


def show_plan(study: Study, runs: Sequence[Run]) -> str:
    """The runs with parameters, budget and what is there of each, as lines of text."""
    rows = [("cell", "seed", "parameters", "sizes changed", "state", "folder")]
    for run in runs:
        changed = ", ".join(f"{size} {before} -> {after}" for size, (before, after) in run.resized.items()) or "none"
        rows.append((run.cell, str(run.seed), f"{run.parameters:,}", changed, state_of_run(run), run.name))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"\n{len(runs)} of {len(study.unique)} runs, into {study.folder}")
    budget = {**vars(runs[0].settings.run), **runs[0].settings.complete_training()} if runs else {}
    words = [f"{name} {budget[name]}" for name in BUDGET if budget.get(name) is not None]
    lines.append(f"budget of each: {', '.join(words)}")
    tests = [
        test.name + (f" at {len(test.ranges)} lengths" if test.ranges else f" {test.length:g}" if test.length else "")
        for test in study.tests
    ]
    lines.append(f"tried on: {', '.join(tests)}")
    lines += [f"left out: {cell}: {reason}" for cell, reason in study.left_out.items()]
    return "\n".join(lines)


def show_study(study: Study, more: Any = None) -> tuple[dict[str, Any], str, list[Path]]:
    """Gather and write what is known.

    Args:
        study: the study.
        more: further columns of the table, see `study_table`; they stand in the results as `theory`.

    Returns:
        The results, the table as Markdown, and the files that were written.
    """
    results = {**gather(study), "theory": more or {}}
    table = study_table(results, more)
    return results, table, write_study(study.folder, results, table)
