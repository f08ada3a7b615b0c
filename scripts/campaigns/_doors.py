"""The ways into a model folder, each as a function of the folder; and a whole folder to spoil."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, Translator
from selfattn_hf.data import DataSettings, train_tokenizers
from selfattn_hf.training import evaluate, make_settings, run, train

SENTENCES = ["a small dog sleeps", "two men walk", "snow", "a woman reads a book in the park"]


class TrainingBeganError(RuntimeError):
    """A run got as far as its first step."""


def make_whole(folder: Path) -> None:
    """A folder as training leaves it, and beside it a file of data. The model is tiny and knows nothing."""
    folder.mkdir(parents=True)
    rows = Dataset.from_dict({"source": SENTENCES, "target": SENTENCES[::-1]})
    tokenizers = train_tokenizers(DataSettings(dataset="unused", tokenizer_type="word"), rows)
    torch.manual_seed(1)
    model = SelfAttnForConditionalGeneration(
        SelfAttnConfig(
            vocab_size=tokenizers.vocab_size, hidden_size=16, encoder_layers=2, decoder_layers=2,
            num_attention_heads=2, intermediate_size=16, **tokenizers.special_ids(),
        )
    )  # fmt: skip
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(folder)
    tokenizers.save(folder)
    rows.to_json(data_of(folder))
    (folder / "settings.yaml").write_text("source_column: source\ntarget_column: target\ntrain_split: train\n")


def data_of(folder: Path) -> str:
    """The file of data beside a folder."""
    return str(folder.parent / "test.jsonl")


def translate(folder: Path) -> Any:
    """Load and answer."""
    return Translator.from_pretrained(folder, device="cpu")(["two men walk"])


def evaluate_folder(folder: Path) -> Any:
    """Figures on a file of data."""
    return evaluate(str(folder), {"dataset": data_of(folder)})


def start_from(folder: Path) -> Any:
    """A run that starts from the folder's weights, up to its first step."""
    values = {
        "dataset": {"train": data_of(folder)}, "init_from": str(folder), "output_dir": str(folder.parent / "run"),
        "use_cpu": True, "metric": "token_accuracy", "max_steps": 1,
    }  # fmt: skip
    return up_to_the_first_step(values)


def up_to_the_first_step(values: dict[str, Any]) -> None:
    """A run as it is trained, stopped where it would begin to write."""
    with mock.patch.object(run, "begin", side_effect=TrainingBeganError):
        try:
            train(make_settings(values))
        except TrainingBeganError:
            return
    raise AssertionError("a run ended without an error and did not begin")


DOORS: dict[str, Callable[[Path], Any]] = {
    "AutoConfig": AutoConfig.from_pretrained,
    "AutoModelForSeq2SeqLM": AutoModelForSeq2SeqLM.from_pretrained,
    "AutoModel": AutoModel.from_pretrained,
    "Translator": translate,
    "evaluate": evaluate_folder,
    "init_from": start_from,
}
