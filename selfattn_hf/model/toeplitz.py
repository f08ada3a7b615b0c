"""Chapter 3 of 8, in the engine room: a bias of distances, without its table. Before: contracts.py. Next: attend.py.

A bias that depends on j - i alone has 2T - 1 values for a head, not T x T. With the queries of a block in reverse, each
row of its table is the row before moved on by one, so that the table is a view of those values; and the gradients of a
block are added up along its diagonals as soon as they are there. Time grows with T x T, memory with T.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

# Queries at a time: as many as torch's kernel likes, and as many as stay in a CPU's cache with all of their affinities.
FORWARD, BACKWARD = 512, 128
# Keys at a time in the backward pass.
KEYS = 2048
LOG2E = math.log2(math.e)


def attend_along_diagonals(
    query: Tensor, key: Tensor, value: Tensor, diagonals: Tensor, scaling: float, causal: bool
) -> Tensor:
    """softmax(q k^T * scaling + bias) v on a CPU, where the bias of query i and key j is diagonals[h, j - i + T - 1].

    Args:
        query: [B, H, T, d] in float32 or float64.
        key: [B, H, T, d].
        value: [B, H, T, d].
        diagonals: [H, 2T - 1] for the distances j - i from -(T - 1) to T - 1.
        scaling: factor on q k^T.
        causal: True where no query sees a later key.

    Returns:
        [B, H, T, d], the heads of a token side by side in memory.
    """
    context, _ = AttentionAlongDiagonals.apply(query, key, value, diagonals, scaling, causal)
    return context


class AttentionAlongDiagonals(torch.autograd.Function):
    """See `attend_along_diagonals`; returns the logarithms of the softmax's sums [B, H, T], too, for the gradient."""

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, diagonals: Tensor, scaling: float, causal: bool
    ) -> tuple[Tensor, Tensor]:
        """Block of queries by block of queries."""
        diagonals = _without_future(diagonals, causal)
        context = torch.empty_like(value.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        sums = query.new_empty(query.shape[:3])
        for start, stop, keys in _blocks(query.shape[2], FORWARD, causal):
            table = _table(diagonals, start, stop, 0, keys).expand(len(query), -1, -1, -1)
            mixed, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, start:stop].flip(2), key[:, :, :keys], value[:, :, :keys], attn_mask=table, scale=scaling
            )
            context[:, :, start:stop], sums[:, :, start:stop] = mixed.flip(2), total.flip(2)
        return context, sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what went in and what came out."""
        *tensors, ctx.scaling, ctx.causal = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Head by head, and in it block by block."""
        query, key, value, diagonals, context, sums = ctx.saved_tensors
        d_query, d_key, d_value = (torch.empty_like(x) for x in (query, key, value))
        d_diagonals = diagonals.new_zeros(diagonals.shape) if ctx.needs_input_grad[3] else None
        # A power of 2 is computed sooner than one of e, above all where a bias makes it next to nothing.
        open_ = _without_future(diagonals, ctx.causal) * LOG2E
        room = query.new_empty(3, BACKWARD * (min(KEYS, query.shape[2]) + BACKWARD))
        for row, head in itertools.product(range(query.shape[0]), range(query.shape[1])):
            at = row, head
            # One more number in every vector: q k^T - log sum and dO v^T - dO . O are then one product each.
            asking = torch.cat([query[at] * ctx.scaling, -sums[at][:, None]], 1) * LOG2E
            pulling = torch.cat([grad[at], -(grad[at] * context[at]).sum(1, keepdim=True)], 1)
            d_query[at], d_key[at], d_value[at] = _head_backward(
                asking, _with_ones(key[at]), pulling, _with_ones(value[at]), open_[head], ctx.causal, room,
                None if d_diagonals is None else d_diagonals[head],
            )  # fmt: skip
        return d_query.mul_(ctx.scaling), d_key.mul_(1 / LOG2E), d_value, d_diagonals, None, None


def _head_backward(
    asking: Tensor, keys: Tensor, pulling: Tensor, values: Tensor, diagonals: Tensor, causal: bool, room: Tensor,
    d_diagonals: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of scaled queries, keys (times log2(e)) and values, [T, d]; that of the diagonals is added to its own.

    Args:
        asking: [T, d + 1] scaled queries, and minus the logarithm of the softmax's sum, times log2(e).
        keys: [T, d + 1], the last number 1.
        pulling: [T, d + 1] gradient of the context, and minus its product with the context.
        values: [T, d + 1], the last number 1.
        diagonals: [2T - 1], times log2(e).
        causal: True where no query sees a later key.
        room: [3, block * (keys + block)] for what is there of each pair of a block.
        d_diagonals: [2T - 1], or None where nobody asks for it.
    """
    length, width = keys.shape[0], room.shape[1] // BACKWARD
    tiny = torch.finfo(keys.dtype).tiny / torch.finfo(keys.dtype).eps
    d_query, d_key, d_value = (torch.zeros_like(keys[:, :-1], memory_format=torch.contiguous_format) for _ in range(3))
    shape = (0, 0)
    for start, stop, first, last in _tiles(length, causal):
        rows, seen = stop - start, last - first
        q, pull = asking[start:stop].flip(0), pulling[start:stop].flip(0)
        weights, pulls = (part[: rows * seen].view(rows, seen) for part in room[:2])
        torch.addmm(_table(diagonals, start, stop, first, last), q, keys[first:last].T, out=weights).exp2_()
        nn.functional.threshold(weights, tiny, 0.0, inplace=True)  # products with denormal numbers are slow
        torch.mm(pull, values[first:last].T, out=pulls)
        d_value[first:last].addmm_(weights.T, pull[:, :-1])
        # Each row one further to the right than the row before, with zeros around, so that diagonals become columns.
        if shape != (rows, seen):
            shape = rows, seen
            room[2].zero_()
        slanted = room[2].as_strided(shape, (width + 1, 1), room[2].storage_offset())
        torch.mul(weights, pulls, out=slanted)
        d_query[start:stop] += (slanted @ keys[first:last, :-1]).flip(0)
        d_key[first:last].addmm_(slanted.T, q[:, :-1])
        if d_diagonals is not None:
            columns = room[2].view(BACKWARD, width)[:rows, : rows + seen - 1]
            _span(d_diagonals, start, stop, first, last).add_(columns.sum(0))
    return d_query, d_key, d_value


def _blocks(length: int, size: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """(first query, one behind the last, number of keys that any of them may see) of each block."""
    for start in range(0, length, size):
        stop = min(start + size, length)
        yield start, stop, stop if causal else length


def _tiles(length: int, causal: bool) -> Iterator[tuple[int, int, int, int]]:
    """The blocks of the backward pass, cut into tiles of some keys each: (first query, end, first key, end)."""
    for start, stop, keys in _blocks(length, BACKWARD, causal):
        for first in range(0, keys, KEYS):
            yield start, stop, first, min(first + KEYS, keys)


def _span(diagonals: Tensor, start: int, stop: int, first: int, last: int) -> Tensor:
    """The diagonals [.., 2T - 1] that cross the tile of these queries and keys, a view."""
    corner = (diagonals.shape[-1] - 1) // 2 + first - (stop - 1)
    return diagonals[..., corner : corner + (stop - start) + (last - first) - 1]


def _table(diagonals: Tensor, start: int, stop: int, first: int, last: int) -> Tensor:
    """[.., 2T - 1] -> [.., stop - start, last - first]: the bias of the queries stop - 1 down to start, a view."""
    return _span(diagonals, start, stop, first, last).unfold(-1, last - first, 1)


def _without_future(diagonals: Tensor, causal: bool) -> Tensor:
    """Diagonals with -inf where a key stands behind its query, if that is not to be seen."""
    if not causal:
        return diagonals.contiguous()
    later = torch.arange(diagonals.shape[-1]) >= (diagonals.shape[-1] + 1) // 2
    return diagonals.masked_fill(later, -torch.inf).contiguous()


def _with_ones(x: Tensor) -> Tensor:
    """[T, d] -> [T, d + 1]."""
    return nn.functional.pad(x, (0, 1), value=1.0)
