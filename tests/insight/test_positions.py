"""What is asked of an encoding is true of its module: doors, what it depends on, parameters, memory, where it fits."""

from typing import get_args

import pytest
import torch

from selfattn_hf import SelfAttnConfig
from selfattn_hf.insight import encoding_of, positions
from selfattn_hf.model.contracts import PositionalEncoding
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.switches import AffinityMixer, AffinityPosition, EmbeddingPosition, TreePosition

SMALL = {"hidden_size": 24, "num_attention_heads": 4}
# Other sizes than those that the formulas are found with.
LETTERS = {"D": 32, "H": 4, "d": 6, "T": 20, "k": 9, "n": 8}


def test_the_words_are_those_of_the_registry():
    assert sorted(positions.names()) == sorted(POSITIONS)


def test_a_door_is_open_where_the_class_opens_it(position):
    opened = [
        d for d in ("embed", "rotate", "bias") if getattr(POSITIONS[position], d) != getattr(PositionalEncoding, d)
    ]
    assert encoding_of(position, **SMALL).doors() == opened


def test_encodings_that_act_together_have_the_doors_of_all():
    encoding = encoding_of(["sinusoidal", "rope", "tree_relative"], **SMALL)
    assert encoding.doors() == ["embed", "rotate", "bias"]
    assert encoding.depends_on() == ["tree", "place", "distance", "query"]


def test_what_an_encoding_depends_on_is_what_it_reads(position):
    found = encoding_of(position, **SMALL).depends_on()
    reads_trees = position in get_args(TreePosition)
    assert ("tree" in found) == reads_trees
    assert ("distance" in found) == (position in get_args(AffinityPosition) and not reads_trees)
    assert ("place" in found) == (position in ("sinusoidal", "learned", "fire"))  # `fire` scales by places
    assert ("query" in found) == (position in ("shaw", "transformer_xl", "tree_relative"))
    assert ("key" in found) == (position == "transformer_xl")


def test_a_small_table_of_places_is_asked_for_no_place_beyond_it():
    assert encoding_of("learned", max_position_embeddings=8, **SMALL).depends_on() == ["place"]


def test_a_formula_gives_the_number_of_parameters_at_other_sizes(position):
    sizes = {field: LETTERS[letter] for field, letter in positions.SIZES.items()}
    counted = sum(weight.numel() for weight in positions.sized(position, **sizes).module.parameters())
    assert eval(positions.formula(position).replace("·", "*").replace("2k", "2*k"), dict(LETTERS)) == counted


def test_sizes_reach_every_encoding_that_reads_them(position):
    config = positions.sized(position, relative_max_distance=9, relative_num_buckets=8, **SMALL).config
    assert config.hidden_size == SMALL["hidden_size"]
    default, given = SelfAttnConfig.relative_max_distance, config.relative_max_distance
    assert given == (9 if position in ("shaw", "t5", "fire", "tree_relative") else default)
    assert config.relative_num_buckets == (8 if position == "t5" else SelfAttnConfig.relative_num_buckets)


def test_a_switch_that_would_do_nothing_is_refused_where_one_encoding_is_asked_for():
    with pytest.raises(ValueError, match="rope_theta=500 would do nothing"):
        encoding_of("alibi", rope_theta=500)


def test_asking_an_encoding_leaves_the_random_numbers_of_others_alone():
    expected = torch.randn(3, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(7)
    encoding_of("t5", seed=1, **SMALL).depends_on()
    assert torch.equal(torch.randn(3), expected)


def test_an_encoding_fits_where_the_groups_of_the_config_say(position):
    sides = ["encoder"] if position in get_args(TreePosition) else ["encoder", "decoder"]
    acts_on_embeddings = position == "none" or position in get_args(EmbeddingPosition)
    mixers = set(MIXERS) if acts_on_embeddings else set(get_args(AffinityMixer))
    assert {side: set(found) for side, found in positions.fits(position).items()} == dict.fromkeys(sides, mixers)


def test_what_order_adds_is_nothing_without_order_and_the_formula_with_it():
    def added(name, length=6):
        encoding = encoding_of(name, **SMALL)
        return encoding.added(encoding.places(length))

    distance = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    assert not added("none").any()
    torch.testing.assert_close(added("alibi"), -(2.0**-2) * distance)  # the first slope of four heads
    waves = 10000 ** (-torch.arange(0, 24, 2) / 24)
    products = torch.cos(distance[..., None] * waves).sum(-1)  # sin a sin b + cos a cos b = cos(a - b)
    torch.testing.assert_close(added("sinusoidal"), products, atol=1e-5, rtol=1e-5)
    assert added("rope").diagonal().abs().max() < 1e-4
    assert (added("rope")[0, 1:] < 0).all()  # a turned vector is less like itself


def test_a_fixed_bias_is_kept_by_every_layer_and_grows_with_the_square_of_a_row():
    layers, heads = SelfAttnConfig.encoder_layers, SelfAttnConfig.num_attention_heads
    for length in (32, 64):
        assert positions.kept("alibi", length) == pytest.approx(layers * heads * length**2 * 4 / 2**20, rel=0.01)
    assert positions.kept("none", 32) == 0
    assert positions.kept("sinusoidal", 32) == 0


def test_what_is_kept_is_never_less_than_without_order_and_most_for_a_bias_that_learns(position):
    kept = positions.kept(position, 32)
    assert kept >= 0
    learns = any(True for _ in encoding_of(position, **SMALL).module.parameters())
    if learns and position in get_args(AffinityPosition):
        assert kept > positions.kept("alibi", 32) > 0
