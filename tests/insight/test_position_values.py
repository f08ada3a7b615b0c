"""Values are those of the formulas, of the model's own module, on either side."""

import math
from typing import get_args

import pytest
import torch

from selfattn_hf.insight import lookup, position_values
from selfattn_hf.insight.positions import chain
from selfattn_hf.model import Places
from selfattn_hf.model.switches import AffinityPosition


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_every_encoding_has_its_values(make_model, with_order, position, side):
    fields = with_order(position)
    if side == "decoder" and "encoder_position_encoding" in fields:
        pytest.skip("trees are for encoders")
    near = {"relative_max_distance": 4} if position == "fire" else {}  # from where it reads places, too
    model = make_model(**fields, **near)
    found = position_values(model, side, trained=8)
    assert found.names == ([] if position == "none" else [position])
    assert (found.vectors is not None) == ("embed" in found.doors)
    assert (found.turned is not None) == ("rotate" in found.doors)
    assert (found.bias is not None) == ("bias" in found.doors)
    assert found.places == 16
    assert found.beyond == ("raises" if position == "learned" else "goes on")
    if found.bias is not None:
        assert (found.bias_spread < 1e-4) == (position != "fire")  # on a chain, steps in a tree are a distance
        assert len(found.bias) == 4
        assert len(found.bias[0]) == len(found.distances) == 31
    assert bool(found.doors) == (position != "none")
    assert position not in get_args(AffinityPosition) or found.vectors is None


def test_similarity_of_sinusoids_is_their_formula(make_model):
    found = position_values(make_model(position_encoding="sinusoidal"), trained=5)
    waves = [10000 ** (-i / 16) for i in range(0, 16, 2)]
    for i in range(10):
        for j in range(10):
            expected = sum(math.cos((j - i) * wave) for wave in waves)
            assert found.dot[i][j] == pytest.approx(expected, abs=1e-5)
            assert found.cosine[i][j] == pytest.approx(expected / 8, abs=1e-5)
            assert found.theory["sinusoidal"][j - i + 9] == pytest.approx(expected)


def test_turning_depends_on_the_distance_as_the_formula_says(make_model):
    model = make_model(position_encoding="rope", rope_theta=50, num_attention_heads=2)
    found = position_values(model, "decoder", trained=6)
    assert found.turned == pytest.approx(found.theory["rope"], abs=1e-5)
    position, head = model.get_decoder().position, torch.randn(1, 4000, 1, 8, dtype=torch.float64)
    head = torch.nn.functional.normalize(head, dim=-1).expand(-1, -1, 12, -1)
    turned = position.rotate(head, Places.count((1, 12), torch.device("cpu")))[0]
    sampled = (turned[:, 3:4] * turned).sum(-1).mean(0)  # many words, one at place 3
    assert found.turned[11 - 3 : 23 - 3] == pytest.approx(sampled.tolist(), abs=0.03)


def test_a_bias_is_the_one_that_the_model_adds(make_model, make_pair):
    model = make_model(position_encoding="t5", relative_num_buckets=8, relative_max_distance=12)
    pair = make_pair(model, 9)
    found = position_values(model, trained=9)
    for head in range(4):
        bias = lookup(model, pair, "encoder", 1, head).bias
        for i in range(9):
            assert bias[i] == pytest.approx([found.bias[head][j - i + 17] for j in range(9)], abs=1e-6)


def test_far_distances_share_a_bias_where_there_is_a_furthest(make_model):
    assert position_values(make_model(position_encoding="shaw", relative_max_distance=6), trained=8).constant_from == 6
    t5 = make_model(position_encoding="t5", relative_num_buckets=8, relative_max_distance=9)
    assert position_values(t5, trained=16).constant_from <= 9
    assert position_values(make_model(position_encoding="alibi"), trained=8).constant_from is None
    assert (
        position_values(make_model(position_encoding="shaw", relative_max_distance=40), trained=16).constant_from
        is None
    )


def test_a_table_ends(make_model):
    model = make_model(position_encoding="learned")
    found = position_values(model, trained=20)
    assert (found.bounded, found.places, found.beyond) == (24, 24, "raises")
    torch.testing.assert_close(torch.tensor(found.vectors), model.get_encoder().position.table.weight.data.float())
    with pytest.raises(ValueError, match="knows 24 places"):
        model.get_encoder()(torch.full((1, 25), 5))


def test_trees_are_read_where_they_are_given(make_model):
    model = make_model(encoder_position_encoding="tree_depth")
    flat = position_values(model, heads=[0, 0, 0, 0])
    assert flat.vectors[1] == flat.vectors[2] != flat.vectors[0]
    along = position_values(model, trained=2)
    assert along.vectors == position_values(model, heads=chain(4)[0].tolist()).vectors
    with pytest.raises(ValueError, match="heads would do nothing: the decoder's"):
        position_values(model, "decoder", heads=[0, 0])
    with pytest.raises(ValueError, match="trained=0"):
        position_values(model, trained=0)


def test_encodings_that_act_together_have_all_values(make_model):
    found = position_values(make_model(position_encoding=["sinusoidal", "rope", "alibi"]), trained=4)
    assert found.doors == ["embed", "rotate", "bias"]
    assert set(found.theory) == {"sinusoidal", "rope"}
