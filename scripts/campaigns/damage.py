"""Campaign: checkpoints that are damaged, and the same command again.

    scripts/campaigns/damage.py [--points N] [--quick] [--control] [--json FILE]

A run is killed when it has two checkpoints. Every file of the newest one is cut in half, emptied, removed, and has one
byte flipped, each in a copy of its own; once beside the older checkpoint and once with the newest alone. The same
command must then say which file is wrong, and go back to the older checkpoint and end bit by bit as a run that was
never killed, or, where there is none, refuse to go on. Silent: it goes on without a word, or ends otherwise. Unclear:
it fails and does not name the file.

With --control checkpoints are not verified: the damage must then be found silent or unclear by this campaign.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _runs import BATCHES, End, Outcome, Table, difference, ending_of, run  # noqa: E402

SETTINGS = BATCHES["length groups"]
OLDER, NEWEST = "checkpoint-4", "checkpoint-8"
DAMAGES = ("cut", "emptied", "removed", "one byte flipped")
# The files that a run goes on with; the others lie there for who loads the checkpoint as a model.
STATE = ("config.json", "manifest.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt",
         "tokenizer.json", "trainer_state.json")  # fmt: skip


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Damage, go on, judge; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="how many of the cases, drawn at random (default: all)")
    parser.add_argument("--quick", action="store_true", help="the 8 files that a run goes on with, 32 cases")
    parser.add_argument("--control", action="store_true", help="do not verify checkpoints")
    parser.add_argument("--json", metavar="FILE", help="write every case there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="damage_") as scratch:
        os.environ.setdefault("HF_HOME", f"{scratch}/home")
        expected, killed = prepare(Path(scratch))
        files = sorted(path.name for path in (killed / "out" / NEWEST).iterdir())
        alone = (False,) if options.quick else (False, True)
        cases = [
            (file, damage, only) for file in (STATE if options.quick else files) for damage in DAMAGES for only in alone
        ]
        points = min(options.points or len(cases), len(cases))
        table = Table(points, file=26, damage=18, older=8, exit=5, verdict=10)
        chosen = sorted(random.Random(1).sample(range(len(cases)), points))
        for number, (file, damage, only) in enumerate(cases[index] for index in chosen):
            place = Path(scratch) / f"case {number}"
            shutil.copytree(killed, place)
            if only:
                shutil.rmtree(place / "out" / OLDER)
            spoil(place / "out" / NEWEST / file, damage)
            outcome = run(place, SETTINGS, blind=options.control)
            verdict = judge(outcome, file, "" if only else difference(place, expected))
            older = "none" if only else "whole"
            table.add(
                file=file, damage=damage, older=older, exit=outcome.code, verdict=verdict, said=outcome.text[-500:]
            )
            shutil.rmtree(place)
        counts = Counter(row["verdict"] for row in table.rows)
        figures = {"points": points, **{name: counts[name] for name in ("fell back", "refused", "silent", "unclear")}}
        shown = ", ".join(f"{counts[name]} {name}" for name in ("fell back", "refused", "silent", "unclear"))
        table.end(f"of {points} damaged checkpoints: {shown}", options.json, **figures)
    return figures


def prepare(scratch: Path) -> tuple[dict[str, str], Path]:
    """What a run ends with that is never killed, and the place of one that has two checkpoints."""
    whole, killed = scratch / "whole", scratch / "killed"
    outcomes = [run(whole, SETTINGS), run(killed, SETTINGS, end=End("step", 11))]
    if outcomes[0].code != 0:
        raise RuntimeError(f"a run without any damage fails: {outcomes[0].text}")
    found = sorted(path.name for path in (killed / "out").glob("checkpoint-*"))
    if found != [OLDER, NEWEST]:
        raise RuntimeError(f"the run that was killed has {found}, and not {OLDER} and {NEWEST}: {outcomes[1].text}")
    return ending_of(whole), killed


def spoil(path: Path, damage: str) -> None:
    """Do to a file what disks, and people, do."""
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def judge(outcome: Outcome, file: str, difference: str) -> str:
    """A word for how it went: fell back, refused, silent or unclear."""
    named = file in outcome.text and NEWEST in outcome.text
    if outcome.code == 0:
        return "fell back" if named and not difference else "silent"
    return "refused" if outcome.code == 2 and named and "Traceback" not in outcome.text else "unclear"


if __name__ == "__main__":
    figures = main()
    sys.exit(0 if figures["silent"] == figures["unclear"] == 0 else 1)
