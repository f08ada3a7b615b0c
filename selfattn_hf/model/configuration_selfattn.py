"""Chapter 0 of 8: the switches. Next: contracts.py.

Every building block of the encoder-decoder is one field of `SelfAttnConfig`. A value that would do nothing, or two
values that cannot work together, are refused when the config is built.
"""

import copy
import difflib
from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import GenerationConfig, PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

# Written into every saved config. A new release changes this file, so that a cached copy of older code is not reused.
VERSION = "0.1.0"

# The classes that an Auto class finds in a saved folder; every saved config holds the whole map.
AUTO_MAP = {
    "AutoConfig": "configuration_selfattn.SelfAttnConfig",
    "AutoModel": "modeling_selfattn.SelfAttnModel",
    "AutoModelForSeq2SeqLM": "modeling_selfattn.SelfAttnForConditionalGeneration",
}

# Mixers that compare tokens with each other and so have affinities that a position can act on; then all mixers.
AffinityMixer = Literal["self_attention"]
Mixer = Literal[AffinityMixer, "window", "rnn"]

# Encodings that act on embeddings, encodings that act on affinities; then all of them.
EmbeddingPosition = Literal["sinusoidal", "learned"]
AffinityPosition = Literal["shaw", "t5", "alibi", "rope"]
Position = Literal["none", EmbeddingPosition, AffinityPosition]


@strict
class SelfAttnConfig(PreTrainedConfig):
    """Configuration of an encoder-decoder whose building blocks are switches.

    Every field is described below it. Unknown fields, illegal pairs and values that would do nothing raise
    `ValueError`; values of a wrong type raise huggingface_hub's `StrictDataclassFieldValidationError`.

    Example:
        >>> config = SelfAttnConfig(encoder_mixer="rnn", encoder_position_encoding="none", position_encoding="rope")
    """

    model_type = "selfattn"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {"num_hidden_layers": "encoder_layers"}
    _auto_class = "AutoConfig"

    vocab_size: int = 32000
    """Number of tokens: rows of the embedding tables and size of the output."""
    hidden_size: int = 512
    """Width of a token's state."""
    encoder_layers: int = 6
    """Number of encoder layers."""
    decoder_layers: int = 6
    """Number of decoder layers."""
    num_attention_heads: int = 8
    """Heads of every attention; divides `hidden_size`."""
    intermediate_size: int = 2048
    """Width of the feed-forward layer."""
    max_position_embeddings: int = 1024
    """Number of places that a bounded encoding (`learned`) knows; it raises beyond them. Others know no last place."""
    dropout: float | int = 0.1
    """Dropout after the embeddings and after every sublayer."""
    attention_dropout: float | int = 0.0
    """Dropout on the attention weights."""
    initializer_range: float | int | None = None
    """Standard deviation of freshly drawn matrices; None: Glorot's uniform, embeddings with `hidden_size ** -0.5`."""
    tie_word_embeddings: bool = True
    """True: one table for source, target and output. False: three."""

    encoder_mixer: Mixer = "self_attention"
    """What moves information between source tokens."""
    decoder_mixer: Mixer = "self_attention"
    """What moves information between target tokens."""
    rnn_type: Literal["lstm", "gru"] = "lstm"
    """Cell of the `rnn` mixer; bidirectional in the encoder, one direction in the decoder."""
    window_radius: int = 2
    """Neighbours that the `window` mixer sees on each side; on the left side only in the decoder."""
    attention_score: Literal["scaled_dot", "dot", "general", "additive"] = "scaled_dot"
    """Score of the cross-attention: Vaswani's, Luong's two, Bahdanau's."""
    position_encoding: Position = "sinusoidal"
    """How order enters, on both sides."""
    encoder_position_encoding: Position | None = None
    """The encoder's own encoding; None: `position_encoding`."""
    decoder_position_encoding: Position | None = None
    """The decoder's own encoding; None: `position_encoding`."""
    position_combine: Literal["add", "concat"] = "add"
    """x + p, or Linear([x;p]); for encodings that act on embeddings."""
    position_injection: Literal["input", "block"] = "input"
    """Once at the input, or to the q, k and v inputs of every block; for encodings that act on embeddings."""
    relative_max_distance: int = 128
    """Distance beyond which `shaw` and `t5` tell places no longer apart."""
    relative_num_buckets: int = 32
    """Number of distances that `t5` tells apart."""
    rope_theta: float | int = 10000
    """Base of the wavelengths of `rope`."""
    feedforward: Literal["relu", "gelu", "swiglu", "none"] = "relu"
    """Nonlinearity between the mixers."""
    norm: Literal["pre", "post", "none"] = "pre"
    """LayerNorm before a sublayer, after its residual, or nowhere."""
    residual: bool = True
    """x + sublayer(x), or the bare sublayer of the lecture."""
    future_mask: bool = True
    """False lets the decoder see the future: it cheats in training and cannot use a cache."""

    use_cache: bool = True
    """Keep what was computed for earlier tokens while decoding."""
    is_encoder_decoder: bool = True
    """Always True."""
    pad_token_id: int | None = 0
    """Id of the padding token."""
    bos_token_id: int | None = 1
    """Id of the first token."""
    eos_token_id: int | list[int] | None = 2
    """Id of the last token."""
    decoder_start_token_id: int | None = 1
    """Id that the decoder starts with."""
    selfattn_version: str = VERSION
    """Release of this package that wrote the config; set when it is saved."""

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_unknown(kwargs)
        if not self.future_mask:
            self.use_cache = False
        super().__post_init__(**kwargs)
        # Validators that raise inside a strict dataclass are wrapped in an error that is no ValueError: ask first.
        self.validate_sizes()
        self.validate_switches()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config from a dictionary, with fields to override; all of them are checked together."""
        overrides = {name: kwargs.pop(name) for name in list(kwargs) if name in cls.__dataclass_fields__}
        return super().from_dict({**config_dict, **overrides}, **kwargs)

    def position_of(self, side: str) -> str:
        """Name of the position encoding of `side`, "encoder" or "decoder"."""
        return getattr(self, f"{side}_position_encoding") or self.position_encoding

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "SelfAttnConfig":
        """This config; asked for the decoder, a copy whose `num_hidden_layers` counts the decoder's layers."""
        if not decoder or encoder:
            return self
        side = copy.deepcopy(self)
        side.encoder_layers = self.decoder_layers
        return side

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the config, with the whole `auto_map`, whichever class is saved and wherever it was loaded from.

        An attribute that was set on the object and is no field is not written, with a warning: the config could not be
        read again.
        """
        for name in [name for name in vars(self) if not self._is_known(name)]:
            logger.warning(f"config.{name} is no field of SelfAttnConfig and is not saved.")
            delattr(self, name)
        self.auto_map = dict(AUTO_MAP)
        self.selfattn_version = VERSION
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def validate_sizes(self) -> None:
        """Check sizes, rates and token ids.

        Raises:
            ValueError: naming the field, the rule, what was given and what to do.
        """
        for name in ("vocab_size", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads",
                     "intermediate_size", "max_position_embeddings", "window_radius",
                     "relative_max_distance", "relative_num_buckets"):  # fmt: skip
            _check(getattr(self, name) >= 1, f"{name} is a size and starts at 1, got {getattr(self, name)}")
        for name in ("dropout", "attention_dropout"):
            rate = getattr(self, name)
            _check(0 <= rate < 1, f"{name} is a rate from 0 to below 1, got {rate}")
        _check(self.rope_theta > 1, f"rope_theta is a base above 1, got {self.rope_theta}")
        _check(
            self.initializer_range is None or self.initializer_range > 0,
            f"initializer_range is a standard deviation above 0, or None for Glorot's, got {self.initializer_range}",
        )
        _check(
            self.hidden_size % self.num_attention_heads == 0,
            f"num_attention_heads must divide hidden_size, got {self.num_attention_heads} heads for a width of "
            f"{self.hidden_size}. Choose one of: {_divisors(self.hidden_size)}",
        )
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            given = getattr(self, name)
            _check(given != [], f"{name} names one id or several, got an empty list. Leave it out, or give None")
            for token in given if isinstance(given, list) else [given]:
                _check(
                    token is None or 0 <= token < self.vocab_size,
                    f"{name} must name a row of the embedding table, 0 to {self.vocab_size - 1}, got {token}. "
                    "Set it, or vocab_size, to what the tokenizer has",
                )
        _check(self.is_encoder_decoder, "is_encoder_decoder is always true for this model, got False. Leave it out")

    def validate_switches(self) -> None:
        """Check that every switch does something and that all of them fit together.

        Raises:
            ValueError: naming the field, the rule, what was given and what to do.
        """
        sides = {side: (getattr(self, f"{side}_mixer"), self.position_of(side)) for side in ("encoder", "decoder")}
        mixers = {mixer for mixer, _ in sides.values()}
        positions = {position for _, position in sides.values()}
        for side, (mixer, position) in sides.items():
            _check(
                position not in get_args(AffinityPosition) or mixer in get_args(AffinityMixer),
                f"{side}_position_encoding={position!r} acts on the affinities of an attention, and "
                f"{side}_mixer={mixer!r} has none. Set {side}_position_encoding to one of: "
                f"none, {', '.join(get_args(EmbeddingPosition))}; or {side}_mixer to one of: "
                f"{', '.join(get_args(AffinityMixer))}",
            )
            _check(
                mixer != "rnn" or not self._sees_both_sides(side) or self.hidden_size % 2 == 0,
                f"hidden_size must be even where {side}_mixer='rnn' reads in both directions, got {self.hidden_size}",
            )
        _check(
            "rope" not in positions or self.hidden_size // self.num_attention_heads % 2 == 0,
            "position_encoding='rope' turns pairs of dimensions, so hidden_size / num_attention_heads must be even, "
            f"got {self.hidden_size} / {self.num_attention_heads}",
        )
        _check(
            "sinusoidal" not in positions or self.hidden_size % 2 == 0,
            f"position_encoding='sinusoidal' has a sine and a cosine per wave, so hidden_size must be even, "
            f"got {self.hidden_size}",
        )
        _check(
            "t5" not in positions or self.relative_max_distance > self.relative_num_buckets // 2,
            "relative_max_distance must be above relative_num_buckets / 2 for position_encoding='t5', "
            f"got {self.relative_max_distance} and {self.relative_num_buckets}",
        )
        _check(
            "t5" not in positions or (self.relative_num_buckets % 4 == 0),
            "relative_num_buckets must be a multiple of 4 for position_encoding='t5' (two directions, near and far), "
            f"got {self.relative_num_buckets}",
        )
        own = (self.encoder_position_encoding, self.decoder_position_encoding)
        acts_on_embeddings = bool(positions & set(get_args(EmbeddingPosition)))
        for name, has_effect, where in (
            ("rnn_type", "rnn" in mixers, "an 'rnn' mixer"),
            ("window_radius", "window" in mixers, "a 'window' mixer"),
            ("position_encoding", None in own, "a side without an encoding of its own"),
            ("position_combine", acts_on_embeddings, "an encoding that acts on embeddings"),
            ("position_injection", acts_on_embeddings, "an encoding that acts on embeddings"),
            ("relative_max_distance", bool(positions & {"shaw", "t5"}), "position_encoding 'shaw' or 't5'"),
            ("relative_num_buckets", "t5" in positions, "position_encoding 't5'"),
            ("rope_theta", "rope" in positions, "position_encoding 'rope'"),
        ):
            default = type(self).__dataclass_fields__[name].default
            given = getattr(self, name)
            _check(
                has_effect or given == default,
                f"{name}={given!r} would do nothing: it needs {where}, and the encoder has {sides['encoder']}, the "
                f"decoder {sides['decoder']}. Leave {name} out, or choose {where}",
            )
        _check(
            self.future_mask or not self.use_cache,
            "use_cache needs future_mask: what a token that sees the future computed is wrong one step later. "
            "Set use_cache to false",
        )

    def _sees_both_sides(self, side: str) -> bool:
        return side == "encoder" or not self.future_mask

    @classmethod
    def _is_known(cls, name: str) -> bool:
        return name in cls.__dataclass_fields__ or name in _SAVED_BY_TRANSFORMERS or name.startswith("_")

    def _refuse_unknown(self, given: dict[str, Any]) -> None:
        """Refuse fields that nobody reads, with the nearest name; transformers itself would keep them silently."""
        fields = type(self).__dataclass_fields__
        generation = set(GenerationConfig._get_default_generation_params())
        for name in given:
            if self._is_known(name):
                continue
            if name in generation:
                raise ValueError(
                    f"{name} belongs to decoding, not to the model, got {name}={given[name]!r}. Give it to "
                    "generate() or to a GenerationConfig."
                )
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Leave it out."
            raise ValueError(f"SelfAttnConfig has no field {name}, got {name}={given[name]!r}. {hint}")


# What transformers adds to a config of its own accord when it saves, loads or quantises one.
_SAVED_BY_TRANSFORMERS = {
    "auto_map", "model_type", "attn_implementation", "torch_dtype", "quantization_config", "num_labels",
    "output_attentions", "name_or_path", "custom_pipelines", "task_specific_params", "experts_implementation",
    "trust_remote_code",
}  # fmt: skip


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"{message}.")


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
