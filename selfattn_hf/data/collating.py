"""Rows of ids -> one batch of tensors; ids that no embedding has are refused here, on the CPU, by number."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import LongTensor, Tensor

from .encoding import NO_NODE
from .tokenization import Tokenizers

SYNTAX_COLUMNS = ("syntax_heads", "syntax_nodes")
IGNORED = -100  # torch's cross-entropy leaves such labels out


class Seq2SeqCollator:
    """Pads a batch on the right and shifts the labels right for the decoder.

    Args:
        padding: the tokenizers, or the id that pads source and decoder input.
        decoder_start_token_id: first input of the decoder.
        vocab_size: number of tokens that the model knows.
        pad_to_multiple_of: pad lengths up to a multiple, as some accelerators like it.

    Raises:
        ValueError: if an argument is missing or outside the vocabulary.

    Examples:
        >>> collate = Seq2SeqCollator(0, decoder_start_token_id=1, vocab_size=100)
        >>> collate([{"input_ids": [7, 8, 2], "labels": [9, 2]}])["decoder_input_ids"]
        tensor([[1, 9]])
    """

    def __init__(
        self,
        padding: Tokenizers | int,
        decoder_start_token_id: int | None,
        vocab_size: int,
        pad_to_multiple_of: int | None = None,
    ) -> None:
        pad = padding.source.pad_token_id if isinstance(padding, Tokenizers) else padding
        if decoder_start_token_id is None:
            raise ValueError(
                "decoder_start_token_id is None, and the decoder needs a first token. Set it in the config, for "
                "example to bos_token_id."
            )
        for name, value in (("pad_token_id", pad), ("decoder_start_token_id", decoder_start_token_id)):
            if not 0 <= value < vocab_size:
                raise ValueError(f"{name}={value} is outside the vocabulary: ids go from 0 to {vocab_size - 1}.")
        if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of must be at least 1, got {pad_to_multiple_of}.")
        self.pad_token_id = pad
        self.decoder_start_token_id = decoder_start_token_id
        self.vocab_size = vocab_size
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            features: rows with `input_ids` and, except when only generating, `labels`, and for trees `syntax_heads`,
                with or without `syntax_nodes`; other columns are left out.

        Returns:
            `input_ids`, `attention_mask` [B, S]; with labels also `labels` (-100 at padding), `decoder_input_ids` and
            `decoder_attention_mask` [B, T]; with trees also `syntax_heads` and `syntax_nodes` [B, S] (-1 at padding).

        Raises:
            ValueError: for an id outside the vocabulary, an empty source or target, a batch without any label, or heads
                and nodes that are not one per source token or name a token that is not there.
        """
        if not features:
            raise ValueError("a batch needs at least one row.")
        input_ids, attention_mask = self._pad([row["input_ids"] for row in features], "input_ids", self.pad_token_id)
        batch: dict[str, Tensor] = {"input_ids": input_ids, "attention_mask": attention_mask}
        for name in SYNTAX_COLUMNS:
            if _all_have(features, name):
                batch[name] = self._pad_tree(features, name, input_ids.shape[1])
        if _all_have(features, "labels"):
            labels, mask = self._pad([row["labels"] for row in features], "labels", IGNORED)
            if not (labels != IGNORED).any():
                raise ValueError(
                    f"all labels of a batch of {len(features)} rows are {IGNORED}, so there is nothing to learn. "
                    "Check the targets."
                )
            start = labels.new_full((len(labels), 1), self.decoder_start_token_id)
            shifted = torch.cat([start, labels[:, :-1]], dim=1)
            batch["labels"] = labels
            batch["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORED, self.pad_token_id)
            batch["decoder_attention_mask"] = mask
        return batch

    def _pad_tree(self, features: Sequence[Mapping[str, Any]], name: str, longest: int) -> LongTensor:
        """Heads or nodes, [B, longest]."""
        padded = torch.full((len(features), longest), NO_NODE, dtype=torch.long)
        for place, row in enumerate(features):
            values, tokens = torch.as_tensor(row[name], dtype=torch.long), len(row["input_ids"])
            if values.shape != (tokens,):
                raise ValueError(
                    f"{name} of row {place} of a batch have shape {tuple(values.shape)}, and its source has {tokens} "
                    "tokens: there must be one for each, as `prepare` makes them."
                )
            outside = (values < NO_NODE) | (values >= tokens)
            if outside.any():
                raise ValueError(
                    f"{name} of row {place} of a batch hold {int(values[outside][0])}, and the places of its tokens go "
                    f"from 0 to {tokens - 1}, or are {NO_NODE} for none."
                )
            padded[place, :tokens] = values
        return padded  # type: ignore[return-value]  # torch.full is annotated as Tensor

    def _pad(self, rows: Sequence[Any], name: str, filling: int) -> tuple[LongTensor, LongTensor]:
        """Ids and mask, both [B, longest]."""
        tensors = [torch.as_tensor(row, dtype=torch.long) for row in rows]
        longest = max(len(tensor) for tensor in tensors)
        if self.pad_to_multiple_of is not None:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        ids = torch.full((len(tensors), longest), filling, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, tensor in enumerate(tensors):
            if len(tensor) == 0:
                raise ValueError(f"row {place} of a batch has no {name}. Leave empty rows out, as `prepare` does.")
            ids[place, : len(tensor)] = tensor
            mask[place, : len(tensor)] = 1
        outside = (mask == 1) & ((ids < 0) | (ids >= self.vocab_size))
        if name == "labels":
            outside &= ids != IGNORED
        if outside.any():
            place = int(outside.any(dim=1).nonzero()[0])
            raise ValueError(
                f"{name} of row {place} of a batch hold the id {int(ids[outside][0])}, and the model knows ids 0 to "
                f"{self.vocab_size - 1}. Use the tokenizer that the model was made for, or resize its embeddings."
            )
        return ids, mask  # type: ignore[return-value]  # torch.full is annotated as Tensor


def _all_have(features: Sequence[Mapping[str, Any]], name: str) -> bool:
    given = sum(row.get(name) is not None for row in features)
    if given not in (0, len(features)):
        raise ValueError(f"{given} of the {len(features)} rows of a batch have {name}: all or none must have them.")
    return bool(given)
