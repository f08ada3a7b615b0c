"""Chapter 3 of 8, its end: a fully connected layer beside it. Before: local_attention.py. Next: positions_embed.py.

Everyone hears everyone, as in self-attention, but how much is learned for every pair of places and is the same for
every sentence: nobody asks. What that costs is the difference: fixed weights, and a last place.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from .attend import Attend, split_heads
from .contracts import Learned, Places, PositionalEncoding, TokenMixer
from .masking import attention_mask


class DenseMixer(TokenMixer):
    """y(i) = sum over j of softmax(R(h, i, ..))(j) v(j) in every head h, with one learned R(h, i, j) for each pair.

    The random Synthesizer of Tay et al. (2021), https://arxiv.org/abs/2005.00743. It knows T =
    `max_position_embeddings` places and no more. What may not be seen, padding and in a decoder the future, takes no
    part in the softmax.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.heads, self.known = config.num_attention_heads, config.max_position_embeddings
        width, inner = config.hidden_size, config.num_attention_heads * config.head_width
        self.affinities = Learned(self.heads, self.known, self.known)
        self.v_proj = nn.Linear(width, inner, bias=config.bias)
        self.out_proj = nn.Linear(inner, width, bias=config.bias)
        self.attend = Attend(config, causal, scaling=1.0)

    @staticmethod
    def cache_layer(config: Any) -> CacheLayerMixin:
        """Values; keys are a part of them that nobody compares with."""
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
        """[B, Q, D] or packed [1, N, D] -> the same shape; raises beyond the last place, it never clamps."""
        bias = self._bias(places)
        value = split_heads(places.lay_out(self.v_proj(self.ordered(x, position, places))), self.heads)
        # The weights enter as a bias on products that are zero, and so work with every implementation that adds one.
        query = torch.zeros_like(value)
        if cache is not None:
            _, value = cache.update(value[..., :1], value, layer_idx)
        context, _ = self.attend(query, torch.zeros_like(value), value, mask, bias)
        return self.out_proj(places.take_back(context))

    def _bias(self, places: Places) -> Tensor:
        """R at the places of queries and keys: [B or 1, H, Q, K]."""
        # Only a batch wider than the table can leave it, so that a device is asked for a value just then.
        if places.keys.shape[1] > self.known and (last := int(places.queries.max())) >= self.known:
            raise ValueError(
                f"a dense mixer knows {self.known} places, and the longest row has at least {last + 1} tokens. Cut the "
                "input, train with a larger max_position_embeddings, or choose a mixer without a table."
            )
        # A static cache shows places that nobody has reached, and they are masked.
        keys = places.keys.where(places.keys < self.known, 0)
        pairs = self.affinities()[:, places.queries[:, :, None], keys[:, None, :]]  # [H, B or 1, Q, K]
        return pairs.transpose(0, 1)
