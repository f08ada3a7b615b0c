"""Chapter 0 of 8, its end: the switches. Before: switches.py (what is legal). Next: contracts.py.

Every building block of the encoder-decoder is one field of `SelfAttnConfig`. A value that would do nothing, or two
values that cannot work together, are refused when the config is built.
"""

import copy
from dataclasses import fields
from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import GenerationConfig, PreTrainedConfig
from transformers.utils import logging

from .fields import check_common, in_one_sentence, near
from .sizes import check_parameters, check_sizes
from .switches import Mixer, Position, TreePosition, check_switches, idle_fields

logger = logging.get_logger(__name__)

# Written into every saved config. A new release changes this file, so that a cached copy of older code is not reused.
VERSION = "0.1.0"

# Implementations of attention that a file may choose: those that come with torch, and flash attention's own packages.
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")

# The classes that an Auto class finds in a saved folder.
AUTO_MAP = {
    "AutoConfig": "configuration_selfattn.SelfAttnConfig",
    "AutoModel": "modeling_selfattn.SelfAttnModel",
    "AutoModelForSeq2SeqLM": "modeling_selfattn.SelfAttnForConditionalGeneration",
    "AutoModelForCausalLM": "causal_lm.SelfAttnForCausalLM",
    "AutoModelForTextEncoding": "encoder_heads.SelfAttnEncoderModel",
    "AutoModelForSequenceClassification": "encoder_heads.SelfAttnForSequenceClassification",
    "AutoModelForTokenClassification": "encoder_heads.SelfAttnForTokenClassification",
    "AutoModelForQuestionAnswering": "encoder_heads.SelfAttnForQuestionAnswering",
}


@in_one_sentence
@strict
class SelfAttnConfig(PreTrainedConfig):
    """Configuration of an encoder-decoder whose building blocks are switches.

    Every field is described below it. Unknown fields, values of a wrong type, illegal pairs and values that would do
    nothing raise `ValueError`.

    Examples:
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
    """Heads of every attention; divides `hidden_size` unless `head_dim` is set."""
    head_dim: int | None = None
    """Width of a head; None: `hidden_size / num_attention_heads`."""
    intermediate_size: int = 2048
    """Width of the feed-forward layer."""
    max_position_embeddings: int = 1024
    """Number of places that `learned` and `dense` know; they raise beyond them. Others know no last place."""
    dropout: float | int = 0.1
    """Dropout after the embeddings and after every sublayer."""
    attention_dropout: float | int = 0.0
    """Dropout on the attention weights."""
    initializer_range: float | int | None = None
    """Standard deviation of freshly drawn matrices; None: Glorot's uniform, embeddings with `hidden_size ** -0.5`."""
    tie_word_embeddings: bool = True
    """True: one table for source, target and output. False: three."""
    scale_embedding: bool = True
    """Multiply embeddings by sqrt(hidden_size), so that they are as large as what order adds to them."""
    embedding_norm: bool = False
    """Norm after the embeddings and their order, before the first layer."""
    output_bias: bool = False
    """A learned bias on the logits."""
    bias: bool = True
    """Biases in the linear layers of attention and feed-forward."""

    encoder_mixer: Mixer | list[Mixer] = "self_attention"
    """What moves information between source tokens; one word, or a list with one for each layer."""
    decoder_mixer: Mixer | list[Mixer] = "self_attention"
    """What moves information between target tokens; one word, or a list with one for each layer."""
    rnn_type: Literal["lstm", "gru"] = "lstm"
    """Cell of the `rnn` mixer; bidirectional in the encoder, one direction in the decoder."""
    window_radius: int = 2
    """Neighbours that `window` and `local_attention` see on each side; on the left side only in the decoder."""
    attention_score: Literal["scaled_dot", "dot", "general", "additive"] = "scaled_dot"
    """Score of the cross-attention: Vaswani's, Luong's two, Bahdanau's."""
    attend_to: Literal["layer", "embeddings"] = "layer"
    """Keys and values of self-attention: from the layer below, or in every layer from the stack's input."""
    share_layers: bool = False
    """One layer, applied again and again."""
    position_encoding: Position | list[Position] = "sinusoidal"
    """How order enters, on both sides; one word, or a list of encodings that act together."""
    encoder_position_encoding: Position | list[Position] | None = None
    """The encoder's own encoding; None: `position_encoding`."""
    decoder_position_encoding: Position | list[Position] | None = None
    """The decoder's own encoding; None: `position_encoding`."""
    position_combine: Literal["add", "concat"] = "add"
    """x + p, or Linear([x;p]); for encodings that act on embeddings."""
    position_injection: Literal["input", "block"] = "input"
    """Once at the input, or to the q, k and v inputs of every block; for encodings that act on embeddings."""
    position_shift: int = 0
    """In training, rows start at a random place up to this one; for `sinusoidal` and `learned`."""
    sinusoid_layout: Literal["interleaved", "halves"] = "interleaved"
    """Sine and cosine of a wave side by side, or all sines before all cosines."""
    relative_max_distance: int = 128
    """Distance beyond which `shaw`, `t5`, `tree_relative` tell places no longer apart; where `fire` starts to scale."""
    relative_num_buckets: int = 32
    """Number of distances that `t5` tells apart."""
    rope_theta: float | int = 10000
    """Base of the wavelengths of `rope`."""
    feedforward: Literal["relu", "gelu", "silu", "swiglu", "geglu", "none"] = "relu"
    """Nonlinearity between the mixers; the last two are gated."""
    norm: Literal["pre", "post", "none"] = "pre"
    """Norm before a sublayer, after its residual, or nowhere."""
    norm_type: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Centre and scale a state, or only scale it."""
    norm_eps: float | int = 1e-5
    """Added to the variance in a norm."""
    residual: bool = True
    """x + sublayer(x), or the bare sublayer of the lecture."""
    future_mask: bool = True
    """False lets the decoder see the future: it cheats in training and cannot use a cache."""

    use_cache: bool = True
    """Keep what was computed for earlier tokens while decoding."""
    is_encoder_decoder: bool = True
    """False in a config of the decoder alone; `SelfAttnForCausalLM` makes it so."""
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
        check_common({**vars(self), **kwargs})
        if not self.future_mask:
            self.use_cache = False
        super().__post_init__(**kwargs)
        # Validators that raise inside a strict dataclass are wrapped in an error that is no ValueError: ask first.
        self.validate_sizes()
        self.validate_switches()

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """The content of a config.json, which must be of a model of ours.

        Raises:
            ValueError: naming what it is instead.
            OSError: where there is none, or no JSON in it.
        """
        name = pretrained_model_name_or_path
        try:
            content, rest = super().get_config_dict(name, **kwargs)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"the config.json of {name} cannot be read ({error!s:.200}). Download or save it again."
            ) from error
        kind = content.get("model_type") if isinstance(content, dict) else None
        if kind != cls.model_type:
            raise ValueError(
                f"the config.json of {name} says model_type={kind!r}, and {cls.model_type!r} is needed. Name a model "
                "of this package; its convert() makes one of a BART, mBART, Pegasus, Marian, T5 or mT5."
            )
        classes = content.get("auto_map", {})
        if not isinstance(classes, dict):
            raise ValueError(
                f"auto_map in the config.json of {name} is a dictionary, got {classes!r:.80}. Save it again."
            )
        return content, rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config from a dictionary, with fields to override; all of them are checked together.

        Raises:
            ValueError: as for a new one, and for attention whose code would have to be fetched: a file must not ask
                for it, a call may.

        What another release wrote is read with a warning: a switch may mean something else there.
        """
        if (written := config_dict.get("selfattn_version", VERSION)) != VERSION:
            logger.warning_once(
                f"This model was saved by selfattn_hf {written!s:.20}, and this code is {VERSION}. Compare its outputs "
                f"with those of selfattn-hf=={written!s:.20} before you rely on them; saved again it is of {VERSION}."
            )
        for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
            asked = config_dict.get(name)
            if asked is not None and asked not in IMPLEMENTATIONS:
                raise ValueError(
                    f"{name} in a file is one of {', '.join(IMPLEMENTATIONS)}, got {asked!r:.80}. Take it out of "
                    "config.json, and give any other to from_pretrained(): a file does not choose code to fetch."
                )
        overrides = {name: kwargs.pop(name) for name in list(kwargs) if name in cls.__dataclass_fields__}
        return super().from_dict({**config_dict, **overrides}, **kwargs)

    def mixers_of(self, side: str) -> list[str]:
        """The mixer of every layer of `side`, "encoder" or "decoder"."""
        mixers = getattr(self, f"{side}_mixer")
        return list(mixers) if isinstance(mixers, list) else [mixers] * getattr(self, f"{side}_layers")

    def positions_of(self, side: str) -> list[str]:
        """Names of the position encodings of `side`; empty where it has none."""
        own = getattr(self, f"{side}_position_encoding")
        names = self.position_encoding if own is None else own
        return [name for name in (names if isinstance(names, list) else [names]) if name != "none"]

    def known_places(self, side: str) -> int | None:
        """Number of places that `side` knows; None where it knows no last place."""
        bounded = "learned" in self.positions_of(side) or "dense" in self.mixers_of(side)
        return self.max_position_embeddings if bounded else None

    @property
    def reads_trees(self) -> bool:
        """Whether the encoder needs `syntax_heads`."""
        return self.is_encoder_decoder and bool(set(self.positions_of("encoder")) & set(get_args(TreePosition)))

    @property
    def head_width(self) -> int:
        """Width of a head: `head_dim`, or an equal share of `hidden_size`."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    def with_switches(self, **switches: Any) -> "SelfAttnConfig":
        """A copy with other switches, in which what would do nothing beside them is as if never set."""
        other = copy.deepcopy(self)
        for name, value in switches.items():
            setattr(other, name, value)
        idle = idle_fields(other).keys() - switches.keys()
        kept = {name: value for name, value in self.to_dict().items() if name not in idle}
        return type(self).from_dict(kept | switches)

    def decoder_alone(self) -> "SelfAttnConfig":
        """A copy for the decoder alone, in which what belongs to the encoder is as if never set."""
        alone = copy.deepcopy(self)
        alone.is_encoder_decoder = False
        if self.is_encoder_decoder:
            own = self.decoder_position_encoding
            alone.position_encoding = self.position_encoding if own is None else own
            alone.encoder_position_encoding = alone.decoder_position_encoding = None
            alone.encoder_layers = self.decoder_layers
            for name in idle_fields(alone):
                setattr(alone, name, type(self).__dataclass_fields__[name].default)
        return alone

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "SelfAttnConfig":
        """This config; asked for the decoder, a copy whose `num_hidden_layers` counts the decoder's layers."""
        if not decoder or encoder:
            return self
        side = copy.deepcopy(self)
        side.encoder_layers = self.decoder_layers
        return side

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the config, with every Auto class that can open the folder, wherever it was loaded from.

        An attribute that was set on the object and is no field is not written, with a warning: the config could not be
        read again.
        """
        for name in [name for name in vars(self) if not self._is_known(name)]:
            logger.warning(f"config.{name} is no field of SelfAttnConfig and is not saved.")
            delattr(self, name)
        self.auto_map = self._served()
        self.selfattn_version = VERSION
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def validate_sizes(self) -> None:
        """Check sizes, alone and together, rates and token ids; see `sizes.py`."""
        check_sizes(self)
        check_parameters(self)

    def validate_switches(self) -> None:
        """Check that every switch does something and that all fit together; see `switches.check_switches`."""
        check_switches(self)

    def _served(self) -> dict[str, str]:
        """The part of `AUTO_MAP` that a folder of this architecture can serve: one stack alone cannot serve all."""
        files = {name.split(".")[1]: name.split(".")[0] for name in AUTO_MAP.values()}
        file = files.get((self.architectures or [""])[0], "modeling_selfattn")
        whole = file == "modeling_selfattn"
        return {auto: name for auto, name in AUTO_MAP.items() if whole or auto == "AutoConfig" or file in name}

    @classmethod
    def _is_known(cls, name: str) -> bool:
        # What belongs to the class, such as attribute_map, stands among its fields, too; a config does not set it.
        own = {field.name for field in fields(cls)}
        return name in own or name in _SAVED_BY_TRANSFORMERS or (name.startswith("_") and name != "_auto_class")

    def _refuse_unknown(self, given: dict[str, Any]) -> None:
        """Refuse fields that nobody reads, with the nearest name; transformers itself would keep them silently."""
        generation = set(GenerationConfig._get_default_generation_params())
        for name in given:
            if self._is_known(name):
                continue
            if name in generation:
                raise ValueError(
                    f"{name} belongs to decoding, not to the model, got {name}={given[name]!r:.80}. Give it to "
                    "generate() or to a GenerationConfig."
                )
            hint = near(name, (field.name for field in fields(self))) or " Leave it out."
            raise ValueError(f"SelfAttnConfig has no field {name:.80}, got {name:.80}={given[name]!r:.80}.{hint}")


# What transformers adds to a config of its own accord when it saves, loads or quantises one.
_SAVED_BY_TRANSFORMERS = {
    "auto_map", "model_type", "attn_implementation", "torch_dtype", "quantization_config", "num_labels",
    "output_attentions", "name_or_path", "custom_pipelines", "task_specific_params", "experts_implementation",
    "trust_remote_code",
}  # fmt: skip
