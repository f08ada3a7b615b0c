"""Chapter 8 of 8, its first part: what training makes small. Before: stacks.py. Next: modeling_selfattn.py.

Cross-entropy of the target's tokens. Its gradient has a closed form, softmax(z) minus the wanted distribution, so that
one pass over the logits serves both, with label smoothing or without.
"""

from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100  # the label that does not count, in torch and transformers alike


class SmoothedCrossEntropy(torch.autograd.Function):
    """Sum of log Z(z) - (1 - s) z(y) - s mean(z) over the rows that count; s is the label smoothing."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Logits [N, V] in float32 or float64 and labels [N] -> a scalar."""
        counts = labels != IGNORED
        rows = torch.arange(len(labels), device=labels.device)
        labels = labels.masked_fill(~counts, 0)
        wanted = logits[rows, labels] * (1 - smoothing)
        if smoothing:
            wanted = wanted + logits.mean(-1) * smoothing
        losses = torch.logsumexp(logits, dim=-1) - wanted
        ctx.save_for_backward(logits, labels, counts)
        ctx.smoothing = smoothing
        return losses.masked_fill(~counts, 0).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """softmax(z) - (1 - s) onehot(y) - s / V, in the rows that count."""
        logits, labels, counts = ctx.saved_tensors
        result = torch.softmax(logits, dim=-1)
        if ctx.smoothing:
            result.sub_(ctx.smoothing / logits.shape[-1])
        rows = torch.arange(len(labels), device=labels.device)
        result[rows, labels] -= 1 - ctx.smoothing
        return result.mul_((counts * grad)[:, None]), None, None


def sequence_loss(
    logits: Tensor,
    labels: Tensor,
    num_items_in_batch: int | Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the labels that count, divided by their number.

    Args:
        logits: [B, T, V].
        labels: [B, T]; -100 does not count. No shift: the decoder's input is shifted already.
        num_items_in_batch: what to divide by instead, the labels of a whole accumulated batch, so that the gradient of
            many small batches is that of the one large batch they make.
        label_smoothing: share of the probability that goes to all tokens alike (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567).

    Raises:
        ValueError: where labels and logits do not belong together, or the smoothing is no share.

    Returns:
        A scalar; 0, with a gradient of zeros, where no label counts.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must name one class for each place that has logits: expected shape {tuple(logits.shape[:-1])}, "
            f"got {tuple(labels.shape)}. Give inputs of the labels' length, and leave logits_to_keep out."
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is a share from 0 to below 1, got {label_smoothing}.")
    labels = labels.to(logits.device).flatten()
    logits = logits.flatten(0, -2)
    total = SmoothedCrossEntropy.apply(exact(logits), labels, label_smoothing)
    return shared(total, (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def exact(logits: Tensor) -> Tensor:
    """Logits in the precision that a loss is computed in: float32, or float64 where they have it."""
    return logits if logits.dtype == torch.float64 else logits.float()


def shared(total: Tensor, items: int | Tensor) -> Tensor:
    """A sum of losses, divided by the number of its items; several devices may have counted their own."""
    if isinstance(items, Tensor):
        return total / items.to(total.device).sum().clamp(min=1)
    return total / max(items, 1)


def problem_of(logits: Tensor, labels: Tensor) -> str:
    """What labels for whole texts ask for, by transformers' rule: logits [B, L] and labels -> a `problem_type`."""
    if logits.shape[-1] == 1:
        return "regression"
    return "multi_label_classification" if labels.dtype.is_floating_point else "single_label_classification"


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    problem_type: str | None = None,
    num_items_in_batch: int | Tensor | None = None,
) -> Tensor:
    """Loss of labels for whole texts, as transformers defines it: a mean over what `labels` holds.

    Args:
        logits: [B, L].
        labels: [B] whole numbers below L, or -100 (cross-entropy); [B, L] zeros and ones (one binary cross-entropy for
            each); or numbers, [B] or [B, L] (squared error).
        problem_type: single_label_classification, multi_label_classification or regression; None: see `problem_of`.
        num_items_in_batch: what to divide by instead, the number of labels of a whole accumulated batch.

    Raises:
        ValueError: where labels and logits do not belong together.
    """
    labels = labels.to(logits.device)
    problem_type = problem_type or problem_of(logits, labels)
    if problem_type == "single_label_classification":
        if labels.dtype.is_floating_point or labels.numel() != len(logits):
            raise ValueError(
                f"{problem_type} needs one class for each row, a whole number: expected shape ({len(logits)},), got "
                f"{tuple(labels.shape)} of {labels.dtype}. Set config.problem_type to what the labels are."
            )
        return sequence_loss(logits, labels.view(-1), num_items_in_batch)
    if labels.numel() != logits.numel():
        raise ValueError(
            f"{problem_type} needs one label for each logit: expected shape {tuple(logits.shape)}, got "
            f"{tuple(labels.shape)}. Set config.num_labels and config.problem_type to what the labels are."
        )
    given = exact(logits)
    wanted = labels.view_as(given).to(given.dtype)
    measure = nn.functional.mse_loss if problem_type == "regression" else nn.functional.binary_cross_entropy_with_logits
    total = measure(given, wanted, reduction="sum")
    return shared(total, labels.numel() if num_items_in_batch is None else num_items_in_batch)


def span_loss(logits: Tensor, places: Tensor, num_items_in_batch: int | Tensor | None = None) -> Tensor:
    """Cross-entropy of one place in each row: logits [B, S], places [B]; a place outside the row does not count."""
    places = places.to(logits.device).view(-1)
    outside = (places < 0) | (places >= logits.shape[1])
    return sequence_loss(logits, places.masked_fill(outside, IGNORED), num_items_in_batch)
