"""Campaign: runs that are killed, and the same command again.

    scripts/campaigns/kill.py [--points 50] [--quick] [--seed 1] [--json FILE]

Half of the points are touches of files, spread evenly over all those of a run: the process is killed just before it
opens, renames or deletes one, mostly in the middle of a save. The other half are moments at random. The same command
must then go on by itself from the newest checkpoint that was there, and end bit by bit as a run that was never killed.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _runs import BATCHES, End, Outcome, Table, difference, ending_of, newest_checkpoint, run  # noqa: E402


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Kill, go on, compare; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50, help="how many times to kill a run (default: 50)")
    parser.add_argument("--quick", action="store_true", help="8 points")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write every point there")
    options = parser.parse_args(arguments)
    points = 8 if options.quick else options.points
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill_") as scratch:
        os.environ.setdefault("HF_HOME", f"{scratch}/home")
        whole = {}
        for name in list(BATCHES)[: max(1, points // 2)]:
            place = Path(scratch) / f"never killed, {name}"
            outcome = run(place, BATCHES[name])
            if outcome.code != 0:
                raise RuntimeError(f"a run that nobody kills fails: {outcome.text}")
            whole[name] = (outcome, ending_of(place))
        table = Table(points, point=5, batches=20, killed=58, newest=14, went_on=22, verdict=8)
        for number in range(points):
            name = list(whole)[number // 2 % len(whole)]
            outcome, expected = whole[name]
            end = _end(number, points, outcome, draw)
            place = Path(scratch) / f"killed {number}"
            row = attempt(place, BATCHES[name], end, expected)
            table.add(point=number + 1, batches=name, **row)
        figures = {
            "points": points,
            "exact": sum(row["verdict"] == "exact" for row in table.rows),
            "inside_a_save": sum(row["inside_a_save"] for row in table.rows),
        }
        table.end(
            f"{figures['exact']} of {points} points: the same command went on by itself and ended bit-exact; "
            f"{figures['inside_a_save']} of them inside a save",
            options.json, **figures, seed=options.seed,
        )  # fmt: skip
    return figures


def _end(number: int, points: int, whole: Outcome, draw: random.Random) -> End:
    if number % 2 == 0:
        return End("file", len(whole.touches) * (number + 1) // (points + 1))
    return End("moment", draw.uniform(0, whole.seconds))


def attempt(place: Path, settings: dict[str, Any], end: End, expected: dict[str, str]) -> dict[str, Any]:
    """Kill one run, call the same command again, compare."""
    killed = run(place, settings, end=end)
    while killed.code == 0:  # it was over before that moment
        shutil.rmtree(place)
        end = End(end.kind, end.at / 2)
        killed = run(place, settings, end=end)
    where = f"before: {killed.touches[-1]}" if end.kind == "file" else f"after {end.at:.2f} s"
    newest, inside = newest_checkpoint(place), (place / "out/.saving").exists()
    again = run(place, settings)
    verdict = difference(place, expected) or "exact"
    if again.code != 0:
        verdict = f"exit code {again.code}: {again.text[-300:]}"
    elif newest not in ("none", again.began) and again.began != "nothing left to train":
        verdict = f"went on from {again.began} and not from {newest}"
    return {"killed": where, "newest": newest, "went_on": again.began, "inside_a_save": inside, "verdict": verdict}


if __name__ == "__main__":
    figures = main()
    sys.exit(0 if figures["exact"] == figures["points"] else 1)
