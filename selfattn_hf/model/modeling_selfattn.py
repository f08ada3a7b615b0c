"""Chapter 8 of 8: the whole model. Before: stacks.py.

The base model joins the two stacks; a head makes something of their states. Each is a transformers model like any
other.
"""

from typing import Any

from torch import LongTensor, Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.cache_utils import DynamicLayer, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .configuration_selfattn import SelfAttnConfig
from .layers import make_cache
from .loss import IGNORED, sequence_loss
from .stacks import SelfAttnDecoder, SelfAttnEncoder, SelfAttnPreTrainedModel, check_ids


class SelfAttnModel(SelfAttnPreTrainedModel):
    """Encoder and decoder without a head."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.encoder = SelfAttnEncoder(config)
        self.decoder = SelfAttnDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The source's table; the target's too where they are tied."""
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the source's table, and the target's where they are tied."""
        self.encoder.embed_tokens = value
        if self.config.tie_word_embeddings:
            tied = nn.Embedding(value.num_embeddings, value.embedding_dim, device="meta")
            tied.weight = value.weight
            self.decoder.embed_tokens = tied

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """States of source and target.

        Args:
            input_ids: [B, S] source ids.
            attention_mask: [B, S] 1 at real source tokens, 0 at padding on either side.
            decoder_input_ids: [B, T] target ids, shifted right; never guessed from the source.
            decoder_attention_mask: [B, past + T] 1 at real target tokens.
            encoder_outputs: what the encoder returned, instead of source ids.
            past_key_values: what earlier passes left.
            inputs_embeds: [B, S, D] instead of source ids.
            decoder_inputs_embeds: [B, T, D] instead of target ids.
            use_cache: return a cache.
            **kwargs: output_attentions, output_hidden_states.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            raise ValueError(
                "the decoder needs its own input, got neither decoder_input_ids nor decoder_inputs_embeds. Give one of "
                "them, give labels to a model with a head, or call generate()."
            )
        if encoder_outputs is None:
            encoded: BaseModelOutput = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
            )
        else:
            encoded = (
                BaseModelOutput(*encoder_outputs) if isinstance(encoder_outputs, tuple | list) else encoder_outputs
            )
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )


class SelfAttnForConditionalGeneration(SelfAttnPreTrainedModel, GenerationMixin):
    """Encoder, decoder and the output layer: text to text."""

    _auto_class = "AutoModelForSeq2SeqLM"
    _tied_weights_keys = {
        "lm_head.weight": "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight": "model.encoder.embed_tokens.weight",
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.model = SelfAttnModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.loss_function = sequence_loss
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels [B, T] -> what the decoder reads: the start token, then every label but the last; -100 as padding."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or pad is None:
            missing = "decoder_start_token_id" if start is None else "pad_token_id"
            raise ValueError(
                f"config.{missing} is needed to make the decoder's input from labels, got None. Set it to the "
                "tokenizer's id, or give decoder_input_ids."
            )
        shifted = labels.new_full(labels.shape, start)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == IGNORED, pad)

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits [B, T, V], and the loss where labels are given.

        Args:
            input_ids: [B, S] source ids.
            attention_mask: [B, S] 1 at real source tokens, 0 at padding on either side.
            decoder_input_ids: [B, T] target ids, shifted right; None: made from the labels.
            decoder_attention_mask: [B, past + T] 1 at real target tokens.
            encoder_outputs: what the encoder returned, instead of source ids.
            past_key_values: what earlier passes left.
            inputs_embeds: [B, S, D] instead of source ids.
            decoder_inputs_embeds: [B, T, D] instead of target ids.
            labels: [B, T] target ids, -100 where none counts.
            use_cache: return a cache; None: as the config says, and none with labels.
            logits_to_keep: logits of the last places only, or of the places named; 0: of all.
            **kwargs: num_items_in_batch and label_smoothing go to the loss (see `sequence_loss`);
                output_attentions, output_hidden_states.
        """
        loss_kwargs = {name: kwargs.pop(name) for name in ("num_items_in_batch", "label_smoothing") if name in kwargs}
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            use_cache = bool(use_cache)
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None if labels is None else self.loss_function(logits, labels, **loss_kwargs)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    @staticmethod
    def create_masks_for_generate(*, attention_mask: Tensor | None, **kwargs: Any) -> Tensor | None:
        """Leave the mask as it is, [B, K], for static caches too: places are counted from it."""
        return attention_mask

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Give generate() the cache that this model's mixers need, where the user gave none."""
        if not self.config.future_mask:
            generation_config.use_cache = model_kwargs["use_cache"] = False
        implementation = generation_config.cache_implementation
        own_choice = model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False
        if own_choice and implementation in (None, "dynamic"):
            model_kwargs["past_key_values"] = make_cache(self.config)
            if generation_config.is_assistant:
                model_kwargs["past_key_values"].activate_past_recording()
            return
        if own_choice and not all(
            type(layer) is DynamicLayer for layer in make_cache(self.config).self_attention_cache.layers
        ):
            raise ValueError(
                f"cache_implementation={implementation!r} holds keys and values, and "
                f"decoder_mixer={self.config.decoder_mixer!r} remembers a state. Leave cache_implementation out."
            )
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)


def check_labels(labels: Tensor, size: int) -> None:
    """Refuse labels that are neither an id of the vocabulary nor -100; see `check_ids`."""
    if labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(f"labels are rows of at least one token each, got a batch of shape {tuple(labels.shape)}.")
    check_ids(labels.masked_fill(labels == IGNORED, 0), size, "labels")
