"""Chapter 8 of 8, continued: the encoder alone. Before: causal_lm.py. Next: modeling_selfattn.py.

States of a text, and heads that say something about the text, about each of its tokens, or where in it an answer lies.
Each opens the folder of an encoder-decoder too, and takes its encoder.
"""

from typing import Any

from torch import LongTensor, Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from .configuration_selfattn import SelfAttnConfig
from .loss import classification_loss, sequence_loss, span_loss
from .pretrained import SelfAttnBaseModel, SelfAttnPreTrainedModel
from .stacks import SelfAttnEncoder

WITHOUT_ENCODER = [r"(^|\.)decoder\.", r"^lm_head\."]


class SelfAttnEncoderModel(SelfAttnBaseModel):
    """The encoder without decoder and without head."""

    _auto_class = "AutoModelForTextEncoding"
    _tied_weights_keys = {"encoder.embed_tokens.weight": "shared.weight"}
    _keys_to_ignore_on_load_unexpected = WITHOUT_ENCODER

    def __init__(self, config: SelfAttnConfig) -> None:
        if not config.is_encoder_decoder:
            raise ValueError(
                "this config is of a decoder alone (is_encoder_decoder=False), which has no encoder. Load it by "
                "AutoModelForCausalLM."
            )
        super().__init__(config)
        self.encoder = SelfAttnEncoder(config)
        self.post_init()

    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """States [B, S, D], zeros at padding; for the arguments see `SelfAttnEncoder`."""
        return self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, **kwargs,
        )  # fmt: skip


class EncoderHead(SelfAttnPreTrainedModel):
    """What heads on the encoder share: its states, and one linear layer on them."""

    _tied_weights_keys = {"model.encoder.embed_tokens.weight": "model.shared.weight"}
    _keys_to_ignore_on_load_unexpected = WITHOUT_ENCODER

    def __init__(self, config: SelfAttnConfig, outputs: int) -> None:
        super().__init__(config)
        self.model = SelfAttnEncoderModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, outputs)
        self.post_init()


class SelfAttnForSequenceClassification(EncoderHead):
    """A label, several labels or numbers for a text, from the mean of the states of its real tokens.

    `config.problem_type` says which; where it is None, one label means a number, and else labels that are whole numbers
    mean one label of several, others any number of labels.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, config.num_labels)

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits [B, L], and the loss where labels are given.

        Args:
            input_ids: [B, S] ids.
            attention_mask: [B, S] 1 at real tokens, 0 at padding on either side.
            inputs_embeds: [B, S, D] instead of ids.
            syntax_heads: [B, S] trees, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            labels: [B] whole numbers below L; or [B, L] zeros and ones; or numbers, [B] or [B, L].
            num_items_in_batch: see `classification_loss`.
            **kwargs: output_attentions, output_hidden_states.
        """
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
        )  # fmt: skip
        states = outputs.last_hidden_state
        if attention_mask is None:
            mean = states.mean(1)
        else:  # states are zeros at padding
            mean = states.sum(1) / attention_mask.sum(1, keepdim=True).clamp(min=1).to(states.dtype)
        logits = self.classifier(self.dropout(mean))
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SelfAttnForTokenClassification(EncoderHead):
    """A label for every token."""

    _auto_class = "AutoModelForTokenClassification"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, config.num_labels)

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        labels: LongTensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Logits [B, S, L], and the loss where labels are given.

        Args:
            input_ids: [B, S] ids.
            attention_mask: [B, S] 1 at real tokens, 0 at padding on either side.
            inputs_embeds: [B, S, D] instead of ids.
            syntax_heads: [B, S] trees, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            labels: [B, S] whole numbers below L, -100 where none counts.
            num_items_in_batch: see `sequence_loss`.
            label_smoothing: see `sequence_loss`.
            **kwargs: output_attentions, output_hidden_states.
        """
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None if labels is None else sequence_loss(logits, labels, num_items_in_batch, label_smoothing)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SelfAttnForQuestionAnswering(EncoderHead):
    """The first and the last token of the answer that a text holds."""

    _auto_class = "AutoModelForQuestionAnswering"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, 2)

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        start_positions: LongTensor | None = None,
        end_positions: LongTensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Logits of start and end, [B, S] each, and the loss where both positions are given.

        Args:
            input_ids: [B, S] ids.
            attention_mask: [B, S] 1 at real tokens, 0 at padding on either side; no answer lies in padding.
            inputs_embeds: [B, S, D] instead of ids.
            syntax_heads: [B, S] trees, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            start_positions: [B] index of the first token of the answer; one outside the row does not count.
            end_positions: [B] index of the last token.
            **kwargs: output_attentions, output_hidden_states.
        """
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
        )  # fmt: skip
        start, end = self.classifier(self.dropout(outputs.last_hidden_state)).unbind(-1)
        if attention_mask is not None:
            least = start.new_tensor(float("-inf")).nan_to_num()
            start, end = (logits.masked_fill(attention_mask == 0, least) for logits in (start, end))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (span_loss(start, start_positions) + span_loss(end, end_positions)) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start,
            end_logits=end,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
