"""Chapter 7 of 8, continued: layers become stacks. Before: layers.py. Next: modeling_selfattn.py.

A stack embeds its tokens, gives them order, sends them through its layers, and returns their states.
"""

from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils import logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import Attend, CrossAttention
from .configuration_selfattn import AUTO_MAP, SelfAttnConfig
from .contracts import Places, PositionalEncoding
from .layers import MIXERS, DecoderLayer, EncoderLayer, make_cache
from .masking import check_padding, cross_mask, is_traced, pack
from .positions import POSITIONS

logger = logging.get_logger(__name__)

# What transformers' decorators read on the way, and what they leave among the keywords of a stack.
RECORDED = ("output_hidden_states", "output_attentions", "output_cross_attentions")
PASSED_ALONG = ("return_dict", "use_cache", "logits_to_keep")  # the last by assisted decoding, to the encoder too


class SelfAttnPreTrainedModel(PreTrainedModel):
    """What all classes share: initialisation, saving, and what transformers wants to know."""

    config: SelfAttnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _auto_class = "AutoModel"
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]
    # Handed to every layer as they are: where weights wait on a disk, hooks must not move them a second time.
    _skip_keys_device_placement = ["past_key_values", "cache", "position"]
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: SelfAttnConfig, *args: Any, **kwargs: Any) -> None:
        # A config is checked when it is built; what was set on the object since then is checked here.
        config.validate_sizes()
        config.validate_switches()
        super().__init__(config, *args, **kwargs)

    @property
    def _supports_flash_attn(self) -> bool:
        """Flash attention has no door for a bias, and would lose it without a word."""
        closed = PositionalEncoding.bias
        sides = (POSITIONS[self.config.position_of(side)] for side in ("encoder", "decoder"))
        return self.config.attention_score != "additive" and all(side.bias is closed for side in sides)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight) if std is None else init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.hidden_size**-0.5 if std is None else std)
        elif isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters():
                if name.startswith("bias"):
                    init.zeros_(weight)
                elif std is None:
                    init.uniform_(weight, -(module.hidden_size**-0.5), module.hidden_size**-0.5)
                else:
                    init.normal_(weight, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, CrossAttention) and module.energy is not None:
            init.normal_(module.energy, std=self.config.hidden_size**-0.5 if std is None else std)

    def _resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize the source's table; where nothing is tied, the target's as well."""
        resized = super()._resize_token_embeddings(*args, **kwargs)
        decoder = getattr(self.base_model, "decoder", None)
        if decoder is not None and not self.config.tie_word_embeddings:
            decoder.embed_tokens = self._get_resized_embeddings(decoder.embed_tokens, resized.weight.shape[0])
        return resized

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Write weights, config and code; the config names the classes of every Auto class, whichever is saved."""
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, *args, **kwargs)


class Stack(SelfAttnPreTrainedModel):
    """What encoder and decoder share: embeddings in, order, layers, states out."""

    side: str

    def __init__(self, config: SelfAttnConfig, layer: type[nn.Module], depth: int, causal: bool) -> None:
        super().__init__(config)
        self.causal = causal
        self.mixer = MIXERS[getattr(config, f"{self.side}_mixer")]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = POSITIONS[config.position_of(self.side)](config, causal)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([layer(config, idx) for idx in range(depth)])
        self.norm = nn.LayerNorm(config.hidden_size) if config.norm == "pre" else None
        self.gradient_checkpointing = False
        self.post_init()

    def embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Embeddings [B, T, D], scaled by sqrt(D) so that they are as large as what order adds to them."""
        prefix = "decoder_" if self.side == "decoder" else ""
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"the {self.side} reads either ids or embeddings, got {'neither' if given is None else 'both'}. Give "
                f"{prefix}input_ids or {prefix}inputs_embeds."
            )
        if given.ndim != (2 if inputs_embeds is None else 3) or 0 in given.shape:
            raise ValueError(
                f"the {self.side} needs rows of at least one token each, got a batch of shape {tuple(given.shape)}. "
                "Leave empty rows out, or end every row with the end-of-sequence token; one row alone is a batch too."
            )
        if inputs_embeds is None:
            check_ids(given, self.embed_tokens.num_embeddings, f"{prefix}input_ids")
            given = self.embed_tokens(given)
        return given * self.config.hidden_size**0.5

    def order(self, x: Tensor, places: Places) -> Tensor:
        """Order at the input, where it is not given to every block, and dropout."""
        return self.dropout(self.position.embed(x, places) if self.config.position_injection == "input" else x)

    def finish(self, x: Tensor, places: Places, padding: Tensor | None) -> Tensor:
        """Final norm, back to the rectangle, zeros at padding: the same states whether the batch was packed or not."""
        x = places.lay_out(x if self.norm is None else self.norm(x))
        return x if padding is None else x.masked_fill(~padding[:, -x.shape[1] :, None], 0)

    def may_pack(self, kwargs: dict[str, Any]) -> bool:
        """Packed states have no rows; what is recorded for a reader keeps its rows.

        Raises:
            TypeError: for a keyword that nothing here reads.
        """
        if unknown := set(kwargs) - {*RECORDED, *PASSED_ALONG}:
            raise TypeError(
                f"the {self.side} does not read {', '.join(sorted(unknown))}. Leave it out, or look for a misspelling "
                f"of an argument of forward() or of: {', '.join(RECORDED)}."
            )
        asked = [flag for flag in RECORDED if kwargs.get(flag) or getattr(self.config, flag, False)]
        if "output_attentions" in asked and self.config._attn_implementation != "eager":
            logger.warning_once(
                "output_attentions needs attention weights, which only the eager implementation has: the maps will be "
                "empty. Call model.set_attn_implementation('eager')."
            )
        return not asked


class SelfAttnEncoder(Stack):
    """Reads the source: ids [B, S] -> states [B, S, D]."""

    side = "encoder"
    _can_record_outputs = {
        "hidden_states": EncoderLayer,
        "attentions": OutputRecorder(Attend, index=1, layer_name="mix"),
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, EncoderLayer, config.encoder_layers, causal=False)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """States of the source, zeros at padding.

        Args:
            input_ids: [B, S] ids below the vocabulary's size.
            attention_mask: [B, S] 1 at real tokens, 0 at padding; None: all are real.
            inputs_embeds: [B, S, D] instead of ids: rows of the embedding table, scaled here as those are.
            **kwargs: output_hidden_states, output_attentions (eager attention only; mixers without affinities have
                no map).
        """
        x = self.embed(input_ids, inputs_embeds)
        shape = (x.shape[0], x.shape[1])
        padding = check_padding(attention_mask, *shape, name="attention_mask")
        mask = self.mixer.make_mask(self.config, x, padding, None, self.causal)
        packed = pack(padding) if self.may_pack(kwargs) else None
        places = Places.count(shape, x.device, padding, packed=packed)
        x = self.order(places.take_back(x), places)
        for layer in self.layers:
            x = layer(x, mask=mask, position=self.position, places=places)
        return BaseModelOutput(last_hidden_state=self.finish(x, places, padding))


class SelfAttnDecoder(Stack):
    """Writes the target: ids [B, T] and the source's states [B, S, D] -> states [B, T, D]."""

    side = "decoder"
    _can_record_outputs = {
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(Attend, index=1, layer_name="mix"),
        "cross_attentions": OutputRecorder(Attend, index=1, layer_name="read"),
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, DecoderLayer, config.decoder_layers, causal=config.future_mask)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """States of the target, zeros at padding.

        Args:
            input_ids: [B, Q] new ids.
            attention_mask: [B, past + Q] 1 at real tokens, those in the cache included; None: all are real.
            encoder_hidden_states: [B, S, D].
            encoder_attention_mask: [B, S].
            past_key_values: what earlier passes left.
            inputs_embeds: [B, Q, D] instead of ids.
            use_cache: return a cache; None: as the config says.
            **kwargs: output_hidden_states, output_attentions (eager attention only; mixers without affinities have
                no map).
        """
        x = self.embed(input_ids, inputs_embeds)
        shape = (x.shape[0], x.shape[1])
        cache = self._cache(past_key_values, use_cache)
        past = 0 if cache is None else cache.get_seq_length()
        if isinstance(past, Tensor):
            past, seen = past.clone(), None  # a static cache counts in place, on its device
        else:
            seen = past + shape[1]
        padding = check_padding(attention_mask, shape[0], seen, name="decoder_attention_mask")
        if encoder_hidden_states is None:
            raise ValueError("the decoder reads the encoder's states, got none. Give encoder_hidden_states.")
        source_shape = (encoder_hidden_states.shape[0], encoder_hidden_states.shape[1])
        source_padding = check_padding(encoder_attention_mask, *source_shape, name="attention_mask")

        own = None if cache is None else cache.self_attention_cache
        mask = self.mixer.make_mask(self.config, x, padding, own, self.causal)
        source_mask = cross_mask(self.config, x, encoder_hidden_states, source_padding)
        may_pack = self.may_pack(kwargs) and cache is None
        visible = None if own is None else own.get_mask_sizes(shape[1], 0)[0]
        packed = pack(padding) if may_pack else None
        places = Places.count(shape, x.device, padding, past, visible, packed)
        source_packed = pack(source_padding) if may_pack else None
        source_places = Places.count(source_shape, x.device, source_padding, packed=source_packed)

        x = self.order(places.take_back(x), places)
        source = source_places.take_back(encoder_hidden_states)
        for layer in self.layers:
            x = layer(
                x, source, mask=mask, position=self.position, places=places, source_mask=source_mask,
                source_places=source_places, cache=cache,
            )  # fmt: skip
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(x, places, padding), past_key_values=cache
        )

    def _cache(self, given: EncoderDecoderCache | None, use_cache: bool | None) -> EncoderDecoderCache | None:
        """The cache to use: the one given, a new one, or none."""
        if given is None:
            return make_cache(self.config) if use_cache and self.causal else None
        if not self.causal:
            raise ValueError(
                "past_key_values needs future_mask=True: what a token that sees the future computed is wrong one step "
                "later. Leave past_key_values out."
            )
        if not isinstance(given, EncoderDecoderCache):
            raise TypeError(
                f"past_key_values holds what the decoder and the cross-attention remember, so it is an "
                f"EncoderDecoderCache, got {type(given).__name__}. Leave it out, or build it with make_cache(config)."
            )
        return given


def check_ids(ids: Tensor, size: int, name: str) -> None:
    """Refuse ids that have no row in the embedding table.

    A GPU would have to be asked for the values at every step, and stops at such an id by itself; there the collator's
    check stands alone.

    Raises:
        ValueError: naming the id and the limit.
    """
    if ids.device.type != "cpu" or is_traced():
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} must be from 0 to {size - 1}, the rows of the embedding table, got {low if low < 0 else high}. "
            "Use the tokenizer that was saved with the model, or call resize_token_embeddings()."
        )
