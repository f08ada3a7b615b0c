"""The gradient of a step does not depend on how its rows are cut into batches."""

import pytest
import torch
from torch import nn

from selfattn_hf.training import make_settings
from selfattn_hf.training.run import _make_trainer, _prepare
from selfattn_hf.training.trainer import SelfAttnTrainer


def make_trainer(values, tmp_path, rows, accumulated, smoothing):
    settings = make_settings(
        {
            **values,
            "output_dir": str(tmp_path / f"{rows}x{accumulated}"),
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": accumulated,
            "label_smoothing_factor": smoothing,
            "train_sampling_strategy": "sequential",
            "optim": "sgd",
            "learning_rate": 1.0,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0,
            "max_train_rows": 8,
            "dropout": 0.0,
            "max_steps": 1,
            "eval_strategy": "no",
            "save_strategy": "no",
        }
    )
    return _make_trainer(_prepare(settings))


def change_by_training(trainer):
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    return {name: tensor - before[name] for name, tensor in trainer.model.state_dict().items()}


def distance(first, second):
    gap = sum(float((first[name] - second[name]).pow(2).sum()) for name in first) ** 0.5
    return gap / sum(float(tensor.pow(2).sum()) for tensor in first.values()) ** 0.5


@pytest.fixture
def step(values, tmp_path):
    for name in ("eval_steps", "warmup_steps"):
        values.pop(name)
    return lambda *cut: change_by_training(make_trainer(values, tmp_path, *cut))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("rows", "accumulated"), [(4, 2), (2, 4), (1, 8)])
def test_accumulated_batches_are_one_large_batch(step, rows, accumulated, smoothing):
    assert distance(step(8, 1, smoothing), step(rows, accumulated, smoothing)) < 1e-4


def test_the_distance_sees_a_loss_that_is_averaged_batch_by_batch(step, monkeypatch):
    whole = step(8, 1, 0.0)
    original = SelfAttnTrainer.compute_loss

    def batch_by_batch(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        own = (inputs["labels"] != -100).sum()
        return original(self, model, inputs, return_outputs, own) / self.args.gradient_accumulation_steps

    monkeypatch.setattr(SelfAttnTrainer, "compute_loss", batch_by_batch)
    assert distance(whole, step(2, 4, 0.0)) > 1e-3


def test_smoothing_is_that_of_torch(step, values):
    plain, smoothed = step(8, 1, 0.0), step(8, 1, 0.1)
    assert distance(plain, smoothed) > 1e-2
    logits, labels = torch.randn(3, 4, 7), torch.randint(0, 7, (3, 4))
    from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

    config = SelfAttnConfig(
        vocab_size=7, hidden_size=4, num_attention_heads=1, encoder_layers=1, decoder_layers=1, intermediate_size=4
    )
    model = SelfAttnForConditionalGeneration(config)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert torch.allclose(model.loss_function(logits, labels, label_smoothing=0.1), expected)


def test_a_batch_without_a_label_that_counts_changes_nothing_and_is_counted(values, tmp_path, caplog):
    for name in ("eval_steps", "warmup_steps"):
        values.pop(name)
    trainer = make_trainer(values, tmp_path, 4, 1, 0.1)
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: (batch := collate(rows)) | {"labels": torch.full_like(batch["labels"], -100)}
    change = change_by_training(trainer)
    assert not any(tensor.any() for tensor in change.values())
    assert trainer.meter.empty_batches == 1
    assert "no label counts in a batch of step 1 (rows 0, 1, 2, 3 of the training split)" in caplog.text
