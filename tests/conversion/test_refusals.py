"""What cannot become a model of this architecture is refused by name, before anything is written."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from safetensors.torch import load_file, save_file
from transformers import BertConfig, LEDConfig

from selfattn_hf import SelfAttnConfig, convert
from selfattn_hf.conversion import converting
from selfattn_hf.conversion.converting import FAMILIES


@pytest.fixture
def source(make_source):
    """A folder of its own for a test that changes files; returns it and a way to rewrite config or weights."""

    def make(name, config=None, weights=None):
        folder = make_source(name, change=lambda model: None)
        if config is not None:
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        if weights is not None:
            tensors = load_file(folder / "model.safetensors")
            weights(tensors)
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.fixture
def no_weights_are_read(monkeypatch):
    """What a config says is refused before the weights, which may be many gigabytes, are read."""

    def read(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr(converting.AutoModelForSeq2SeqLM, "from_pretrained", read)


@pytest.mark.parametrize("config", [LEDConfig(), BertConfig()], ids=["an encoder-decoder", "an encoder"])
def test_another_architecture_is_refused_with_those_that_can_be_converted(config, tmp_path, no_weights_are_read):
    config.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=f"model_type='{config.model_type}', and these can be .*: {', '.join(FAMILIES)}"
    ):
        convert(tmp_path)


def test_a_model_of_this_package_is_refused_as_one_already(tmp_path, no_weights_are_read):
    SelfAttnConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type='selfattn', .* It is one of ours already"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("bart", {"decoder_attention_heads": 2}, "encoder_attention_heads=3 and decoder_attention_heads=2 differ"),
        ("mbart", {"encoder_ffn_dim": 30}, "encoder_ffn_dim=30 and decoder_ffn_dim=20 differ"),
        ("marian_untied", {"decoder_vocab_size": 45}, "vocab_size=40 and decoder_vocab_size=45 differ"),
        ("bart", {"activation_function": "tanh"}, "activation_function='tanh' has no .*: relu, gelu, silu, swish"),
        ("t5", {"is_gated_act": True}, "feed_forward_proj='gated-relu' has no counterpart.*gated-silu"),
        ("t5", {"dense_act_fn": "gelu_new"}, "feed_forward_proj='gelu_new' has no counterpart"),
        ("bart", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
         "quantization_config=.*only plain weights can be converted. Convert the model it was made from"),
    ],
)  # fmt: skip
def test_a_config_without_a_counterpart_is_refused(name, config, message, source, no_weights_are_read):
    with pytest.raises(ValueError, match=message):
        convert(source(name, config=config))


HEAD = "classification_head.dense.weight"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bart", lambda tensors: [tensors.pop(f"model.decoder.layers.{i}.fc2.bias") for i in range(3)],
         r"lacks model.decoder.layers.\*.fc2.bias \(3\). A checkpoint is converted as a whole"),
        ("t5", lambda tensors: tensors.pop("encoder.final_layer_norm.weight"),
         "lacks encoder.final_layer_norm.weight.*name one of a T5ForConditionalGeneration"),
        ("bart", lambda tensors: tensors.update({HEAD: torch.ones(3, 24)}),
         f"holds more than its architecture has: {HEAD}.*name one of a BartForConditionalGeneration"),
    ],
)  # fmt: skip
def test_weights_that_are_missing_or_left_over_are_named(name, change, message, source):
    with pytest.raises(ValueError, match=message):
        convert(source(name, weights=change))


def spoiled(value):
    def spoil(tensors):
        tensors["model.encoder.embed_positions.weight"][3, 5] = value

    return spoil


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_table_of_places_that_holds_no_sinusoids_is_refused(value, source):
    with pytest.raises(ValueError, match="embed_positions must hold sinusoids.*cannot be converted"):
        convert(source("pegasus", weights=spoiled(value)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sinusoids_are_known_in_every_number_format_and_nothing_near_them_is(dtype, make_source):
    folder = make_source("pegasus", dtype, change=lambda model: None)
    assert convert(folder).config.position_encoding == "sinusoidal"
    tensors = load_file(folder / "model.safetensors")
    table = tensors["model.encoder.embed_positions.weight"]
    table[1:] = table[:-1].clone()  # places from -1 on
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="must hold sinusoids"):
        convert(folder)


def test_sinusoids_of_an_odd_width_are_refused_by_the_config(make_source):
    folder = make_source("pegasus", d_model=15)
    with pytest.raises(ValueError, match="hidden_size must be even, got 15"):
        convert(folder)


def test_a_shared_table_that_no_stack_reads_is_refused(source):
    def another(tensors):
        table = tensors["model.shared.weight"]
        for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = table + 1

    folder = source("bart", config={"tie_word_embeddings": False}, weights=another)
    with pytest.raises(ValueError, match=r"model.shared.weight and model.encoder.embed_tokens.weight differ, and the"):
        convert(folder)


@pytest.mark.parametrize(
    ("name", "switches", "message"),
    [
        ("t5", {"encoder_mixer": "rnn"}, "encoder_position_encoding='t5' acts on the affinities.*encoder_mixer='rnn'"),
        ("bart", {"decoder_position_encoding": "tree_depth"}, "reads the tree of a whole sentence"),
        ("bart", {"window_radius": 3}, "window_radius=3 would do nothing"),
        ("bart", {"position_encoding": "rope"}, "no_even_heads"),
        ("bart", {"encoder_mixer": ["rnn"]}, "names one for each layer, and encoder_layers=2"),
        ("bart", {"position_encodin": "rope"}, "no field position_encodin.*Did you mean position_encoding"),
        ("bart", {"is_encoder_decoder": False}, "decoder alone"),
    ],
)
def test_switches_that_do_not_fit_are_refused_by_the_config(name, switches, message, make_source):
    folder = make_source(name)
    if message == "no_even_heads":
        folder = make_source(name, d_model=15)
        message = "width of a head must be even, got 5"
    with pytest.raises(ValueError, match=message):
        convert(folder, **switches)


def test_a_value_of_a_wrong_type_is_refused_by_the_config(make_source):
    with pytest.raises(StrictDataclassFieldValidationError, match="norm"):
        convert(make_source("bart"), norm="sometimes")


@pytest.mark.parametrize("name", ["", "not_there"])
def test_a_folder_without_a_model_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no model in {tmp_path / name}: it must hold config.json"):
        convert(tmp_path / name)
    with pytest.raises(OSError, match="couldn't find them in the cached files"):
        convert("no-such-model-on-the-hub")
