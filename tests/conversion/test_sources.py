"""Checkpoints as they lie about: half precision, folders of older releases, padding on either side, a fresh process."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import convert

from .conftest import SOURCES

FLOAT32 = 1e-5
ONE_OF_EACH = ["bart", "mbart", "pegasus", "marian", "t5", "t5_1.1", "mt5"]


def is_t5(name):
    return name.startswith(("t5", "mt5"))


@torch.no_grad()
def real_logits(model, inputs):
    """Logits at real target tokens, in float32."""
    return model(**inputs).logits[inputs["decoder_attention_mask"].bool()].float()


def relative(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.bfloat16) for name in ONE_OF_EACH), *((name, torch.float16) for name in ("marian", "t5", "mt5"))],
)
def test_in_half_precision_it_is_as_exact_as_its_source(name, dtype, make_source, load, batch):
    folder = make_source(name, dtype)
    theirs, ours = load(folder), convert(folder)
    # transformers keeps a part of a T5 in float32, because float16 would overflow there.
    widest = torch.float32 if is_t5(name) and dtype == torch.float16 else dtype
    assert {weight.dtype for weight in theirs.parameters()} == {dtype, widest}
    assert {weight.dtype for weight in ours.parameters()} == {widest}
    inputs = batch(theirs.config.pad_token_id)
    rounded, got = real_logits(theirs, inputs), real_logits(ours, inputs)
    exact = real_logits(theirs.float(), inputs)
    assert relative(rounded, exact) > 1e-4, "rounding is seen"
    assert relative(got, exact) < (FLOAT32 if widest == torch.float32 else 2 * relative(rounded, exact))


@pytest.mark.parametrize("name", SOURCES)
def test_padding_on_the_left_is_a_place_for_some_sources_and_never_here(name, pair, batch):
    theirs, ours, _ = pair(name)
    right = batch(theirs.config.pad_token_id)
    order = right["attention_mask"].argsort(dim=1, stable=True)  # padding first
    left = right | {name: right[name].gather(1, order) for name in ("input_ids", "attention_mask")}
    assert not torch.equal(left["input_ids"], right["input_ids"])
    expected = real_logits(theirs, right)
    assert relative(real_logits(ours, left), expected) < FLOAT32
    if is_t5(name):  # distances do not change
        assert relative(real_logits(theirs, left), expected) < FLOAT32
    else:
        assert relative(real_logits(theirs, left), expected) > 100 * FLOAT32


@pytest.mark.parametrize(
    ("name", "message"),
    [("bart", "knows 32 places"), ("mbart", "knows 32 places"), ("marian", None), ("pegasus", None)],
)
def test_where_the_sources_table_of_places_ends_learned_ones_end_here_too_and_sinusoids_do_not(name, message, pair):
    theirs, ours, _ = pair(name)
    row = {"input_ids": torch.full((1, 33), 5), "decoder_input_ids": torch.full((1, 3), 5)}
    with pytest.raises(IndexError):
        theirs(**row)
    if message is None:
        assert ours(**row).logits.isfinite().all()
    else:
        with pytest.raises(ValueError, match=message):
            ours(**row)


# What config.json held in older releases beside what is read today; the way of writing stood there too.
OLD_FIELDS = {
    "bart": {
        "_num_labels": 3, "classif_dropout": 0.0, "classifier_dropout": 0.0, "extra_pos_embeddings": 2,
        "add_bias_logits": False, "add_final_layer_norm": False, "normalize_before": False, "normalize_embedding": True,
        "static_position_embeddings": False, "output_past": True, "prefix": " ", "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "num_beams": 4, "early_stopping": True,
        "no_repeat_ngram_size": 3, "min_length": 5, "max_length": 14, "forced_bos_token_id": 0,
        "task_specific_params": {"summarization": {"length_penalty": 2.0, "num_beams": 4}}, "torch_dtype": "float32",
    },
    "marian": {
        "_num_labels": 3, "classif_dropout": 0.0, "extra_pos_embeddings": 40, "add_bias_logits": False,
        "add_final_layer_norm": False, "normalize_before": False, "normalize_embedding": False,
        "static_position_embeddings": True, "num_hidden_layers": 2, "bos_token_id": 0, "num_beams": 6,
        "max_length": 14, "bad_words_ids": [[39]], "forced_eos_token_id": 0, "torch_dtype": "float32",
    },
    "t5": {
        "n_positions": 512, "output_past": True, "dense_act_fn": "relu", "is_gated_act": False,
        "task_specific_params": {"translation_en_to_de": {"num_beams": 4, "prefix": "translate English to German: "}},
    },
    "t5_1.1": {
        "n_positions": 512, "output_past": True, "dense_act_fn": "gelu_new", "is_gated_act": True,
        "tie_word_embeddings": False, "initializer_factor": 1.0, "torch_dtype": "float32",
    },
    "mt5": {"output_past": True, "tokenizer_class": "T5Tokenizer", "tie_word_embeddings": False},
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_FIELDS)
def test_a_folder_of_an_older_release_is_read(name, make_source, load, batch, difference):
    folder = make_source(name, change=lambda model: None)
    state = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    os.remove(folder / "model.safetensors")
    os.remove(folder / "generation_config.json")
    config = json.loads((folder / "config.json").read_text())
    for added_later in ("dtype", "decoder_vocab_size", "scale_decoder_outputs", "tie_word_embeddings"):
        config.pop(added_later, None)
    (folder / "config.json").write_text(json.dumps(config | OLD_FIELDS[name] | {"transformers_version": "4.2.0"}))
    theirs, ours = load(folder), convert(folder)
    assert difference(theirs, ours) < FLOAT32
    assert ours.config.scale_embedding == (name in ("marian", "t5"))
    inputs = {key: value for key, value in batch(theirs.config.pad_token_id).items() if "decoder" not in key}
    inputs["max_length"] = 14
    assert torch.equal(ours.generate(**inputs), theirs.generate(**inputs))
    for field in ("num_beams", "bad_words_ids", "forced_bos_token_id"):
        assert getattr(ours.generation_config, field) == OLD_FIELDS[name].get(field)


STRANGER = """
import sys
sys.modules["selfattn_hf"] = None
import torch
from transformers import AutoModelForSeq2SeqLM
for folder in sys.argv[1:]:
    given = torch.load(folder + "/given.pt", weights_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**given["inputs"]).logits[given["inputs"]["decoder_attention_mask"].bool()]
    print(((logits - given["logits"]).abs().max() / given["logits"].abs().max()).item(), type(model).__module__[:20])
"""


def test_what_was_converted_computes_the_sources_logits_in_a_process_without_the_package(pair, batch, tmp_path):
    names = ["bart", "marian", "t5_1.1"]
    for name in names:
        theirs, ours, _ = pair(name)
        ours.save_pretrained(tmp_path / name)
        inputs = batch(theirs.config.pad_token_id)
        torch.save({"inputs": inputs, "logits": real_logits(theirs, inputs)}, tmp_path / name / "given.pt")
    env = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    env.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-I", "-W", "ignore", "-c", STRANGER, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(names)
    assert all(float(away) < FLOAT32 and module == "transformers_modules" for away, module in lines)
