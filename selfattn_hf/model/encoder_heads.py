"""Chapter 8 of 8, continued: the encoder alone. Before: causal_lm.py. Next: modeling_selfattn.py.

States of a text, and heads that say something about the text, about each of its tokens, or where in it an answer lies.
Each opens the folder of an encoder-decoder too, and takes its encoder.
"""

from typing import Unpack

import torch
from torch import LongTensor, Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from .configuration_selfattn import SelfAttnConfig
from .dropout import Dropout
from .loss import IGNORED, classification_loss, problem_of, sequence_loss, span_loss
from .masking import looks
from .pretrained import (
    Recorded,
    RecordedWithLoss,
    SelfAttnBaseModel,
    SelfAttnPreTrainedModel,
    take_loss_keywords,
)
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
        **kwargs: Unpack[Recorded],
    ) -> BaseModelOutput:
        """States [B, S, D], zeros at padding; for the arguments see `SelfAttnEncoder`."""
        return self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, **kwargs,
        )  # fmt: skip


class EncoderHead(SelfAttnPreTrainedModel):
    """What heads on the encoder share; each has a linear layer on its states, of a name of its own.

    The names are transformers' own, so that adapters find them; and they differ, so that the folder of one head, opened
    as another, gives no layer that was trained for something else.
    """

    _tied_weights_keys = {"model.encoder.embed_tokens.weight": "model.shared.weight"}
    _keys_to_ignore_on_load_unexpected = WITHOUT_ENCODER

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.model = SelfAttnEncoderModel(config)
        self.dropout = Dropout(config.dropout)


class SelfAttnForSequenceClassification(EncoderHead):
    """A label, several labels or numbers for a text, from the mean of the states of its real tokens.

    `config.problem_type` says which; where it is None, one label means a number, and else labels that are whole numbers
    mean one label of several, others any number of labels; the first labels settle it, and it is saved, so that a
    pipeline knows.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

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
        **kwargs: Unpack[Recorded],
    ) -> SequenceClassifierOutput:
        """Logits [B, L], and the loss where labels are given.

        Args:
            input_ids: [B, S] ids.
            attention_mask: [B, S] 1 at real tokens, 0 at padding on either side.
            inputs_embeds: [B, S, D] instead of ids.
            syntax_heads: [B, S] trees, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            labels: [B] whole numbers below L, -100 where none counts; or [B, L] zeros and ones as floats; or numbers,
                [B] or [B, L].
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
            mean = states.sum(1) / attention_mask.bool().sum(1, keepdim=True).clamp(min=1)
        logits = self.score(self.dropout(mean))
        loss = None
        if labels is not None:
            problem = self.config.problem_type = self.config.problem_type or problem_of(logits, labels)
            if problem == "single_label_classification":
                check_classes(labels, self.config.num_labels, looks(self, labels))
            loss = classification_loss(logits, labels, problem, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SelfAttnForTokenClassification(EncoderHead):
    """A label for every token."""

    _auto_class = "AutoModelForTokenClassification"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        labels: LongTensor | None = None,
        **kwargs: Unpack[RecordedWithLoss],
    ) -> TokenClassifierOutput:
        """Logits [B, S, L], and the loss where labels are given.

        Args:
            input_ids: [B, S] ids.
            attention_mask: [B, S] 1 at real tokens, 0 at padding on either side.
            inputs_embeds: [B, S, D] instead of ids.
            syntax_heads: [B, S] trees, for encodings that read them; see `SelfAttnEncoder`.
            syntax_nodes: [B, S] which tokens are parts of one word.
            labels: [B, S] whole numbers below L, -100 where none counts.
            **kwargs: num_items_in_batch and label_smoothing go to the loss (see `sequence_loss`);
                output_attentions, output_hidden_states.
        """
        # No parameters: a Trainer evaluates the loss only where it has all that are named after labels.
        loss_kwargs = take_loss_keywords(kwargs)
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            check_classes(labels, self.config.num_labels, looks(self, labels))
            loss = sequence_loss(logits, labels, **loss_kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SelfAttnForQuestionAnswering(EncoderHead):
    """The first and the last token of the answer that a text holds."""

    _auto_class = "AutoModelForQuestionAnswering"

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

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
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Unpack[Recorded],
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
            num_items_in_batch: see `sequence_loss`; the number of answers.
            **kwargs: output_attentions, output_hidden_states.
        """
        if (start_positions is None) != (end_positions is None):
            missing = "start_positions" if start_positions is None else "end_positions"
            raise ValueError(f"an answer has a first and a last token, got no {missing}. Give both, or neither.")
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds,
            syntax_heads=syntax_heads, syntax_nodes=syntax_nodes, return_dict=True, **kwargs,
        )  # fmt: skip
        start, end = self.qa_outputs(self.dropout(outputs.last_hidden_state)).unbind(-1)
        if attention_mask is not None:
            least = torch.finfo(start.dtype).min
            start, end = (logits.masked_fill(attention_mask == 0, least) for logits in (start, end))
        loss = None
        if start_positions is not None and end_positions is not None:
            look = looks(self, start_positions)
            check_answers(start_positions, attention_mask, "start_positions", look)
            check_answers(end_positions, attention_mask, "end_positions", look)
            of_start = span_loss(start, start_positions, num_items_in_batch)
            loss = (of_start + span_loss(end, end_positions, num_items_in_batch)) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start,
            end_logits=end,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def check_classes(labels: Tensor, size: int, look: bool) -> None:
    """Refuse labels that are, after a `look` at them, neither a class below `size` nor -100.

    Raises:
        ValueError: naming the label and the limit.
    """
    if not look:
        return
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= size))]
    if wrong.numel():
        raise ValueError(
            f"labels must be from 0 to {size - 1}, the classes of config.num_labels={size}, or {IGNORED} where none "
            f"counts, got {wrong[0].item()}. Set config.num_labels to the number of classes, or repair the labels."
        )


def check_answers(places: Tensor, mask: Tensor | None, name: str, look: bool) -> None:
    """Refuse answers [B] that lie, after a `look` at them, in the padding of a mask [B, S].

    Raises:
        ValueError: naming the row and the place.
    """
    if mask is None or not look:
        return
    for row, place in enumerate(places.flatten().tolist()):
        if 0 <= place < mask.shape[1] and not mask[row, place]:
            raise ValueError(
                f"{name} counts tokens from the start of the padded row, and no answer lies in padding, got {place} in "
                f"row {row}. Add the padding that stands before the text, or give -1 for a row without an answer."
            )
