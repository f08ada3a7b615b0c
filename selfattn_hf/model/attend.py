"""Chapter 3 of 8, its first part: one lookup. Before: toeplitz.py. Next: attention.py.

Queries are compared with keys, the affinities become weights, the weights mix the values. Whoever looks something up,
in its own words, in its neighbours or in the source, does it here.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .masking import is_traced
from .toeplitz import attend_along_diagonals

# Attention implementations that add a position bias to the affinities; others would lose it without a word.
READS_BIAS = ("eager", "sdpa", "flex_attention")
# Pairs of a query and a key up to which it is faster on a CPU, in half precision, to write the lookup out.
WRITTEN_OUT = 512 * 512
# Tokens of a row from which on a bias of distances is faster without its table.
ALONG_DIAGONALS = 512


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T * scaling + bias + mask) v, written out; returns [B, Q, H, d] and the weights [B, H, Q, K].

    The mask is added, or is True where a key may be seen.
    """
    scores = query @ key.transpose(2, 3) * scaling
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = nn.functional.softmax(scores, dim=-1, dtype=exact).to(query.dtype)
    weights = nn.functional.dropout(weights, dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


class Attend(nn.Module):
    """One lookup, through transformers' attention interface. Its second output is what attention maps are made of.

    Args:
        config: the switches; `config._attn_implementation` names the implementation.
        causal: True where an implementation may mask the future without being given a mask.
        scaling: factor on q k^T.
    """

    def __init__(self, config: Any, causal: bool, scaling: float) -> None:
        super().__init__()
        self.config = config
        self.is_causal = causal
        self.scaling = scaling
        self.dropout = config.attention_dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """[B, H, Q, d], [B, H, K, d], [B, H, K, d] -> [B, Q, D] and the weights [B, H, Q, K] where there are any.

        The bias is [B or 1, H, Q, K]; where `takes_diagonals` says so, it may be [H, 2T - 1] instead.
        """
        if bias is not None and bias.ndim == 2:
            diagonals = bias.to(query.dtype)
            context = attend_along_diagonals(query, key, value, diagonals, self.scaling, self.is_causal)
            return context.transpose(1, 2).flatten(2), None
        implementation = self.config._attn_implementation
        if bias is not None:
            if implementation not in READS_BIAS:
                raise ValueError(
                    f"attn_implementation={implementation!r} does not add a bias to the affinities, and this model has "
                    f"one (a position encoding or an additive score). Choose one of: {', '.join(READS_BIAS)}."
                )
            # flex_attention indexes the bias by row, and so needs a view that has all rows.
            bias = bias.to(query.dtype).expand(query.shape[0], -1, -1, -1)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        if implementation == "sdpa" and is_faster_written_out(query, key):
            attend = self._written_out
        context, weights = attend(
            self,
            query,
            key,
            value,
            mask,
            scaling=self.scaling,
            dropout=self.dropout if self.training else 0.0,
            position_bias=bias,
        )
        if isinstance(mask, Tensor):
            # A query that may see nothing reads nothing. Left to themselves, some implementations would return zeros
            # and some the mean of what is masked.
            seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min
            blind = ~seen.any(-1)  # [B, 1, Q]
            # Mostly there is none, which a CPU can be asked for nothing.
            if mask.device.type != "cpu" or is_traced() or bool(blind.any()):
                context = context.masked_fill(blind.transpose(1, 2)[..., None], 0)  # [B, Q, H, d], [B, Q, 1, 1]
        return context.flatten(2), weights

    def takes_diagonals(self, query: Tensor, key: Tensor, mask: Any) -> bool:
        """Whether a bias that depends on the distance alone is better given as the values of its diagonals.

        So it is for long rows [B, H, T, d] on a CPU, where sdpa would need a table of T x T for each head. Padding,
        dropout and a graph that is traced need that table, and in half precision rows of this length are rare there.
        The gradient is made by many small products, in which several threads wait for each other most of the time.
        """
        if is_traced():  # where threads are not asked for either
            return False
        is_asked = self.config._attn_implementation == "sdpa" and mask is None and not (self.training and self.dropout)
        is_long = query.shape[2] == key.shape[2] >= ALONG_DIAGONALS
        is_exact = query.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
        is_quick = query.device.type == "cpu" and (torch.get_num_threads() == 1 or not torch.is_grad_enabled())
        return is_asked and is_long and is_exact and is_quick

    def _written_out(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """As sdpa, which masks the future itself where it is given no mask, and has no weights to show."""
        if mask is None and self.is_causal and query.shape[2] > 1:
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        return eager_attention(module, query, key, value, mask, **kwargs)[0], None


def is_faster_written_out(query: Tensor, key: Tensor) -> bool:
    """Whether two products and a softmax beat torch's fused kernel for [B, H, Q, d] and [B, H, K, d].

    On a CPU its backward pass is slow in half precision; docs/performance.md has the figures.
    """
    is_half = query.dtype in (torch.bfloat16, torch.float16)
    pairs = query.shape[2] * key.shape[2]
    return is_half and query.device.type == "cpu" and query.requires_grad and pairs <= WRITTEN_OUT


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] -> [B, H, T, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
