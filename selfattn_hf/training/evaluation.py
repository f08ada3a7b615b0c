"""Evaluation: loss and token accuracy with the right prefix given, and the texts the model writes on its own."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from selfattn_hf.data import SYNTAX_COLUMNS

from .metrics import score_texts
from .processes import processes, rows_of_all, share_of, sum_of_all

IGNORED = -100


@dataclass(frozen=True)
class Prepared:
    """One split, ready for the model.

    Attributes:
        rows: `input_ids` and `labels` of each row, and its tree where the model reads trees.
        sources: the text of each row's source.
        references: the text of each row's target, as it stands in the data.
    """

    rows: Any
    sources: Sequence[str]
    references: Sequence[str]

    def __len__(self) -> int:
        return len(self.references)


@dataclass
class Evaluation:
    """Figures and outputs of one split, in the order of its rows."""

    figures: dict[str, float]
    outputs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on prepared rows.

    The figures do not depend on how rows are put into batches: the loss is the mean over all real target tokens.

    Attributes:
        collator: rows -> batch.
        decode: ids of the outputs -> texts.
        batch_size: rows of a batch.
        lowercase: whether the tokenizer writes lower case only.
    """

    collator: Callable[[list[dict[str, Any]]], dict[str, Tensor]]
    decode: Callable[[list[list[int]]], list[str]]
    batch_size: int
    lowercase: bool = False

    def __call__(
        self, model: nn.Module, split: Prepared, generation: GenerationConfig | None, *, shared: bool = False
    ) -> Evaluation:
        """Evaluate; leaves the model in the mode it was in.

        Args:
            model: a model with a loss.
            split: the rows.
            generation: how to write outputs; None: only loss and token accuracy.
            shared: all processes of the run are here, and each takes its share of the batches; the figures are the
                same in all of them.
        """
        written: dict[int, list[int]] = {}
        loss = right = tokens = 0.0
        device = next(model.parameters()).device
        batches = self._batches(split)
        with _evaluating(model):
            for indices in share_of(batches, torch.distributed.get_rank(), processes()) if shared else batches:
                batch = self.collator([split.rows[index] for index in indices])
                batch = {name: tensor.to(device) for name, tensor in batch.items()}
                result = model(**batch, use_cache=False)
                counts = batch["labels"] != IGNORED
                loss += float(result.loss) * int(counts.sum())
                right += int(((result.logits.argmax(-1) == batch["labels"]) & counts).sum())
                tokens += int(counts.sum())
                del result
                if generation is not None:
                    written |= zip(indices, self._write(model, batch, generation), strict=True)
        if shared:
            loss, right, tokens = sum_of_all([loss, right, tokens], device)
        figures = {"loss": loss / max(tokens, 1), "token_accuracy": 100.0 * right / max(tokens, 1)}
        if generation is None:
            return Evaluation(figures)
        if shared:
            written = dict(enumerate(rows_of_all(written, len(split), generation.pad_token_id or 0, device)))
        outputs = self.decode([written[index] for index in range(len(split))])
        return Evaluation(figures | score_texts(outputs, split.references, lowercase=self.lowercase), outputs)

    def _batches(self, split: Prepared) -> Iterator[list[int]]:
        """Row numbers, rows of like length together; the longest first, so that memory runs out at once or never."""
        lengths = [(len(source), len(target)) for source, target in zip(split.rows["input_ids"], split.rows["labels"],
                                                                         strict=True)]  # fmt: skip
        order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _write(self, model: Any, batch: dict[str, Tensor], generation: GenerationConfig) -> list[list[int]]:
        read = ("input_ids", "attention_mask", *SYNTAX_COLUMNS)
        source = {name: tensor for name, tensor in batch.items() if name in read}
        ids: list[list[int]] = model.generate(**source, generation_config=generation).tolist()
        return ids


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
