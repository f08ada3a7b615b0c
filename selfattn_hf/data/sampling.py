"""Which rows meet in a batch: rows of similar length, in an order that (seed, epoch) alone decides.

Because nothing else decides it, a run that was stopped in the middle of an epoch continues with the same batches.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

# Rows are shuffled, cut into chunks of so many batches and sorted within each: alike in length, and still random.
_CHUNK_OF_BATCHES = 50


def _as_table(lengths: Any) -> np.ndarray:
    table = np.asarray(lengths, dtype=np.int64)
    if table.ndim == 1 and table.size:
        table = np.stack([table, np.zeros_like(table)], axis=1)
    if table.ndim != 2 or table.shape[1] != 2 or len(table) == 0:
        raise ValueError(
            f"lengths must hold one (source length, target length) per row, for at least one row; got shape "
            f"{table.shape}."
        )
    if (table < 0).any():
        raise ValueError(f"lengths must not be negative, got {table.min()}.")
    return table


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number from {least} on, got {value!r}.")


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """Batches whose padded size, rows x (longest source + longest target), stays within a budget.

    Batches are runs of the rows sorted by length, so their number is the same in every epoch; each epoch shuffles the
    rows of equal lengths and the order of the batches.

    Args:
        lengths: (source length, target length) of every row.
        batch_tokens: the budget, padding included.
        seed: decides, with the epoch, the order.

    Raises:
        ValueError: if one row alone is over the budget, or an argument is illegal.
    """

    def __init__(self, lengths: Sequence[tuple[int, int]] | np.ndarray, batch_tokens: int, seed: int = 0) -> None:
        _check_count("batch_tokens", batch_tokens, 1)
        _check_count("seed", seed, 0)
        self.lengths = _as_table(lengths)
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.epoch = 0
        totals = self.lengths.sum(axis=1)
        row = int(totals.argmax())
        if totals[row] > batch_tokens:
            source, target = self.lengths[row]
            raise ValueError(
                f"row {row} has {source} source and {target} target tokens, more than batch_tokens={batch_tokens} for "
                "a whole batch. Raise batch_tokens, or lower max_source_length and max_target_length."
            )
        order = np.lexsort((self.lengths[:, 0], self.lengths[:, 1]))
        self._bounds = self._cut(self.lengths[order])

    def _cut(self, table: np.ndarray) -> list[tuple[int, int]]:
        """First and last+1 place of every batch among the sorted rows."""
        bounds, start, source, target = [], 0, 0, 0
        for place, (row_source, row_target) in enumerate(table.tolist()):
            wider_source, wider_target = max(source, row_source), max(target, row_target)
            if (place - start + 1) * (wider_source + wider_target) > self.batch_tokens:
                bounds.append((start, place))
                start, wider_source, wider_target = place, row_source, row_target
            source, target = wider_source, wider_target
        return [*bounds, (start, len(table))]

    def set_epoch(self, epoch: int) -> None:
        """The order of the next pass is that of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        ties = random.permutation(len(self.lengths))
        order = np.lexsort((ties, self.lengths[:, 0], self.lengths[:, 1]))
        for batch in random.permutation(len(self._bounds)):
            start, end = self._bounds[batch]
            yield order[start:end].tolist()


class LengthGroupedSampler(Sampler[int]):
    """Rows in an order in which neighbours have similar lengths; any batch size cuts it into batches.

    transformers' own draws from the global random state, so a run resumed after its first epoch sees other batches.

    Args:
        lengths: (source length, target length) of every row, or one length each.
        batch_size: rows of one optimiser step.
        seed: decides, with the epoch, the order.

    Raises:
        ValueError: if an argument is illegal.
    """

    def __init__(
        self, lengths: Sequence[tuple[int, int]] | Sequence[int] | np.ndarray, batch_size: int, seed: int = 0
    ) -> None:
        _check_count("batch_size", batch_size, 1)
        _check_count("seed", seed, 0)
        self.totals = _as_table(lengths).sum(axis=1)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of the next pass is that of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.totals)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        shuffled = random.permutation(len(self.totals))
        chunk = self.batch_size * _CHUNK_OF_BATCHES
        batches: list[np.ndarray] = []
        for start in range(0, len(shuffled), chunk):
            rows = shuffled[start : start + chunk]
            rows = rows[np.argsort(-self.totals[rows], kind="stable")]
            batches.extend(np.split(rows, range(self.batch_size, len(rows), self.batch_size)))
        # Only a smaller batch at the very end keeps later batches from being cut across two groups of lengths.
        tail = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        for batch in [*(batches[place] for place in random.permutation(len(batches))), *tail]:
            yield from batch.tolist()
