"""The examples of fine-tuning, as a stranger would run them: a saved folder, a data set, transformers' own Trainer."""

import json
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from selfattn_hf.training import make_settings, train

from ..conftest import load_script
from ..training.conftest import write_rows

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # torch counts its own steps of the schedule, which the Trainer restores
    pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data, and models that have hardly learned."""
    place = tmp_path_factory.mktemp("finetune")
    (place / "data").mkdir()
    files = {
        split: write_rows(place / "data" / f"{split}.jsonl", count, 1)
        for split, count in (("train", 40), ("validation", 7))
    }
    for name, mixer in (("model", "self_attention"), ("rnn", "rnn")):
        train(make_settings({
            "dataset": files, "source_column": "source", "target_column": "target", "tokenizer_type": "word",
            "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "dropout": 0.0, "max_steps": 1, "predict_with_generate": False,
            "metric": "token_accuracy", "output_dir": str(place / name), "use_cpu": True, "encoder_mixer": mixer,
            "decoder_mixer": mixer, "position_encoding": "none" if mixer == "rnn" else "sinusoidal",
        }))  # fmt: skip
    return place


@pytest.fixture
def call(monkeypatch, capsys, folder, tmp_path):
    """Call an example here: what it printed; it leaves its work in `tmp_path / "out"`."""

    def run(name, model, *words):
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.delitem(sys.modules, "finetune", raising=False)
        module = load_script(f"examples/{name}")
        module.main([
            str(folder / model), "--data", str(folder / "data"), "--output", str(tmp_path / "out"), "--steps", "8",
            "--batch", "8", "--learning_rate", "2e-2", "--use_cpu", *words,
        ])  # fmt: skip
        return capsys.readouterr().out

    return run


def losses(printed):
    (line,) = [line for line in printed.splitlines() if line.startswith("validation loss ")]
    words = line.split()
    return float(words[2]), float(words[4])


def writes(folder):
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return model, model.generate(**tokenizer("a b c", return_tensors="pt"), max_new_tokens=4)


def test_transformers_own_pattern_tunes_a_saved_folder(call, tmp_path):
    before, after = losses(call("finetune", "model"))
    assert after < before
    model, _ = writes(tmp_path / "out")
    assert model.config.use_cache and (tmp_path / "out" / "modeling_selfattn.py").is_file()


def test_an_adapter_is_trained_saved_loaded_and_merged(call, folder, tmp_path):
    pytest.importorskip("peft", reason="PEFT is an extra")
    printed = call("finetune_lora", "model")
    before, after = losses(printed)
    assert after < before and "cells of rnn" not in printed
    assert float(printed.split("; merged, ")[1].split(" ")[0]) <= 1e-5
    adapter = tmp_path / "out" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder / "model")
    writes(tmp_path / "out" / "merged")


def test_what_takes_no_adapter_is_said(call, tmp_path):
    pytest.importorskip("peft", reason="PEFT is an extra")
    assert "the cells of rnn stay as they are" in call("finetune_lora", "rnn")
    printed = call("finetune_lora", "rnn", "--whole", "forwards", "backwards")
    assert "the cells of rnn" not in printed and float(printed.split("; merged, ")[1].split(" ")[0]) <= 1e-5
    with pytest.raises(ValueError, match=r"--on lm_head: with tie_word_embeddings=True this table is input and output"):
        call("finetune_lora", "model", "--on", "q_proj", "lm_head")
