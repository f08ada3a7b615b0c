"""Campaign: bad settings files, through `scripts/train.py`.

    scripts/campaigns/settings_files.py [--quick] [--only WORD] [--json FILE]

Every key of every shipped config is spoiled in turn (misspelt, of a wrong type, given twice), and hostile YAML is read.
Each file must be refused with exit code 2 and one message that names the key and what was probably meant, without a
traceback, before anything is written, in less than 5 seconds and with less than 1 GiB of memory.
"""

import contextlib
import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _judging import SILENT, UNCLEAR, Outcome, Report, chosen, judge, measure, parse, workplace  # noqa: E402

if TYPE_CHECKING:
    from _settings_cases import Case


def main() -> int:
    """Write, call the script, sum up."""
    options = parse(__doc__)
    with workplace() as scratch:
        from _settings_cases import CASES, SMALLEST, Case

        # Here, and not in a child, so that what is imported once counts for no attempt.
        if (whole := attempt(Case("whole", SMALLEST.encode(), ()), scratch / "whole")).verdict != SILENT:
            raise RuntimeError(f"a whole settings file is not let through: {whole}")
        cases = chosen(CASES, options)
        report = Report("settings files", len(cases))
        for number, case in enumerate(cases):
            door = "a key of a shipped config" if ": " in case.name else "hostile"
            report.add(case.name, door, measure(partial(attempt, case, scratch / f"case_{number}")))
        return report.finish(options.json)


def attempt(case: "Case", folder: Path) -> Outcome:
    """Call the script in an empty folder with the shipped data, up to the first step."""
    folder.mkdir()
    (folder / "configs").symlink_to(HERE.parents[1] / "configs")
    (folder / "settings.yaml").write_bytes(case.content)
    outcome = judge(partial(call_train, folder), case.words)
    left = sorted(path.name for path in folder.iterdir())
    if outcome.verdict != SILENT and left != ["configs", "settings.yaml"]:
        return Outcome(UNCLEAR, outcome.kind, f"something was written: {left}; {outcome.message}")
    return outcome


def call_train(folder: Path) -> None:
    """`train.py settings.yaml` as it is called; the message of a refusal becomes an error."""
    import _cli
    import train as script
    from _doors import TrainingBeganError

    from selfattn_hf.training import run

    said = io.StringIO()
    with (
        contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(sys, "argv", ["train.py", "settings.yaml"]),
        mock.patch.object(run, "begin", side_effect=TrainingBeganError),
    ):  # fmt: skip
        try:
            _cli.run(script.main)
        except TrainingBeganError:
            return
        except SystemExit as stop:
            if stop.code == 2 and said.getvalue().count("\n") == 1 and "error: " in said.getvalue():
                raise ValueError(said.getvalue()) from None
            raise RuntimeError(f"exit code {stop.code}: {said.getvalue()}") from None


if __name__ == "__main__":
    sys.exit(main())
