"""What holds for every legal pairing of mixers and positions; a class that joins a registry is under it at once."""

import dataclasses
import itertools
from typing import get_args

import pytest
import torch
from torch import nn

from selfattn_hf.model import contracts
from selfattn_hf.model import stacks as stacks_module
from selfattn_hf.model.contracts import Places
from selfattn_hf.model.decoding import DecodingState
from selfattn_hf.model.switches import EmbeddingPosition, TreePosition

EXACT = {"atol": 1e-12, "rtol": 0}


def step_by_step(model, source, mask, target, chunks, target_mask=None):
    """Logits of a target that is read in chunks, each behind the cache of those before."""
    cache, logits, start = None, [], 0
    for size in chunks:
        out = model(
            input_ids=source,
            attention_mask=mask,
            decoder_input_ids=target[:, start : start + size],
            decoder_attention_mask=None if target_mask is None else target_mask[:, : start + size],
            past_key_values=cache,
            use_cache=True,
        )
        cache, start = out.past_key_values, start + size
        logits.append(out.logits)
    assert start == target.shape[1]
    return torch.cat(logits, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1, 1), (3, 1, 2)], ids=["token_by_token", "split_prefill"])
def test_step_by_step_equals_the_full_pass(stacks, chunks, make_model, batch, pad):
    model = make_model(**stacks)
    source, mask = pad(batch["source"])
    target = torch.stack([batch["target"][1]] * 3).roll(1, 0)
    full = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    torch.testing.assert_close(step_by_step(model, source, mask, target, chunks), full, **EXACT)


@torch.no_grad()
def test_step_by_step_equals_the_full_pass_behind_left_padded_prompts(stacks, make_model, batch, pad):
    model = make_model(**stacks)
    source, mask = pad(batch["source"], "left")
    target, target_mask = pad(batch["target"], "left")
    full = model(
        input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask
    ).logits
    steps = step_by_step(model, source, mask, target, (4, 1, 1), target_mask)
    torch.testing.assert_close(steps, full, **EXACT)


@torch.no_grad()
def test_a_forgotten_query_offset_is_found(position, make_model, batch, monkeypatch):
    """Positive control: with places counted from 0 at every step, every encoding but `none` must differ."""
    if position in get_args(TreePosition):
        pytest.skip("an encoding by trees is for encoders, which have no steps")
    model = make_model(position_encoding=position)
    source, target = batch["source"][0][None], batch["target"][1][None]
    full = model(input_ids=source, decoder_input_ids=target).logits
    count = Places.count.__func__

    def forgetful(cls, shape, device, padding=None, past=0, visible=None, packed=None):
        places = count(cls, shape, device, padding, past, visible, packed)
        return dataclasses.replace(places, queries=places.queries - past)

    monkeypatch.setattr(Places, "count", classmethod(forgetful))
    error = (step_by_step(model, source, None, target, (1,) * 6) - full).abs().max()
    assert (error < 1e-12) == (position == "none")


def make_writer(make_model, **stacks):
    """A model of which beams change places: its output is not its input's table, and prefers some words."""
    model = make_model(torch.float32, **{"tie_word_embeddings": False} | stacks)
    model.lm_head.weight.data.mul_(3)
    return model


@torch.no_grad()
def test_greedy_and_beam_search_agree_with_and_without_cache(stacks, make_model, batch, pad):
    model = make_writer(make_model, **stacks)
    source, mask = pad(batch["source"])
    for options in ({}, {"num_beams": 4, "num_return_sequences": 4}):
        settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, **options}
        cached = model.generate(source, attention_mask=mask, use_cache=True, **settings)
        plain = model.generate(source, attention_mask=mask, use_cache=False, **settings)
        assert torch.equal(cached, plain)


@torch.no_grad()
def test_a_state_that_beam_search_does_not_reorder_is_found(mixer, make_model, batch, pad, monkeypatch):
    """Positive control: beams that keep their neighbour's memory must go wrong in the test before."""
    stacks = {"decoder_mixer": mixer}
    layer = type(stacks_module.make_cache(make_model(**stacks).config).self_attention_cache.layers[0])
    for remembers in (layer, DecodingState):
        monkeypatch.setattr(remembers, "reorder_cache", lambda self, beam_idx: None)
    with pytest.raises(AssertionError):
        test_greedy_and_beam_search_agree_with_and_without_cache(stacks, make_model, batch, pad)


WORDS, LENGTH = (1, 2, 3, 4, 5), 3


@torch.no_grad()
def test_a_beam_as_wide_as_the_tree_finds_every_text_with_its_score(stacks, make_model, batch, pad):
    """Against the scores of all texts, each read in one pass without a cache; id 0 is padding and never written."""
    model = make_writer(make_model, vocab_size=len(WORDS) + 1, **stacks)
    source, mask = pad([row % len(WORDS) + 1 for row in batch["source"]])
    texts = torch.tensor(list(itertools.product(WORDS, repeat=LENGTH)))
    found = model.generate(
        source, attention_mask=mask, num_beams=len(texts), num_return_sequences=len(texts), max_new_tokens=LENGTH,
        do_sample=False, eos_token_id=None, suppress_tokens=[0], length_penalty=0.0, return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip
    starts = torch.full((len(texts), 1), model.config.decoder_start_token_id)
    for row, (sequences, scores) in enumerate(
        zip(found.sequences.chunk(3), found.sequences_scores.chunk(3), strict=True)
    ):
        logits = model(
            input_ids=source[row].expand(len(texts), -1),
            attention_mask=mask[row].expand(len(texts), -1),
            decoder_input_ids=torch.cat([starts, texts[:, :-1]], 1),
            use_cache=False,
        ).logits
        expected = logits.log_softmax(-1).gather(-1, texts[..., None])[..., 0].sum(1)
        order = (sequences[:, 1:] - 1) @ torch.tensor([len(WORDS) ** 2, len(WORDS), 1])  # their place among all texts
        assert torch.equal(order.sort().values, torch.arange(len(texts)))
        assert torch.equal(scores, scores.sort(descending=True).values)
        torch.testing.assert_close(scores, expected[order], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_state_that_is_not_reordered_gives_texts_other_scores(mixer, make_model, batch, pad, monkeypatch):
    """Positive control for the test before."""
    stacks = {"decoder_mixer": mixer}
    layer = type(stacks_module.make_cache(make_model(**stacks).config).self_attention_cache.layers[0])
    monkeypatch.setattr(layer, "reorder_cache", lambda self, beam_idx: None)
    with pytest.raises(AssertionError):
        test_a_beam_as_wide_as_the_tree_finds_every_text_with_its_score(stacks, make_model, batch, pad)


def logits_and_gradients(model, rows, source, target):
    """Logits of every real target token, and gradients of their weighted sum, row after row."""
    model.zero_grad()
    (source, mask), (target, target_mask) = source, target
    logits = model(
        input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask
    ).logits
    real = logits[target_mask.bool()]
    weights = torch.linspace(-1, 1, real.numel(), dtype=real.dtype).view_as(real)
    (real * weights).sum().backward()
    return real.detach(), [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("layout", ["right", "left", "wider", "whole"])
def test_padding_never_matters(stacks, layout, make_model, batch, pad, monkeypatch):
    """A row alone, right-padded, left-padded, in a wider batch, packed or whole: the same logits and gradients."""
    model = make_model(**stacks)
    side, width = ("left", None) if layout == "left" else ("right", 11 if layout == "wider" else None)
    packed_batches = []
    pack = stacks_module.pack

    def watched_pack(padding):
        index = None if layout == "whole" else pack(padding)
        packed_batches.append(index is not None)
        return index

    monkeypatch.setattr(stacks_module, "pack", watched_pack)
    together, grads = logits_and_gradients(
        model, batch, pad(batch["source"], side, width), pad(batch["target"], side, width)
    )
    assert any(packed_batches) == (layout != "whole")

    alone, expected = [], [torch.zeros_like(grad) for grad in grads]
    sizes = [len(row) * model.config.vocab_size for row in batch["target"]]
    weights = torch.linspace(-1, 1, sum(sizes), dtype=torch.float64).split(sizes)
    model.zero_grad()
    for source, target, weight in zip(batch["source"], batch["target"], weights, strict=True):
        logits = model(input_ids=source[None], decoder_input_ids=target[None]).logits[0]
        alone.append(logits.detach())
        (logits * weight.view_as(logits)).sum().backward()
    expected = [weight.grad for weight in model.parameters()]
    torch.testing.assert_close(together, torch.cat(alone), **EXACT)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_padding_that_is_not_masked_is_found(mixer, make_model, batch, pad):
    """Positive control: without its mask a padded row must differ."""
    model = make_model(encoder_mixer=mixer)
    source, mask = pad(batch["source"])
    target = torch.stack([batch["target"][0]] * 3)
    masked = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    assert (model(input_ids=source, decoder_input_ids=target).logits - masked)[1:].abs().max() > 1e-3


@torch.no_grad()
def test_what_lies_under_the_mask_has_no_effect(stacks, make_model, batch, pad):
    model = make_model(**stacks)
    source, mask = pad(batch["source"])
    target = torch.stack([batch["target"][0]] * 3)
    fillings = [source + (1 - mask) * filler for filler in (5, 9)]
    outputs = [model(input_ids=filled, attention_mask=mask, decoder_input_ids=target) for filled in fillings]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert torch.equal(outputs[0].encoder_last_hidden_state, outputs[1].encoder_last_hidden_state)


def gradient_map(model, source, length):
    """[t, s] largest gradient of the logits at t with respect to the target embedding at s."""
    embeds = torch.randn(1, length, model.config.hidden_size, dtype=torch.float64, requires_grad=True)
    logits = model(input_ids=source, decoder_inputs_embeds=embeds).logits
    rows = []
    for t in range(length):
        (grad,) = torch.autograd.grad(logits[0, t].square().sum(), embeds, retain_graph=True)
        rows.append(grad[0].abs().amax(-1))
    return torch.stack(rows)


def test_the_future_never_leaks(stacks, make_model, batch):
    influence = gradient_map(make_model(**stacks), batch["source"][0][None], 6)
    assert torch.equal(influence.triu(1), torch.zeros_like(influence))
    assert (influence.diagonal() > 0).all()
    assert (influence.diagonal(-1) > 0).all()


def test_an_open_future_is_found(mixer, make_model, batch):
    """Positive control: `future_mask=False` must leak."""
    model = make_model(decoder_mixer=mixer, future_mask=False)
    assert (gradient_map(model, batch["source"][0][None], 6).diagonal(1) > 0).all()


@torch.no_grad()
def test_the_mask_equals_the_slow_loop_over_prefixes(stacks, make_model, batch):
    model = make_model(**stacks)
    source, target = batch["source"][0][None], batch["target"][1][None]
    full = model(input_ids=source, decoder_input_ids=target).logits
    for t in range(1, target.shape[1] + 1):
        prefix = model(input_ids=source, decoder_input_ids=target[:, :t]).logits
        torch.testing.assert_close(prefix[:, -1], full[:, t - 1], **EXACT)


@torch.no_grad()
def test_eager_equals_sdpa(stacks, make_model, batch, pad):
    model = make_model(**stacks)
    (source, mask), (target, target_mask) = pad(batch["source"], "left"), pad(batch["target"])
    outputs = {}
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        outputs[name] = model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask
        ).logits
    torch.testing.assert_close(outputs["eager"], outputs["sdpa"], **EXACT)


def test_a_row_without_one_source_token_stays_finite_and_leaves_the_others_alone(stacks, make_model, batch, pad):
    model = make_model(**stacks)
    source, mask = pad(batch["source"])
    target = torch.stack([batch["target"][0]] * 3)
    full = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits.detach()
    mask[1] = 0
    outputs = {}
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        model.zero_grad()
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
        logits.square().sum().backward()
        assert all(weight.grad.isfinite().all() for weight in model.parameters())
        outputs[name] = logits.detach()
    assert outputs["sdpa"].isfinite().all()
    torch.testing.assert_close(outputs["eager"], outputs["sdpa"], **EXACT)
    torch.testing.assert_close(outputs["sdpa"][[0, 2]], full[[0, 2]], **EXACT)


def embedded(model, mask, target_mask):
    """Logits of the real target tokens, and the embeddings of both sides that they are computed from."""
    shapes = [(*real.shape, model.config.hidden_size) for real in (mask, target_mask)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    logits = model(
        inputs_embeds=inputs[0], attention_mask=mask, decoder_inputs_embeds=inputs[1],
        decoder_attention_mask=target_mask,
    ).logits  # fmt: skip
    return logits[target_mask.bool()], inputs


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_gets_no_gradient(stacks, side, make_model, batch, pad):
    masks = [pad(batch[name], side)[1] for name in ("source", "target")]
    logits, inputs = embedded(make_model(**stacks), *masks)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    for grad, mask in zip(torch.autograd.grad((logits * weights).sum(), inputs), masks, strict=True):
        assert torch.equal(grad[mask == 0], torch.zeros_like(grad[mask == 0]))
        assert (grad[mask == 1].abs().amax(-1) > 0).all()


def rows_to_learn(batch):
    """Eight pairs of source and labels, of unlike length."""
    sources, targets = batch["source"] * 3, batch["target"] * 3
    return list(zip(sources, [targets[-1], *targets[:-1], targets[1]], strict=False))[:8]


def to_learn(rows, pad):
    (source, mask), (labels, real) = pad([source for source, _ in rows]), pad([labels for _, labels in rows])
    return {"input_ids": source, "attention_mask": mask, "labels": labels.masked_fill(real == 0, -100)}


def gradient_of_rows(model, rows, size, pad, **options):
    """The gradient of all weights, from batches of a size."""
    model.zero_grad()
    for start in range(0, len(rows), size):
        model(**to_learn(rows[start : start + size], pad), **options).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_gradient_does_not_depend_on_how_rows_are_cut_into_batches(stacks, smoothing, make_model, batch, pad):
    model, rows = make_model(**stacks), rows_to_learn(batch)
    options = {"num_items_in_batch": sum(len(labels) for _, labels in rows), "label_smoothing": smoothing}
    whole = gradient_of_rows(model, rows, 8, pad, **options)
    for size in (4, 2, 1):
        cut = gradient_of_rows(model, rows, size, pad, **options)
        assert (cut - whole).norm() < 1e-12 * whole.norm()


def test_a_loss_that_is_averaged_batch_by_batch_is_found(make_model, batch, pad):
    """Positive control for the test before."""
    model, rows = make_model(), rows_to_learn(batch)
    whole, cut = (gradient_of_rows(model, rows, size, pad) for size in (8, 2))
    assert (cut / 4 - whole).norm() > 1e-2 * whole.norm()


@torch.no_grad()
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_shifted_once_and_the_decoder_reads_nothing_else(stacks, smoothing, make_model, batch, pad):
    model, inputs = make_model(**stacks), to_learn(rows_to_learn(batch), pad)
    loss = model(**inputs, label_smoothing=smoothing).loss
    labels = inputs.pop("labels")
    read = torch.cat([torch.full((8, 1), model.config.decoder_start_token_id), labels[:, :-1]], 1)
    read = read.masked_fill(read == -100, model.config.pad_token_id)
    logits = model(**inputs, decoder_input_ids=read).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, **EXACT)
    for whole in (model, model.model):
        with pytest.raises(ValueError, match="the decoder needs its own input, got neither"):
            whole(**inputs)


def test_a_batch_in_which_no_label_counts_has_no_loss_and_a_gradient_of_zeros(stacks, make_model, batch, pad):
    model, inputs = make_model(**stacks), to_learn(rows_to_learn(batch), pad)
    for options in ({}, {"num_items_in_batch": 0}, {"label_smoothing": 0.1}):
        model.zero_grad()
        loss = model(**inputs | {"labels": torch.full_like(inputs["labels"], -100)}, **options).loss
        loss.backward()
        assert loss.item() == 0
        assert all(torch.equal(weight.grad, torch.zeros_like(weight)) for weight in model.parameters())


@torch.no_grad()
def test_shuffled_words_give_shuffled_states_without_order_alone(position, on_a_side, make_model, batch):
    source = batch["source"][0][None]
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    acts_on_embeddings = position in get_args(EmbeddingPosition)
    for injection in ("input", "block") if acts_on_embeddings else ("input",):
        model = make_model(**on_a_side, position_injection=injection)
        states = model.model.encoder(source).last_hidden_state
        shuffled = model.model.encoder(source[:, order]).last_hidden_state
        error = (shuffled - states[:, order]).abs().max()
        assert (error < 1e-12) == (position == "none")


def test_the_state_layer_says_what_it_cannot_take_back():
    layer = contracts.StateCacheLayer()
    layer.update(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    with pytest.raises(RuntimeError, match="activate_past_recording"):
        layer.crop(-1)
