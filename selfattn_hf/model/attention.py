"""Chapter 3 of 8: everyone asks everyone. Before: window.py. Next: positions.py.

Queries, keys and values come from the same source, at every layer: every word reaches every word in one step. The same
lookup lets the decoder read the encoder's states.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, EncoderDecoderCache

from .attend import Attend, split_heads
from .contracts import Places, PositionalEncoding, TokenMixer
from .masking import attention_mask


class SelfAttentionMixer(TokenMixer):
    """Multi-head self-attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.heads = config.num_attention_heads
        width, inner = config.hidden_size, config.num_attention_heads * config.head_width
        self.q_proj = nn.Linear(width, inner, bias=config.bias)
        self.k_proj = nn.Linear(width, inner, bias=config.bias)
        self.v_proj = nn.Linear(width, inner, bias=config.bias)
        self.out_proj = nn.Linear(inner, width, bias=config.bias)
        self.attend = Attend(config, causal, scaling=config.head_width**-0.5)

    @staticmethod
    def cache_layer(config: Any) -> CacheLayerMixin:
        """Keys and values."""
        return DynamicLayer()

    @staticmethod
    def make_mask(config: Any, x: Tensor, padding: Tensor | None, cache: Cache | None, causal: bool) -> Any:
        """The mask that the attention implementation reads; None where it needs none."""
        return attention_mask(config, x, padding, cache, causal)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Any,
        position: PositionalEncoding,
        places: Places,
        cache: Cache | None = None,
        layer_idx: int = 0,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape."""
        x = self.ordered(x, position, places)
        source = x if inputs is None else self.ordered(inputs, position, places)
        query, key, value = (
            split_heads(places.lay_out(states), self.heads)
            for states in (self.q_proj(x), self.k_proj(source), self.v_proj(source))
        )
        query, key = position.rotate(query, places), position.rotate(key, places)
        if cache is not None:
            key, value = cache.update(key, value, layer_idx)
        bias = position.diagonals(places) if self.attend.takes_diagonals(query, key, mask) else None
        if bias is None:
            bias = position.bias(query, key, places)
        context, _ = self.attend(query, key, value, mask, bias)
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

    def __init__(self, config: Any) -> None:
        super().__init__()
        score, width = config.attention_score, config.hidden_size
        self.heads = config.num_attention_heads
        inner = self.heads * config.head_width
        self.q_proj = nn.Linear(width, inner, bias=config.bias) if score != "dot" else None
        self.k_proj = nn.Linear(width, inner, bias=config.bias) if score in ("scaled_dot", "additive") else None
        self.v_proj = nn.Linear(width, inner, bias=config.bias)
        self.out_proj = nn.Linear(inner, width, bias=config.bias)
        self.energy = nn.Parameter(torch.empty(self.heads, config.head_width)) if score == "additive" else None
        self.attend = Attend(config, causal=False, scaling=config.head_width**-0.5 if score == "scaled_dot" else 1.0)

    def draw(self, std: float) -> None:
        """Fresh values for what is a parameter of this module itself."""
        if self.energy is not None:
            init.normal_(self.energy, std=std)

    def forward(
        self,
        x: Tensor,
        *,
        source: Tensor,
        mask: Any,
        places: Places,
        source_places: Places,
        cache: EncoderDecoderCache | None = None,
        layer_idx: int = 0,
    ) -> Tensor:
        """Targets [B, Q, D] read sources [B, S, D], each as it is or packed; returns the shape of the targets.

        Keys and values of the source are computed once and then come from the cache.
        """
        query = split_heads(places.lay_out(x if self.q_proj is None else self.q_proj(x)), self.heads)
        if cache is not None and cache.is_updated.get(layer_idx):
            layer = cache.cross_attention_cache.layers[layer_idx]
            key, value = layer.keys, layer.values
        else:
            key = split_heads(source_places.lay_out(source if self.k_proj is None else self.k_proj(source)), self.heads)
            value = split_heads(source_places.lay_out(self.v_proj(source)), self.heads)
            if cache is not None:
                key, value = cache.cross_attention_cache.update(key, value, layer_idx)
                cache.is_updated[layer_idx] = True
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
