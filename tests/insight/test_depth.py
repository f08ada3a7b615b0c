"""Ranks are those of numpy's loops; attention alone makes all words alike, feed-forward and residual do not."""

import math

import pytest
import torch

from selfattn_hf import SelfAttnForCausalLM
from selfattn_hf.insight import pair_of, rank_over_depth
from selfattn_hf.insight.depth import ranks_of


def test_ranks_of_known_matrices():
    equal = torch.ones(5, 8, dtype=torch.float64)
    apart = torch.eye(5, 8, dtype=torch.float64)
    line = torch.arange(1.0, 6.0, dtype=torch.float64)[:, None] * torch.ones(8, dtype=torch.float64)
    found = ranks_of(torch.stack([equal, apart, line]))
    assert found.stable_rank == pytest.approx([1, 5, 1])
    assert found.effective_rank == pytest.approx([1, 5, 1], abs=1e-5)
    assert found.distance_to_mean == pytest.approx([0, math.sqrt(4 / 5), math.sqrt(10 / 55)])
    assert found.cosine == pytest.approx([1, 0, 1])
    assert ranks_of(equal[None, :1]).cosine == [None]


def test_ranks_are_those_of_loops():
    torch.manual_seed(0)
    states = torch.randn(1, 4, 6, dtype=torch.float64)
    found, x = ranks_of(states), states[0]
    squares = torch.linalg.eigvalsh(x @ x.T)
    assert found.stable_rank[0] == pytest.approx(float(squares.sum() / squares.max()))
    singular = squares.sqrt() / squares.sqrt().sum()
    assert found.effective_rank[0] == pytest.approx(math.exp(-sum(float(s * s.log()) for s in singular)))
    cosines = [float(torch.cosine_similarity(x[i], x[j], dim=0)) for i in range(4) for j in range(4) if i != j]
    assert found.cosine[0] == pytest.approx(sum(cosines) / len(cosines))
    mean = sum(x[i] for i in range(4)) / 4
    assert found.distance_to_mean[0] == pytest.approx(
        math.sqrt(sum(float((x[i] - mean).square().sum()) for i in range(4)) / float(x.square().sum()))
    )


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_variants_of_every_mixer_are_models_without_those_parts(make_model, make_pair, mixer, side):
    switches = {"encoder_mixer": mixer, "decoder_mixer": mixer}
    model = make_model(**switches)
    pair = make_pair(model)
    found = rank_over_depth(model, pair, side).variants
    assert list(found) == ["as it is", "without feed-forward", "without residual", "without both"]
    for name, fields in {
        "without feed-forward": {"feedforward": "none"},
        "without residual": {"residual": False},
        "without both": {"feedforward": "none", "residual": False},
    }.items():
        other = make_model(**switches, **fields)
        other.load_state_dict(model.state_dict(), strict=False)
        if side == "decoder":  # what is read is read from the whole encoder
            other.model.encoder = model.model.encoder
        assert rank_over_depth(other, pair, side).variants["as it is"] == found[name]
        assert found[name] != found["as it is"]


def test_parts_that_a_model_does_not_have_are_not_switched_off(make_model, make_pair):
    bare = make_model(residual=False)
    assert list(rank_over_depth(bare, make_pair(bare)).variants) == ["as it is", "without feed-forward"]
    linear = make_model(feedforward="none", share_layers=True)
    pair = make_pair(linear)
    assert list(rank_over_depth(linear, pair).variants) == ["as it is", "without residual"]
    assert list(rank_over_depth(linear, pair, residual=False).variants) == ["as it is"]
    alone = make_model(SelfAttnForCausalLM)
    assert rank_over_depth(alone, pair_of(alone, target=[4, 5, 6]), "decoder").side == "decoder"


def test_attention_alone_makes_all_words_alike(make_model, make_pair):
    """The claim of Dong et al., and what holds it up."""
    model = make_model(norm="none", encoder_layers=6)
    found = rank_over_depth(model, make_pair(model)).variants
    alone, whole = found["without both"].distance_to_mean, found["as it is"].distance_to_mean
    assert alone[-1] < 0.02 < 0.1 < whole[-1]
    assert alone == sorted(alone, reverse=True)


def test_looking_at_the_ranks_changes_nothing(make_model, make_pair):
    model = make_model().train()
    before = model.state_dict()
    rank_over_depth(model, make_pair(model), "decoder")
    assert all(part.training for part in model.modules())
    assert all(layer.think is not None and layer.mix.residual for layer in model.get_decoder().layers)
    assert before.keys() == model.state_dict().keys()
