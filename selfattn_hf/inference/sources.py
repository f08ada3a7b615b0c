"""What a caller wants translated -> checked rows of ids, with trees where the model reads them, and padded batches."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import NO_NODE, SYNTAX_COLUMNS, Tokenizers, TreeError, encode_texts

Row = dict[str, list[int]]
"""The ids of one text, with heads and nodes if the model reads trees; empty for an empty text."""


class TextError(ValueError):
    """A text that cannot be translated; `index` is its place among the texts, `reason` what is wrong with it."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"texts[{index}] {reason}.")
        self.index, self.reason = index, reason


class Sources:
    """Encodes the sources of one model.

    Args:
        tokenizers: of the model; for one that reads trees, with `syntax`.
        config: of the model.

    Raises:
        ValueError: if the model reads trees, and the tokenizers do not say how they are made.
    """

    def __init__(self, tokenizers: Tokenizers, config: SelfAttnConfig) -> None:
        if config.reads_trees and tokenizers.syntax is None:
            raise ValueError(
                "The model reads trees, and its tokenizers do not say how they are made. Save the tokenizers with "
                "`syntax` as the training data had it, for example Tokenizers(source, target, Syntax('chain'))."
            )
        self.tokenizer = tokenizers.source
        self.syntax = tokenizers.syntax if config.reads_trees else None
        self.places = config.known_places("encoder")

    @property
    def read_heads(self) -> bool:
        """Whether a text is given as words with their heads, because the model was trained on trees of the data."""
        return self.syntax is not None and self.syntax.reads_heads

    def check_heads(self, texts: Any, given: bool) -> None:
        """Refuse missing heads, and heads that nobody reads.

        Raises:
            ValueError: saying what to give instead.
        """
        if self.read_heads and (isinstance(texts, str) or not given):
            raise ValueError(
                "The model was trained on the trees of its data, which a text alone does not tell. Give lists of words "
                "and their heads: translator([['old', 'cats']], heads=[[2, 0]])."
            )
        if given and not self.read_heads:
            how = "reads no trees" if self.syntax is None else f"makes its trees itself (syntax: {self.syntax.name})"
            raise ValueError(f"heads would do nothing: the model {how}. Leave them out.")

    def encode(self, texts: Sequence[Any], heads: Sequence[Sequence[int | str]] | None) -> list[Row]:
        """A row for every text; everything is checked.

        Raises:
            TextError: for the first text that is none, has no tree, or is longer than the encoder knows places.
        """
        if heads is not None and len(heads) != len(texts):
            raise ValueError(f"heads go with the texts, one list for each: got {len(heads)} for {len(texts)} texts.")
        full = [i for i, text in enumerate(texts) if self._is_full(i, text)]
        rows: list[Row] = [{} for _ in texts]
        encoded = self._encode([texts[i] for i in full], None if heads is None else [heads[i] for i in full])
        for i, row in zip(full, encoded, strict=True):
            if isinstance(row, TreeError):
                raise TextError(i, f"has no tree: {row}")
            length = len(row["input_ids"])
            if self.places is not None and length > self.places:
                raise TextError(i, f"has {length} tokens and the model's encoder knows {self.places} places; split it")
            rows[i] = row
        return rows

    def batch(self, rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
        """The arguments of `generate` for rows that are not empty, all [rows, longest]."""
        width = max(len(row["input_ids"]) for row in rows)
        filling: dict[str, int] = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0}
        filling |= {name: NO_NODE for name in SYNTAX_COLUMNS if name in rows[0]}
        whole = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {
            name: torch.tensor([row[name] + [pad] * (width - len(row[name])) for row in whole], device=device)
            for name, pad in filling.items()
        }

    def _is_full(self, i: int, text: Any) -> bool:
        """Whether there is something to translate in a text, or in a list of words."""
        if self.read_heads:
            if not isinstance(text, Sequence) or isinstance(text, str) or not all(isinstance(w, str) for w in text):
                raise TextError(i, f"must be a list of words, got {text!r} of type {type(text).__name__}")
            return bool(text)
        if not isinstance(text, str):
            raise TextError(i, f"must be text, got {text!r} of type {type(text).__name__}")
        return bool(text.strip())

    def _encode(self, texts: list[Any], heads: list[Any] | None) -> list[Row | TreeError]:
        if not texts:
            return []
        if self.syntax is None:
            return [{"input_ids": ids} for ids in encode_texts(self.tokenizer, texts)]
        trees = self.syntax.encode(self.tokenizer, texts, heads)
        return [tree if isinstance(tree, TreeError) else dataclasses.asdict(tree) for tree in trees]


def pairs(texts: Iterable[Any], heads: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each text with its heads.

    Raises:
        ValueError: if one ends before the other.
    """
    end = object()
    for number, pair in enumerate(itertools.zip_longest(texts, heads, fillvalue=end)):
        if pair[0] is end or pair[1] is end:
            ended, goes_on = ("texts", "heads") if pair[0] is end else ("heads", "texts")
            raise ValueError(
                f"heads go with the texts, one list for each: {ended} end after {number}, {goes_on} go on."
            )
        yield pair
