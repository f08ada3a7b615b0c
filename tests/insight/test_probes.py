"""Every probe returns plain data, for a model of any kind, or refuses in a sentence that says what to do."""

import inspect
import json

import pytest

from selfattn_hf import SelfAttnForCausalLM, SelfAttnForSequenceClassification
from selfattn_hf.insight import PROBES, pair_of
from selfattn_hf.insight.results import Plain


def answers(name, model, pair):
    """One call of each probe on each side that a model has."""
    probe = PROBES[name]
    sides = [side for side, ids in (("encoder", pair.source), ("decoder", pair.target)) if ids]
    if name in ("attention_maps", "leak", "mask", "order"):
        return [probe(model, pair)]
    extra = {
        "steps": lambda side: {"length": 4, "side": side},
        "step_times": lambda side: {"lengths": [2, 4], "repeats": 1, "side": side},
        "positions": lambda side: {"trained": 4, "side": side},
    }
    if name in extra:
        return [probe(model, **extra[name](side)) for side in sides]
    if name == "weights":
        return [probe(model, pair, pair, side) for side in sides]
    return [probe(model, pair, side) for side in sides]


@pytest.mark.parametrize("name", list(PROBES))
def test_a_probe_returns_plain_data(make_model, make_pair, name):
    model = make_model(position_encoding=["sinusoidal", "shaw"])
    for found in answers(name, model, make_pair(model, 5, 4)):
        assert isinstance(found, Plain)
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert json.loads(text).keys() == found.to_dict().keys()


@pytest.mark.parametrize("kind", [SelfAttnForCausalLM, SelfAttnForSequenceClassification])
@pytest.mark.parametrize("name", list(PROBES))
def test_a_probe_of_one_stack_answers_or_says_why_not(make_model, name, kind, mixer):
    model = make_model(kind, encoder_mixer=mixer) if kind is SelfAttnForSequenceClassification else make_model(
        kind, decoder_mixer=mixer)  # fmt: skip
    pair = pair_of(model, [4, 5, 6]) if kind is SelfAttnForSequenceClassification else pair_of(model, target=[4, 5, 6])
    try:
        assert answers(name, model, pair)
    except ValueError as error:
        assert "has no" in str(error) or "Ask for" in str(error)
        refused = {"attention_maps", "lookup", "weights", "mask", "leak", "order"}
        assert name in refused


@pytest.mark.parametrize("name", list(PROBES))
def test_a_probe_says_to_which_chapter_it_belongs(name):
    assert "Chapter" in (inspect.getmodule(PROBES[name]).__doc__ or "")
    assert "Raises:" in (PROBES[name].__doc__ or "")
