"""The decoder alone: whatever mixes and orders its tokens, it writes step by step what it computes at once."""

import itertools

import pytest
import torch
from transformers.utils import logging

from selfattn_hf import SelfAttnConfig, SelfAttnForCausalLM, SelfAttnForConditionalGeneration, make_cache
from selfattn_hf.model import stacks as stacks_module
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

EXACT = {"atol": 1e-12, "rtol": 0}
UNLIKE = [
    {"decoder_mixer": ["rnn", "self_attention", "window"]},
    {"decoder_mixer": ["local_attention", "dense", "self_attention"], "position_encoding": "rope", "window_radius": 1},
    {"decoder_mixer": ["window", "local_attention", "rnn"], "position_encoding": ["sinusoidal", "shaw"]},
    {"position_encoding": ["learned", "kerple"], "position_combine": "concat", "position_injection": "block"},
    {"share_layers": True, "norm": "post"},
    {"share_layers": True, "decoder_mixer": "rnn", "rnn_type": "gru", "position_encoding": "none"},
    {"attend_to": "embeddings"},
    {"attend_to": "embeddings", "position_injection": "block", "decoder_mixer": ["window", "local_attention", "rnn"]},
    {"tie_word_embeddings": False, "output_bias": True, "norm_type": "rms_norm", "bias": False, "head_dim": 6,
     "feedforward": "swiglu", "position_encoding": "alibi"},
]  # fmt: skip


def is_legal(switches):
    try:
        SelfAttnConfig(hidden_size=16, decoder_layers=3, num_attention_heads=4, is_encoder_decoder=False, **switches)
    except ValueError:
        return False
    return True


PAIRS = [{"decoder_mixer": m, "position_encoding": p} for m, p in itertools.product(MIXERS, POSITIONS)]
DECODERS = [*filter(is_legal, PAIRS), *UNLIKE]
every_decoder = pytest.mark.parametrize("switches", DECODERS, ids=lambda s: "-".join(map(str, s.values())))


@pytest.fixture
def make_lm(make_model):
    def make(dtype=torch.float64, **switches):
        return make_model(dtype, SelfAttnForCausalLM, is_encoder_decoder=False, **switches)

    return make


def test_every_mixer_and_every_encoding_but_trees_stands_in_a_decoder_alone():
    assert {switches["decoder_mixer"] for switches in filter(is_legal, PAIRS)} == set(MIXERS)
    positions = {switches["position_encoding"] for switches in filter(is_legal, PAIRS)}
    assert positions == {name for name in POSITIONS if not name.startswith("tree_")}
    assert all(map(is_legal, UNLIKE))


@torch.no_grad()
@every_decoder
@pytest.mark.parametrize("chunks", [(4, 1, 1), (1, 2, 3)], ids=["prompt_then_tokens", "split_prompt"])
def test_step_by_step_equals_the_full_pass_behind_left_padded_prompts(switches, chunks, make_lm, batch, pad):
    model = make_lm(**switches)
    ids, mask = pad(batch["target"], "left")
    full = model(ids, attention_mask=mask).logits
    cache, logits, seen = None, [], 0
    for size in chunks:
        new, seen = ids[:, seen : seen + size], seen + size
        out = model(new, attention_mask=mask[:, :seen], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits)
    torch.testing.assert_close(torch.cat(logits, 1), full, **EXACT)


@torch.no_grad()
@every_decoder
def test_search_and_sampling_write_the_same_with_and_without_cache(switches, make_lm, batch, pad):
    model = make_lm(torch.float32, **switches)
    ids, mask = pad(batch["source"], "left")
    for options in ({"do_sample": False}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True}):
        written = []
        for use_cache in (True, False):
            torch.manual_seed(3)
            out = model.generate(ids, attention_mask=mask, use_cache=use_cache, max_new_tokens=6, **options)
            assert torch.equal(out[:, : ids.shape[1]], ids.repeat_interleave(len(out) // len(ids), 0))
            written.append(out)
        assert torch.equal(*written)


@torch.no_grad()
@every_decoder
def test_assisted_decoding_and_prompt_lookup_equal_greedy(switches, make_lm, batch):
    model, helper = make_lm(torch.float32, **switches), make_lm(torch.float32, decoder_mixer="rnn")
    prompt = torch.cat([batch["source"][0]] * 2)[None]  # what is written may have been written before
    settings = {"max_new_tokens": 10, "do_sample": False}
    greedy = model.generate(prompt, **settings)
    assert torch.equal(model.generate(prompt, **settings, prompt_lookup_num_tokens=3), greedy)
    assert torch.equal(model.generate(prompt, **settings, assistant_model=helper), greedy)
    assert torch.equal(helper.generate(prompt, **settings, assistant_model=model), helper.generate(prompt, **settings))


@torch.no_grad()
def test_a_row_is_continued_in_the_same_way_alone_and_left_padded_beside_others(mixer, make_lm, batch, pad):
    model = make_lm(torch.float32, decoder_mixer=mixer)
    ids, mask = pad(batch["source"], "left")
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    together = model.generate(ids, attention_mask=mask, **settings)
    for row, alone in enumerate(batch["source"]):
        expected = model.generate(alone[None], **settings)[0, len(alone) :]
        assert torch.equal(together[row, ids.shape[1] :], expected)


@torch.no_grad()
def test_a_static_cache_gives_the_same_tokens(make_lm, batch, pad):
    model = make_lm(torch.float32, position_encoding=["rope", "t5"])
    ids, mask = pad(batch["source"], "left")
    for settings in ({}, {"num_beams": 3}):
        settings = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, **settings}
        static = model.generate(ids, cache_implementation="static", **settings)
        assert torch.equal(static, model.generate(ids, **settings))
    with pytest.raises(ValueError, match="cache_implementation='static'.*decoder_mixer='window'"):
        make_lm(torch.float32, decoder_mixer="window").generate(ids, cache_implementation="static", max_new_tokens=3)


@torch.no_grad()
def test_a_prompt_of_embeddings_is_continued_like_its_ids(mixer, make_lm, batch):
    model = make_lm(torch.float32, decoder_mixer=mixer)
    ids = batch["source"][0][None]
    settings = {"max_new_tokens": 6, "do_sample": False}
    written = model.generate(inputs_embeds=model.get_input_embeddings()(ids), **settings)
    assert torch.equal(written, model.generate(ids, **settings)[:, ids.shape[1] :])


def loss_logits_and_gradients(model, ids, mask, real, count):
    """Loss over `count` labels, logits of the real tokens, and gradients of the loss."""
    model.zero_grad()
    labels = ids.masked_fill(~real, -100)
    out = model(ids, attention_mask=mask, labels=labels, num_items_in_batch=count)
    out.loss.backward()
    return out.loss.detach(), out.logits[real].detach(), [weight.grad.clone() for weight in model.parameters()]


@every_decoder
@pytest.mark.parametrize("layout", ["right", "left", "wider", "whole"])
def test_padding_never_matters(switches, layout, make_lm, batch, pad, monkeypatch):
    """A row alone, right-padded, left-padded, in a wider batch, packed or whole: the same loss and gradients."""
    model = make_lm(**switches)
    packed_batches, pack = [], stacks_module.pack

    def watched_pack(padding):
        index = None if layout == "whole" else pack(padding)
        packed_batches.append(index is not None)
        return index

    monkeypatch.setattr(stacks_module, "pack", watched_pack)
    rows = batch["target"]
    count = sum(len(row) - 1 for row in rows)
    ids, mask = pad(rows, "left" if layout == "left" else "right", 9 if layout == "wider" else None)
    loss, logits, grads = loss_logits_and_gradients(model, ids, mask, mask.bool(), count)
    assert packed_batches == [layout != "whole"]
    alone = [loss_logits_and_gradients(model, row[None], None, row[None] >= 0, count) for row in rows]
    torch.testing.assert_close(loss, sum(one for one, _, _ in alone), **EXACT)
    torch.testing.assert_close(logits, torch.cat([one for _, one, _ in alone]), **EXACT)
    for grad, *others in zip(grads, *[one for _, _, one in alone], strict=True):
        torch.testing.assert_close(grad, sum(others), atol=1e-12, rtol=1e-10)


@every_decoder
def test_no_token_sees_a_later_one(switches, make_lm):
    model = make_lm(**switches)
    embeds = torch.randn(1, 6, 16, dtype=torch.float64, requires_grad=True)
    logits = model(inputs_embeds=embeds).logits
    for t in range(6):
        (grad,) = torch.autograd.grad(logits[0, t].square().sum(), embeds, retain_graph=True)
        assert not grad[0, t + 1 :].any()
        assert grad[0, t].any() and (t == 0 or grad[0, t - 1].any())


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_it_is_the_decoder_of_an_encoder_decoder_that_reads_nothing(mixer, tied, make_model, batch, tmp_path):
    """Where the cross-attention of the whole model adds zero, the decoder that its folder gives has its logits."""
    whole = make_model(decoder_mixer=mixer, encoder_mixer="window", tie_word_embeddings=tied)
    for layer in whole.model.decoder.layers:
        torch.nn.init.zeros_(layer.read.sublayer.out_proj.weight)
        torch.nn.init.zeros_(layer.read.sublayer.out_proj.bias)
    whole.save_pretrained(tmp_path)
    alone = SelfAttnForCausalLM.from_pretrained(tmp_path)
    ids = batch["target"][1][None]
    expected = whole(input_ids=batch["source"][0][None], decoder_input_ids=ids).logits
    torch.testing.assert_close(alone(ids).logits, expected, **EXACT)


def test_nothing_of_an_encoder_is_left(make_model):
    whole = {"encoder_mixer": "rnn", "encoder_position_encoding": "tree_depth", "attention_score": "additive"}
    model = make_model(kind=SelfAttnForCausalLM, **whole)
    assert not model.config.is_encoder_decoder and model.config.num_hidden_layers == 3
    assert not [name for name, _ in model.named_modules() if name.endswith((".encoder", ".read"))]
    assert type(make_cache(model.config)).__name__ == "DecoderCache"
    with pytest.raises(ValueError, match="decoder alone reads no source"):
        model(torch.ones(1, 3, dtype=torch.long), encoder_hidden_states=torch.zeros(1, 2, 16, dtype=torch.float64))


def test_an_open_future_is_generated_without_a_cache(make_lm):
    model = make_lm(torch.float32, future_mask=False)
    ids = torch.full((1, 3), 5)
    assert model.generate(ids, max_new_tokens=3, eos_token_id=None).shape == (1, 6)
    with pytest.raises(ValueError, match="future_mask=True"):
        model(ids, past_key_values=make_cache(model.config))


def test_labels_that_a_trainer_took_away_are_asked_for(make_lm, caplog):
    logging.enable_propagation()
    try:
        assert make_lm()(torch.full((1, 3), 5), num_items_in_batch=2).loss is None
    finally:
        logging.disable_propagation()
    assert "label_smoothing_factor does not shift them" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.full((1, 3), 40)}, ["labels must be from 0 to 39", "got 40"]),
        ({"labels": torch.full((1, 3), -1)}, ["got -1"]),
        ({"shift_labels": torch.full((1, 3), 40)}, ["got 40"]),
        ({"labels": torch.full((1, 2), 5)}, ["(1, 3)", "(1, 2)"]),
        ({"labels": torch.full((1, 3), 5), "logits_to_keep": 1}, ["logits_to_keep"]),
        ({"labels": torch.full((3,), 5)}, ["rows of at least one token"]),
        ({"input_ids": None}, ["neither"]),
        ({"attention_mask": torch.ones(1, 2)}, ["(1, 3)", "(1, 2)"]),
    ],
)
def test_bad_input_is_named_with_its_rule(change, words, make_lm):
    with pytest.raises(ValueError) as error:
        make_lm()(**{"input_ids": torch.full((1, 3), 5), **change})
    for word in words:
        assert word in str(error.value)


@torch.no_grad()
def test_logits_are_computed_for_the_places_alone_that_are_asked_for(make_lm, batch):
    model, ids = make_lm(), batch["target"][1][None]
    whole = model(ids).logits
    for asked, places in ((2, slice(-2, None)), (torch.tensor([0, 3]), [0, 3])):
        torch.testing.assert_close(model(ids, logits_to_keep=asked).logits, whole[:, places], **EXACT)


def test_a_whole_model_is_refused_where_a_decoder_alone_is_configured(make_config):
    with pytest.raises(ValueError, match=r"decoder alone.*AutoModelForCausalLM"):
        SelfAttnForConditionalGeneration(make_config(is_encoder_decoder=False))
