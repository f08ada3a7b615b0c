"""What the campaigns on bad input share: an attempt is judged, and its time and memory are measured in a child process.

A refusal is clear where it is an error that the scripts show without a traceback (ValueError, OSError) and its sentence
names what it must name; else it is unclear. What goes through without an error is silent.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

CLEAR, UNCLEAR, SILENT, HEAVY = "clear", "unclear", "silent", "heavy"
# Of one attempt: time of the processor, so that what else the machine does is not counted, and memory above what the
# process had before.
MAX_SECONDS, MAX_BYTES = 5.0, 2**30
PATIENCE = 60.0  # seconds after which an attempt is stopped
# Errors of a parser and of Python itself, though they are ValueErrors too: their words are not for a reader.
FOREIGN = (json.JSONDecodeError, UnicodeError)


def parse(description: str | None, **more: str) -> argparse.Namespace:
    """The command line that all these campaigns have; `more` are further options with a value, each with its help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every seventh case")
    parser.add_argument("--only", default="", metavar="WORD", help="cases with this word in their name")
    parser.add_argument("--json", metavar="FILE", help="write every outcome there")
    for name, text in more.items():
        parser.add_argument(f"--{name}", metavar=name.upper(), help=text)
    return parser.parse_args()


def chosen(cases: Sequence[Any], options: argparse.Namespace) -> list[Any]:
    """The cases that the command line asks for."""
    return [case for case in cases if options.only in case.name][:: 7 if options.quick else 1]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder that is removed at the end, with the caches of all libraries in it; no network, one thread."""
    with tempfile.TemporaryDirectory(prefix="campaign_") as folder:
        os.environ |= {"HF_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                       "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
        import torch

        torch.set_num_threads(1)
        yield Path(folder)


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended."""

    verdict: str
    kind: str
    message: str
    seconds: float = 0.0
    bytes: int = 0


def judge(work: Callable[[], object], words: Sequence[str]) -> Outcome:
    """Try; every one of `words` must stand in the message of a clear refusal."""
    try:
        work()
    except Exception as error:
        return verdict_on(error, words)
    return Outcome(SILENT, "", "")


def verdict_on(error: BaseException, words: Sequence[str]) -> Outcome:
    """Whether an error is a clear refusal."""
    message = str(error)
    clear = isinstance(error, ValueError | OSError) and not isinstance(error, FOREIGN)
    missing = [word for word in words if word not in message]
    return Outcome(CLEAR if clear and not missing else UNCLEAR, type(error).__name__, message)


def measure(work: Callable[[], Outcome]) -> Outcome:
    """Run in a child process, with its output put away; too much time or memory is a verdict of its own."""
    idle = _in_child(lambda: Outcome(SILENT, "", ""))
    outcome = _in_child(work)
    taken = max(0, outcome.bytes - idle.bytes)
    heavy = outcome.verdict == HEAVY or outcome.seconds > MAX_SECONDS or taken > MAX_BYTES
    return replace(outcome, bytes=taken, verdict=HEAVY if heavy else outcome.verdict)


def _in_child(work: Callable[[], Outcome]) -> Outcome:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    deadline = time.perf_counter() + PATIENCE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which a child that only tries does not miss
        child = os.fork()
    if child == 0:
        _be_the_child(work, writing)
    os.close(writing)
    text = _read(reading, deadline)
    os.close(reading)
    if not text:  # it hangs, or died of memory; a child that has answered leaves by itself
        os.kill(child, signal.SIGKILL)
    usage = os.wait4(child, 0)[2]
    seconds = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if not text:
        return Outcome(HEAVY, "stopped", f"it was stopped after {PATIENCE:.0f} s, or died", seconds, peak)
    return Outcome(**json.loads(text) | {"seconds": seconds, "bytes": peak})


def _be_the_child(work: Callable[[], Outcome], writing: int) -> None:
    """Work, answer through the pipe, and leave without a word to anyone else."""
    try:
        with tempfile.TemporaryFile() as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            if sys.platform == "linux":  # the machine is spared; that it was too much, shows in the peak
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                most = pages * resource.getpagesize() + 4 * MAX_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            outcome = work()
            # A pipe takes this much at once.
            os.write(writing, json.dumps(asdict(replace(outcome, message=outcome.message[:5000]))).encode())
    finally:
        os._exit(0)


def _read(pipe: int, deadline: float) -> str:
    parts = []
    while select.select([pipe], [], [], max(0.0, deadline - time.perf_counter()))[0]:
        part = os.read(pipe, 65536)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


class Report:
    """Collects outcomes, shows how far a campaign is, and sums up."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self.entries: list[dict[str, Any]] = []

    def add(self, name: str, door: str, outcome: Outcome) -> None:
        """One attempt more; what is not clear is shown at once."""
        self.entries.append({"case": name, "door": door, **asdict(outcome)})
        if outcome.verdict != CLEAR:
            shown = " ".join(outcome.message.split())[:300]
            print(f"{outcome.verdict}: {name}, {door}: {outcome.kind} {shown}", flush=True)
        if len(self.entries) % 50 == 0:
            print(f"{len(self.entries)} of {self.total} attempts", file=sys.stderr, flush=True)

    def worst(self) -> dict[str, str]:
        """Case -> the worst verdict of its doors."""
        order = (CLEAR, UNCLEAR, HEAVY, SILENT)
        cases: dict[str, str] = {}
        for entry in self.entries:
            before = cases.get(entry["case"], CLEAR)
            cases[entry["case"]] = max(before, entry["verdict"], key=order.index)
        return cases

    def summary(self) -> str:
        """The table at the end."""
        doors = dict.fromkeys(entry["door"] for entry in self.entries)
        lines = [f"| {self.title} | clear | unclear | silent | too much |", "|---|---:|---:|---:|---:|"]
        lines += [
            _row(door, Counter(entry["verdict"] for entry in self.entries if entry["door"] == door)) for door in doors
        ]
        lines.append(_row("**cases, by their worst door**", Counter(self.worst().values())))
        seconds = max((entry["seconds"] for entry in self.entries), default=0)
        memory = max((entry["bytes"] for entry in self.entries), default=0)
        lines.append(f"\nThe longest attempt took {seconds:.1f} s, the largest {memory / 2**20:,.0f} MiB.")
        return "\n".join(lines)

    def finish(self, path: str | None) -> int:
        """Print the table, write all outcomes as JSON where a file is named; the exit code: 0 where all is clear."""
        print(self.summary())
        if path is not None:
            content = {"title": self.title, "cases": self.worst(), "attempts": self.entries}
            Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0 if self.entries and all(entry["verdict"] == CLEAR for entry in self.entries) else 1


def _row(name: str, counts: Iterable[str] | Counter[str]) -> str:
    counts = Counter(counts)
    return f"| {name} | " + " | ".join(str(counts[verdict]) for verdict in (CLEAR, UNCLEAR, SILENT, HEAVY)) + " |"
