"""What the probes of exactness share: texts, batches of them, and what is read off a model."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from _exact_models import FIRST_WORD, PAD, START, VOCABULARY
from torch import Tensor, nn
from transformers import PreTrainedModel

Rows = Sequence[Tensor]

IGNORED = -100  # the label that does not count


@dataclass(frozen=True)
class Layout:
    """How some of the pairs become a batch.

    Attributes:
        rows: which, in this order; one may come twice.
        source: arguments of `rectangle`.
        target: the same.
    """

    rows: list[int]
    source: dict[str, Any]
    target: dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """Rows of ids without padding.

    Attributes:
        sources: three of unlike length, one of them a single word.
        targets: the same.
        pairs: eight of source and target, or labels, of unlike length.
        prompt: [3, 6], for decoding.
        layouts: batches of the pairs.
    """

    sources: Rows
    targets: Rows
    pairs: Sequence[tuple[Tensor, Tensor]]
    prompt: Tensor
    layouts: Sequence[Layout]


def draw_texts(seed: int, layouts: int) -> Texts:
    """Random words, in a number of random layouts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> Tensor:
        return torch.randint(FIRST_WORD, VOCABULARY, (length,), generator=generator)

    lengths = torch.randint(1, 9, (8, 2), generator=generator).tolist()
    lengths[0], lengths[7] = [8, 1], [2, 8]  # whatever is drawn, they are unlike
    return Texts(
        sources=[draw(n) for n in (7, 4, 1)],
        targets=[draw(n) for n in (5, 6, 2)],
        pairs=[(draw(source), draw(target)) for source, target in lengths],
        prompt=torch.stack([draw(6) for _ in range(3)]),
        layouts=[_draw_layout(random.Random(f"{seed} {number}")) for number in range(layouts)],
    )


def _draw_layout(draw: random.Random) -> Layout:
    source, target = ({"side": draw.choice(["left", "right"]), "more": draw.randrange(6)} for _ in range(2))
    return Layout(draw.choices(range(8), k=draw.randint(1, 5)), source, target)


def rectangle(rows: Rows, side: str = "right", more: int = 0, filler: int = PAD) -> tuple[Tensor, Tensor]:
    """Rows as one batch, `more` wider than the longest: ids and mask."""
    width = max(len(row) for row in rows) + more
    ids = torch.full((len(rows), width), filler)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask


def read(
    model: PreTrainedModel,
    sources: Rows,
    targets: Rows,
    padding: Mapping[str, Any] | None = None,
    target_padding: Mapping[str, Any] | None = None,
) -> list[Tensor]:
    """Logits of the real target tokens of each row, out of one batch; targets are padded as sources unless told."""
    padding = padding or {}
    source, mask = rectangle(sources, **padding)
    target, target_mask = rectangle(targets, **(padding if target_padding is None else target_padding))
    logits = model(
        input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask
    ).logits
    return [row[real.bool()] for row, real in zip(logits, target_mask, strict=True)]


def largest(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest difference; NaN where there is one."""
    return torch.stack([(a - b).abs().max() for a, b in zip(first, second, strict=True)]).max().item()


def labelled(rows: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """A batch for training, padded on the right."""
    source, mask = rectangle([source for source, _ in rows])
    labels, _ = rectangle([labels for _, labels in rows], filler=IGNORED)
    return {"input_ids": source, "attention_mask": mask, "labels": labels}


def shifted_right(labels: Tensor) -> Tensor:
    """What a decoder reads to learn labels [B, T]."""
    shifted = torch.cat([torch.full((len(labels), 1), START), labels[:, :-1]], 1)
    return shifted.masked_fill(shifted == IGNORED, PAD)


def gradients(model: PreTrainedModel) -> list[Tensor]:
    """Of every weight that is trained; zeros where none came."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]


def max_of(figures: Any) -> float:
    """The largest, NaN where there is one; Python's own `max` passes over it."""
    return torch.tensor(list(figures), dtype=torch.float64).max().item()


def writer(model: PreTrainedModel) -> PreTrainedModel:
    """A model that writes varied texts without end: its output has a table of its own, and prefers some words."""
    head: Any = model.lm_head
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(head.weight.shape, generator=generator, dtype=torch.float64)
    head.weight = nn.Parameter(drawn.to(head.weight.dtype))
    how = model.generation_config
    how.eos_token_id = how.forced_eos_token_id = how.forced_bos_token_id = how.max_length = None
    how.decoder_start_token_id, how.pad_token_id = START, PAD
    return model


@contextmanager
def embedded(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """The outputs of the tables of embeddings: the source's first, the target's last."""
    seen: list[Tensor] = []
    tables = {side.embed_tokens for side in (model.get_encoder(), model.get_decoder())}
    hooks = [table.register_forward_hook(lambda module, args, output: seen.append(output)) for table in tables]
    yield seen
    for hook in hooks:
        hook.remove()


def step_by_step(model: PreTrainedModel, chunks: Sequence[int], target: Tensor, **inputs: Any) -> Tensor:
    """Logits of a target that is read in chunks, each behind the cache of those before."""
    target_mask = inputs.pop("decoder_attention_mask", None)
    cache, logits, start = None, [], 0
    for size in chunks:
        output = model(
            **inputs, decoder_input_ids=target[:, start : start + size], past_key_values=cache, use_cache=True,
            decoder_attention_mask=None if target_mask is None else target_mask[:, : start + size],
        )  # fmt: skip
        cache, start = output.past_key_values, start + size
        logits.append(output.logits)
    return torch.cat(logits, dim=1)
