"""No switch may lie: what would do nothing, or cannot work together, is refused in one sentence."""

import json
from typing import get_args

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.contracts import PositionalEncoding
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.switches import AffinityPosition, EmbeddingPosition


def test_a_config_needs_no_arguments():
    config = SelfAttnConfig()
    assert config.num_hidden_layers == config.encoder_layers == 6


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"postion_encoding": "rope"}, ["postion_encoding", "Did you mean position_encoding?"]),
        ({"num_beams": 4}, ["num_beams", "generate()"]),
        ({"hidden_size": 30}, ["num_attention_heads must divide hidden_size", "30", "Choose one of: 1, 2, 3, 5"]),
        ({"position_encoding": "rope", "encoder_mixer": "rnn"}, ["encoder_mixer='rnn' has none", "sinusoidal"]),
        ({"decoder_position_encoding": "t5", "decoder_mixer": "window"}, ["decoder_mixer='window' has none"]),
        ({"position_combine": "concat", "position_encoding": "rope"}, ["position_combine='concat' would do nothing"]),
        ({"position_injection": "block", "position_encoding": "none"}, ["position_injection='block' would do nothing"]),
        ({"rnn_type": "gru"}, ["rnn_type='gru' would do nothing", "'rnn' mixer"]),
        ({"window_radius": 3}, ["window_radius=3 would do nothing"]),
        ({"rope_theta": 500}, ["rope_theta=500 would do nothing"]),
        ({"relative_max_distance": 9}, ["relative_max_distance=9 would do nothing"]),
        ({"relative_num_buckets": 8, "position_encoding": "shaw"}, ["relative_num_buckets=8 would do nothing"]),
        ({"position_encoding": "t5", "relative_num_buckets": 6}, ["multiple of 4", "6"]),
        ({"position_encoding": "t5", "relative_max_distance": 16}, ["relative_max_distance must be above"]),
        ({"position_encoding": "rope", "hidden_size": 24}, ["must be even", "got 3", "hidden_size=24"]),
        ({"hidden_size": 15, "num_attention_heads": 5}, ["hidden_size must be even"]),
        ({"hidden_size": 15, "num_attention_heads": 5, "encoder_mixer": "rnn", "position_encoding": "none"}, ["even"]),
        ({"dropout": 1.0}, ["dropout is a rate", "1.0"]),
        ({"encoder_layers": 0}, ["encoder_layers is a size", "0"]),
        ({"vocab_size": 2}, ["eos_token_id", "0 to 1", "got 2"]),
        ({"initializer_range": 0.0}, ["initializer_range"]),
        ({"rope_theta": 0.5, "position_encoding": "rope"}, ["rope_theta is a base above 1"]),
        (
            {"encoder_position_encoding": "none", "decoder_position_encoding": "none", "position_encoding": "rope"},
            ["position_encoding='rope' would do nothing"],
        ),
        ({"eos_token_id": []}, ["eos_token_id", "empty list"]),
        ({"to_dict": 1}, ["no field to_dict"]),
        ({"is_encoder_decoder": False, "encoder_mixer": "rnn"}, ["encoder_mixer='rnn' would do nothing", "an encoder"]),
        ({"is_encoder_decoder": False, "attention_score": "dot"}, ["attention_score='dot' would do nothing"]),
        ({"encoder_mixer": ["rnn"]}, ["a list of mixers names one for each layer", "encoder_layers=6", "['rnn']"]),
        ({"decoder_mixer": ["rnn"] * 6, "share_layers": True}, ["share_layers=True", "decoder_mixer is one word"]),
        ({"position_encoding": []}, ["a list of encodings names different ones", "position_encoding=[]"]),
        ({"position_encoding": ["rope", "rope"]}, ["different ones", "['rope', 'rope']"]),
        ({"encoder_position_encoding": ["none", "t5"]}, ["none stands alone", "encoder_position_encoding"]),
        ({"position_encoding": "tree_depth"}, ["decoder_position_encoding='tree_depth'", "word by word"]),
        ({"encoder_mixer": "dense", "position_encoding": "t5"}, ["encoder_mixer='dense' has none", "local_attention"]),
        ({"attend_to": "embeddings", "encoder_layers": 1, "decoder_layers": 1}, ["attend_to", "above the first"]),
        ({"share_layers": True, "encoder_layers": 1, "decoder_layers": 1}, ["share_layers=True would do nothing"]),
        ({"position_shift": 4, "position_encoding": "rope"}, ["position_shift=4 would do nothing", "'learned'"]),
        ({"position_shift": -1}, ["position_shift is a number of places", "-1"]),
        ({"sinusoid_layout": "halves", "position_encoding": "learned"}, ["sinusoid_layout='halves' would do nothing"]),
        ({"norm": "none", "norm_type": "rms_norm"}, ["norm_type='rms_norm' would do nothing", "a norm"]),
        ({"head_dim": 3, "position_encoding": "rope"}, ["must be even", "got 3", "head_dim=3"]),
        ({"head_dim": 0}, ["head_dim is a size", "0"]),
        ({"head_dim": 5, "attention_score": "dot"}, ["must be hidden_size=512", "8 * 5"]),
        ({"norm_eps": 0}, ["norm_eps", "above 0"]),
    ],
)
def test_what_cannot_work_is_refused_with_field_rule_and_way_out(switches, words):
    with pytest.raises(ValueError) as error:
        SelfAttnConfig(**switches)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "switches",
    [{"encoder_mixer": "lstm"}, {"hidden_size": "512"}, {"position_encoding": "tree"}, {"encoder_mixer": ["rn"]}],
)
def test_wrong_types_and_unknown_values_are_refused(switches):
    (field,) = switches
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        SelfAttnConfig(**switches)


def test_an_open_future_has_no_cache():
    assert SelfAttnConfig(future_mask=False).use_cache is False


def test_each_side_may_have_its_own_order():
    config = SelfAttnConfig(encoder_mixer="rnn", encoder_position_encoding="none", position_encoding="rope")
    assert (config.positions_of("encoder"), config.positions_of("decoder")) == ([], ["rope"])


def test_a_position_stands_in_the_group_of_the_door_that_it_opens(position):
    """The config refuses by group, so the group must tell the truth about the class."""
    encoding = POSITIONS[position]
    acts_on_embeddings = encoding.embed is not PositionalEncoding.embed
    acts_on_affinities = (
        encoding.rotate is not PositionalEncoding.rotate or encoding.bias is not PositionalEncoding.bias
    )
    assert acts_on_embeddings == (position in get_args(EmbeddingPosition))
    assert acts_on_affinities == (position in get_args(AffinityPosition))


def test_a_saved_config_comes_back_equal_and_names_every_class(tmp_path):
    config = SelfAttnConfig(position_encoding="shaw", relative_max_distance=7, decoder_layers=2)
    config.save_pretrained(tmp_path)
    again = SelfAttnConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert set(json.loads((tmp_path / "config.json").read_text())["auto_map"]) >= {"AutoModel", "AutoModelForSeq2SeqLM"}


def test_an_unknown_field_in_a_saved_config_is_refused(tmp_path):
    config = SelfAttnConfig()
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"norm":', '"nrom":'))
    with pytest.raises(ValueError, match="nrom.*Did you mean norm"):
        SelfAttnConfig.from_pretrained(tmp_path)


def test_overrides_of_a_saved_config_are_checked_like_a_new_one(tmp_path):
    SelfAttnConfig(position_encoding="rope").save_pretrained(tmp_path)
    for illegal in ({"encoder_mixer": "rnn"}, {"num_attention_heads": 3}, {"rnn_type": "gru"}):
        with pytest.raises(ValueError):
            SelfAttnConfig.from_pretrained(tmp_path, **illegal)
    both = {"encoder_mixer": "rnn", "encoder_position_encoding": "none", "rnn_type": "gru"}
    assert SelfAttnConfig.from_pretrained(tmp_path, **both).rnn_type == "gru"
    assert SelfAttnConfig.from_pretrained(tmp_path, future_mask=False).use_cache is False


def test_a_model_refuses_a_config_that_was_made_illegal_after_it_was_built():
    config = SelfAttnConfig(position_encoding="rope", hidden_size=16)
    config.encoder_mixer = "rnn"
    with pytest.raises(ValueError, match="encoder_mixer='rnn' has none"):
        SelfAttnForConditionalGeneration(config)


def test_the_decoders_copy_counts_the_decoders_layers():
    config = SelfAttnConfig(encoder_layers=2, decoder_layers=5)
    assert config.get_text_config(decoder=True).num_hidden_layers == 5
    assert config.get_text_config().num_hidden_layers == config.num_hidden_layers == 2
