"""The batches of a comparison: rows of random tokens, whose lengths are those of a data set or of a distribution.

Every side gets the same batches. What is counted is real tokens, source and target, never padding.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfattn_hf.data import DataSettings, LengthGroupedSampler, load_splits, load_tokenizers, prepare, train_tokenizers

PAD, START, END, IGNORED, FIRST_WORD = 0, 1, 2, -100, 3
UNIFORM = 32
Lengths = list[tuple[int, int]]


class LogNormal(NamedTuple):
    """Lengths of source and target, correlated, rounded and clipped: exp(log(median) + sigma z)."""

    median: float
    sigma: float
    correlation: float
    least: int
    most: int

    def draw(self, rows: int, seed: int) -> Lengths:
        """(source, target) lengths."""
        z = np.random.default_rng(seed).standard_normal((rows, 2))
        z[:, 1] = self.correlation * z[:, 0] + (1 - self.correlation**2) ** 0.5 * z[:, 1]
        lengths = np.clip(np.rint(self.median * np.exp(self.sigma * z)), self.least, self.most).astype(int)
        return [(int(source), int(target)) for source, target in lengths]


# Multi30k in sub-words, as near as a log-normal comes: random batches of 64 rows are 46 % real tokens. The correlation
# is that of its English and German. The long tail has more and longer outliers: 34 %.
MULTI30K = LogNormal(median=14, sigma=0.35, correlation=0.86, least=3, most=60)
LONG_TAIL = LogNormal(median=32, sigma=0.5, correlation=0.86, least=4, most=256)
# Workload -> where its lengths come from, and whether rows of like length share a batch.
WORKLOADS: dict[str, tuple[str, bool]] = {
    "uniform": ("uniform", False),
    "random": ("multi30k", False),
    "grouped": ("multi30k", True),
    "tail_random": ("tail", False),
    "tail_grouped": ("tail", True),
}


@dataclass(frozen=True)
class Batch:
    """Padded rows, padding behind.

    Attributes:
        source: [B, S] ids.
        labels: [B, T] ids, `IGNORED` at padding.
        source_mask: [B, S] 1 at real tokens.
        target_mask: [B, T] 1 at real tokens.
        lengths: (source, target) of every row.
    """

    source: Tensor
    labels: Tensor
    source_mask: Tensor
    target_mask: Tensor
    lengths: Lengths

    @classmethod
    def draw(cls, lengths: Lengths, vocabulary: int, seed: int) -> "Batch":
        """Random words with an end token behind, padded to the longest row."""
        random = torch.Generator().manual_seed(seed)
        sides = []
        for own in zip(*lengths, strict=True):
            mask = torch.arange(max(own)) < torch.tensor(own)[:, None]
            ids = torch.randint(FIRST_WORD, vocabulary, mask.shape, generator=random)
            ids[range(len(own)), torch.tensor(own) - 1] = END
            sides.append((ids, mask))
        (source, source_mask), (target, target_mask) = sides
        return cls(
            source.masked_fill(~source_mask, PAD), target.masked_fill(~target_mask, IGNORED),
            source_mask.long(), target_mask.long(), lengths,
        )  # fmt: skip

    def to(self, device: str) -> "Batch":
        """The same on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if name != "lengths"})

    @property
    def real_tokens(self) -> int:
        """Source and target tokens that are no padding."""
        return sum(map(sum, self.lengths))

    @property
    def padded_tokens(self) -> int:
        """All places of both rectangles."""
        return self.source.numel() + self.labels.numel()

    @property
    def decoder_inputs(self) -> Tensor:
        """[B, T] what a decoder reads: the start token, then the target without its last token; padding behind."""
        shifted = self.labels.roll(1, dims=1)
        shifted[:, 0] = START
        return shifted.masked_fill(shifted == IGNORED, PAD)


def draw_batches(workload: str, count: int, options: Any, multi30k: Lengths | None) -> list[Batch]:
    """Batches of a workload.

    Args:
        workload: a key of `WORKLOADS`.
        count: how many.
        options: batch_size, seed, device, and sizes.
        multi30k: lengths of a data set, instead of those of the distribution.
    """
    kind, grouped = WORKLOADS[workload]
    size, seed = options.batch_size, options.seed
    rows = max(count, 100) * size
    if kind == "uniform":
        lengths: Lengths = [(UNIFORM, UNIFORM)] * rows
    elif kind == "tail":
        lengths = LONG_TAIL.draw(rows, seed)
    else:
        lengths = MULTI30K.draw(rows, seed) if multi30k is None else multi30k
    order = iter(LengthGroupedSampler(lengths, size, seed) if grouped else _shuffled(len(lengths), seed))
    batches = []
    for number in range(count):
        own = [lengths[row] for row in itertools.islice(order, size)]
        if len(own) < size:
            raise ValueError(f"{count} batches of {size} rows need {count * size}, and there are {len(lengths)}.")
        batches.append(Batch.draw(own, options.sizes.vocabulary, seed + number).to(options.device))
    return batches


def lengths_of(options: Any) -> Lengths:
    """Lengths in tokens of the rows of `options.dataset`; without a tokenizer one is trained, as for a run."""
    settings = DataSettings(
        dataset=options.dataset, source_column=options.source_column, target_column=options.target_column,
        tokenizer=options.tokenizer, tokenizer_vocab_size=options.sizes.vocabulary,
    )  # fmt: skip
    rows = load_splits(settings)["train"]
    given = settings.tokenizer
    tokenizers = train_tokenizers(settings, rows) if given is None else load_tokenizers(given)
    ready, _ = prepare(rows, tokenizers, settings, "train")
    return [(len(source), len(target)) for source, target in zip(ready["input_ids"], ready["labels"], strict=True)]


def _shuffled(rows: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(rows).tolist()
    return order
