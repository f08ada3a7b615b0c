"""Saved, then loaded: with the package by every Auto class, and without it in a fresh process by trust_remote_code."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM

import selfattn_hf
from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.configuration_selfattn import AUTO_MAP

CODE = {path.name for path in Path(selfattn_hf.model.__file__).parent.glob("*.py")} - {"__init__.py"}

# Run with -I and the package made unimportable; prints one line of JSON for each folder.
STRANGER = """
import hashlib, json, sys
sys.modules["selfattn_hf"] = None
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM
for folder in sys.argv[1:]:
    inputs = torch.load(folder + "/inputs.pt", weights_only=True)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    base = AutoModel.from_pretrained(folder, trust_remote_code=True)
    head, report = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    logits = head(**inputs["batch"]).logits
    states = base(**inputs["batch"]).last_hidden_state
    again = folder + "/again"
    head.save_pretrained(again)
    weights = [(name, weight.numpy().tobytes()) for name, weight in sorted(head.state_dict().items())]
    run = [m.__file__ for name, m in sys.modules.items() if name.startswith("transformers_modules.") and m.__file__]
    print(json.dumps({
        "code": {path.split("/")[-1]: hashlib.sha256(open(path, "rb").read()).hexdigest() for path in run},
        "weights": hashlib.sha256(repr(weights).encode()).hexdigest(),
        "module": type(head).__module__.split(".")[0],
        "logits": (logits - inputs["logits"]).abs().max().item(),
        "base": (states @ head.lm_head.weight.T - inputs["logits"]).abs().max().item(),
        "report": [len(report["missing_keys"]), len(report["unexpected_keys"])],
        "generated": torch.equal(head.generate(**inputs["source"], max_new_tokens=5, num_beams=2), inputs["generated"]),
        "config": type(config).__name__,
    }))
"""


def digest(model):
    """sha256 of all weights by name; STRANGER has the same in its process."""
    weights = [(name, weight.numpy().tobytes()) for name, weight in sorted(model.state_dict().items())]
    return hashlib.sha256(repr(weights).encode()).hexdigest()


def save_with_inputs(model, folder, batch, pad):
    (source, mask), (target, target_mask) = pad(batch["source"]), pad(batch["target"])
    inputs = {"input_ids": source, "attention_mask": mask}
    whole = {**inputs, "decoder_input_ids": target, "decoder_attention_mask": target_mask}
    model.save_pretrained(folder)
    with torch.no_grad():
        logits = model(**whole).logits
    generated = model.generate(**inputs, max_new_tokens=5, num_beams=2)
    torch.save({"batch": whole, "source": inputs, "logits": logits, "generated": generated}, folder / "inputs.pt")
    return whole, logits


HEAD = {"lm_head.weight", "lm_head.bias"}  # left over where a class has none


def load_into_dirty_memory(auto, folder):
    dirty = [torch.full((4096,), 1e30) for _ in range(64)]  # what freed memory may hold when the next model is built
    del dirty
    return getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)


def weights_of(model):
    """By the names that they have in every class."""
    return {name.removeprefix("model."): weight for name, weight in model.state_dict().items()}


def test_every_auto_class_opens_every_folder_with_the_package(stacks, make_model, with_trees, batch, pad, tmp_path):
    model = make_model(torch.float32, **stacks)
    whole, logits = save_with_inputs(model, tmp_path, batch, pad)
    assert type(AutoConfig.from_pretrained(tmp_path)) is SelfAttnConfig
    saved, opened = weights_of(model), {}
    for auto, path in AUTO_MAP.items():
        if auto == "AutoConfig":
            continue
        opened[auto], report = load_into_dirty_memory(auto, tmp_path)
        assert type(opened[auto]).__name__ == path.split(".")[1]
        assert not list(opened[auto].named_buffers())  # a computed buffer would come back as garbage
        fresh = weights_of(opened[auto]).keys() - saved.keys()
        assert {name.split(".")[0] for name in fresh} <= {"score", "classifier", "qa_outputs"}  # the layer of a head
        assert report.pop("missing_keys") == fresh
        assert report.pop("unexpected_keys") <= HEAD - weights_of(opened[auto]).keys()
        assert not any(report.values())
        for name, weight in weights_of(opened[auto]).items():
            assert name in fresh or torch.equal(weight, saved[name]), name
    head, base = with_trees(opened["AutoModelForSeq2SeqLM"]), with_trees(opened["AutoModel"])
    with torch.no_grad():
        torch.testing.assert_close(head(**whole).logits, logits, atol=2e-6, rtol=0)
        torch.testing.assert_close(head.lm_head(base(**whole).last_hidden_state), logits, atol=2e-6, rtol=0)


def test_a_weight_that_does_not_come_back_would_be_found(make_model, tmp_path, monkeypatch):
    model = make_model(torch.float32)
    model.save_pretrained(tmp_path)
    whole = AutoModelForSeq2SeqLM.from_pretrained

    def careless(folder, **options):
        loaded, report = whole(folder, **options)
        loaded.model.decoder.norm.bias.data[0] += 1e-7
        return loaded, report

    monkeypatch.setattr(AutoModelForSeq2SeqLM, "from_pretrained", careless)
    loaded, _ = load_into_dirty_memory("AutoModelForSeq2SeqLM", tmp_path)
    differ = [name for name, weight in weights_of(loaded).items() if not torch.equal(weight, weights_of(model)[name])]
    assert differ == ["decoder.norm.bias"]


def test_the_suitcase_opens_in_a_process_that_does_not_have_the_package(make_model, batch, pad, tmp_path):
    variants = [
        {},
        {"encoder_mixer": "rnn", "decoder_mixer": "window", "position_encoding": "learned"},
        {"decoder_mixer": "rnn", "rnn_type": "gru", "position_encoding": "none", "encoder_position_encoding": "shaw"},
        {"position_encoding": "t5", "tie_word_embeddings": False, "attention_score": "additive", "norm": "post"},
    ]
    folders = [tmp_path / f"variant_{i}" for i in range(len(variants))]
    models = [make_model(torch.float32, **switches) for switches in variants]
    for folder, model in zip(folders, models, strict=True):
        save_with_inputs(model, folder, batch, pad)
    source = Path(selfattn_hf.model.__file__).parent
    release = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in CODE}
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_MODULES_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", STRANGER, *map(str, folders)],
        capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(variants)
    for line, folder, model in zip(lines, folders, models, strict=True):
        code = line.pop("code")
        code.pop("__init__.py", None)
        assert code == {name: release[name] for name in code} and {"modeling_selfattn.py", "stacks.py"} <= code.keys()
        assert line.pop("weights") == digest(model)
        assert line.pop("logits") <= 2e-6
        assert line.pop("base") <= 2e-5
        assert line == {
            "module": "transformers_modules", "report": [0, 0], "generated": True, "config": "SelfAttnConfig",
        }  # fmt: skip
        assert json.loads((folder / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP
        assert {path.name for path in (folder / "again").glob("*.py")} == CODE


def test_a_folder_without_the_package_is_opened_only_when_trusted(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    code = f"""
import sys
sys.modules["selfattn_hf"] = None
from transformers import AutoModelForSeq2SeqLM
AutoModelForSeq2SeqLM.from_pretrained({str(tmp_path)!r}, trust_remote_code=False)
"""
    env = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    env.pop("HF_MODULES_CACHE", None)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode != 0
    assert "trust_remote_code=True" in done.stderr


def test_the_code_beside_the_weights_is_the_folder_of_the_package(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    source = Path(selfattn_hf.model.__file__).parent
    assert {path.name for path in tmp_path.glob("*.py")} == CODE
    for name in CODE:
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_stored_once(make_model, tmp_path, tied):
    make_model(torch.float32, tie_word_embeddings=tied).save_pretrained(tmp_path)
    tables = [name for name in load_file(tmp_path / "model.safetensors") if re.search("embed_tok|lm_head|shared", name)]
    assert len(tables) == (1 if tied else 3)


def test_bfloat16_comes_back_bit_equal(stacks, make_model, tmp_path):
    model = make_model(torch.bfloat16, **stacks)
    model.save_pretrained(tmp_path)
    again, report = load_into_dirty_memory("AutoModelForSeq2SeqLM", tmp_path)
    assert again.dtype == torch.bfloat16 and not any(report.values())
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_weights_that_a_caller_leaves_out_are_drawn_like_fresh_ones(make_model, mixer):
    model = make_model(torch.float32, encoder_mixer=mixer, decoder_position_encoding="shaw", attention_score="additive")
    weights = {name: w for name, w in model.state_dict().items() if "layers.1" not in name and "position" not in name}
    again, report = SelfAttnForConditionalGeneration.from_pretrained(
        None, config=model.config, state_dict=weights, output_loading_info=True
    )
    assert report["missing_keys"]
    for name, weight in again.named_parameters():
        assert weight.isfinite().all() and weight.abs().max() < 5, name


def test_the_map_of_classes_names_classes_that_travel():
    for auto, path in AUTO_MAP.items():
        file, name = path.split(".")
        assert getattr(importlib.import_module(f"selfattn_hf.model.{file}"), name)._auto_class is not None, auto
