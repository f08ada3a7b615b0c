"""What the benchmarks share: sides that take turns, spread, goals, peaks of the machine, where and when it was.

A rate is of one machine and one moment. What is reported is therefore the ratio of two sides on the same batch, one
right after the other, as median and quartiles over the repeats.
"""

import datetime
import gc
import importlib.metadata
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[2]
OURS = "selfattn"
PACKAGES = ("torch", "transformers", "x-transformers", "ctranslate2")
MB = 2**20


class MismatchError(ArithmeticError):
    """What is to be timed does not compute what it must."""


class Spread(NamedTuple):
    """Median and quartiles of repeats."""

    median: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> list[float]:
        """As figures for a file: median, lower and upper quartile."""
        return [float(f"{value:.{digits}g}") for value in self]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(ones: Sequence[float], others: Sequence[float]) -> Spread:
    """Figures of one side over those of another, pair by pair: of seconds, how many times faster the other is."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


def goal(name: str, wanted: float, found: Spread | None, against: str, at_most: bool = False) -> dict[str, Any]:
    """A goal with what was found, met or missed; the median decides. What could not be measured (None) is missed."""
    met = found is not None and (found.median <= wanted if at_most else found.median >= wanted)
    return {
        "what": name, "against": against, "goal": f"{'at most' if at_most else 'at least'} {wanted:g}",
        "found": found and found.rounded(), "verdict": "met" if met else "missed",
    }  # fmt: skip


def agree(what: str, difference: float, tolerance: float) -> dict[str, Any]:
    """Note how far a fast path is from the plain one.

    Raises:
        MismatchError: where that is more than rounding explains, so that nothing is timed that is wrong.
    """
    if not difference <= tolerance:  # a difference that is not a number is none that agrees
        raise MismatchError(
            f"{what} differs from the plain path by {difference:.2g}, and rounding explains {tolerance:g} at most. "
            "A figure of something else would mean nothing, so none is given: repair it first."
        )
    print(f"checked: {what} differs from the plain path by {difference:.1e}, allowed {tolerance:g}", flush=True)
    return {"what": what, "difference": float(f"{difference:.3g}"), "tolerance": tolerance}


def leave_out(name: str, why: Exception | str, left_out: dict[str, str]) -> None:
    """Note that a side is missing, and say so."""
    left_out[name] = str(why)
    hint = "; pip install 'selfattn_hf[bench]'" if isinstance(why, ImportError) else ""
    print(f"left out: {name} ({why}){hint}", flush=True)


def seconds(call: Callable[[], Any], device: str) -> float:
    """How long a call takes, with what it left to a GPU to do."""
    finish(device)
    start = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - start


def finish(device: str) -> None:
    """Wait for a GPU; nothing on a CPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def interleaved(
    sides: Mapping[str, Callable[[Any], Any]], items: Iterable[Any], device: str = "cpu", warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every side for every item; each item is given to all sides in turn.

    Who begins changes from item to item, so that no side always comes after the same other.

    Args:
        sides: name -> what it does with an item.
        items: batches, one for each repeat.
        device: where the sides compute.
        warm_up: so many of the first items are not timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn, item in enumerate(items):
        gc.collect()
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            took = seconds(partial(sides[name], item), device)
            if turn >= warm_up:
                taken[name].append(took)
    return taken


def peaks(device: str, dtype: torch.dtype, tiny: bool = False) -> dict[str, float]:
    """What the machine reaches at best: a matrix product of `dtype` in GFLOP/s, and a copy of float32 in GB/s."""
    sizes = [128] if tiny else [4096, 8192] if device.startswith("cuda") else [512, 1024, 2048]
    product = max(2 * n**3 / best_product(n, device, dtype) for n in sizes)
    source = torch.ones(2**16 if tiny else 2**26, device=device)
    copy = torch.empty_like(source)
    stream = min(seconds(lambda: copy.copy_(source), device) for _ in range(10))
    return {
        "matmul_gflops": float(f"{product / 1e9:.4g}"),
        "stream_gb_s": float(f"{2 * source.numel() * source.element_size() / stream / 1e9:.4g}"),
    }


def best_product(n: int, device: str, dtype: torch.dtype) -> float:
    """Seconds of a product of two n x n matrices, the shortest of several."""
    one, other = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return min(seconds(lambda: one @ other, device) for _ in range(10))


def resident() -> float:
    """MB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


def peak_resident() -> float:
    """The most MB of memory that this process has held."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (MB if platform.system() == "Darwin" else 1024)


def surroundings(options: Any) -> dict[str, Any]:
    """Where, when and with what a benchmark ran."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "device": torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else _processor(),
        "threads": options.threads,
        "commit": commit.stdout.strip() or None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
