"""Chapter 8 of 8: the decoder alone. Before: generation.py. Next: encoder_heads.py.

A language model: the same decoder, with nothing to read but what it has written.
"""

from typing import Any, Unpack

from torch import LongTensor, Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions, CausalLMOutputWithPast
from transformers.utils import can_return_tuple, logging

from .configuration_selfattn import SelfAttnConfig
from .generation import SelfAttnGenerator
from .loss import IGNORED, logits_and_loss, sequence_loss
from .masking import looks
from .pretrained import RecordedWithLogits, SelfAttnBaseModel, kept_places, take_loss_keywords
from .stacks import SelfAttnDecoder, check_labels

logger = logging.get_logger(__name__)


class CausalKeywords(RecordedWithLogits, total=False):
    """Keywords of a language model; see `SelfAttnForCausalLM.forward`."""

    shift_labels: LongTensor


class SelfAttnDecoderModel(SelfAttnBaseModel):
    """The decoder without encoder and without head; `SelfAttnForCausalLM` holds one."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "shared.weight"}

    def __init__(self, config: SelfAttnConfig) -> None:
        config = config.decoder_alone()
        super().__init__(config)
        self.decoder = SelfAttnDecoder(config)
        self.post_init()

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        """See `SelfAttnDecoder`."""
        return self.decoder(*args, **kwargs)


class SelfAttnForCausalLM(SelfAttnGenerator, GenerationMixin):
    """Decoder and output layer: text that goes on.

    It opens folders of its own, whose config says `is_encoder_decoder=False`, and those of an encoder-decoder, of
    which it takes the decoder without its cross-attention.
    """

    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = {
        "lm_head.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    }
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)encoder\.", r"\.read\."]

    def __init__(self, config: SelfAttnConfig) -> None:
        config = config.decoder_alone()
        super().__init__(config)
        self.model = SelfAttnDecoderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
        self.loss_function = sequence_loss
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Unpack[CausalKeywords],
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V], and the loss where labels are given.

        Args:
            input_ids: [B, T] ids.
            attention_mask: [B, past + T] 1 at real tokens, 0 at padding on either side.
            past_key_values: what earlier passes left.
            inputs_embeds: [B, T, D] instead of ids.
            labels: [B, T] the ids themselves, -100 where none counts; they are shifted here, so that each place is
                asked for the token behind it. Padding is asked for nothing: the first token of a row never counts.
            use_cache: return a cache; None: as the config says, and none with labels.
            logits_to_keep: logits of the last places only, or of the places named; 0: of all.
            **kwargs: shift_labels [B, T] in place of labels: the token behind each place, shifted before a row was cut
                into pieces; num_items_in_batch and label_smoothing go to the loss (see `sequence_loss`);
                loss_only=True leaves the logits out; output_attentions, output_hidden_states.
        """
        # No parameter of its own: a Trainer evaluates the loss only where it has all that are named after labels.
        shift_labels = kwargs.pop("shift_labels", None)
        loss_kwargs = take_loss_keywords(kwargs, "loss_only")
        wanted: Tensor | None = labels if shift_labels is None else shift_labels
        if wanted is not None:
            check_labels(wanted, self.config.vocab_size, looks(self, wanted))
            use_cache = bool(use_cache)
        elif "num_items_in_batch" in loss_kwargs:
            logger.warning_once(
                "SelfAttnForCausalLM got num_items_in_batch and no labels. A Trainer that took them for its "
                "label_smoothing_factor does not shift them, except for transformers' own classes, and so teaches each "
                "place its own token. Let the collator give label_smoothing beside the labels instead."
            )
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        kept = kept_places(logits_to_keep)
        if wanted is not None:
            if shift_labels is None:
                wanted = nn.functional.pad(wanted[:, 1:], (0, 1), value=IGNORED)
            if attention_mask is not None:
                wanted = wanted.masked_fill(attention_mask[:, -wanted.shape[1] :] == 0, IGNORED)
        states = outputs.last_hidden_state[:, kept]
        logits, loss = logits_and_loss(self.lm_head, states, wanted, self.loss_function, **loss_kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
