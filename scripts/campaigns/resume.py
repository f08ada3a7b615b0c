"""Campaign: runs that a signal stops, and the same command again, for every token mixer and way to make batches.

    scripts/campaigns/resume.py [--points N] [--quick] [--json FILE]

Every encoder mixer meets every way in which rows become batches: groups of like lengths, a budget of tokens, random
with accumulated gradients, and the same of a stream. Dropout is on. Each run is trained once without a stop, and once
with a SIGTERM in the middle of an epoch. It must finish the step, save, and end with exit code 143; the same command
must go on from that very step, and end with the same bits in weights, optimizer, scheduler and random state.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _runs import BATCHES, End, Table, difference, ending_of, newest_checkpoint, run  # noqa: E402


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Stop, go on, compare; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="how many of the settings, drawn at random (default: all)")
    parser.add_argument("--quick", action="store_true", help="5 settings")
    parser.add_argument("--json", metavar="FILE", help="write every setting there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="resume_") as scratch:
        os.environ.setdefault("HF_HOME", f"{scratch}/home")
        from selfattn_hf.model.layers import MIXERS

        cases = [(mixer, batches) for mixer in MIXERS for batches in BATCHES]
        points = min(5 if options.quick else options.points or len(cases), len(cases))
        table = Table(points, encoder=16, batches=20, stopped=13, went_on=22, verdict=8)
        draw = random.Random(1)
        chosen = sorted(draw.sample(range(len(cases)), points))
        for number, (mixer, batches) in enumerate(cases[index] for index in chosen):
            step = draw.choice([2, 3, 5, 7, 9, 10, 11])  # in no epoch the last one, and not saved anyway
            table.add(encoder=mixer, batches=batches, **attempt(Path(scratch) / str(number), mixer, batches, step))
        exact = sum(row["verdict"] == "exact" for row in table.rows)
        table.end(
            f"{exact} of {points} settings: stopped and gone on with, a run ends bit-exact as one never stopped",
            options.json, points=points, exact=exact,
        )  # fmt: skip
    return {"points": points, "exact": exact}


def attempt(place: Path, mixer: str, batches: str, step: int) -> dict[str, Any]:
    """One setting: never stopped, and stopped in a step and gone on with."""
    settings = {"encoder_mixer": mixer, **BATCHES[batches]}
    whole = run(place / "whole", settings)
    if whole.code != 0:
        raise RuntimeError(f"a run that nobody stops fails: {whole.text}")
    stopped = run(place / "parts", settings, end=End("step", step, signal.SIGTERM))
    newest = newest_checkpoint(place / "parts")
    again = run(place / "parts", settings)
    verdict = difference(place / "parts", ending_of(place / "whole")) or "exact"
    if stopped.code != 128 + signal.SIGTERM or newest != f"checkpoint-{step}":
        verdict = f"stopped with exit code {stopped.code} at {newest}: {stopped.text[-300:]}"
    elif again.code != 0 or again.began != newest:
        verdict = f"went on from {again.began}, exit code {again.code}: {again.text[-300:]}"
    return {"stopped": newest, "went_on": again.began, "verdict": verdict}


if __name__ == "__main__":
    figures = main()
    sys.exit(0 if figures["exact"] == figures["points"] else 1)
