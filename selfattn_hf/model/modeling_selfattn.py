"""Chapter 8 of 8, its end: the whole model. Before: encoder_heads.py.

The base model joins the two stacks; a head makes something of their states. Each is a transformers model like any
other.
"""

from typing import Any, Unpack

from torch import LongTensor, Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .causal_lm import SelfAttnForCausalLM
from .configuration_selfattn import SelfAttnConfig
from .decoding import DecodingState
from .encoder_heads import (
    SelfAttnEncoderModel,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
)
from .generation import SelfAttnGenerator
from .loss import IGNORED, logits_and_loss, sequence_loss
from .masking import looks
from .pretrained import Recorded, RecordedWithLogits, SelfAttnBaseModel, kept_places, take_loss_keywords
from .stacks import SelfAttnDecoder, SelfAttnEncoder, check_labels


class SelfAttnModel(SelfAttnBaseModel):
    """Encoder and decoder without a head."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        if not config.is_encoder_decoder:
            raise ValueError(
                "this config is of a decoder alone (is_encoder_decoder=False), which has no encoder. Load it by "
                "AutoModelForCausalLM."
            )
        super().__init__(config)
        self.encoder = SelfAttnEncoder(config)
        self.decoder = SelfAttnDecoder(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[Recorded],
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
            syntax_heads: [B, S] trees over the source, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
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
                input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
                syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
            )  # fmt: skip
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
            return_dict=True,
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


class SelfAttnForConditionalGeneration(SelfAttnGenerator, GenerationMixin):
    """Encoder, decoder and the output layer: text to text."""

    _auto_class = "AutoModelForSeq2SeqLM"
    _tied_weights_keys = {
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.model = SelfAttnModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
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

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """As transformers; a `DecodingState` needs no more than the new ids, and the source once."""
        state = kwargs.get("past_key_values")
        if not isinstance(state, DecodingState):
            return super().prepare_inputs_for_generation(input_ids, **kwargs)
        return {
            "decoder_input_ids": input_ids[:, state.length :],
            "past_key_values": state,
            "encoder_outputs": kwargs["encoder_outputs"],
            "attention_mask": kwargs.get("attention_mask"),
        }

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        labels: LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Unpack[RecordedWithLogits],
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
            syntax_heads: [B, S] trees over the source, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            labels: [B, T] target ids, -100 where none counts.
            use_cache: return a cache; None: as the config says, and none with labels.
            logits_to_keep: logits of the last places only, or of the places named; 0: of all.
            **kwargs: num_items_in_batch and label_smoothing go to the loss (see `sequence_loss`); loss_only=True leaves
                the logits out, which saves their memory and a part of the time; output_attentions,
                output_hidden_states.
        """
        if isinstance(past_key_values, DecodingState) and decoder_input_ids is not None and encoder_outputs is not None:
            return past_key_values.answer(decoder_input_ids, encoder_outputs, attention_mask)
        loss_kwargs = take_loss_keywords(kwargs, "loss_only")
        if labels is not None:
            check_labels(labels, self.config.vocab_size, looks(self, labels))
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
            syntax_heads=syntax_heads,
            syntax_nodes=syntax_nodes,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        kept = kept_places(logits_to_keep)
        states = outputs.last_hidden_state[:, kept]
        logits, loss = logits_and_loss(self.lm_head, states, labels, self.loss_function, **loss_kwargs)
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


# Every class that an Auto class can make; those of one stack open the folder of the whole model too.
MODELS = (
    SelfAttnModel,
    SelfAttnForConditionalGeneration,
    SelfAttnForCausalLM,
    SelfAttnEncoderModel,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
    SelfAttnForQuestionAnswering,
)
