"""Campaign: a disk that is full, and the same command again once there is room.

    scripts/campaigns/disk_full.py [--points 20] [--quick] [--limit] [--json FILE]

A run writes to a small file system of its own, with less and less left free: it is full when the run begins, in a save,
when the results are written. The run must end with exit code 2 and one message that names the path and the free space,
and every checkpoint that is there must fit its manifest. When room is made, the same command must go on and end bit by
bit as a run that never lacked any. A file system needs root; without it, or with --limit, the system refuses files
above a size instead.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _runs import BATCHES, Table, difference, ending_of, run  # noqa: E402

SETTINGS = BATCHES["length groups"]
SIZE = 16 * 2**20  # of the file system: a run needs about one MiB
SMALLEST = 8192  # the least limit for a file: what a run prints goes to one too


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Fill, run, make room, run; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20, help="how many amounts of free space (default: 20)")
    parser.add_argument("--quick", action="store_true", help="5 points")
    parser.add_argument("--limit", action="store_true", help="a limit for the size of a file instead of a file system")
    parser.add_argument("--json", metavar="FILE", help="write every point there")
    options = parser.parse_args(arguments)
    points = 5 if options.quick else options.points
    with tempfile.TemporaryDirectory(prefix="disk_full_") as scratch:
        os.environ.setdefault("HF_HOME", f"{scratch}/home")
        whole = Path(scratch) / "whole"
        outcome = run(whole, SETTINGS)
        if outcome.code != 0:
            raise RuntimeError(f"a run with room enough fails: {outcome.text}")
        expected, sizes = ending_of(whole), [path.stat().st_size for path in (whole / "out").rglob("*")]
        kind = "limit" if options.limit or not _can_mount(Path(scratch) / "try") else "file system"
        table = Table(points, room=16, stopped=34, whole=14, verdict=8)
        for number in range(points):
            share = number / points  # of the room that a run takes in the end, so it is never enough
            place = Path(scratch) / f"case {number}"
            if kind == "limit":
                most = int(SMALLEST + share * (max(sizes) - SMALLEST))
                row = attempt(place, expected, most_bytes=most) | {"room": f"files to {most:,}"}
            else:
                free = int(share * sum(sizes)) // 4096 * 4096
                with mounted(place / "out"):
                    row = attempt(place, expected, free=free) | {"room": f"{free:,} free"}
            table.add(**row)
        clear = sum(row["verdict"] == "exact" for row in table.rows)
        table.end(
            f"{clear} of {points} full disks ({kind}): path and free space named, what was there whole, and the end "
            "bit-exact once there was room",
            options.json, points=points, clear=clear, kind=kind,
        )  # fmt: skip
    return {"points": points, "clear": clear, "kind": kind}


def attempt(
    place: Path, expected: dict[str, str], *, free: int | None = None, most_bytes: int | None = None
) -> dict[str, Any]:
    """Run without room, look at what is left, make room, run again, compare."""
    ballast = place / "out" / "ballast"
    if free is not None:
        ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - free))
    full = run(place, SETTINGS, most_bytes=most_bytes)
    kept = sorted((place / "out").glob("checkpoint-*"))
    broken = [path.name for path in kept if not fits_its_manifest(path)]
    ballast.unlink(missing_ok=True)
    again = run(place, SETTINGS)
    stopped = re.search(r"error: (\S*?)(, the cache.*?)? cannot be written .*; [\d.,]+ MiB are free there", full.text)
    if full.code != 2 or stopped is None or "Traceback" in full.text:
        verdict = f"unclear, exit code {full.code}: {full.text[-300:]}"
    elif broken:
        verdict = f"{broken[0]} is not whole"
    elif again.code != 0:
        verdict = f"with room, exit code {again.code}: {again.text[-300:]}"
    else:
        verdict = difference(place, expected) or "exact"
    where = "-" if stopped is None else "the cache" if stopped[2] else stopped[1]
    return {"stopped": where, "whole": kept[-1].name if kept else "none", "verdict": verdict}


def fits_its_manifest(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is what was written."""
    listed = json.loads((checkpoint / "manifest.json").read_text())["files"]
    sums = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in listed}
    return sums == {name: entry["sha256"] for name, entry in listed.items()}


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A small file system at a folder."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _can_mount(folder: Path) -> bool:
    try:
        with mounted(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


if __name__ == "__main__":
    figures = main()
    sys.exit(0 if figures["clear"] == figures["points"] else 1)
