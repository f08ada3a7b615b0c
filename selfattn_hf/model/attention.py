"""Chapter 3 of 8: everyone asks everyone. Before: window.py. Next: positions.py.

Queries, keys and values come from the same source, at every layer: every word reaches every word in one step. The same
lookup lets the decoder read the encoder's states.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .contracts import Places, PositionalEncoding, TokenMixer
from .masking import attention_mask

# Attention implementations that add a position bias to the affinities; others would lose it without a word.
READS_BIAS = ("eager", "sdpa", "flex_attention")


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
    """softmax(q k^T * scaling + bias + mask) v, written out; returns [B, Q, H, d] and the weights [B, H, Q, K]."""
    scores = query @ key.transpose(2, 3) * scaling
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = nn.functional.softmax(scores, dim=-1, dtype=exact).to(query.dtype)
    weights = nn.functional.dropout(weights, dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights


class Attend(nn.Module):
    """One lookup, through transformers' attention interface. Its second output is what attention maps are made of.

    Args:
        config: the switches; `config._attn_implementation` names the implementation.
        layer_idx: index of the layer.
        causal: True where an implementation may mask the future without being given a mask.
        scaling: factor on q k^T.
    """

    def __init__(self, config: Any, layer_idx: int, causal: bool, scaling: float) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = causal
        self.scaling = scaling
        self.dropout = config.attention_dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """[B, H, Q, d], [B, H, K, d], [B, H, K, d] -> [B, Q, D] and the weights [B, H, Q, K] where there are any."""
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
            context = context.masked_fill(~seen.any(-1).transpose(1, 2)[..., None], 0)  # [B, Q, H, d], [B, Q, 1, 1]
        return context.flatten(2), weights


class SelfAttentionMixer(TokenMixer):
    """Multi-head self-attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

    cache_layer = DynamicLayer

    def __init__(self, config: Any, layer_idx: int, causal: bool) -> None:
        super().__init__(config, layer_idx, causal)
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.attend = Attend(config, layer_idx, causal, scaling=(config.hidden_size // self.heads) ** -0.5)

    @staticmethod
    def make_mask(config: Any, x: Tensor, padding: Tensor | None, cache: Cache | None, causal: bool) -> Any:
        """The mask that the attention implementation reads; None where it needs none."""
        return attention_mask(config, x, padding, cache, causal)

    def forward(
        self, x: Tensor, *, mask: Any, position: PositionalEncoding, places: Places, cache: Cache | None = None
    ) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape."""
        x = self.ordered(x, position, places)
        query, key, value = (
            split_heads(places.lay_out(proj(x)), self.heads) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = position.rotate(query, places), position.rotate(key, places)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        context, _ = self.attend(query, key, value, mask, position.bias(query, key, places))
        return self.out_proj(places.take_back(context))


class CrossAttention(nn.Module):
    """The decoder reads the encoder's states; `attention_score` says how a query is compared with a key.

    | score | formula, in every head | paper |
    |---|---|---|
    | scaled_dot | (Wq x) . (Wk s) / sqrt(d) | Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 |
    | dot | x . s | Luong et al. 2015, https://arxiv.org/abs/1508.04025 |
    | general | (Wq x) . s | Luong et al. 2015 |
    | additive | v . tanh(Wq x + Wk s) | Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473 |

    A projection that a score does not have is absent. Order is not asked for here: a target place and a source place
    are not places of one sequence.
    """

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__()
        score, width = config.attention_score, config.hidden_size
        self.heads = config.num_attention_heads
        self.layer_idx = layer_idx
        self.q_proj = nn.Linear(width, width) if score != "dot" else None
        self.k_proj = nn.Linear(width, width) if score in ("scaled_dot", "additive") else None
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.energy = nn.Parameter(torch.empty(self.heads, width // self.heads)) if score == "additive" else None
        scaling = (width // self.heads) ** -0.5 if score == "scaled_dot" else 1.0
        self.attend = Attend(config, layer_idx, causal=False, scaling=scaling)

    def forward(
        self,
        x: Tensor,
        *,
        source: Tensor,
        mask: Any,
        places: Places,
        source_places: Places,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Targets [B, Q, D] read sources [B, S, D], each as it is or packed; returns the shape of the targets.

        Keys and values of the source are computed once and then come from the cache.
        """
        query = split_heads(places.lay_out(x if self.q_proj is None else self.q_proj(x)), self.heads)
        if cache is not None and cache.is_updated.get(self.layer_idx):
            layer = cache.cross_attention_cache.layers[self.layer_idx]
            key, value = layer.keys, layer.values
        else:
            key = split_heads(source_places.lay_out(source if self.k_proj is None else self.k_proj(source)), self.heads)
            value = split_heads(source_places.lay_out(self.v_proj(source)), self.heads)
            if cache is not None:
                key, value = cache.cross_attention_cache.update(key, value, self.layer_idx)
                cache.is_updated[self.layer_idx] = True
        bias = None
        if self.energy is not None:
            # An additive score is no product of q and k. It enters as a bias on products that are zero, and so works
            # with every attention implementation that adds a bias.
            bias = self._additive_score(query, key)
            query, key = torch.zeros_like(query), torch.zeros_like(key)
        context, _ = self.attend(query, key, value, mask, bias)
        return self.out_proj(places.take_back(context))

    def _additive_score(self, query: Tensor, key: Tensor) -> Tensor:
        """[B, H, Q, d], [B, H, S, d] -> [B, H, Q, S]."""
        energy = torch.tanh(query[:, :, :, None] + key[:, :, None])  # [B, H, Q, S, d]
        return torch.einsum("bhqsd,hd->bhqs", energy, self.energy)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] -> [B, H, T, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
