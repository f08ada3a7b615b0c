"""Chapter 7 of 8: all switches on. Before: masking.py. Next: modeling_selfattn.py.

    encoder layer          decoder layer
    x                      x
    | mix   (MIXERS)       | mix   (MIXERS, sees no later token)
    | think (feed-forward) | read  (cross-attention to the encoder's states)
    v                      | think (feed-forward)
                           v

Every step is a `Residual`. A layer never asks what kind of part it holds; a part that is switched off is absent.
"""

from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import CrossAttention, SelfAttentionMixer
from .contracts import Places, PositionalEncoding, TokenMixer
from .feedforward import FEEDFORWARDS
from .recurrence import RecurrentMixer
from .window import WindowMixer

MIXERS: dict[str, type[TokenMixer]] = {
    "self_attention": SelfAttentionMixer,
    "window": WindowMixer,
    "rnn": RecurrentMixer,
}


class Residual(nn.Module):
    """x + dropout(sublayer(norm(x))) before, norm(x + dropout(sublayer(x))) after; norm and sum can be switched off.

    Before: Xiong et al. (2020), https://arxiv.org/abs/2002.04745. After: Vaswani et al. (2017).
    """

    def __init__(self, config: Any, sublayer: nn.Module) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.before = nn.LayerNorm(config.hidden_size) if config.norm == "pre" else None
        self.after = nn.LayerNorm(config.hidden_size) if config.norm == "post" else None
        self.dropout = nn.Dropout(config.dropout)
        self.residual = config.residual

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """[.., D] -> [.., D]; keywords go to the sublayer."""
        y = x if self.before is None else self.before(x)
        y = self.dropout(self.sublayer(y, **kwargs))
        y = x + y if self.residual else y
        return y if self.after is None else self.after(y)


class EncoderLayer(GradientCheckpointingLayer):
    """mix -> think."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__()
        self.mix = Residual(config, MIXERS[config.encoder_mixer](config, layer_idx, causal=False))
        self.think = make_think(config)

    def forward(self, x: Tensor, *, mask: Any, position: PositionalEncoding, places: Places) -> Tensor:
        """[B, S, D] or packed [1, N, D] -> the same shape."""
        x = self.mix(x, mask=mask, position=position, places=places)
        return x if self.think is None else self.think(x)


class DecoderLayer(GradientCheckpointingLayer):
    """mix -> read -> think."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__()
        self.mix = Residual(config, MIXERS[config.decoder_mixer](config, layer_idx, causal=config.future_mask))
        self.read = Residual(config, CrossAttention(config, layer_idx))
        self.think = make_think(config)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Any,
        position: PositionalEncoding,
        places: Places,
        source_mask: Any,
        source_places: Places,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Targets [B, Q, D] and sources [B, S, D], each as it is or packed -> the shape of the targets."""
        past = None if cache is None else cache.self_attention_cache
        x = self.mix(x, mask=mask, position=position, places=places, cache=past)
        x = self.read(x, source=source, mask=source_mask, places=places, source_places=source_places, cache=cache)
        return x if self.think is None else self.think(x)


def make_think(config: Any) -> Residual | None:
    """The feed-forward of a layer, or None where it is switched off."""
    make = FEEDFORWARDS.get(config.feedforward)
    return None if make is None else Residual(config, make(config))


class DecoderCache(DynamicCache):
    """What every decoder layer remembers, each in its own way."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layer_class_to_replicate = None
        self.layers = [MIXERS[config.decoder_mixer].cache_layer() for _ in range(config.decoder_layers)]


def make_cache(config: Any) -> EncoderDecoderCache:
    """An empty cache for decoding: what the decoder's mixers remember, and the keys and values of the source."""
    return EncoderDecoderCache(DecoderCache(config), DynamicCache())
