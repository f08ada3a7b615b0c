"""A folder is loaded whole or refused: what a head may lack, several files, sizes without end."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoModelForTokenClassification

from selfattn_hf import (
    SelfAttnConfig,
    SelfAttnEncoderModel,
    SelfAttnForCausalLM,
    SelfAttnForConditionalGeneration,
    SelfAttnForSequenceClassification,
    SelfAttnModel,
)
from selfattn_hf.model.configuration_selfattn import VERSION
from selfattn_hf.model.folders import WeightsError
from selfattn_hf.model.sizes import MOST_LAYERS, MOST_PARAMETERS, _parts


def same_weights(first, second):
    return all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


def edit(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def test_weights_in_several_files_come_back(make_model, tmp_path):
    model = make_model(torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert same_weights(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path))


def test_weights_in_a_subfolder_and_a_variant_come_back(make_model, tmp_path):
    model = make_model(torch.float32)
    model.save_pretrained(tmp_path / "inner", variant="fp32")
    again = SelfAttnForConditionalGeneration.from_pretrained(tmp_path, subfolder="inner", variant="fp32")
    assert same_weights(model, again)


def test_half_a_model_is_refused_and_the_class_that_saved_it_is_named(make_model, tmp_path):
    make_model(torch.float32, SelfAttnForSequenceClassification).save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForSeq2SeqLM):
        with pytest.raises(WeightsError, match=r"decoder\.layers\.0.* is missing.*SelfAttnForSequenceClassification"):
            auto.from_pretrained(tmp_path)
    assert type(SelfAttnEncoderModel.from_pretrained(tmp_path)) is SelfAttnEncoderModel


def test_a_new_head_comes_with_a_model_and_a_damaged_one_does_not(make_model, tmp_path):
    model = make_model(torch.float32, SelfAttnForSequenceClassification)
    model.save_pretrained(tmp_path)
    _, report = AutoModelForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == {"classifier.weight", "classifier.bias"}
    edit(tmp_path, lambda there: {name: old for name, old in there.items() if name != "score.bias"})
    with pytest.raises(WeightsError, match=r"score\.bias is missing"):
        SelfAttnForSequenceClassification.from_pretrained(tmp_path)


def test_a_head_of_another_size_comes_where_that_is_asked_for(make_model, tmp_path):
    make_model(torch.float32, SelfAttnForSequenceClassification).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"score\.weight has the shape \(2, 16\) and must have \(5, 16\)"):
        SelfAttnForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    model = SelfAttnForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model.score.out_features == 5


def test_what_writes_must_be_trained_where_it_is_used(make_model, tmp_path):
    make_model(torch.float32, SelfAttnModel, tie_word_embeddings=False).save_pretrained(tmp_path)
    SelfAttnForConditionalGeneration.from_pretrained(tmp_path)  # to be trained, as transformers warns
    with pytest.raises(WeightsError, match=r"no weights for lm_head\.weight.*SelfAttnModel"):
        SelfAttnForConditionalGeneration.load_trained(tmp_path)


def test_a_decoder_alone_takes_the_decoder_and_nothing_less(make_model, tmp_path):
    make_model(torch.float32).save_pretrained(tmp_path)
    assert type(SelfAttnForCausalLM.from_pretrained(tmp_path)) is SelfAttnForCausalLM
    edit(tmp_path, lambda there: {name: old for name, old in there.items() if "decoder.layers.1.mix" not in name})
    with pytest.raises(WeightsError, match=r"decoder\.layers\.1\.mix.* is missing"):
        SelfAttnForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("given", [{"use_safetensors": False}, {"key_mapping": {"^model": "net"}}])
def test_what_would_read_something_else_is_refused(given, make_model, tmp_path):
    make_model(torch.float32).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{next(iter(given))}.*Leave it out"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path, **given)


def test_no_memory_is_taken_for_weights_that_do_not_fit(make_model, tmp_path, monkeypatch):
    make_model(torch.float32).save_pretrained(tmp_path)
    config = SelfAttnConfig.from_pretrained(tmp_path, vocab_size=10_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty_like", lambda *given, **more: pytest.fail("memory was taken"))
        with pytest.raises(
            WeightsError, match=r"shared\.weight has the shape \(40, 16\) and must have \(10000000, 16\)"
        ):
            AutoModelForSeq2SeqLM.from_pretrained(tmp_path, config=config)


def test_parameters_are_counted_from_below(stacks, make_config):
    config = make_config(**stacks)
    with torch.device("meta"):
        model = SelfAttnForConditionalGeneration(config)
    assert 0 < sum(number for number, _ in _parts(config)) <= sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"vocab_size": 2**30}, "vocab_size=1073741824, hidden_size"),
        ({"intermediate_size": 2**30}, "intermediate_size=1073741824"),
        ({"encoder_layers": MOST_LAYERS + 1}, f"encoder_layers is a size and ends at {MOST_LAYERS}"),
        ({"encoder_mixer": "dense", "max_position_embeddings": 10**6}, "max_position_embeddings=1000000"),
        ({"position_encoding": "shaw", "relative_max_distance": 2**30}, "relative_max_distance=1073741824"),
        ({"num_labels": 10**7}, "num_labels is a whole number from 1 to 1000000"),
    ],
)
def test_a_size_without_end_is_refused_by_name(sizes, named):
    with pytest.raises(ValueError, match=named):
        SelfAttnConfig(**sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        {"vocab_size": 256_000, "hidden_size": 1024, "encoder_layers": 24, "decoder_layers": 24},
        {"hidden_size": 4096, "intermediate_size": 16384, "encoder_layers": 12, "decoder_layers": 12},
        {"encoder_layers": MOST_LAYERS, "decoder_layers": 2},
        {"share_layers": True, "hidden_size": 4096, "encoder_layers": MOST_LAYERS, "decoder_layers": MOST_LAYERS},
    ],
)
def test_a_large_model_is_legal(sizes):
    assert sum(number for number, _ in _parts(SelfAttnConfig(**sizes))) < MOST_PARAMETERS


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", r"generation_config\.json is no JSON"),
        (b"\xff", r"generation_config\.json is no JSON"),
        (b"[1]", r"generation_config\.json must be a dictionary"),
        (b'{"max_new_tokens": "many"}', "not taken in max_new_tokens"),
        (b'{"num_beams": 2, "pad_token_id": {}}', "not taken in pad_token_id"),
        (b'{"cache_implementation": "none such"}', "not taken in cache_implementation"),
    ],
)
def test_a_saved_way_of_writing_that_cannot_be_read_is_named(content, named, make_model, tmp_path):
    make_model(torch.float32).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=named):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is SelfAttnModel  # it does not write


@pytest.mark.parametrize("name", ["base_model_ep_plan", "base_model_fsdp_plan", "attribute_map", "_auto_class"])
def test_what_belongs_to_the_class_is_not_set_by_a_config(name, make_config):
    with pytest.raises(ValueError, match=rf"SelfAttnConfig has no field {name}, got {name}=\[17\]"):
        make_config(**{name: [17]})


def test_a_number_of_labels_is_a_number(make_config):
    with pytest.raises(ValueError, match="num_labels is a whole number from 1 .*got None"):
        make_config(num_labels=None)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("asked", ["someone/kernels", [], "x" * 500])
def test_a_file_does_not_choose_attention_whose_code_is_fetched(name, asked, make_config):
    with pytest.raises(ValueError, match=f"^{name} in a file is one of eager, sdpa") as caught:
        SelfAttnConfig.from_dict({**make_config().to_dict(), name: asked})
    assert len(str(caught.value)) < 400


def test_a_model_of_another_release_is_named_once(tmp_path, make_model, caplog):
    make_model().save_pretrained(tmp_path)
    SelfAttnForConditionalGeneration.from_pretrained(tmp_path)
    assert caplog.records == []
    content = json.loads((tmp_path / "config.json").read_text())
    written = content["selfattn_version"] = f"{VERSION}.dev7"
    (tmp_path / "config.json").write_text(json.dumps(content))
    for _ in range(2):
        model = SelfAttnForConditionalGeneration.from_pretrained(tmp_path)
    (record,) = caplog.records
    assert f"saved by selfattn_hf {written}, and this code is {VERSION}" in record.message
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["selfattn_version"] == VERSION
