"""One step of the real Trainer, with the same eight rows cut into batches in four ways; ours and transformers'."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from _exact_models import Subject
from _exact_texts import Texts, labelled, max_of, shifted_right
from _runs import SMALL
from torch import Tensor
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from selfattn_hf.training import make_settings
from selfattn_hf.training.run import _make_trainer, _prepare

CUTS = ((8, 1), (4, 2), (2, 4), (1, 8))  # rows of a batch, batches of a step
_STEP: dict[str, Any] = {
    "train_sampling_strategy": "sequential", "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant",
    "max_grad_norm": 0, "max_steps": 1, "save_strategy": "no", "eval_strategy": "no", "use_cpu": True,
    "disable_tqdm": True,
}  # fmt: skip


def accumulation_in_training(subject: Subject | None, texts: Texts, smoothing: float) -> float:
    """Promise 11: the change of all weights, relative to its length; None: a model of ours, as `train.py` makes it."""
    changes = []
    for rows, batches in CUTS:
        with tempfile.TemporaryDirectory(prefix="step_") as folder:
            step = {
                **_STEP, "output_dir": f"{folder}/out", "per_device_train_batch_size": rows,
                "gradient_accumulation_steps": batches, "label_smoothing_factor": smoothing,
            }  # fmt: skip
            trainer = _our_trainer(step) if subject is None else _peers_trainer(subject, texts, step)
            before = _weights(trainer.model)
            trainer.train()
            changes.append(_weights(trainer.model) - before)
    return max_of(((other - changes[0]).norm() / changes[0].norm()).item() for other in changes[1:])


def _our_trainer(step: dict[str, Any]) -> Any:
    unwanted = ("warmup_steps", "eval_steps", "save_steps")
    small = {name: value for name, value in SMALL.items() if name not in unwanted}
    return _make_trainer(_prepare(make_settings({**small, **step, "max_train_rows": 8, "dropout": 0.0})))


def _peers_trainer(subject: Subject, texts: Texts, step: dict[str, Any]) -> Any:
    def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        batch = labelled(rows)  # as transformers' own collator: a Trainer that smooths gives no labels to the model
        return {**batch, "decoder_input_ids": shifted_right(batch["labels"])}

    Path(step["output_dir"]).mkdir()
    arguments = Seq2SeqTrainingArguments(**step, remove_unused_columns=False, report_to=[])
    return Seq2SeqTrainer(
        model=subject.make(torch.float32), args=arguments, train_dataset=list(texts.pairs), data_collator=collate
    )


def _weights(model: Any) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
