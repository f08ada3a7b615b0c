"""Measured reach is the derivative, its zeros are those of theory, and a way is as long as a search finds it."""

import itertools

import pytest
import torch

from selfattn_hf import SelfAttnForCausalLM, SelfAttnForTokenClassification
from selfattn_hf.insight import pair_of, path_length, reach
from selfattn_hf.insight.connections import wiring
from selfattn_hf.insight.passes import states_heard, still

MIXED = [
    ["window", "rnn", "local_attention"],
    ["local_attention", "window", "self_attention"],
    ["window", "dense", "window"],
    ["rnn", "local_attention", "local_attention"],
]


def finite_differences(model, pair, side, step=1e-6):
    """Derivatives by moving every number of every embedding."""
    stack = getattr(model, f"get_{side}")()
    ids = torch.tensor([pair.source if side == "encoder" else pair.target])
    with still(model):
        given = {}
        if side == "decoder":
            source = model.get_encoder()(torch.tensor([pair.source])).last_hidden_state
            given = {"encoder_hidden_states": source, "use_cache": False}
        embeds = stack.embed_tokens(ids)

        def states_of(moved):
            with states_heard(stack) as states:
                stack(inputs_embeds=moved, **given)
            return torch.stack(states)[:, 0]

        slopes = torch.zeros(4, ids.shape[1], ids.shape[1])
        for place, number in itertools.product(range(ids.shape[1]), range(embeds.shape[2])):
            moved = torch.zeros_like(embeds)
            moved[0, place, number] = step
            change = (states_of(embeds + moved) - states_of(embeds - moved)) / (2 * step)
            slopes[:, :, place] += change.abs().mean(-1) / embeds.shape[2]
    return slopes


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_reach_is_the_derivative_of_every_mixer(make_model, make_pair, mixer, side):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer, window_radius=1) if mixer in (
        "window", "local_attention") else make_model(encoder_mixer=mixer, decoder_mixer=mixer)  # fmt: skip
    pair = make_pair(model, 4, 4)
    measured = torch.tensor(reach(model, pair, side).gradients)
    torch.testing.assert_close(measured, finite_differences(model, pair, side), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_zeros_are_those_of_theory_for_every_mixer_and_position(
    make_model, make_pair, with_order, mixer, position, side
):
    try:
        model = make_model(encoder_mixer=mixer, decoder_mixer=mixer, **with_order(position))
    except ValueError:
        pytest.skip(f"{mixer} has no affinities for {position}")
    assert reach(model, make_pair(model, 12, 12), side, dimensions=4).agrees


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "switches",
    [
        *({"encoder_mixer": mixers, "decoder_mixer": mixers, "window_radius": 1} for mixers in MIXED),
        {"encoder_mixer": MIXED[3], "decoder_mixer": MIXED[3], "attend_to": "embeddings", "window_radius": 1},
        {"encoder_mixer": MIXED[1], "decoder_mixer": MIXED[1], "attend_to": "embeddings", "residual": False},
        {"encoder_mixer": "local_attention", "decoder_mixer": "local_attention", "attend_to": "embeddings"},
        {"encoder_mixer": "window", "decoder_mixer": "local_attention", "share_layers": True, "window_radius": 1},
        {"encoder_mixer": "window", "decoder_mixer": "window", "norm": "post", "residual": False},
        {"decoder_mixer": MIXED[0], "future_mask": False, "feedforward": "none", "norm": "none", "window_radius": 1},
        {"position_encoding": ["sinusoidal", "shaw"], "position_injection": "block", "position_combine": "concat"},
    ],
    ids=str,
)
def test_zeros_are_those_of_theory_for_unlike_stacks(make_model, make_pair, switches, side):
    model = make_model(**switches)
    pair = make_pair(model, 12, 12)
    found = path_length(model, pair, side)
    assert reach(model, pair, side, dimensions=4).agrees
    assert found.measured == found.layers


def test_a_theory_that_is_wrong_would_be_found(make_model, make_pair, monkeypatch):
    model = make_model(encoder_mixer="window")
    pair = make_pair(model, 12)
    assert reach(model, pair, dimensions=4).agrees
    monkeypatch.setattr(model.get_encoder().config, "window_radius", 1)
    assert not reach(model, pair, dimensions=4).agrees


def test_windows_see_a_pyramid(make_model, make_pair):
    model = make_model(encoder_mixer="window", decoder_mixer="local_attention")
    pair = make_pair(model, 17, 17)
    encoder, decoder = reach(model, pair, "encoder", 2), reach(model, pair, "decoder", 2)
    assert encoder.widths == [1, 5, 9, 13]
    assert decoder.widths == [1, 3, 5, 7]
    assert [sum(value > 0 for value in layer[8]) for layer in encoder.gradients] == encoder.widths
    assert [sum(value > 0 for value in layer[16]) for layer in decoder.gradients] == decoder.widths


def test_unlike_layers_widen_the_pyramid_until_one_sees_all(make_model, make_pair):
    model = make_model(encoder_mixer=["window", "local_attention", "rnn"], window_radius=1)
    assert reach(model, make_pair(model), dimensions=1).widths == [1, 3, 5, None]


def shortest(model, side, length):
    """Breadth first: one step of every layer's own kind after the other."""
    best = {(s, s): 0 for s in range(length)}  # (t, s) -> steps
    for layer in wiring(model.config, side, length):
        starts = {(s, s): 0 for s in range(length)} if layer.from_input else best
        found = dict(best)
        for (u, s), steps in starts.items():
            for t in range(length):
                if layer.sees[t, u]:
                    found[t, s] = min(found.get((t, s), 10**9), steps + int(layer.steps[t, u]))
        best = found
    return [[best.get((t, s)) for s in range(length)] for t in range(length)]


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("mixers", ["self_attention", "rnn", "window", "dense", *MIXED], ids=str)
def test_the_way_is_as_short_as_a_search_finds_it(make_model, make_pair, mixers, side):
    model = make_model(encoder_mixer=mixers, decoder_mixer=mixers)
    found = path_length(model, make_pair(model, 8, 8), side)
    assert found.steps == shortest(model, side, 8)


def test_ways_of_the_lecture(make_model, make_pair):
    def longest(side, **switches):
        model = make_model(**switches)
        return path_length(model, make_pair(model, 9, 9), side).longest

    assert longest("encoder") == 1
    assert longest("encoder", encoder_mixer="rnn") == 8
    assert longest("decoder", decoder_mixer="rnn") == 8
    assert longest("encoder", encoder_mixer="window") == 3  # 3 layers of radius 2: the ends are out of sight
    window = make_model(encoder_mixer="window")
    ways = path_length(window, make_pair(window, 9)).steps
    assert ways[0] == [0, 1, 1, 2, 2, 3, 3, None, None]
    assert path_length(window, make_pair(window, 1)).longest is None


def test_models_with_one_stack_are_looked_into(make_model, make_pair):
    alone, tagger = make_model(SelfAttnForCausalLM), make_model(SelfAttnForTokenClassification)
    assert reach(alone, pair_of(alone, target=[4, 5, 6, 7]), "decoder").agrees
    assert reach(tagger, pair_of(tagger, [4, 5, 6, 7])).agrees
    with pytest.raises(ValueError, match="has no encoder"):
        reach(alone, pair_of(alone, target=[4, 5]))
    with pytest.raises(ValueError, match="16 dimensions, got dimensions=17"):
        reach(tagger, pair_of(tagger, [4, 5]), dimensions=17)


def test_looking_changes_nothing(make_model, make_pair):
    model = make_model(dtype=torch.float32).train()
    reach(model, make_pair(model), "decoder", 1)
    assert all(part.training for part in model.modules())
    assert all(weight.dtype == torch.float32 and weight.grad is None for weight in model.parameters())
