"""Rows of text -> rows of ids, with a count of every row that was cut or left out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Value
from datasets import Sequence as ListOf
from transformers import PreTrainedTokenizerBase

from .settings import DataSettings
from .tokenization import Tokenizers

_LIMITS = {"source": "max_source_length", "target": "max_target_length"}


@dataclass(frozen=True)
class PrepareReport:
    """What became of the rows of one split; `str()` of it is one line."""

    split: str
    rows: int
    kept: int
    cut: int
    dropped: dict[str, int]
    """Reason -> number of rows left out: too long, empty, missing, wrong type."""
    source_tokens: int
    target_tokens: int
    source_unknown: int
    """Source tokens that the vocabulary does not have."""
    target_unknown: int

    def __str__(self) -> str:
        parts = [f"{self.split}: {self.kept:,} of {self.rows:,} rows"]
        if self.cut:
            parts.append(f"{self.cut:,} cut to the maximal length")
        if self.dropped:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.dropped.items())
            parts.append(f"{sum(self.dropped.values()):,} dropped ({reasons})")
        lengths = (
            f"{self.source_tokens / self.kept:.1f} source and {self.target_tokens / self.kept:.1f} target tokens a row"
        )
        parts.append(lengths)
        for side in ("source", "target"):
            unknown = getattr(self, f"{side}_unknown")
            if unknown:
                parts.append(f"{unknown / getattr(self, f'{side}_tokens'):.2%} of the {side} tokens unknown")
        return "; ".join(parts)


def prepare(rows: Dataset, tokenizers: Tokenizers, settings: DataSettings, split: str) -> tuple[Dataset, PrepareReport]:
    """Ids of every usable row.

    Args:
        rows: the columns `source` and `target`, as `load_splits` returns them.
        tokenizers: of source and target.
        settings: the lengths, and what happens to rows beyond them or without text.
        split: its name, for messages.

    Returns:
        Rows with `input_ids` and `labels`, both with the end token last, and with their texts `source` and `target`, so
        that a row and its reference stay together whatever was dropped; and the report.

    Raises:
        ValueError: if a row is refused (split, row, column and reason are named) or no row is left.
    """
    work = _Work(tokenizers, settings, split)
    ids = ListOf(Value("int32"))
    text = Value("string")
    ready = rows.map(
        work,
        with_indices=True,
        batched=True,
        remove_columns=rows.column_names,
        features=Features({"input_ids": ids, "labels": ids, "source": text, "target": text}),
        load_from_cache_file=False,  # the counts are made on the way
    )
    reasons = ", ".join(f"{number} {reason}" for reason, number in work.dropped.items())
    if len(ready) == 0:
        raise ValueError(
            f"no row of the {split} split is left: {reasons or 'it is empty'}. Check source_column, target_column, "
            "max_source_length and max_target_length."
        )
    counts = work.counts
    report = PrepareReport(
        split=split,
        rows=len(rows),
        kept=len(ready),
        cut=counts["cut"],
        dropped=dict(work.dropped),
        source_tokens=counts["source tokens"],
        target_tokens=counts["target tokens"],
        source_unknown=counts["source unknown"],
        target_unknown=counts["target unknown"],
    )
    return ready, report


class _Work:
    """Prepares batch after batch and counts."""

    def __init__(self, tokenizers: Tokenizers, settings: DataSettings, split: str) -> None:
        self.tokenizers = {"source": tokenizers.source, "target": tokenizers.target}
        self.limits = {side: getattr(settings, name) for side, name in _LIMITS.items()}
        self.settings = settings
        self.split = split
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def __call__(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        usable = [
            (index, source, target)
            for index, source, target in zip(indices, batch["source"], batch["target"], strict=True)
            if self._is_usable(index, {"source": source, "target": target})
        ]
        out: dict[str, list[Any]] = {"input_ids": [], "labels": [], "source": [], "target": []}
        if not usable:
            return out
        numbers, sources, targets = zip(*usable, strict=True)
        encoded = zip(self._encode("source", sources), self._encode("target", targets), strict=True)
        for index, source, target, (input_ids, labels) in zip(numbers, sources, targets, encoded, strict=True):
            long = [side for side, ids in (("source", input_ids), ("target", labels)) if self._is_long(side, ids)]
            if long and self.settings.too_long != "cut":
                self._drop_or_refuse(
                    self.settings.too_long,
                    index,
                    long[0],
                    "too long",
                    f"has {len(input_ids if long[0] == 'source' else labels)} tokens, more than "
                    f"{_LIMITS[long[0]]}={self.limits[long[0]]}. Raise it, or set too_long to cut or drop.",
                )
                continue
            self.counts["cut"] += bool(long)
            for side, column, ids in (("source", "input_ids", input_ids), ("target", "labels", labels)):
                tokenizer = self.tokenizers[side]
                if side in long:
                    ids = [*ids[: self.limits[side] - 1], tokenizer.eos_token_id]
                self.counts[f"{side} tokens"] += len(ids)
                self.counts[f"{side} unknown"] += ids.count(tokenizer.unk_token_id)
                out[column].append(ids)
            out["source"].append(source)
            out["target"].append(target)
        return out

    def _is_usable(self, index: int, row: Mapping[str, Any]) -> bool:
        for side, text in row.items():
            if text is None:
                reason, sentence = "missing", "is missing."
            elif not isinstance(text, str):
                reason, sentence = "wrong type", f"is a {type(text).__name__} and must be a text: {text!r:.60}."
            elif not text.strip():
                reason, sentence = "empty", "is empty."
            else:
                continue
            self._drop_or_refuse(
                self.settings.bad_rows, index, side, reason, f"{sentence} Repair it, or set bad_rows to drop."
            )
            return False
        return True

    def _drop_or_refuse(self, choice: str, index: int, side: str, reason: str, sentence: str) -> None:
        if choice == "refuse":
            column = getattr(self.settings, f"{side}_column")
            raise ValueError(f"row {index} (counted from 0) of the {self.split} split: column {column!r} {sentence}")
        self.dropped[reason] += 1

    def _encode(self, side: str, texts: tuple[str, ...]) -> list[list[int]]:
        tokenizer: PreTrainedTokenizerBase = self.tokenizers[side]
        key = "text" if side == "source" else "text_target"  # some tokenizers mark the language of each side
        encoded = tokenizer(**{key: list(texts)}, return_attention_mask=False, verbose=False)["input_ids"]
        end = tokenizer.eos_token_id
        return [ids if ids and ids[-1] == end else [*ids, end] for ids in encoded]

    def _is_long(self, side: str, ids: list[int]) -> bool:
        limit = self.limits[side]
        return limit is not None and len(ids) > limit
