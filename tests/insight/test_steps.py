"""Steps one after the other: a simulation that computes whatever can be computed gives the same numbers."""

import pytest
import torch

from selfattn_hf import SelfAttnEncoderModel
from selfattn_hf.insight import sequential_steps, time_per_step
from selfattn_hf.insight.steps import fitted_exponent


def simulated(mixers, causal, length, radius):
    """At each tick all states are computed whose inputs were there before it."""
    done = {(0, place, way): 0 for place in range(length) for way in "fb"}  # both directions of an rnn, else alike
    ways = "f" if causal else "fb"
    needed = [(layer, place, way) for layer in range(1, len(mixers) + 1) for place in range(length) for way in ways]
    tick = 0
    while any(state not in done for state in needed):
        tick += 1
        ready = []
        for layer, place, way in needed:
            mixer = mixers[layer - 1]
            if mixer == "rnn":
                before = place - 1 if way == "f" else place + 1
                waits = [(layer, before, way)] if 0 <= before < length else []
                waits += [(layer - 1, place, other) for other in ways]
            else:
                far = radius if mixer in ("window", "local_attention") else length
                seen = range(max(0, place - far), min(length, place + 1 if causal else place + far + 1))
                waits = [(layer - 1, other, both) for other in seen for both in ways]
            if (layer, place, way) not in done and all(state in done for state in waits):
                ready.append((layer, place, way))
        done |= dict.fromkeys(ready, tick)
    return [[max(done[layer, place, way] for way in ways) for place in range(length)]
            for layer in range(1, len(mixers) + 1)]  # fmt: skip


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_steps_of_every_mixer_are_those_of_a_simulation(make_model, mixer, side):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer)
    found = sequential_steps(model, 6, side)
    assert found.by_place == simulated(found.mixers, side == "decoder", 6, 2)
    assert found.orders == ["O(T)" if mixer == "rnn" else "O(1)"] * 3
    assert found.total == (3 if mixer != "rnn" else 8 if side == "decoder" else 18)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "mixers", [["rnn", "window", "rnn"], ["window", "rnn", "local_attention"], ["rnn", "self_attention", "window"]]
)
def test_steps_of_unlike_layers_are_those_of_a_simulation(make_model, mixers, side):
    model = make_model(encoder_mixer=mixers, decoder_mixer=mixers, window_radius=1)
    assert sequential_steps(model, 7, side).by_place == simulated(mixers, side == "decoder", 7, 1)


def test_a_decoder_that_sees_the_future_waits_for_all_of_it(make_model):
    model = make_model(future_mask=False, decoder_mixer=["rnn", "window", "rnn"])
    assert sequential_steps(model, 5, "decoder").by_place == simulated(["rnn", "window", "rnn"], False, 5, 2)


def test_keys_made_of_the_input_wait_for_nothing(make_model):
    model = make_model(attend_to="embeddings", encoder_mixer=["rnn", "self_attention", "self_attention"])
    assert sequential_steps(model, 5).by_place[1] == [1 + steps for steps in sequential_steps(model, 5).by_place[0]]


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_every_mixer_is_timed_and_the_model_stays_as_it_was(make_model, mixer, side):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer, dropout=0.1)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    times = time_per_step(model, [8, 4], repeats=2, side=side)
    assert times.lengths == [4, 8]
    assert [len(repeats) for repeats in times.all_seconds] == [2, 2]
    assert times.steps == [sequential_steps(model, length, side).total for length in (4, 8)]
    assert not model.training
    assert all(weight.grad is None and torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_model_that_reads_trees_is_timed(make_model):
    model = make_model(encoder_position_encoding=["tree_depth", "tree_relative"])
    assert min(time_per_step(model, [3, 6], repeats=1).seconds) > 0


def test_an_exponent_is_that_of_a_power():
    assert fitted_exponent([2, 4, 16], [3 * n**1.5 for n in (2, 4, 16)]) == pytest.approx(1.5)


def test_what_cannot_be_timed_is_refused(make_model):
    with pytest.raises(ValueError, match="two lengths or more"):
        time_per_step(make_model(), [8, 8])
    with pytest.raises(ValueError, match="knows 24 places, got a length of 32"):
        time_per_step(make_model(encoder_mixer="dense"), [16, 32])
    with pytest.raises(ValueError, match="has no decoder"):
        sequential_steps(make_model(SelfAttnEncoderModel), 4, "decoder")
    with pytest.raises(ValueError, match="length=0"):
        sequential_steps(make_model(), 0)
