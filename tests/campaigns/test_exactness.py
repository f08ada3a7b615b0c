"""The campaign on exactness with a few combinations; and that every one of its probes sees a model that is broken."""

import dataclasses
import importlib
import itertools
import json
import math
import sys
from pathlib import Path

import pytest
from torch import nn

from selfattn_hf import make_cache
from selfattn_hf.model import attend
from selfattn_hf.model.decoding import DecodingState

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "campaigns"


@pytest.fixture
def campaign(monkeypatch):
    """Import one of its modules by name."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


def test_every_figure_is_kept_and_a_peer_is_seen_to_miss_some(campaign, tmp_path, capsys):
    figures = campaign("exactness").main(["--quick", "--json", str(tmp_path / "figures.json")])
    assert figures == {"combinations": 2, "missed": []}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("promise") and lines[-1] == "21 of 21 figures are kept by all combinations"
    rows = {row["what"]: row for row in json.loads((tmp_path / "figures.json").read_text())["rows"]}
    assert {row["promise"] for row in rows.values()} == {1, 2, 3, 4, 5, 6, 7, 10, 11, 12}
    assert len(rows["gradient at padding"]["figures"]) == 3
    assert float(rows["padding left, right, wider, fp64"]["bart"]) > 0.1
    assert float(rows["in the Trainer"]["bart"]) > 1
    assert rows["loss and gradient of -100 alone"]["figures"]["bart"] == "nan"


def test_every_legal_combination_is_measured(campaign):
    from ..model.conftest import MIXERS, POSITIONS, on_each_side

    subjects = list(campaign("_exact_models").combinations())
    assert len({subject.name for subject in subjects}) == len(subjects)
    plain = {"encoder_mixer": "self_attention", "decoder_mixer": "self_attention"}
    switches = [subject.switches for subject in subjects]
    for mixer, position in itertools.product(MIXERS, POSITIONS):
        assert all(plain | stacks in switches for stacks in on_each_side(mixer, position))
    pairs = {(one["encoder_mixer"], one["decoder_mixer"]) for one in switches}
    assert pairs == set(itertools.product(MIXERS, MIXERS))


def forget_the_masks(model, monkeypatch):
    whole = model.forward
    model.forward = lambda **inputs: whole(**{k: v for k, v in inputs.items() if not k.endswith("attention_mask")})


def divide_by_the_number_of_source_tokens(model, monkeypatch):
    whole = model.forward

    def forward(attention_mask=None, **inputs):
        output = whole(attention_mask=attention_mask, **inputs)
        output.logits = output.logits / attention_mask.sum(1)[:, None, None]
        return output

    model.forward = forward


def mix_rows(model, monkeypatch):
    model.lm_head.register_forward_hook(lambda module, args, logits: logits + logits.mean(0, keepdim=True))


def see_the_future(model, monkeypatch):
    for layer in model.model.decoder.layers:
        layer.register_forward_hook(lambda module, args, states: states + states.roll(-1, 1))


def compute_eager_attention_otherwise(model, monkeypatch):
    whole = attend.eager_attention
    monkeypatch.setattr(attend, "eager_attention", lambda *args, **named: (whole(*args, **named)[0] * 1.001, None))


def count_places_from_zero(model, monkeypatch):
    position = model.model.decoder.position
    whole = position.embed
    position.embed = lambda x, places: whole(
        x, dataclasses.replace(places, queries=places.queries - places.queries[:, :1])
    )


def leave_beams_where_they_are(model, monkeypatch):
    for layer in {DecodingState, *(type(layer) for layer in make_cache(model.config).self_attention_cache.layers)}:
        monkeypatch.setattr(layer, "reorder_cache", lambda self, beam_idx: None)


def average_batch_by_batch(model, monkeypatch):
    model.loss_function = lambda logits, labels, *args, **named: nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten()
    )


def shift_labels_again(model, monkeypatch):
    whole = model.loss_function
    model.loss_function = lambda logits, labels, **named: whole(logits[:, :-1], labels[:, 1:], **named)


def guess_the_input(model, monkeypatch):
    whole = model.forward
    model.forward = lambda input_ids, **inputs: whole(
        input_ids=input_ids, **{"decoder_input_ids": input_ids.roll(1, 1)} | inputs
    )


PADDING = {"padding left, right, wider, fp64", "padding left, right, wider, fp32"}
CACHE = {
    "cache, prefill in parts, fp64", "cache, prefill in parts, fp32", "cache, prompts padded left, fp64",
    "other texts by cache, fp32",
}  # fmt: skip
BROKEN = {
    forget_the_masks: PADDING | {"what lies under the mask", "gradient at padding"},
    divide_by_the_number_of_source_tokens: {"a row without a token, finite"},
    mix_rows: PADDING | {"batch mates and order"},
    see_the_future: {"gradient from the future"},
    compute_eager_attention_otherwise: {"eager and sdpa"},
    count_places_from_zero: CACHE,
    leave_beams_where_they_are: {"other texts by cache, fp32", "a beam as wide as the tree"},
    average_batch_by_batch: {"loss and gradient of -100 alone", "8x1, 4x2, 2x4, 1x8", "the same, smoothed"},
    shift_labels_again: {"loss, against torch's"},
    guess_the_input: {"inputs guessed from the source"},
}


@pytest.fixture
def probes(campaign):
    """Every probe by what it measures."""
    return {probe.what: probe for probe in campaign("_exact_probes").PROBES}


def test_there_is_a_broken_model_for_every_probe_with_a_limit(probes):
    assert set().union(*BROKEN.values()) == {what for what, probe in probes.items() if probe.limit is not None}


@pytest.mark.parametrize("mixer", ["self_attention", "rnn"])
@pytest.mark.parametrize("break_it", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_model_is_seen(break_it, mixer, campaign, probes, monkeypatch):
    subject = campaign("_exact_models").Subject("broken", {"decoder_mixer": mixer})
    texts = campaign("_exact_texts").draw_texts(1, 5)
    keeps = campaign("exactness").keeps

    for what in BROKEN[break_it]:
        probe = probes[what]
        assert keeps(probe.measure(subject.make, texts), probe.limit), f"{what}: a whole model misses it"
        with monkeypatch.context() as patch:

            def broken(*args, patch=patch):
                model = subject.make(*args)
                break_it(model, patch)
                return model

            assert not keeps(probe.measure(broken, texts), probe.limit), what


@pytest.mark.parametrize("what", ["gradient from the future", "gradient at padding"])
def test_a_probe_that_sees_nothing_says_so(what, campaign, probes):
    subject = campaign("_exact_models").Subject("blind", {})
    module = campaign("_exact_probes")

    def blind(*args):
        model = subject.make(*args)
        model.lm_head.register_forward_hook(lambda module, args, logits: logits * 0)
        return model

    with pytest.raises(module.BlindProbeError):
        probes[what].measure(blind, campaign("_exact_texts").draw_texts(1, 5))


@pytest.mark.parametrize("figure", [1.0, math.nan, math.inf, ValueError("no such thing")])
def test_what_misses_its_limit_is_named(figure, campaign, monkeypatch, capsys):
    module = campaign("_exact_probes")
    only_the_last = iter([0.0, figure])

    def measure(make, texts):
        found = next(only_the_last)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(module, "PROBES", (module.Probe(1, "a probe", measure, 1e-12, for_peers=False),))
    monkeypatch.setattr(campaign("_exact_training"), "accumulation_in_training", lambda *args: 0.0)
    assert campaign("exactness").main(["--quick"])["missed"] == ["a probe"]
    assert capsys.readouterr().out.splitlines()[-1].endswith("missed: a probe")


def test_texts_in_bfloat16_are_counted_alone(campaign, probes):
    (counted,) = [probe for probe in probes.values() if probe.limit is None]
    subject, texts = campaign("_exact_models").Subject("broken", {}), campaign("_exact_texts").draw_texts(1, 5)
    assert counted.measure(subject.make, texts) == 1

    def broken(*args):
        model = subject.make(*args)
        count_places_from_zero(model, None)
        return model

    assert counted.measure(broken, texts) < 1
