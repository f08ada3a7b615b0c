"""Chapter 8 of 8, its first part: what training makes small. Before: stacks.py. Next: modeling_selfattn.py.

Cross-entropy of the target's tokens. Its gradient has a closed form, softmax(z) minus the wanted distribution, so that
one pass over the logits serves both, with label smoothing or without.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .masking import is_traced

IGNORED = -100  # the label that does not count, in torch and transformers alike
# Logits that are there at once where only the loss is asked for: as many as keep a GPU busy, or stay in a CPU's cache.
LOGITS_AT_ONCE = (2**25, 2**21)


class SmoothedCrossEntropy(torch.autograd.Function):
    """Sum of log Z(z) - (1 - s) z(y) - s mean(z) over the rows that count; s is the label smoothing."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Logits [N, V] in float32 or float64 and labels [N] -> a scalar."""
        counts = labels != IGNORED
        labels = labels.masked_fill(~counts, 0)
        losses = torch.logsumexp(logits, dim=-1) - _wanted(logits, labels, smoothing)
        ctx.save_for_backward(logits, labels, counts)
        ctx.smoothing = smoothing
        return losses.masked_fill(~counts, 0).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The closed form, in the rows that count."""
        logits, labels, counts = ctx.saved_tensors
        result = _take_wanted(torch.softmax(logits, dim=-1), labels, ctx.smoothing)
        return result.mul_((counts * grad)[:, None]), None, None


class LinearCrossEntropy(torch.autograd.Function):
    """`SmoothedCrossEntropy` of W x + b, some rows at a time: the logits are never there as a whole.

    Gradients are made on the way, while the logits of the rows are at hand, so that none is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, smoothing: float
    ) -> Tensor:
        """States [N, D], weight [V, D], bias [V] or None, and labels [N] that all count -> a scalar.

        Products are computed in the number format of the states, the rest as `exact` says.
        """
        table, shift = weight.to(states.dtype), None if bias is None else bias.to(states.dtype)
        total = exact(states.new_zeros(()))
        d_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(exact(weight)) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(exact(bias)) if bias is not None and ctx.needs_input_grad[2] else None
        step = max(1, LOGITS_AT_ONCE[states.device.type == "cpu"] // len(weight))
        for start in range(0, len(states), step):
            rows, wanted = states[start : start + step], labels[start : start + step]
            logits = exact(nn.functional.linear(rows, table, shift))
            shares = torch.log_softmax(logits, dim=-1)
            total -= _wanted(shares, wanted, smoothing).sum()
            if not any(ctx.needs_input_grad):
                continue
            gradient = _take_wanted(shares.exp_(), wanted, smoothing)
            if d_bias is not None:
                d_bias += gradient.sum(0)
            gradient = gradient.to(states.dtype)
            if d_states is not None:
                torch.mm(gradient, table, out=d_states[start : start + step])
            if d_weight is not None:
                d_weight.addmm_(gradient.T, rows) if d_weight.dtype == rows.dtype else d_weight.add_(gradient.T @ rows)
        ctx.save_for_backward(d_states, d_weight, d_bias)
        ctx.formats = states.dtype, weight.dtype, weight.dtype if bias is None else bias.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """What was made on the way, times what the loss was multiplied by."""
        made = (
            None if part is None else (part * grad).to(of)
            for part, of in zip(ctx.saved_tensors, ctx.formats, strict=True)
        )
        return *made, None, None


def _wanted(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """(1 - s) z(y) + s mean(z), of logits or of their logarithmic softmax: [N, V], [N] -> [N]."""
    wanted = logits[torch.arange(len(labels), device=labels.device), labels] * (1 - smoothing)
    return wanted + logits.mean(-1) * smoothing if smoothing else wanted


def _take_wanted(shares: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The gradient of the loss, softmax(z) - (1 - s) onehot(y) - s / V, written over softmax(z) [N, V]."""
    if smoothing:
        shares.sub_(smoothing / shares.shape[-1])
    shares[torch.arange(len(labels), device=labels.device), labels] -= 1 - smoothing
    return shares


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
    check_loss(labels, logits.shape[:-1], label_smoothing)
    labels = labels.to(logits.device).flatten()
    logits = logits.flatten(0, -2)
    total = SmoothedCrossEntropy.apply(exact(logits), labels, label_smoothing)
    return shared(total, (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def head_loss(
    head: nn.Module,
    states: Tensor,
    labels: Tensor,
    num_items_in_batch: int | Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`sequence_loss(head(states), labels, ...)`, of the places that count alone, with few logits at a time.

    Args:
        head: the output layer over the vocabulary. What is no plain linear layer, or has hooks, is asked for all of
            its logits; so it is where a graph is traced, which would freeze the number of places that count.
        states: [B, T, D].
        labels: [B, T]; -100 does not count.
        num_items_in_batch: see `sequence_loss`.
        label_smoothing: see `sequence_loss`.

    Raises:
        ValueError: as `sequence_loss`.
    """
    is_plain = type(head) is nn.Linear and type(head.weight) is nn.Parameter
    is_plain = is_plain and not (head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head))
    if not is_plain or is_traced():
        return sequence_loss(head(states), labels, num_items_in_batch, label_smoothing)
    check_loss(labels, states.shape[:-1], label_smoothing)
    labels = labels.to(states.device).flatten()
    counts = (labels != IGNORED).nonzero().flatten()
    states = states.flatten(0, -2).index_select(0, counts)
    device = states.device.type
    if torch.is_autocast_enabled(device):
        states = states.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        total = LinearCrossEntropy.apply(states, head.weight, head.bias, labels[counts], label_smoothing)
    return shared(total, len(counts) if num_items_in_batch is None else num_items_in_batch)


def check_loss(labels: Tensor, shape: torch.Size, label_smoothing: float) -> None:
    """Refuse labels that are not one for each place, and a smoothing that is no share, with ValueError."""
    if labels.shape != shape:
        raise ValueError(
            f"labels must name one class for each place that has logits: expected shape {tuple(shape)}, "
            f"got {tuple(labels.shape)}. Give inputs of the labels' length, and leave logits_to_keep out."
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is a share from 0 to below 1, got {label_smoothing}.")


def logits_and_loss(
    head: nn.Module,
    states: Tensor,
    labels: Tensor | None,
    loss_function: Callable[..., Tensor],
    *,
    loss_only: bool = False,
    **kwargs: Any,
) -> tuple[Tensor | None, Tensor | None]:
    """What a model with a head over the vocabulary answers: logits [B, T, V], and a loss where there are labels.

    Args:
        head: the output layer.
        states: [B, T, D].
        labels: [B, T], or None.
        loss_function: the model's; one that somebody put there instead of `sequence_loss` gets the logits it expects.
        loss_only: no logits are returned, and they are never in memory as a whole (see `head_loss`).
        **kwargs: to the loss.

    Raises:
        ValueError: where only a loss is asked for, without labels.
    """
    if not loss_only:
        logits: Tensor = head(states)
        return logits, None if labels is None else loss_function(logits, labels, **kwargs)
    if labels is None:
        raise ValueError(
            "loss_only=True asks for the loss alone, and a loss needs labels. Give labels, or leave it out."
        )
    if loss_function is sequence_loss:
        return None, head_loss(head, states, labels, **kwargs)
    return None, loss_function(head(states), labels, **kwargs)


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
