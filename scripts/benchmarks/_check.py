"""Before anything is timed: the fast path computes what the plain one does.

The plain path of training is float64, one row after the other without padding or mask, eager attention, logits as a
whole, and torch's cross-entropy. The plain path of decoding is float64 without a cache.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ._batches import IGNORED, Batch
from ._measure import agree
from ._peers import Ours, ours
from ._sizes import Sizes

# What rounding explains: of a gradient, relative to its size; of a sequence's log-probability.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}
SCORE_TOLERANCE = 1e-3
ROWS = 6
NEW_TOKENS = 12


def check_training(sizes: Sizes, batch: Batch, device: str, dtype: torch.dtype, what: str) -> dict[str, Any]:
    """Compare loss and gradients of some rows of a batch, with weights drawn anew and no dropout.

    Raises:
        MismatchError: where they differ by more than rounding explains.
    """
    fast = Ours(ours(sizes.without_dropout())).to(device).train()
    plain = plain_copy(fast.model)
    rows = first_rows(batch, ROWS)
    with torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype != torch.float32):
        loss = fast(rows)
    loss.backward()
    reference = plain_loss(plain, rows)
    reference.backward()
    of_loss = float((loss.double() / reference - 1).abs().detach())
    return agree(what, max(of_loss, gradient_difference(fast.model, plain)), TOLERANCES[dtype])


def plain_copy(model: nn.Module) -> Any:
    """The same weights in float64, with eager attention."""
    plain = copy.deepcopy(model).double()
    assert isinstance(plain, PreTrainedModel)
    plain.set_attn_implementation("eager")
    return plain


def plain_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy, row by row."""
    losses, tokens = [], 0
    for row, (source, target) in enumerate(batch.lengths):
        logits = model(
            input_ids=batch.source[row, :source][None], decoder_input_ids=batch.decoder_inputs[row, :target][None]
        ).logits
        losses.append(nn.functional.cross_entropy(logits[0], batch.labels[row, :target], reduction="sum"))
        tokens += target
    return torch.stack(losses).sum() / tokens


def gradient_difference(fast: nn.Module, plain: nn.Module) -> float:
    """The largest difference of a parameter's gradient, relative to the norm of that gradient.

    A gradient that is next to nothing beside the whole (of the biases of keys it is exactly 0) is compared with a
    hundredth of the whole instead.
    """
    pairs = [
        (one.grad.double(), other.grad)
        for one, other in zip(fast.parameters(), plain.parameters(), strict=True)
        if one.grad is not None and other.grad is not None
    ]
    whole = torch.stack([other.norm() for _, other in pairs]).norm()
    return max(float((one - other).norm() / torch.maximum(other.norm(), whole / 100)) for one, other in pairs)


def first_rows(batch: Batch, rows: int) -> Batch:
    """The shortest and the longest row, and some of the first."""
    order = sorted(range(len(batch.lengths)), key=lambda row: sum(batch.lengths[row]))
    chosen = list(dict.fromkeys([order[0], order[-1], *range(len(order))]))[:rows]
    lengths = [batch.lengths[row] for row in chosen]
    source, target = (max(side) for side in zip(*lengths, strict=True))
    return Batch(
        batch.source[chosen, :source], batch.labels[chosen, :target],
        batch.source_mask[chosen, :source], batch.target_mask[chosen, :target], lengths,
    )  # fmt: skip


@torch.inference_mode()
def check_decoding(model: Any, batch: Batch, beams: int, what: str) -> dict[str, Any]:
    """Compare what `generate` writes with what float64 writes without a cache; ties may go either way.

    Raises:
        MismatchError: where an answer is another one, and not as likely.
    """
    rows = first_rows(batch, ROWS)
    plain = plain_copy(model).eval()
    inputs = {"input_ids": rows.source, "attention_mask": rows.source_mask}
    settings = {"num_beams": beams, "do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    found = model.generate(**inputs, **settings)
    wanted = plain.generate(**inputs, **settings, use_cache=False)
    if found.shape != wanted.shape:
        return agree(what, float("inf"), SCORE_TOLERANCE)
    apart = score(plain, rows, found) - score(plain, rows, wanted)
    return agree(what, float(apart.abs().max()), SCORE_TOLERANCE)


def score(model: nn.Module, batch: Batch, answers: Tensor) -> Tensor:
    """Log-probabilities [B] of answers [B, 1 + T], row by row, the start token first."""
    scores = []
    for row, (source, _) in enumerate(batch.lengths):
        answer = answers[row]
        logits = model(input_ids=batch.source[row, :source][None], decoder_input_ids=answer[None, :-1]).logits
        scores.append(-nn.functional.cross_entropy(logits[0], answer[1:], ignore_index=IGNORED, reduction="sum"))
    return torch.stack(scores)
