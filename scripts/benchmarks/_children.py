"""Memory is measured in a fresh process for each figure: what one side has left behind must not count for the next.

Importing takes seconds, so the processes are born of one that has imported all there is to import and done nothing else
(multiprocessing's fork server).
"""

import gc
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ._measure import MB, finish, peak_resident, resident

PRELOADED = [
    "selfattn_hf.data", "transformers.models.bart.modeling_bart", "transformers.models.marian.modeling_marian",
    "transformers.models.t5.modeling_t5",
]  # fmt: skip
SHARE = 0.8  # of the memory that is free may a child take


def in_a_child(task: Callable[..., Any], *arguments: Any) -> Any:
    """What `task(*arguments)` returns in a process of its own.

    Raises:
        RuntimeError: where it returned nothing, because it raised an error (printed there) or was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, task, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{task.__name__}{arguments} ended with exit code {process.exitcode}.") from None
    process.join()
    return result


def peak_of(make: Callable[[], Callable[[], Any]], device: str) -> float | None:
    """The most MB that a call takes, with what `make` builds for it; None where the machine has not enough.

    On a GPU as torch counts what it has handed out, else as the process has grown.

    Args:
        make: builds what is called.
        device: where it computes.
    """
    gc.collect()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _limit()
    before = torch.cuda.memory_allocated(device) / MB if on_gpu else resident()
    try:
        call = make()
        call()
        finish(device)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            return None
        raise
    after = torch.cuda.max_memory_allocated(device) / MB if on_gpu else peak_resident()
    return round(max(after - before, 0.0), 1)


def _limit() -> None:
    """Let this process fail where it would take what others need."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    most = pages * resource.getpagesize() + int(SHARE * free)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(sender: Connection, task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(task(*arguments))
    sender.close()
