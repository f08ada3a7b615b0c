"""A run of several processes: who speaks, who goes first, which batches are whose, and what all of them know.

Launched by torchrun or `accelerate launch`, every process runs the same script on its part of the rows. N processes
with batches of B rows do what one does with batches of N * B rows: a step reads the same rows and divides its loss by
the number of labels in all of them.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler

# What gloo and NCCL say where another process is gone; each of them says it in words of its own.
_GONE = ("connection closed by peer", "connection reset by peer", "connection refused", "broken pipe", "read error",
         "remote process exited", "timed out", "socket timeout")  # fmt: skip


def processes() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this one speaks and writes for all."""
    return _rank() == 0


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def check_launch() -> None:
    """Refuse a launch that would cut the model among the processes.

    Raises:
        ValueError: for FSDP.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true"):
        raise ValueError(
            "this was launched with FSDP, which cuts the model, and a run evaluates by writing texts and keeps the "
            "best weights, for which it needs them whole. Launch it with configs/accelerate/ddp.yaml, or take "
            "scripts/examples/train_fsdp.py."
        )


class InTurn(BatchSampler):
    """The batches of one process: of every round of N batches the one that is its own.

    All processes get as many batches. Where the rows run out within a round, those that are left without get an empty
    batch, which teaches nothing: no row comes twice, and none is lost.

    Args:
        batches: all batches, the same in every process.
        index: of the process, from 0.
        count: of processes.
        drop_last: leave a round out in which somebody gets nothing.
    """

    def __init__(self, batches: Any, index: int, count: int, drop_last: bool = False) -> None:
        self.batch_sampler = batches  # the name under which accelerate looks for what is shuffled anew
        self.index, self.count, self.drop_last = index, count, drop_last

    def __len__(self) -> int:
        return len(self.batch_sampler) // self.count if self.drop_last else -(-len(self.batch_sampler) // self.count)

    def __iter__(self) -> Iterator[list[int]]:
        own: list[int] = []
        place = -1
        for place, batch in enumerate(self.batch_sampler):
            if place % self.count == self.index:
                own = batch
            if place % self.count == self.count - 1:
                yield own
                own = []
        if (place + 1) % self.count and not self.drop_last:
            yield own

    def set_epoch(self, epoch: int) -> None:
        """Hand the epoch on to what needs to know it."""
        for one in (self.batch_sampler, getattr(self.batch_sampler, "sampler", None)):
            hand_on: Any = getattr(one, "set_epoch", None)
            if hand_on is not None:
                hand_on(epoch)


@contextlib.contextmanager
def first_alone(is_ready: Callable[[], torch.device]) -> Iterator[None]:
    """The first process does what stands inside, the others wait until it is done, and go in after it.

    Args:
        is_ready: called before anybody waits; it brings the processes together, and says where they exchange tensors.

    Raises:
        ConnectionError: in the others, where the first fails.
    """
    if processes() == 1:
        yield
        return
    is_done = torch.zeros((), dtype=torch.long, device=is_ready())
    if is_first():
        try:
            yield
            is_done += 1
        finally:
            torch.distributed.broadcast(is_done, src=0)
        return
    torch.distributed.broadcast(is_done, src=0)
    if not is_done:
        raise ConnectionError(f"process {_rank()} of {processes()} ends because the first one could not begin.")
    yield


@contextlib.contextmanager
def together() -> Iterator[None]:
    """For as long as processes need each other.

    Raises:
        ConnectionError: where another process is gone, in place of what the library says, which names no reason. The
            process that failed has said why.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        if processes() == 1 or not any(word in said for word in _GONE):
            raise
        raise ConnectionError(
            f"process {_rank()} of {processes()} ends because another one did, or did not answer; what that one said "
            "is the reason."
        ) from error


def share_of(batches: Iterable[list[int]], index: int, count: int) -> Iterator[list[int]]:
    """Every count-th batch, from `index` on."""
    return (batch for place, batch in enumerate(batches) if place % count == index)


def sum_of_all(numbers: list[float], device: torch.device) -> list[float]:
    """Sums over all processes, in double precision."""
    total = torch.tensor(numbers, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    torch.distributed.all_reduce(total)
    return [float(number) for number in total]


def rows_of_all(found: dict[int, list[int]], count: int, filling: int, device: torch.device) -> list[list[int]]:
    """Rows of ids that each process has some of; afterwards all have all, padded on the right.

    Args:
        found: row number -> ids, of this process; every row is with exactly one.
        count: how many rows there are.
        filling: what stands behind the shorter ones.
        device: where the processes exchange tensors.
    """
    longest = torch.tensor(max((len(ids) for ids in found.values()), default=0), device=device)
    torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
    table = torch.zeros(count, int(longest), dtype=torch.long, device=device)
    for row, ids in found.items():
        table[row] = filling
        table[row, : len(ids)] = torch.tensor(ids, device=device)
    torch.distributed.all_reduce(table)  # of every row, all but one process have zeros
    rows: list[list[int]] = table.tolist()
    return rows


def nothing(batch: dict[str, Tensor], ignored: int) -> dict[str, Tensor]:
    """A batch whose labels do not count: its loss is 0, and so are its gradients, which all weights have."""
    return {**batch, "labels": torch.full_like(batch["labels"], ignored)}
