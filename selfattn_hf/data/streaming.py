"""A split that is read row by row and never kept, and batches of it.

Rows come in the order of the data and are made ready a buffer at a time. Which of them meet in a batch, and when, is
decided within the buffer, by the seed and the buffer's number alone. So a place in the stream is a few numbers: where a
buffer begins, and how many batches came before it. Whoever goes on from there sees the batches that would have come.
"""

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from torch.utils.data import IterableDataset

from .caching import caching
from .columns import chosen_columns
from .diagnosis import explained
from .files import split_in_words
from .preparing import Preparer, PrepareReport
from .sampling import LengthGroupedSampler, TokenBudgetBatchSampler
from .settings import DataSettings
from .tokenization import Tokenizers

Row = dict[str, Any]
Cut = Callable[[list[tuple[int, int]], int], list[list[int]]]
"""Source and target length of every row in a buffer, and the buffer's number -> the rows of each batch."""


class Stream:
    """A split of a data set that is too large to be kept.

    Args:
        builder: the library's reader of the data set.
        settings: which columns are wanted.
        split: train, validation or test.
        asked: its name in the data set.
    """

    def __init__(self, builder: Any, settings: DataSettings, split: str, asked: str) -> None:
        self.builder = builder
        self.settings = settings
        self.asked = asked
        self.words = split_in_words(settings.dataset, split, asked)

    def first(self, limit: int | None) -> Dataset:
        """The first rows, or all of them, with the columns that were chosen.

        Raises:
            ValueError: if there is no row, or a column is missing or holds no text.
        """
        rows, _ = next(self.pieces(limit), (None, None))
        if rows is None:
            raise ValueError(f"{self.words} has no rows. Choose another file or split.")
        return rows

    def pieces(self, size: int | None, state: dict[str, Any] | None = None) -> Iterator[tuple[Dataset, dict[str, Any]]]:
        """Rows to the end of the data, so many at a time, each piece with the state of the reader after it.

        Args:
            size: rows of a piece, the last one may have fewer; None: all.
            state: of the reader where it is to begin; None: at the first row.
        """
        reader = self.builder.as_streaming_dataset(split=self.asked)
        if state is not None:
            reader.load_state_dict(state)
        rows = iter(reader)
        while piece := self._read(rows, size):
            kinds = {"on_mixed_types": "use_json"} if reader.features is None else {"features": reader.features}
            with _without_bars():
                chosen = chosen_columns(Dataset.from_list(piece, **kinds), self.settings, self.words)
            yield chosen, reader.state_dict()

    def _read(self, rows: Iterator[Row], size: int | None) -> list[Row]:
        """So many rows; what cannot be read is named."""
        try:
            return list(itertools.islice(rows, size))
        except Exception as error:  # of any reader of the library, each has its own kinds
            raise explained(error, self.settings.dataset) from error


def cut_by(strategy: str, batch_size: int, *, group: int = 1, seed: int = 0) -> Cut:
    """Batches of so many rows; the last one of a buffer may have fewer.

    Args:
        strategy: random, sequential or group_by_length.
        batch_size: rows of a batch.
        group: batches of one optimiser step, whose rows get like lengths where they are grouped.
        seed: decides, with the buffer's number, the order.
    """

    def cut(lengths: list[tuple[int, int]], number: int) -> list[list[int]]:
        order = list(range(len(lengths)))
        if strategy == "group_by_length":
            sampler = LengthGroupedSampler(lengths, batch_size * group, seed)
            sampler.set_epoch(number)
            order = list(sampler)
        elif strategy == "random":
            order = np.random.default_rng([seed, number]).permutation(len(lengths)).tolist()
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    return cut


def cut_by_tokens(batch_tokens: int, *, seed: int = 0) -> Cut:
    """Batches within a budget, see `TokenBudgetBatchSampler`."""

    def cut(lengths: list[tuple[int, int]], number: int) -> list[list[int]]:
        sampler = TokenBudgetBatchSampler(lengths, batch_tokens, seed)
        sampler.set_epoch(number)
        return list(sampler)

    return cut


class StreamedBatches(IterableDataset):
    """Batches of rows as `prepare` makes them, without end: after the last row of the data comes the first one again.

    Args:
        stream: the rows of the training split.
        tokenizers: of source and target.
        settings: the size of the buffer, and what happens to rows that cannot be used.
        cut: how a buffer becomes batches.
    """

    def __init__(self, stream: Stream, tokenizers: Tokenizers, settings: DataSettings, cut: Cut) -> None:
        self.stream = stream
        self.preparer = Preparer(tokenizers, settings, "train")
        self.buffer = settings.streaming_buffer
        self.cut = cut
        self._index, self._count = 0, 1
        self._passed = 0
        self._start: dict[str, Any] = {
            "batches": 0, "buffers": 0, "row": 0, "reader": None, "counts": {}, "dropped": {}
        }  # fmt: skip
        # Where the buffers of the latest batches begin: the one in use, and the next one where a batch is drawn early.
        self._places: deque[dict[str, Any]] = deque(maxlen=4)

    def take_turns(self, index: int, count: int) -> None:
        """Of every `count` batches give the one at `index` alone; others are given by other processes.

        Batches are counted in all processes together, in `place` and in `go_on`.
        """
        self._index, self._count = index, count

    def place(self, batches: int) -> dict[str, Any]:
        """From where to go on after so many batches; a JSON file keeps it."""
        return next(place for place in reversed(self._places) if place["batches"] <= batches)

    def go_on(self, place: dict[str, Any], batches: int) -> None:
        """Begin the next iteration after so many batches, at a place that `place` gave for them.

        The Trainer counts through the batches that it has seen: they come, but they are empty, and cost nothing.
        """
        self._start, self._passed = place, batches
        self.preparer.counts, self.preparer.dropped = Counter(place["counts"]), Counter(place["dropped"])

    def report(self) -> PrepareReport:
        """What became of the rows that were read so far; a row that came twice counts twice."""
        return self.preparer.report()

    def __iter__(self) -> Iterator[list[Row]]:
        return itertools.islice(self._all_batches(), self._index, None, self._count)

    def _all_batches(self) -> Iterator[list[Row]]:
        yield from itertools.repeat([], self._passed)
        place, seen = self._start, self._passed - self._start["batches"]
        while True:
            kept = self.preparer.counts["kept"]
            for texts, reader in self.stream.pieces(self.buffer, place["reader"]):
                self._places.append(place)
                rows = self._ready(texts, place["row"])
                lengths = [(len(row["input_ids"]), len(row["labels"])) for row in rows]
                batches = self.cut(lengths, place["buffers"]) if rows else []
                for batch in batches[seen:]:
                    yield [rows[number] for number in batch]
                seen -= min(seen, len(batches))
                place = {
                    "batches": place["batches"] + len(batches),
                    "buffers": place["buffers"] + 1,
                    "row": place["row"] + len(texts),
                    "reader": reader,
                    "counts": dict(self.preparer.counts),
                    "dropped": dict(self.preparer.dropped),
                }
            if self.preparer.counts["kept"] == kept:
                raise ValueError(f"no row of {self.stream.words} is left, of {place['row']} that were read.")
            place = {**place, "row": 0, "reader": None}

    @caching()
    def _ready(self, texts: Dataset, first: int) -> list[Row]:
        made = self.preparer(texts[:], list(range(first, first + len(texts))))
        return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """The library shows a bar for every piece."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
