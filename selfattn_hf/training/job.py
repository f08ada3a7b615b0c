"""What a run works with, once its data are read."""

from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from selfattn_hf.data import Seq2SeqCollator, StreamedBatches, Tokenizers

from .evaluation import Evaluator, Prepared
from .settings import Settings


@dataclass(frozen=True)
class Job:
    """Everything that `train` hands around.

    Attributes:
        settings: of the run.
        fields: of the training arguments, with all defaults.
        arguments: made of them.
        splits: prepared rows by split; of a training split that is streamed, the first ones.
        stream: the batches of such a training split, else None.
        reports: what became of the rows, by split.
        tokenizers: of source and target.
        model: to be trained.
        generation: how the model writes in the end.
        evaluator: of the model.
        collator: rows -> batch.
        start_commit: of the model on the Hub that the run starts from, where it is known.
    """

    settings: Settings
    fields: dict[str, Any]
    arguments: Any
    splits: dict[str, Prepared]
    stream: StreamedBatches | None
    reports: dict[str, dict[str, Any]]
    tokenizers: Tokenizers
    model: PreTrainedModel
    generation: GenerationConfig
    evaluator: Evaluator
    collator: Seq2SeqCollator
    start_commit: str | None = None
