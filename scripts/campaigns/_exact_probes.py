"""What is measured: each probe takes a maker of models and returns how far they are from exact, 0 where they are.

A figure is NaN where something is. The same probes serve every encoder-decoder of transformers: they call `forward` and
`generate`, and read gradients at the outputs of the tables of embeddings.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _exact_models import PAD, START
from _exact_texts import (
    IGNORED,
    Texts,
    embedded,
    gradients,
    labelled,
    largest,
    max_of,
    read,
    rectangle,
    shifted_right,
    step_by_step,
    writer,
)
from torch import Tensor, nn
from transformers import PreTrainedModel

Maker = Callable[..., PreTrainedModel]  # (dtype, vocabulary) -> a model, the same one every time

# Padding is never written: some models count places by it.
_WRITING: dict[str, Any] = {"suppress_tokens": [PAD], "do_sample": False}


class BlindProbeError(RuntimeError):
    """A probe finds nothing where there must be something, and so would find no mistake either."""


@torch.no_grad()
def padding(make: Maker, texts: Texts, dtype: torch.dtype) -> float:
    """Promise 1: every pair alone, and among others in every layout."""
    model = make(dtype)
    alone = [model(input_ids=source[None], decoder_input_ids=target[None]).logits[0] for source, target in texts.pairs]
    figures = []
    for layout in texts.layouts:
        sources, targets = zip(*(texts.pairs[row] for row in layout.rows), strict=True)
        together = read(model, sources, targets, layout.source, layout.target)
        figures.append(largest([alone[row] for row in layout.rows], together))
    return max_of(figures)


@torch.no_grad()
def batch_mates(make: Maker, texts: Texts) -> float:
    """Promise 2: in another order, with fewer others, and beside themselves."""
    model = make()
    whole = read(model, texts.sources, texts.targets)
    figures = []
    for order in ([2, 0, 1], [1, 2, 0], [0, 1], [1, 1, 1, 2], [2, 0, 0]):
        mates = read(model, [texts.sources[i] for i in order], [texts.targets[i] for i in order])
        figures.append(largest([whole[i] for i in order], mates))
    return max_of(figures)


@torch.no_grad()
def under_the_mask(make: Maker, texts: Texts) -> float:
    """Promise 2: other ids where the mask is 0."""
    model = make()
    return largest(*(read(model, texts.sources, texts.targets, {"filler": filler}) for filler in (5, 9)))


def empty_row(make: Maker, texts: Texts) -> float:
    """Promise 3: a row without one source token; outputs and gradients are finite, the other rows as they were."""
    model = make()
    source, mask = rectangle(texts.sources)
    target = texts.prompt
    with torch.no_grad():
        full = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    mask[1] = 0
    logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    logits.square().sum().backward()
    if not all(tensor.isfinite().all() for tensor in (logits, *gradients(model))):
        return float("nan")
    return largest(list(full[[0, 2]]), list(logits[[0, 2]].detach()))


@torch.no_grad()
def eager_and_sdpa(make: Maker, texts: Texts) -> float:
    """Promise 3: two implementations of attention, on a batch with such a row."""
    model = make()
    source, mask = rectangle(texts.sources)
    mask[1] = 0
    outputs = []
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        outputs.append(model(input_ids=source, attention_mask=mask, decoder_input_ids=texts.prompt).logits)
    return largest(*outputs)


def future(make: Maker, texts: Texts) -> float:
    """Promise 4: gradient of the outputs at t with respect to target inputs behind t."""
    model = make()
    with embedded(model) as seen:
        logits = model(input_ids=texts.sources[0][None], decoder_input_ids=texts.prompt[:1]).logits[0]
    figures = []
    for t, output in enumerate(logits):
        (grad,) = torch.autograd.grad(output.square().sum(), seen[-1], retain_graph=True)
        influence = grad[0].abs().amax(-1)
        if not influence[: t + 1].any():
            raise BlindProbeError(f"no target input has an influence on the output at {t}")
        figures.append(influence[t + 1 :].sum().item())
    return max_of(figures)


def gradient_at_padding(make: Maker, texts: Texts) -> float:
    """Promise 5: gradient of real outputs with respect to source and target inputs that are padding."""
    figures = []
    for side in ("right", "left"):
        model = make()
        masks = [rectangle(rows, side)[1] for rows in (texts.sources, texts.targets)]
        with embedded(model) as seen:
            logits = torch.cat(read(model, texts.sources, texts.targets, {"side": side}))
        weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        for grad, mask in zip(torch.autograd.grad((logits * weights).sum(), (seen[0], seen[-1])), masks, strict=True):
            at_tokens = grad[:, : mask.shape[1]]  # a model may have padded further
            if not at_tokens[mask.bool()].any():
                raise BlindProbeError("no token gets a gradient")
            figures.append(at_tokens[~mask.bool()].abs().max().item())
    return max_of(figures)


@torch.no_grad()
def cache(make: Maker, texts: Texts, dtype: torch.dtype) -> float:
    """Promise 6: token by token, and in parts."""
    source, mask = rectangle(texts.sources)
    inputs = {"input_ids": source, "attention_mask": mask}
    return _cached_and_whole(make(dtype), texts.prompt, torch.ones_like(texts.prompt), **inputs)


@torch.no_grad()
def cache_behind_padding(make: Maker, texts: Texts) -> float:
    """Promise 6: behind prompts that are padded on the left, as the sources are."""
    source, mask = rectangle(texts.sources, "left")
    target, target_mask = rectangle(texts.targets, "left")
    inputs = {"input_ids": source, "attention_mask": mask, "decoder_attention_mask": target_mask}
    return _cached_and_whole(make(), target, target_mask, **inputs)


def _cached_and_whole(model: PreTrainedModel, target: Tensor, real: Tensor, **inputs: Any) -> float:
    whole = model(**inputs, decoder_input_ids=target, use_cache=False).logits[real.bool()]
    parts = [step_by_step(model, chunks, target, **inputs) for chunks in ((1,) * 6, (3, 1, 2), (4, 2))]
    return max_of(largest([whole], [steps[real.bool()]]) for steps in parts)


@torch.no_grad()
def texts_without_cache(make: Maker, texts: Texts, dtype: torch.dtype, searches: Sequence[int]) -> float:
    """Promise 6: share of texts that are written otherwise without a cache; one number of beams for each search."""
    model = writer(make(dtype))
    source, mask = rectangle(texts.sources)
    different, count = 0, 0
    for beams in searches:
        settings = {**_WRITING, "max_new_tokens": 8, "num_beams": beams, "num_return_sequences": beams}
        cached, plain = (
            model.generate(source, attention_mask=mask, use_cache=use_cache, **settings) for use_cache in (True, False)
        )
        different += int((cached != plain).any(1).sum())
        count += len(cached)
    return different / count


def equal_texts(make: Maker, texts: Texts) -> float:
    """Promise 6: share of texts that greedy search writes alike in bfloat16."""
    return 1 - texts_without_cache(make, texts, torch.bfloat16, (1,))


@torch.no_grad()
def wide_beam(make: Maker, texts: Texts) -> float:
    """Promise 7: a beam as wide as the tree of all texts, against the score of every text, computed one by one.

    The figure is the largest difference of scores, infinite where other texts are found; scores of `generate` are in
    float32.
    """
    words, length = (1, 2, 3, 4, 5), 3
    model = writer(make(torch.float64, words[-1] + 1))
    source, mask = rectangle([row % len(words) + 1 for row in texts.sources])
    every = torch.tensor(list(itertools.product(words, repeat=length)))
    read_by_decoder = torch.cat([torch.full((len(every), 1), START), every[:, :-1]], 1)
    found = model.generate(
        source, attention_mask=mask, num_beams=len(every), num_return_sequences=len(every), max_new_tokens=length,
        length_penalty=0.0, return_dict_in_generate=True, output_scores=True, **_WRITING,
    )  # fmt: skip
    figures = []
    for row in range(len(source)):
        inputs = {"input_ids": source[row], "attention_mask": mask[row]}
        logits = model(
            **{name: tensor.expand(len(every), -1) for name, tensor in inputs.items()},
            decoder_input_ids=read_by_decoder, use_cache=False,
        ).logits  # fmt: skip
        scores = logits.log_softmax(-1).gather(-1, every[..., None])[..., 0].sum(1)
        expected = dict(zip(map(tuple, every.tolist()), scores.tolist(), strict=True))
        where = slice(row * len(every), (row + 1) * len(every))
        best = found.sequences_scores[where].tolist()
        got = dict(zip(map(tuple, found.sequences[where, 1:].tolist()), best, strict=True))
        same = got.keys() == expected.keys() and best == sorted(best, reverse=True)
        figures.append(max_of(abs(got[text] - expected[text]) for text in expected) if same else float("inf"))
    return max_of(figures)


def aligned_loss(make: Maker, texts: Texts) -> float:
    """Promise 10: the mean over the labels that count, of an input that is the labels shifted right."""
    model = make()
    batch = labelled(texts.pairs)
    labels = batch["labels"]
    with torch.no_grad():
        loss = model(**batch).loss
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs, decoder_input_ids=shifted_right(labels)).logits
        expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    return (loss - expected).abs().item()


def nothing_counts(make: Maker, texts: Texts) -> float:
    """Promise 10: loss and gradient of a batch in which no label counts."""
    model = make()
    batch = labelled(texts.pairs)
    loss = model(**{**batch, "labels": torch.full_like(batch["labels"], IGNORED)}).loss
    loss.backward()
    return max_of([loss.abs().item(), *(grad.abs().max().item() for grad in gradients(model))])


def accumulation(make: Maker, texts: Texts, smoothing: float) -> float:
    """Promise 11: the gradient of eight rows, at once and cut into batches, relative to its length."""
    model = make()
    items = sum(len(labels) for _, labels in texts.pairs)
    more = {"label_smoothing": smoothing} if smoothing else {}
    found = []
    for size in (8, 4, 2, 1):
        model.zero_grad()
        for start in range(0, 8, size):
            model(**labelled(texts.pairs[start : start + size]), num_items_in_batch=items, **more).loss.backward()
        found.append(torch.cat([grad.flatten() for grad in gradients(model)]))
    return max_of(((other - found[0]).norm() / found[0].norm()).item() for other in found[1:])


def guessed_inputs(make: Maker, texts: Texts) -> float:
    """Promise 12: 1 where a decoder without an input of its own computes something, 0 where it refuses."""
    model = make()
    try:
        model(input_ids=texts.sources[0][None])
    except ValueError:
        return 0.0
    return 1.0


@dataclass(frozen=True)
class Probe:
    """One measurement.

    Attributes:
        promise: its number.
        what: in words.
        measure: (maker, texts) -> figure.
        limit: the largest figure that keeps the promise; None: it is reported alone.
        is_rate: the mean over all models counts, and not the largest.
        for_peers: whether peers can be measured so.
    """

    promise: int
    what: str
    measure: Callable[[Maker, Texts], float]
    limit: float | None
    is_rate: bool = False
    for_peers: bool = True


DOUBLE, SINGLE = torch.float64, torch.float32
PROBES = (
    Probe(1, "padding left, right, wider, fp64", partial(padding, dtype=DOUBLE), 1e-12),
    Probe(1, "padding left, right, wider, fp32", partial(padding, dtype=SINGLE), 1e-5),
    Probe(2, "batch mates and order", batch_mates, 1e-12),
    Probe(2, "what lies under the mask", under_the_mask, 0.0),
    Probe(3, "a row without a token, finite", empty_row, 1e-12),
    Probe(3, "eager and sdpa", eager_and_sdpa, 1e-12),
    Probe(4, "gradient from the future", future, 0.0),
    Probe(5, "gradient at padding", gradient_at_padding, 0.0),
    Probe(6, "cache, prefill in parts, fp64", partial(cache, dtype=DOUBLE), 1e-12),
    Probe(6, "cache, prefill in parts, fp32", partial(cache, dtype=SINGLE), 1e-5),
    Probe(6, "cache, prompts padded left, fp64", cache_behind_padding, 1e-12),
    Probe(6, "other texts by cache, fp32",
          partial(texts_without_cache, dtype=SINGLE, searches=(1, 4)), 0.0, is_rate=True),
    Probe(6, "equal texts by cache, greedy, bf16", equal_texts, None, is_rate=True),
    Probe(7, "a beam as wide as the tree", wide_beam, 1e-5),
    Probe(10, "loss, against torch's", aligned_loss, 1e-6),
    Probe(10, "loss and gradient of -100 alone", nothing_counts, 0.0),
    Probe(11, "8x1, 4x2, 2x4, 1x8", partial(accumulation, smoothing=0.0), 1e-4),
    Probe(11, "the same, smoothed", partial(accumulation, smoothing=0.1), 1e-4, for_peers=False),
    Probe(12, "inputs guessed from the source", guessed_inputs, 0.0),
)  # fmt: skip
