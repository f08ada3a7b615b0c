"""Chapter 3 of 8, continued: everyone asks the neighbours. Before: attention.py. Next: dense.py.

Queries, keys and values as in self-attention, a window's short sight: what is more than r tokens away is not compared,
and costs nothing. Work and memory grow with T * r instead of T * T.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicSlidingWindowLayer

from .attend import Attend, split_heads
from .contracts import Places, PositionalEncoding, TokenMixer

# Blocks have at least so many queries: many tiny products cost more than the affinities that they save.
SMALLEST_BLOCK = 16


class Band(NamedTuple):
    """Who sees whom at a distance of at most r, as n blocks of queries that share their keys.

    Attributes:
        queries: [n, b] index of each query among the Q new tokens. The last one comes again where the last block has
            more room than queries.
        keys: [n, k] index of each key among all K tokens, those that a cache has forgotten included. Beyond the ends
            it is the nearest key, masked.
        mask: [B * n, 1, b, k] in the form that the attention implementation reads; None where everything is seen.
        tokens: (Q, K).
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None
    tokens: tuple[int, int]

    def cut(self, heads: Tensor, index: Tensor) -> Tensor:
        """[B, H, T, d] and the index [n, t] of every block's tokens -> [B * n, H, t, d]."""
        if len(index) == 1:  # one block is one of everything
            return heads
        rows = heads.transpose(1, 2).index_select(1, index.flatten())
        return rows.unflatten(1, index.shape).flatten(0, 1).transpose(1, 2)

    def join(self, blocks: Tensor) -> Tensor:
        """[B * n, b, ...] -> [B, Q, ...]."""
        return blocks.unflatten(0, (-1, len(self.queries))).flatten(1, 2)[:, : self.tokens[0]]


class BandAttend(Attend):
    """A lookup in every block; the map is that of whole rows."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Any, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Blocks [B * n, H, b, d], [B * n, H, k, d] twice, and a `Band` -> [B, Q, D] and the weights [B, H, Q, K].

        Weights are zero outside the band. Only an implementation that has weights pays for a map of Q x K.
        """
        band: Band = mask
        context, weights = super().forward(query, key, value, band.mask, bias)
        if weights is None:
            return band.join(context), None
        seen = 1 if band.mask is None else band.mask > torch.finfo(band.mask.dtype).min
        index = band.keys.repeat_interleave(band.queries.shape[1], 0)[: band.tokens[0]]  # [Q, k]
        rows = band.join((weights * seen).transpose(1, 2)).transpose(1, 2)  # [B, H, Q, k]
        index = index.expand(rows.shape)
        whole = rows.new_zeros(*rows.shape[:3], band.tokens[1]).scatter_add(3, index, rows)
        # Values are mixed by the map itself, so that a gradient asked for at the map is there.
        mixed = (band.cut(whole.gather(3, index), band.queries) * seen) @ value
        return band.join(mixed.transpose(1, 2).flatten(2)), whole


class LocalAttentionMixer(TokenMixer):
    """Self-attention to the tokens j with abs(i - j) <= r; a causal one to those with 0 <= i - j <= r.

    Sliding-window attention: Beltagy et al. (2020), https://arxiv.org/abs/2004.05150. The distance counts tokens of a
    row, whatever their places. Queries stand in blocks, and a block is compared with the keys that its queries reach.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.heads = config.num_attention_heads
        self.radius = config.window_radius
        width, inner = config.hidden_size, config.num_attention_heads * config.head_width
        self.q_proj = nn.Linear(width, inner, bias=config.bias)
        self.k_proj = nn.Linear(width, inner, bias=config.bias)
        self.v_proj = nn.Linear(width, inner, bias=config.bias)
        self.out_proj = nn.Linear(inner, width, bias=config.bias)
        # Every block has its mask, so no implementation masks the future by itself.
        self.attend = BandAttend(config, causal=False, scaling=config.head_width**-0.5)

    @staticmethod
    def cache_layer(config: Any) -> CacheLayerMixin:
        """The last r keys and values; transformers counts the query's own token too."""
        return DynamicSlidingWindowLayer(sliding_window=config.window_radius + 1)

    @staticmethod
    def make_mask(config: Any, x: Tensor, padding: Tensor | None, cache: Cache | None, causal: bool) -> Any:
        """The `Band` of the new tokens and of those that the cache remembers."""
        past = 0 if cache is None else int(cache.get_seq_length())
        return make_band(config, x, padding, past, causal)

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
        band: Band = mask
        x = self.ordered(x, position, places)
        source = x if inputs is None else self.ordered(inputs, position, places)
        query, key, value = (
            split_heads(places.lay_out(states), self.heads)
            for states in (self.q_proj(x), self.k_proj(source), self.v_proj(source))
        )
        query, key = position.rotate(query, places), position.rotate(key, places)
        if cache is not None:
            self._check(cache, layer_idx)
            key, value = cache.update(key, value, layer_idx)
        kept = band.keys - (band.tokens[1] - key.shape[2])
        query, key, value = band.cut(query, band.queries), band.cut(key, kept), band.cut(value, kept)
        bias = position.bias(query, key, places.blocks(band.queries, band.keys))
        context, _ = self.attend(query, key, value, band, bias)
        return self.out_proj(places.take_back(context))

    def _check(self, cache: Cache, layer_idx: int) -> None:
        """Refuse a cache that forgets sooner, or later, than this layer."""
        layer = cache.layers[layer_idx] if layer_idx < len(cache.layers) else None
        if not isinstance(layer, DynamicSlidingWindowLayer) or layer.sliding_window != self.radius + 1:
            raise TypeError(
                f"decoder layer {layer_idx} remembers the last {self.radius} keys and values, and the cache given "
                f"holds {type(layer).__name__} there. Leave past_key_values out, or build it with make_cache(config)."
            )


def make_band(config: Any, x: Tensor, padding: Tensor | None, past: int, causal: bool) -> Band:
    """Cut Q new tokens behind `past` ones into blocks, and mask in each what is too far away, future, or padding.

    Args:
        config: the switches.
        x: [B, Q, D] the new tokens.
        padding: [B, past + Q] True at real tokens, or None.
        past: number of tokens before the new ones, of which the last r can be seen.
        causal: True masks the future.

    Raises:
        ValueError: where the attention implementation reads no mask that is a tensor.
    """
    rows, new, radius = x.shape[0], x.shape[1], config.window_radius
    forgotten, total = max(past - radius, 0), past + new
    blocks = -(-new // max(radius, SMALLEST_BLOCK))
    size = -(-new // blocks)
    width = size + (radius if causal else 2 * radius)
    if width >= total - forgotten:  # one block of everything compares no more
        queries = torch.arange(new, device=x.device)[None]
        keys = torch.arange(forgotten, total, device=x.device)[None]
        inside = torch.ones_like(keys, dtype=torch.bool)
    else:
        starts = torch.arange(blocks, device=x.device)[:, None] * size
        queries = (starts + torch.arange(size, device=x.device)).clamp(max=new - 1)
        keys = starts + (past - radius) + torch.arange(width, device=x.device)
        inside = (keys >= forgotten) & (keys < total)
        keys = keys.clamp(forgotten, total - 1)
    back = (queries + past)[:, :, None] - keys[:, None, :]  # [n, b, k]
    near = (back >= 0) & (back <= radius) if causal else back.abs() <= radius
    near = (near & inside[:, None, :])[None].expand(rows, -1, -1, -1)
    if padding is not None:
        near = near & padding[:, keys][:, :, None, :]
    mask = readable(config, near.flatten(0, 1)[:, None], x.dtype)
    all_seen = padding is None and total - forgotten <= radius + 1 and (new == 1 or not causal)
    return Band(queries, keys, None if all_seen else mask, (new, total))


def readable(config: Any, allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Who may see whom [.., b, k] in the form that the attention implementation of the config reads."""
    implementation = config._attn_implementation
    if implementation == "sdpa":
        return allowed
    if implementation != "eager":
        raise ValueError(
            "a local_attention mixer cuts rows into blocks with a mask each, and "
            f"attn_implementation={implementation!r} makes its own blocks. Choose one of: eager, sdpa."
        )
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
