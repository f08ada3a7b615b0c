"""Decoding by `DecodingState`: the same words as by the layers themselves, whatever is asked for."""

from typing import get_args

import pytest
import torch
from torch import nn
from transformers import StoppingCriteriaList
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput

from selfattn_hf.model.decoding import SOME_TOKENS, DecodingState
from selfattn_hf.model.generation import SelfAttnGenerator
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.products import Int8Linear
from selfattn_hf.model.switches import TreePosition
from selfattn_hf.model.writing import best_of

ASKED = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "all beams": {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.5},
    "early end": {"num_beams": 3, "early_stopping": True},
    "late end": {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.5},
    "several ends": {"num_beams": 3, "eos_token_id": [2, 5, 9], "num_return_sequences": 2},
    "no end": {"num_beams": 2, "eos_token_id": None},
    "greedy without end": {"eos_token_id": None},
    "greedy with several ends": {"eos_token_id": [2, 5, 9]},
    "greedy, no repetition": {"no_repeat_ngram_size": 2, "min_new_tokens": 6},
    "shorter is better": {"num_beams": 4, "length_penalty": -1.0},
    "drawn": {"do_sample": True, "top_k": 8, "num_return_sequences": 3},
    "beams drawn": {"do_sample": True, "num_beams": 3},
    "no repetition": {"num_beams": 2, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    "forced end": {"forced_eos_token_id": 2, "min_new_tokens": 12},
}
SWITCHES = {
    "post": {"norm": "post"}, "no norm": {"norm": "none"}, "bare": {"residual": False},
    "shared": {"share_layers": True}, "blocks": {"position_injection": "block"}, "gated": {"feedforward": "swiglu"},
    "no feed-forward": {"feedforward": "none"}, "untied": {"tie_word_embeddings": False}, "no bias": {"bias": False},
    "rms": {"norm_type": "rms_norm"},
}  # fmt: skip


@pytest.fixture
def source(batch, pad):
    """Rows padded on the left, one of them without a real token."""
    ids, mask = pad(batch["source"], side="left")
    mask[2] = 0
    return {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 2 * SOME_TOKENS + 5}


def both_ways(model, monkeypatch, **asked):
    """What is written sooner, and what the layers write."""
    states = []
    prepare = SelfAttnGenerator._prepare_cache_for_generation

    def watched(self, generation_config, model_kwargs, *given, **more):
        prepare(self, generation_config, model_kwargs, *given, **more)
        states.append(model_kwargs.get("past_key_values"))

    with monkeypatch.context() as patch:
        patch.setattr(SelfAttnGenerator, "_prepare_cache_for_generation", watched)
        torch.manual_seed(0)
        sooner = model.generate(**asked)
        patch.setattr(DecodingState, "serves", staticmethod(lambda *given: False))
        torch.manual_seed(0)
        later = model.generate(**asked)
    assert isinstance(states[0], DecodingState) and not isinstance(states[1], DecodingState)
    return sooner, later


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_it_writes_what_the_layers_write(asked, make_model, source, monkeypatch):
    sooner, later = both_ways(make_model(torch.float64), monkeypatch, **source, **asked)
    assert torch.equal(sooner, later)
    assert sooner.shape[1] > 5


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("encoding", sorted(set(POSITIONS) - set(get_args(TreePosition))))
def test_it_knows_every_encoding(encoding, beams, make_model, source, monkeypatch):
    places = {"max_position_embeddings": 64} if encoding == "learned" else {}
    model = make_model(torch.float64, position_encoding=encoding, **places)
    assert torch.equal(*both_ways(model, monkeypatch, **source, num_beams=beams))


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_it_knows_every_switch_of_its_layers(switches, make_model, source, monkeypatch):
    model = make_model(torch.float64, **switches)
    assert torch.equal(*both_ways(model, monkeypatch, **source, num_beams=3))


def test_it_goes_on_with_what_the_decoder_is_given(make_model, source, monkeypatch):
    begun = torch.tensor([[1, 5, 7], [1, 9, 4], [1, 3, 3]])
    sooner, later = both_ways(make_model(torch.float64), monkeypatch, **source, decoder_input_ids=begun, num_beams=3)
    assert torch.equal(sooner, later) and torch.equal(sooner[:, :3], begun)


def run(model, source, beams, reorder=True):
    """Logits of 40 steps under beams that are reordered at random, and of the texts so made, read as a whole."""
    draw = torch.Generator().manual_seed(0)
    given = {name: source[name].repeat_interleave(beams, 0) for name in ("input_ids", "attention_mask")}
    state = DecodingState(model.get_decoder(), model.lm_head, beams, 40)
    encoded = model.get_encoder()(**given)
    ids, found, slots = torch.ones(len(given["input_ids"]), 1, dtype=torch.long), [], []
    for _ in range(40):
        answer = model(decoder_input_ids=ids[:, -1:], past_key_values=state, encoder_outputs=encoded,
                       attention_mask=given["attention_mask"])  # fmt: skip
        found.append(answer.logits[:, -1])
        chosen = torch.randint(beams, (len(ids) // beams, beams), generator=draw)
        rows = (chosen + beams * torch.arange(len(chosen))[:, None]).flatten()
        if reorder:
            state.reorder_cache(rows)
        ids, found = ids[rows], [logits[rows] for logits in found]
        ids = torch.cat([ids, torch.randint(3, 40, (len(ids), 1), generator=draw)], dim=1)
        slots.append(state.writer.past.shape[2])
    whole = model(**given, decoder_input_ids=ids[:, :-1], use_cache=False).logits
    return torch.stack(found, dim=1), whole, slots


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_its_logits_are_those_of_the_whole_text_however_beams_are_reordered(beams, make_model, source):
    found, whole, slots = run(make_model(torch.float64, position_encoding=["sinusoidal", "t5"]), source, beams)
    torch.testing.assert_close(found, whole, atol=1e-12, rtol=0)
    if beams > 1:
        assert max(slots) < 40 * beams  # what nobody calls its past is given up


@torch.no_grad()
def test_beams_that_are_not_reordered_would_be_seen(make_model, source):
    """Positive control."""
    found, whole, _ = run(make_model(torch.float64), source, 3, reorder=False)
    assert (found - whole).abs().max() > 1e-3


@pytest.mark.parametrize("rows", [1, 20])
def test_few_rows_and_many_are_computed_alike(rows, make_model, monkeypatch):
    """Weights are copied into another order for few rows alone."""
    model = make_model(torch.float64)
    ids = torch.randint(3, 40, (rows, 6))
    assert torch.equal(*both_ways(model, monkeypatch, input_ids=ids, num_beams=2, max_new_tokens=20))


def test_weights_that_change_are_seen(make_model, source):
    model = make_model()
    before = model.generate(**source)
    with torch.no_grad():
        model.lm_head.weight.data.mul_(-1)
    assert not torch.equal(model.generate(**source), before)


@pytest.mark.parametrize(
    "asked", [{}, {"num_beams": 3, "length_penalty": 0.0}, {"num_beams": 3, "early_stopping": True}], ids=str
)
def test_sentences_that_are_done_are_left_out(asked, make_model, source, monkeypatch):
    left, keep = [], DecodingState.keep
    monkeypatch.setattr(DecodingState, "keep", lambda self, kept: (left.append(len(kept)), keep(self, kept)))
    draw = torch.Generator().manual_seed(3)
    ids, model = torch.randint(3, 40, (12, 6), generator=draw), make_model(torch.float64, initializer_range=0.6)
    several = {"input_ids": ids, "decoder_input_ids": ids[:, :2], "max_new_tokens": 60, "eos_token_id": [*range(2, 9)]}
    assert torch.equal(*both_ways(model, monkeypatch, **several, **asked))
    assert left and left == sorted(left, reverse=True)


@pytest.mark.parametrize("beams", [1, 3])
def test_what_else_can_end_a_text_is_left_to_the_loops_of_transformers(beams, make_model, source, monkeypatch):
    model = make_model()
    monkeypatch.setattr("selfattn_hf.model.generation.write_greedily", lambda *given: pytest.fail("the shorter loop"))
    monkeypatch.setattr("selfattn_hf.model.generation.search_beams", lambda *given: pytest.fail("the shorter loop"))
    stop = StoppingCriteriaList([lambda ids, scores, **more: torch.full((len(ids),), ids.shape[1] >= 4)])
    assert model.generate(**source, num_beams=beams, stopping_criteria=stop).shape[1] <= 4
    with pytest.raises(pytest.fail.Exception, match="the shorter loop"):  # positive control
        model.generate(**source, num_beams=beams)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("own", [EosTokenCriteria([*range(4, 30)]), MaxLengthCriteria(6)], ids=["end", "length"])
def test_an_end_of_the_callers_own_stands_in_place_of_the_configured_one(own, beams, make_model, source, monkeypatch):
    asked = {**source, "num_beams": beams}
    sooner, later = both_ways(
        model := make_model(torch.float64), monkeypatch, **asked, stopping_criteria=StoppingCriteriaList([own])
    )
    assert torch.equal(sooner, later)
    assert not torch.equal(sooner, model.generate(**asked))


def test_what_is_written_is_streamed(make_model, source):
    class Stream(BaseStreamer):
        def __init__(self):
            self.tokens, self.ended = [], False

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            self.ended = True

    stream, one = (
        Stream(),
        {**source, "input_ids": source["input_ids"][:1], "attention_mask": source["attention_mask"][:1]},
    )
    written = make_model().generate(**one, streamer=stream)
    assert stream.ended and stream.tokens == written[0].tolist()


@pytest.mark.parametrize("width", [7, 64, 700, 64 * 40, 64 * 40 + 3])
@pytest.mark.parametrize("count", [1, 6])
def test_the_best_of_many_are_those_of_topk(count, width):
    scores = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    values, index = best_of(scores, count)
    wanted = scores.topk(count)
    assert torch.equal(values, wanted.values) and torch.equal(index, wanted.indices)


class Adapted(nn.Linear):
    """A layer that somebody put in place of one of ours."""


def spoil(model, how):
    if how == "hook":
        model.get_decoder().layers[0].register_forward_hook(lambda *given: None)
    elif how == "adapter":
        model.get_decoder().layers[0].think.sublayer.up_proj.__class__ = Adapted
    elif how == "one of three":
        mix = model.get_decoder().layers[0].mix.sublayer
        mix.k_proj = Int8Linear(mix.k_proj)
    elif how == "head":
        model.lm_head.forward = model.lm_head.forward
    else:
        model.train()
    return model


@pytest.mark.parametrize("how", ["hook", "adapter", "one of three", "head", "training"])
def test_what_is_not_as_it_was_built_is_left_to_its_own_forward(how, make_model):
    model = make_model()
    assert DecodingState.serves(model.get_decoder(), model.lm_head)
    spoil(model, how)
    assert not DecodingState.serves(model.get_decoder(), model.lm_head)


@pytest.mark.parametrize(
    "switches",
    [
        {"decoder_mixer": "window"},
        {"decoder_mixer": ["self_attention", "rnn"], "decoder_layers": 2, "position_encoding": "none"},
        {"attention_score": "general"},
        {"attend_to": "embeddings"},
    ],
    ids=str,
)
def test_other_parts_are_left_to_themselves(switches, make_model):
    model = make_model(**switches)
    assert not DecodingState.serves(model.get_decoder(), model.lm_head)


@pytest.mark.parametrize(
    "asked",
    [{"return_dict_in_generate": True}, {"prompt_lookup_num_tokens": 3}, {"use_cache": False}],
    ids=str,
)
def test_what_it_does_not_serve_is_generated_as_ever(asked, make_model, source, monkeypatch):
    made = []
    monkeypatch.setattr(DecodingState, "__init__", lambda self, *given: made.append(given))
    one = {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in source.items()}
    make_model().generate(**one, **asked)
    assert not made


def test_a_forward_that_was_compiled_is_used(make_model, source, monkeypatch):
    model = make_model()
    wanted = model.generate(**source)
    model.forward = torch.compile(model.forward, backend="eager")
    monkeypatch.setattr(DecodingState, "answer", lambda *given: pytest.fail("what was compiled is not used"))
    assert torch.equal(model.generate(**source), wanted)


def test_a_table_of_places_ends_with_the_sentence_of_ever(make_model):
    model = make_model(position_encoding="learned", max_position_embeddings=8)
    with pytest.raises(ValueError, match="position_encoding='learned' knows 8 places"):
        model.generate(torch.randint(3, 40, (2, 5)), max_new_tokens=12, min_new_tokens=12, num_beams=2)


def test_under_autocast_it_computes_in_the_format_of_the_weights(make_model, source):
    model = make_model()
    states = model.get_encoder()(source["input_ids"], attention_mask=source["attention_mask"]).last_hidden_state

    def written():
        return model.generate(encoder_outputs=BaseModelOutput(states), attention_mask=source["attention_mask"],
                              max_new_tokens=20, num_beams=3)  # fmt: skip

    wanted = written()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(written(), wanted)
