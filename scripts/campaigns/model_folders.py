"""Campaign: bad and hostile model folders, through every way into a folder.

    scripts/campaigns/model_folders.py [--quick] [--only WORD] [--json FILE] [--peer bart]

Each folder is a whole one, spoiled in one way. It must be refused by a ValueError or OSError whose sentence names what
is wrong, in less than 5 seconds and with less than 1 GiB of memory. Ways that end with * are tried in a process that
does not have the package and trusts the folder's code. A whole folder goes first, and must be let through.

With --peer, bart or t5, the same is done to a folder of transformers' own model, as far as its config has the fields.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from _judging import SILENT, Outcome, Report, chosen, judge, measure, parse, workplace  # noqa: E402


def main() -> int:
    """Spoil, try, sum up."""
    options = parse(__doc__, peer="bart or t5: transformers' own model in place of ours")
    with workplace() as scratch:
        from selfattn_hf.training.progress import quiet_libraries

        with quiet_libraries():
            report = of_a_peer(scratch, options) if options.peer else of_ours(scratch, options)
        return report.finish(options.json)


def of_ours(scratch: Path, options: argparse.Namespace) -> Report:
    """Every case through its doors."""
    from _doors import DOORS, make_whole
    from _folder_cases import CASES
    from _folders import STRANGERS

    whole = scratch / "whole" / "model"
    make_whole(whole)
    for door, work in DOORS.items():
        with contextlib.redirect_stdout(io.StringIO()):  # here, so that what is imported once counts for no attempt
            must_be_let_through(door, judge(partial(work, whole), ()))
    cases = chosen(CASES, options)
    report = Report("model folders", sum(len(case.doors) for case in cases))
    foreign: list[list[Any]] = [["whole", str(whole), door, []] for door in STRANGERS]
    for number, case in enumerate(cases):
        folder = scratch / f"case_{number}" / "model"
        shutil.copytree(scratch / "whole", folder.parent)
        case.spoil(folder)
        for door in case.doors:
            if door in STRANGERS:
                foreign.append([case.name, str(folder), door, case.words])
            else:
                report.add(case.name, door, measure(partial(judge, partial(DOORS[door], folder), case.words)))
    ask_strangers(foreign, report)
    return report


def ask_strangers(attempts: list[list[Any]], report: Report) -> None:
    """The attempts in a process without the package; the first are on a whole folder."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-W", "ignore", str(HERE / "_stranger.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    answers = process.communicate("\n".join(json.dumps(attempt) for attempt in attempts))[0].splitlines()
    if len(answers) != len(attempts):
        raise RuntimeError(f"the process without the package answered {len(answers)} of {len(attempts)} attempts")
    for name, door, outcome in map(json.loads, answers):
        if name == "whole":
            must_be_let_through(door, Outcome(**outcome))
        else:
            report.add(name, door, Outcome(**outcome))


def of_a_peer(scratch: Path, options: argparse.Namespace) -> Report:
    """The cases that a peer can have, through AutoModelForSeq2SeqLM."""
    from _folder_cases import CASES
    from _peers import make_peer, spoil_peer, words_of_peer
    from transformers import AutoModelForSeq2SeqLM

    whole = scratch / "whole" / "model"
    make_peer(options.peer, whole)
    must_be_let_through(options.peer, judge(partial(AutoModelForSeq2SeqLM.from_pretrained, whole), ()))
    report = Report(f"model folders, {options.peer}", len(CASES))
    for number, case in enumerate(chosen(CASES, options)):
        folder = scratch / f"case_{number}" / "model"
        shutil.copytree(scratch / "whole", folder.parent)
        if "AutoModelForSeq2SeqLM" in case.doors and spoil_peer(options.peer, case, folder):
            work = partial(AutoModelForSeq2SeqLM.from_pretrained, folder)
            report.add(case.name, options.peer, measure(partial(judge, work, words_of_peer(options.peer, case))))
    return report


def must_be_let_through(door: str, outcome: Outcome) -> None:
    """What is in order must not be refused."""
    if outcome.verdict != SILENT:
        raise RuntimeError(f"{door} does not let a whole folder through: {outcome}")


if __name__ == "__main__":
    sys.exit(main())
