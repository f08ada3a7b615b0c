"""Maps are the weights that the model computes with, whatever it was loaded with; lookups end in the layer's output."""

import itertools
import math

import pytest
import torch

from selfattn_hf import SelfAttnEncoderModel, SelfAttnForCausalLM
from selfattn_hf.insight import alignment, attention_maps, leak_test, lookup, mask_effect, mixing_weights, pair_of
from selfattn_hf.insight.passes import heard, layers_of, stack_of, still

WITH_WEIGHTS = ["self_attention", "local_attention", "dense"]
SCORES = ["scaled_dot", "dot", "general", "additive"]


def recorded(model, pair):
    """As transformers records them."""
    model.set_attn_implementation("eager")
    with still(model):
        out = model(
            input_ids=torch.tensor([pair.source]), decoder_input_ids=torch.tensor([pair.target]),
            output_attentions=True,
        )  # fmt: skip
    model.set_attn_implementation("sdpa")
    return {"encoder": out.encoder_attentions, "decoder": out.decoder_attentions, "cross": out.cross_attentions}


@pytest.mark.parametrize("shared", [False, True])
def test_maps_of_every_mixer_are_those_that_transformers_records(make_model, make_pair, mixer, shared):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer, share_layers=shared)
    pair = make_pair(model, 20, 18)  # long enough for local attention to work in blocks
    maps, others = attention_maps(model, pair), recorded(model, pair)
    assert model.config._attn_implementation == "sdpa"
    for part in ("encoder", "decoder", "cross"):
        own = [weights for weights in getattr(maps, part) if weights is not None]
        assert len(own) == len(others[part]) == (0 if part != "cross" and mixer in ("rnn", "window") else 3)
        for weights, other in zip(own, others[part], strict=True):
            torch.testing.assert_close(torch.tensor(weights, dtype=torch.float64), other[0])
    assert maps.encoder_mixers == [mixer] * 3
    assert len(maps.encoder) == len(maps.decoder) == 3


def test_a_layer_without_affinities_has_no_map_between_others_that_have(make_model, make_pair):
    model = make_model(encoder_mixer=["rnn", "dense", "window"], decoder_mixer=["self_attention", "rnn", "dense"])
    maps = attention_maps(model, make_pair(model))
    assert [weights is None for weights in maps.encoder] == [True, False, True]
    assert [weights is None for weights in maps.decoder] == [False, True, False]
    rows = [row for layer in (*maps.encoder, *maps.decoder, *maps.cross) if layer for head in layer for row in head]
    assert all(math.isclose(sum(row), 1) for row in rows)


def test_maps_of_one_stack(make_model):
    alone = make_model(SelfAttnForCausalLM)
    maps = attention_maps(alone, pair_of(alone, target=[4, 5, 6]))
    assert (len(maps.encoder), len(maps.decoder), maps.cross) == (0, 3, [])
    with pytest.raises(ValueError, match="reads no source"):
        alignment(maps)
    window = make_model(SelfAttnEncoderModel, encoder_mixer="window")
    with pytest.raises(ValueError, match="this model has window alone"):
        attention_maps(window, pair_of(window, [4, 5]))
    with pytest.raises(ValueError, match="decoder alone and reads no source"):
        lookup(alone, pair_of(alone, target=[4, 5]), "cross")


def test_an_alignment_is_a_mean_of_maps_with_its_largest_weight_and_entropy(make_model, make_pair):
    model = make_model(decoder_mixer="rnn")
    maps = attention_maps(model, make_pair(model))
    cross = torch.tensor(maps.cross)  # [L, H, T, S]
    for layer, head in itertools.product((None, 1, -1), (None, 0, -1)):
        found = alignment(maps, layer, head)
        mean = cross if layer is None else cross[layer][None]
        mean = (mean if head is None else mean[:, head, None]).mean((0, 1))
        torch.testing.assert_close(torch.tensor(found.weights), mean)
        assert found.best == mean.argmax(-1).tolist()
        entropy = torch.distributions.Categorical(probs=mean).entropy() / math.log(2)
        torch.testing.assert_close(torch.tensor(found.entropy), entropy)
        torch.testing.assert_close(torch.tensor(found.sharpness), 1 - entropy / math.log2(9))
    with pytest.raises(ValueError, match="3 layers, from 0 to 2, got layer=3"):
        alignment(maps, 3)
    one = make_pair(model, source=1)
    assert alignment(attention_maps(model, one)).sharpness == [1.0] * 7


def output_of(model, pair, part, layer):
    """What the layer's own part says in a pass, and the bias that belongs to no head."""
    stack = stack_of(model, "decoder" if part == "cross" else part)
    _, block, number = layers_of(stack)[layer]
    module = block.read.sublayer if part == "cross" else block.mix.sublayer
    trees = {} if pair.heads is None else {"syntax_heads": torch.tensor([pair.heads])}
    with still(model), heard(module) as calls:
        model(input_ids=torch.tensor([pair.source]), decoder_input_ids=torch.tensor([pair.target]), **trees)
    bias = module.out_proj.bias
    return calls[0][number].output[0] - (0 if bias is None else bias)


def check_lookup(model, pair, part, layer=1):
    lookups = [lookup(model, pair, part, layer, head) for head in range(4)]
    added = sum(torch.tensor(one.added, dtype=torch.float64) for one in lookups)
    torch.testing.assert_close(added, output_of(model, pair, part, layer), atol=1e-12, rtol=1e-9)
    for one in lookups:  # each step follows from the ones before
        products = torch.tensor(one.products, dtype=torch.float64)
        if one.queries is not None and one.score != "additive":
            queries, keys = torch.tensor(one.queries, dtype=torch.float64), torch.tensor(one.keys, dtype=torch.float64)
            torch.testing.assert_close(queries @ keys.T * one.scaling, products)
        affinities = products if one.bias is None else products + torch.tensor(one.bias, dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(one.affinities, dtype=torch.float64), affinities)
        for row, masked, seen, weights in zip(one.affinities, one.masked, one.seen, one.weights, strict=True):
            assert masked == [value if is_seen else None for value, is_seen in zip(row, seen, strict=True)]
            total = sum(math.exp(value) for value in masked if value is not None)
            expected = [0 if value is None else math.exp(value) / total for value in masked]
            assert weights == pytest.approx(expected, abs=1e-12)
    return lookups


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("asking", WITH_WEIGHTS)
def test_a_lookup_ends_in_what_the_layer_says(make_model, make_pair, with_order, asking, part, position):
    try:
        model = make_model(encoder_mixer=asking, decoder_mixer=asking, **with_order(position))
    except ValueError:
        pytest.skip(f"{asking} has no affinities for {position}")
    check_lookup(model, make_pair(model, 20, 18), part)


@pytest.mark.parametrize(
    "switches",
    [
        {"attend_to": "embeddings", "position_encoding": "rope"},
        {"share_layers": True, "position_encoding": "transformer_xl"},
        {"position_encoding": ["sinusoidal", "t5", "rope"], "position_injection": "block"},
        {"bias": False, "norm": "post", "head_dim": 6, "future_mask": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("part", ["encoder", "decoder", "cross"])
def test_a_lookup_of_unlike_models_ends_in_what_the_layer_says(make_model, make_pair, switches, part):
    model = make_model(**switches)
    check_lookup(model, make_pair(model), part, layer=2)


@pytest.mark.parametrize("score", SCORES)
def test_a_lookup_in_the_source_ends_in_what_the_layer_says_for_every_score(make_model, make_pair, score):
    model = make_model(attention_score=score, decoder_mixer="rnn")
    pair = make_pair(model)
    lookups = check_lookup(model, pair, "cross")
    maps = attention_maps(model, pair)
    for head, one in enumerate(lookups):
        assert one.score == score
        torch.testing.assert_close(torch.tensor(one.weights), torch.tensor(maps.cross[1][head]))
        if score == "additive":
            energy = model.get_decoder().layers[1].read.sublayer.energy[head].tolist()
            query, key = one.queries[2], one.keys[3]
            by_hand = sum(e * math.tanh(q + k) for e, q, k in zip(energy, query, key, strict=True))
            assert one.products[2][3] == pytest.approx(by_hand)


def test_what_looks_nothing_up_is_refused(make_model, make_pair):
    model = make_model(decoder_mixer=["window", "rnn", "self_attention"])
    pair = make_pair(model)
    with pytest.raises(ValueError, match="'window', which looks nothing up"):
        lookup(model, pair, "decoder", 0)
    with pytest.raises(ValueError, match="'rnn', which looks nothing up"):
        mask_effect(model, pair, 1)
    with pytest.raises(ValueError, match="'rnn', which has no weight for a pair of places"):
        mixing_weights(model, pair, pair, "decoder", 1)
    with pytest.raises(ValueError, match="4 heads, from 0 to 3, got head=4"):
        lookup(model, pair, "decoder", 2, 4)


@pytest.mark.parametrize("asking", WITH_WEIGHTS)
def test_a_mask_takes_the_weight_from_later_words(make_model, make_pair, asking):
    model = make_model(decoder_mixer=asking)
    pair = make_pair(model)
    found = mask_effect(model, pair, 1, 2)
    before = torch.tensor(found.affinities).softmax(-1)
    torch.testing.assert_close(torch.tensor(found.weights_before), before)
    torch.testing.assert_close(torch.tensor(found.future_weight), before.triu(1).sum(-1))
    assert not torch.tensor(found.weights).triu(1).any()
    assert [[value is None for value in row][t + 1 :] for t, row in enumerate(found.masked)] == [
        [True] * (6 - t) for t in range(7)
    ]
    torch.testing.assert_close(torch.tensor(found.weights), torch.tensor(attention_maps(model, pair).decoder[1][2]))


@pytest.mark.parametrize("future_mask", [True, False])
def test_nothing_leaks_from_the_future_but_where_it_may_be_seen(make_model, make_pair, mixer, future_mask):
    model = make_model(decoder_mixer=mixer, future_mask=future_mask)
    found = leak_test(model, make_pair(model), dimensions=4)
    assert found.agrees
    assert found.expected == bool(found.leaks) == (found.largest > 0) == (not future_mask)


def test_a_leak_that_should_not_be_is_found(make_model, make_pair):
    model = make_model()
    pair = make_pair(model)
    for layer in model.get_decoder().layers:
        inner = layer.mix.sublayer.forward
        layer.mix.sublayer.forward = lambda x, inner=inner, **kwargs: inner(x, **kwargs) + x.roll(-1, 1)
    found = leak_test(model, pair, 1)
    assert not found.agrees
    assert found.leaks[0] == (0, 1)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("asking", WITH_WEIGHTS)
def test_weights_are_fixed_in_dense_and_dynamic_in_attention(make_model, make_pair, asking, side):
    model = make_model(encoder_mixer=asking, decoder_mixer=asking, position_encoding="sinusoidal")
    one, other = make_pair(model), make_pair(model, seed=3)
    found = mixing_weights(model, one, other, side, 2, 1)
    assert found.dynamic == (found.largest > 1e-3) == (asking != "dense")
    if not found.dynamic:
        assert found.largest == 0
    maps = getattr(attention_maps(model, other), side)[2][1]
    assert found.second == maps
    torch.testing.assert_close(torch.tensor(found.first) + torch.tensor(found.difference), torch.tensor(maps))


def test_sentences_of_two_lengths_are_not_compared(make_model, make_pair):
    model = make_model()
    with pytest.raises(ValueError, match="got 9 and 8 in the encoder"):
        mixing_weights(model, make_pair(model), make_pair(model, source=8))
