"""How layers make a stack: unlike ones, one again and again, keys and values from the stack's input."""

import pytest
import torch

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import make_position

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def test_a_list_names_the_mixer_of_every_layer(make_model):
    model = make_model(decoder_mixer=["window", "self_attention", "rnn"], encoder_mixer=["self_attention", "rnn"])
    for side in ("encoder", "decoder"):
        mixers = [type(layer.mix.sublayer) for layer in getattr(model.model, side).layers]
        assert mixers == [MIXERS[name] for name in model.config.mixers_of(side)]


def test_a_list_of_one_kind_is_that_kind(make_model, batch):
    listed, word = make_model(decoder_mixer=["self_attention"] * 3), make_model()
    source = batch["source"][0][None]
    expected = word(input_ids=source, decoder_input_ids=source).logits
    assert torch.equal(listed(input_ids=source, decoder_input_ids=source).logits, expected)


@torch.no_grad()
def test_a_shared_layer_is_the_same_weights_at_every_depth(make_model, batch):
    shared, unshared = make_model(share_layers=True), make_model()
    assert len(shared.model.encoder.layers) == len(shared.model.decoder.layers) == 1
    weights = {}
    for name in unshared.state_dict():
        first = name.split(".")
        if "layers" in first:
            first[first.index("layers") + 1] = "0"
        weights[name] = shared.state_dict()[".".join(first)]
    unshared.load_state_dict(weights)
    source = batch["source"][0][None]
    for kwargs in ({}, {"use_cache": True}):
        got = shared(input_ids=source, decoder_input_ids=source, **kwargs).logits
        expected = unshared(input_ids=source, decoder_input_ids=source, **kwargs).logits
        torch.testing.assert_close(got, expected, **EXACT)
    states = shared(input_ids=source, decoder_input_ids=source, output_hidden_states=True)
    assert len(states.encoder_hidden_states) == 3 and len(states.decoder_hidden_states) == 4


def softmax_attention(mixer, x, inputs, causal):
    """Self-attention of one row by its formula, head by head, with keys and values of `inputs`."""
    q, k, v = mixer.q_proj(x), mixer.k_proj(inputs), mixer.v_proj(inputs)
    heads = []
    for part in torch.arange(x.shape[-1]).chunk(mixer.heads):
        scores = q[:, part] @ k[:, part].T / len(part) ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, part])
    return mixer.out_proj(torch.cat(heads, -1))


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post", "none"])
@pytest.mark.parametrize("attend_to", ["layer", "embeddings"])
def test_keys_and_values_come_from_the_layer_below_or_from_the_input(attend_to, norm, make_model, batch):
    model = make_model(attend_to=attend_to, norm=norm, position_encoding="sinusoidal")
    stack, source = model.model.encoder, batch["source"][0][None]
    x = start = stack.position.embed(stack.embed_tokens(source) * 4, places_of(model, source))[0]
    plain = lambda y: y  # noqa: E731
    for layer in stack.layers:
        before, after = layer.mix.before or plain, layer.mix.after or plain
        below = start if attend_to == "embeddings" else x
        x = after(x + softmax_attention(layer.mix.sublayer, before(x), before(below), causal=False))
        x = layer.think(x)
    expected = x if stack.norm is None else stack.norm(x)
    torch.testing.assert_close(stack(source).last_hidden_state[0], expected, **EXACT)


def places_of(model, ids):
    seen = []
    position = model.model.encoder.position
    position.embed = lambda x, places: seen.append(places) or x
    model.model.encoder(ids)
    del position.embed
    return seen[0]


@torch.no_grad()
def test_a_plain_side_stays_plain_beside_the_other(make_config):
    config = make_config(encoder_mixer=["rnn", "self_attention"], encoder_position_encoding=["learned", "t5"])
    model = SelfAttnForConditionalGeneration(config)
    assert len(model.model.encoder.position.parts) == 2
    assert not list(model.model.decoder.position.parameters())
    assert type(model.model.decoder.position) is type(make_position(["sinusoidal"], config, True))


def test_the_decoder_alone_forgets_what_belongs_to_the_encoder(make_config):
    config = make_config(
        encoder_mixer="rnn", rnn_type="gru", encoder_position_encoding="learned", attention_score="additive",
        decoder_position_encoding=["rope", "t5"], relative_num_buckets=8, position_combine="concat",
    )  # fmt: skip
    alone = config.decoder_alone()
    alone.validate_switches()
    assert alone.position_encoding == ["rope", "t5"] and alone.relative_num_buckets == 8
    assert (alone.encoder_mixer, alone.rnn_type, alone.attention_score) == ("self_attention", "lstm", "scaled_dot")
    assert alone.num_hidden_layers == config.decoder_layers and alone.position_combine == "add"
    assert config.is_encoder_decoder and config.rnn_type == "gru"
    assert alone.decoder_alone().to_dict() == alone.to_dict()
    assert not alone.reads_trees


@pytest.mark.parametrize(
    ("switches", "encoder", "decoder"),
    [
        ({}, None, None),
        ({"position_encoding": "learned"}, 32, 32),
        ({"decoder_position_encoding": ["rope", "learned"]}, None, 32),
        ({"encoder_mixer": ["dense", "self_attention"]}, 32, None),
    ],
)
def test_a_config_knows_how_many_places_each_side_knows(switches, encoder, decoder, make_config):
    config = make_config(**switches)
    assert (config.known_places("encoder"), config.known_places("decoder")) == (encoder, decoder)
