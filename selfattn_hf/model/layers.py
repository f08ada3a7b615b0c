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
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import CrossAttention, SelfAttentionMixer
from .contracts import Places, PositionalEncoding, TokenMixer
from .dense import DenseMixer
from .dropout import Dropout
from .feedforward import FEEDFORWARDS
from .local_attention import LocalAttentionMixer
from .recurrence import RecurrentMixer
from .window import WindowMixer

MIXERS: dict[str, type[TokenMixer]] = {
    "self_attention": SelfAttentionMixer,
    "local_attention": LocalAttentionMixer,
    "dense": DenseMixer,
    "window": WindowMixer,
    "rnn": RecurrentMixer,
}


NORMS: dict[str, type[nn.Module]] = {"layer_norm": nn.LayerNorm, "rms_norm": nn.RMSNorm}


def make_norm(config: Any) -> nn.Module:
    """The norm of the config, over the width of a state."""
    return NORMS[config.norm_type](config.hidden_size, eps=config.norm_eps)


class Residual(nn.Module):
    """x + dropout(sublayer(norm(x))) before, norm(x + dropout(sublayer(x))) after; norm and sum can be switched off.

    Before: Xiong et al. (2020), https://arxiv.org/abs/2002.04745. After: Vaswani et al. (2017).
    """

    def __init__(self, config: Any, sublayer: nn.Module) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.before = make_norm(config) if config.norm == "pre" else None
        self.after = make_norm(config) if config.norm == "post" else None
        self.dropout = Dropout(config.dropout)
        self.residual = config.residual

    def forward(self, x: Tensor, inputs: Tensor | None = None, **kwargs: Any) -> Tensor:
        """[.., D] -> [.., D]; `inputs`, which takes the place of x in keys and values, is normed like x.

        Keywords go to the sublayer.
        """
        if inputs is not None:
            kwargs["inputs"] = inputs if self.before is None else self.before(inputs)
        return self.close(x, self.sublayer(self.open(x), **kwargs))

    def open(self, x: Tensor) -> Tensor:
        """What the sublayer reads: [.., D] -> [.., D]."""
        return x if self.before is None else self.before(x)

    def close(self, x: Tensor, y: Tensor) -> Tensor:
        """What becomes of the sublayer's input x and output y: [.., D], [.., D] -> [.., D]."""
        y = self.dropout(y)
        y = x + y if self.residual else y
        return y if self.after is None else self.after(y)


class EncoderLayer(GradientCheckpointingLayer):
    """mix -> think."""

    def __init__(self, config: Any, mixer: str) -> None:
        super().__init__()
        self.mix = Residual(config, MIXERS[mixer](config, causal=False))
        self.think = make_think(config)

    def forward(
        self, x: Tensor, inputs: Tensor | None, *, mask: Any, position: PositionalEncoding, places: Places
    ) -> Tensor:
        """[B, S, D] or packed [1, N, D] -> the same shape; `inputs` see `TokenMixer`."""
        x = self.mix(x, inputs, mask=mask, position=position, places=places)
        return x if self.think is None else self.think(x)


class DecoderLayer(GradientCheckpointingLayer):
    """mix -> read -> think; a decoder alone has nothing to read."""

    def __init__(self, config: Any, mixer: str) -> None:
        super().__init__()
        self.mix = Residual(config, MIXERS[mixer](config, causal=config.future_mask))
        self.read = Residual(config, CrossAttention(config)) if config.is_encoder_decoder else None
        self.think = make_think(config)

    def forward(
        self,
        x: Tensor,
        inputs: Tensor | None,
        source: Tensor | None,
        *,
        mask: Any,
        position: PositionalEncoding,
        places: Places,
        source_mask: Any,
        source_places: Places | None,
        cache: Cache | None,
        layer_idx: int,
    ) -> Tensor:
        """Targets [B, Q, D] and sources [B, S, D], each as it is or packed -> the shape of the targets."""
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        x = self.mix(x, inputs, mask=mask, position=position, places=places, cache=own, layer_idx=layer_idx)
        if self.read is not None:
            x = self.read(
                x, source=source, mask=source_mask, places=places, source_places=source_places, cache=cache,
                layer_idx=layer_idx,
            )  # fmt: skip
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
        self.layers = [MIXERS[mixer].cache_layer(config) for mixer in config.mixers_of("decoder")]


def make_cache(config: Any) -> Cache:
    """An empty cache for decoding: what the decoder's mixers remember, and the keys and values of a source."""
    own = DecoderCache(config)
    return EncoderDecoderCache(own, DynamicCache()) if config.is_encoder_decoder else own
