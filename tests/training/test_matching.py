"""Equal parameters: near enough for every switch, by counts that are found another way too."""

import functools
from pathlib import Path

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.training import count_parameters, match_parameters, read_family

ROOT = Path(__file__).resolve().parents[2]
LECTURE = sorted((ROOT / "configs" / "lecture").glob("*.yaml"))
TINY = {"vocab_size": 40, "hidden_size": 16, "encoder_layers": 2, "decoder_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 24, "max_position_embeddings": 16}  # fmt: skip
USUAL = {"vocab_size": 8000, "hidden_size": 256, "encoder_layers": 3, "decoder_layers": 3, "num_attention_heads": 8,
         "intermediate_size": 1024, "max_position_embeddings": 256}  # fmt: skip
SIZES = ("hidden_size", "intermediate_size")


def family(**rest):
    """Every mixer and every encoding of the registries, on both sides where that is legal, else in the encoder."""
    members = {}
    for name in MIXERS:
        members[name] = SelfAttnConfig(encoder_mixer=name, decoder_mixer=name, position_encoding="none", **rest)
    for name in POSITIONS:
        try:
            members[f"order {name}"] = SelfAttnConfig(position_encoding=name, **rest)
        except ValueError:
            sides = {"encoder_position_encoding": name, "position_encoding": "none"}
            members[f"order {name}"] = SelfAttnConfig(**sides, **rest)
    return members


def counted(config):
    """Parameters of a model with weights: tensors that share memory are one."""
    model = SelfAttnForConditionalGeneration(config)
    storages = {weight.data_ptr(): weight.numel() for _, weight in model.named_parameters(remove_duplicate=False)}
    return sum(storages.values())


def others(config):
    return {name: value for name, value in config.to_dict().items() if name not in SIZES}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", family(**TINY))
def test_a_count_is_that_of_a_model_with_weights(name, tied):
    config = family(**TINY, tie_word_embeddings=tied)[name]
    assert count_parameters(config) == counted(config)


def test_untied_tables_count_three_times():
    tied, untied = (count_parameters(SelfAttnConfig(**TINY, tie_word_embeddings=tied)) for tied in (True, False))
    assert untied - tied == 2 * TINY["vocab_size"] * TINY["hidden_size"]


def test_counting_takes_no_memory_and_draws_no_numbers():
    before = torch.random.get_rng_state()
    assert count_parameters(SelfAttnConfig(hidden_size=2**12, intermediate_size=2**14)) > 2.9e9
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("feedforward", ["relu", "swiglu"])
@pytest.mark.parametrize("sizes", [TINY, USUAL], ids=["tiny", "usual"])
def test_a_family_over_all_mixers_and_encodings_comes_within_two_percent(sizes, feedforward, tied):
    given = family(**sizes, feedforward=feedforward, tie_word_embeddings=tied)
    matched = match_parameters(given, reference="self_attention")
    target = count_parameters(given["self_attention"])
    for name, one in matched.items():
        assert one.before == count_parameters(given[name])
        assert one.after == (counted(one.config) if sizes is TINY else count_parameters(one.config))
        assert abs(one.after - target) < 0.02 * target
        assert one.target == target and one.difference == pytest.approx((one.after - target) / target)
        assert others(one.config) == others(given[name])
    assert matched["self_attention"].config.to_dict() == given["self_attention"].to_dict()


@pytest.mark.parametrize("reference", [None, "07_transformer", "03_self_attention_no_order", 600_000])
def test_the_lecture_comes_within_two_percent(reference):
    given = read_family(LECTURE)
    matched = match_parameters(given, reference=reference)
    assert list(matched) == [path.stem for path in LECTURE]
    target = reference if isinstance(reference, int) else count_parameters(given[reference or LECTURE[0].stem])
    for name, one in matched.items():
        assert abs(counted(one.config) - target) < 0.02 * target
        assert others(one.config) == others(given[name])


def test_what_is_near_enough_stays_as_it_is():
    one, other = SelfAttnConfig(**TINY), SelfAttnConfig(**{**TINY, "intermediate_size": 25})
    apart = count_parameters(other) / count_parameters(one) - 1
    assert 0 < apart < 0.02
    near = match_parameters({"one": one, "other": other})["other"]
    assert near.changed == {} and near.config is other and near.difference == pytest.approx(apart)
    equal = match_parameters({"one": one, "other": other}, tolerance=apart)["other"]
    assert equal.changed == {"intermediate_size": (25, 24)} and equal.difference == 0


@functools.cache
def counts_of_every_inner_size(feedforward):
    sizes = ({**TINY, "intermediate_size": size} for size in range(8, 129))
    return [count_parameters(SelfAttnConfig(**fields, feedforward=feedforward)) for fields in sizes]


@pytest.mark.parametrize("target", [12_000, 19_000, 21_500, 30_001])
@pytest.mark.parametrize("feedforward", ["relu", "geglu"])
def test_intermediate_size_alone_is_changed_to_the_very_nearest(target, feedforward):
    config = SelfAttnConfig(**TINY, feedforward=feedforward)
    one = match_parameters({"it": config}, reference=target)["it"]
    assert set(one.changed) == {"intermediate_size"}
    assert abs(one.after - target) == min(abs(count - target) for count in counts_of_every_inner_size(feedforward))


@pytest.mark.parametrize(
    ("switches", "step"),
    [
        ({"position_encoding": "none"}, 3),
        ({"position_encoding": "sinusoidal"}, 6),
        ({"position_encoding": "rope"}, 6),
        ({"position_encoding": "none", "encoder_mixer": "rnn"}, 6),
    ],
)
def test_without_a_feedforward_the_width_takes_the_nearest_step_that_is_legal(switches, step):
    fixed = {**TINY, "num_attention_heads": 3, "feedforward": "none", **switches}
    config = SelfAttnConfig(**{**fixed, "hidden_size": 48})
    target = 2 * count_parameters(config)
    one = match_parameters({"it": config}, reference=target, tolerance=0.2)["it"]
    widths = [SelfAttnConfig(**{**fixed, "hidden_size": width}) for width in range(12, 193, step)]
    assert abs(one.after - target) == min(abs(count_parameters(config) - target) for config in widths)
    width = one.config.hidden_size
    assert one.changed == {"hidden_size": (48, width), "head_width": (16, width // 3)}


@pytest.mark.parametrize("factor", [0.2, 12])
def test_far_targets_change_the_width_with_the_feedforward_in_proportion(factor):
    config = SelfAttnConfig(**USUAL)
    target = int(factor * count_parameters(config))
    one = match_parameters({"it": config}, reference=target, tolerance=0.005)["it"]
    assert set(one.changed) == {"hidden_size", "intermediate_size", "head_width"}
    assert one.config.intermediate_size / one.config.hidden_size == pytest.approx(4, rel=0.2)
    assert one.config.num_attention_heads == 8 and one.config.head_width == one.config.hidden_size // 8


def test_a_head_of_its_own_width_keeps_it():
    config = SelfAttnConfig(**TINY, head_dim=6, feedforward="none")
    one = match_parameters({"it": config}, reference=2 * count_parameters(config), tolerance=0.1)["it"]
    assert set(one.changed) == {"hidden_size"} and one.config.head_width == 6


@pytest.mark.parametrize(
    ("switches", "arguments", "words"),
    [
        ({}, {"reference": 10}, ["it cannot come within 2.00% of 10 parameters", "the nearest is", "Allow a larger"]),
        ({}, {"reference": 10**12}, ["hidden_size=64", "intermediate_size=512", "from 4 to 64 in steps of 4"]),
        ({"feedforward": "none"}, {"reference": 50_000, "tolerance": 1e-6}, ["feedforward='none' has no size"]),
        (
            {"head_dim": 4, "attention_score": "dot", "feedforward": "none"},
            {"reference": 50_000},
            ["hidden_size may be nothing else"],
        ),
        ({}, {"tolerance": 0}, ["above 0 and below 1", "got 0"]),
        ({}, {"tolerance": 1.5}, ["got 1.5"]),
        ({}, {"reference": "that"}, ["got 'that'", "Choose one of: it"]),
        ({}, {"reference": 0}, ["starts at 1, got 0"]),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(switches, arguments, words):
    with pytest.raises(ValueError) as error:
        match_parameters({"it": SelfAttnConfig(**TINY, **switches)}, **arguments)
    for word in words:
        assert word in str(error.value)


def test_the_nearest_count_that_is_named_is_the_nearest():
    config = SelfAttnConfig(**{**TINY, "feedforward": "none"})
    counts = [count_parameters(SelfAttnConfig(**{**TINY, "feedforward": "none", "hidden_size": w})) for w in (20, 24)]
    with pytest.raises(ValueError, match=f"nearest is {counts[1]:,}"):
        match_parameters({"it": config}, reference=(counts[0] + 2 * counts[1]) // 3, tolerance=1e-3)


def test_a_family_has_members():
    with pytest.raises(ValueError, match="got none"):
        match_parameters({})
