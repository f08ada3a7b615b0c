"""Runs a study: one cell after the other, each trained once, whatever failed recorded; the same command goes on."""

import contextlib
import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfattn_hf.sharing.json_files import read_object

from .checkpoints import list_checkpoints
from .disk import sole_use, write_text
from .progress import say
from .report import versions
from .run import train
from .run_folder import is_finished
from .study import Run, Study
from .study_tests import measure

TESTS_FILE = "tests.json"  # figures by test set
CELL_FILE = "cell.json"  # what it was trained with
FAILED_FILE = "failed.json"
_AGAIN = "Delete it, and run the study again"


@dataclass(frozen=True)
class Outcome:
    """What became of the runs that were asked for, by the names of their folders."""

    trained: list[str]
    there: list[str]
    failed: list[str]
    elsewhere: list[str]
    """Those that another process is training."""


def run_study(study: Study, runs: Sequence[Run] | None = None, *, retry: bool = False) -> Outcome:
    """Train and test what is not trained and tested yet.

    A run that was killed goes on from its newest whole checkpoint. One that failed is not tried again, for it would
    fail again, unless `retry` says so. Checkpoints of a finished run are deleted.

    Args:
        study: the study.
        runs: those of its runs to take, as `Study.shard` gives them; None: all.
        retry: try once more what failed before.

    Raises:
        Stopped: a `KeyboardInterrupt`, after SIGINT or SIGTERM, once the step is finished and saved.
    """
    asked = study.unique if runs is None else runs
    outcome = Outcome([], [], [], [])
    for number, run in enumerate(asked, 1):
        say(f"[{number}/{len(asked)}] {run.cell}, seed {run.seed}: {run.name}")
        run.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(sole_use(run.folder))
            except ValueError:
                say("another process is training it: going on with the next one")
                outcome.elsewhere.append(run.name)
                continue
            getattr(outcome, _run_one(study, run, retry)).append(run.name)
    return outcome


def state_of_run(run: Run) -> str:
    """finished, failed, begun or new."""
    if (run.folder / FAILED_FILE).is_file():
        return "failed"
    if _is_trained(run):
        return "finished"
    return "begun" if (run.folder / "model" / "run.json").is_file() else "new"


def tested(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Figures of a run by the key of the test set."""
    return read_object(run.folder / TESTS_FILE, _AGAIN)


def _run_one(study: Study, run: Run, retry: bool) -> str:
    """Train and test one run; returns the field of `Outcome` that it belongs to."""
    failed = run.folder / FAILED_FILE
    if failed.is_file():
        if not retry:
            say(f"it failed before: {read_object(failed, _AGAIN)['error']}")
            return "failed"
        failed.unlink()
    was_there = _is_trained(run)
    try:
        if not was_there:
            write_text(
                run.folder / CELL_FILE, json.dumps({"commit": commit(), "versions": versions()}, indent=1) + "\n"
            )
            train(run.settings)
        for checkpoint in list_checkpoints(run.folder / "model"):
            shutil.rmtree(checkpoint)
        figures = tested(run)
        for test in study.tests:
            if test.key not in figures:
                figures[test.key] = measure(run.folder / "model", run.settings, test)
                if not all(math.isfinite(one.get("loss", 0.0)) for one in figures[test.key]):
                    raise FloatingPointError(f"the loss on {test.name} is no finite number. Lower learning_rate.")
                write_text(run.folder / TESTS_FILE, json.dumps(figures, indent=1) + "\n")
                was_there = False
    except Exception as error:  # of any kind, for an own encoding may raise what it likes: the others go on
        text = f"{type(error).__name__}: {error}"
        say(f"it failed: {text}")
        write_text(failed, json.dumps({"error": text, "commit": commit(), "versions": versions()}, indent=1) + "\n")
        return "failed"
    return "there" if was_there else "trained"


def _is_trained(run: Run) -> bool:
    return (run.folder / "model").is_dir() and is_finished(run.settings)


def commit() -> str | None:
    """The commit that the code is at, with + where files differ from it; None outside of a checkout."""
    root = Path(__file__).resolve().parents[2]

    def ask(*words: str) -> str | None:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            asked = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
            return asked.stdout.strip()
        return None

    if ask("rev-parse", "--show-toplevel") != str(root):
        return None
    found = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no", "--", "selfattn_hf")
    return None if found is None else found + ("+" if changed else "")
