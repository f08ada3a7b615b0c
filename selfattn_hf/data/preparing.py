"""Rows of text -> rows of ids, with a count of every row that was cut or left out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Value
from datasets import Sequence as ListOf

from .caching import caching
from .encoding import encode_texts
from .files import split_in_words
from .heads import TreeError
from .settings import DataSettings
from .syntax import Syntax
from .tokenization import Tokenizers

_LIMITS = {"source": "max_source_length", "target": "max_target_length"}
_IDS = {"source": "input_ids", "target": "labels"}
_REPAIR = "Repair it, or set bad_rows to drop."


@dataclass(frozen=True)
class PrepareReport:
    """What became of the rows of one split; `str()` of it is one line."""

    split: str
    rows: int
    kept: int
    cut: int
    dropped: dict[str, int]
    """Reason -> number of rows left out: too long, empty, missing, wrong type, broken tree, and so on."""
    source_tokens: int
    target_tokens: int
    source_unknown: int
    """Source tokens that the vocabulary does not have."""
    target_unknown: int
    copies: int = 0
    """Rows whose target is their source."""

    def __str__(self) -> str:
        parts = [f"{self.split}: {self.kept:,} of {self.rows:,} rows"]
        if self.cut:
            parts.append(f"{self.cut:,} cut to the maximal length")
        if self.copies:
            parts.append(f"{self.copies:,} of them with the source as target")
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


@caching()
def prepare(rows: Dataset, tokenizers: Tokenizers, settings: DataSettings, split: str) -> tuple[Dataset, PrepareReport]:
    """Ids of every usable row.

    Args:
        rows: the columns `source` and `target`, and for heads from the data also `words` and `heads`, as `load_splits`
            returns them.
        tokenizers: of source and target.
        settings: the lengths, where trees come from, and what happens to rows beyond the lengths, without text or
            without a tree.
        split: its name, for messages.

    Returns:
        Rows with `input_ids` and `labels`, both with the end token last, and with their texts `source` and `target` and
        their number `row` in the split, so that a row and its reference stay together whatever was dropped; with
        `syntax` also `syntax_heads` and `syntax_nodes`, one per source token; and the report.

    Raises:
        ValueError: if a row is refused (split, row, column and reason are named) or no row is left.
    """
    work = Preparer(tokenizers, settings, split)
    if work.syntax is not None and work.syntax.reads_heads and not {"words", "heads"} <= set(rows.column_names):
        raise ValueError(
            f"syntax={settings.syntax!r} needs the columns words and heads, and the {split} split has only "
            f"{', '.join(rows.column_names)}. Load it by `load_splits` with the same settings."
        )
    ids = ListOf(Value("int32"))
    text = Value("string")
    trees = {} if work.syntax is None else {"syntax_heads": ids, "syntax_nodes": ids}
    ready = rows.map(
        work,
        with_indices=True,
        batched=True,
        remove_columns=rows.column_names,
        features=Features(
            {"row": Value("int64"), "input_ids": ids, **trees, "labels": ids, "source": text, "target": text}
        ),
        load_from_cache_file=False,  # the counts are made on the way
    )
    reasons = ", ".join(f"{number} {reason}" for reason, number in work.dropped.items())
    if len(ready) == 0:
        first = f" The first: {work.first_dropped}." if work.first_dropped else ""
        raise ValueError(
            f"no row of {work.split} is left: {reasons or 'it is empty'}.{first} Check source_column, "
            "target_column, max_source_length, max_target_length and syntax."
        )
    return ready, work.report()


class Preparer:
    """Prepares batch after batch and counts.

    Args:
        tokenizers: of source and target.
        settings: as for `prepare`.
        split: its name.
    """

    def __init__(self, tokenizers: Tokenizers, settings: DataSettings, split: str) -> None:
        self.tokenizers = {"source": tokenizers.source, "target": tokenizers.target}
        self.limits = {side: getattr(settings, name) for side, name in _LIMITS.items()}
        self.settings = settings
        self.syntax = Syntax.of(settings)
        self.name = split
        self.split = split_in_words(settings.dataset, split, getattr(settings, f"{split}_split", None))
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.first_dropped = ""

    def report(self) -> PrepareReport:
        """What became of the rows so far."""
        return PrepareReport(
            split=self.name,
            rows=self.counts["rows"],
            kept=self.counts["kept"],
            cut=self.counts["cut"],
            dropped=dict(self.dropped),
            source_tokens=self.counts["source tokens"],
            target_tokens=self.counts["target tokens"],
            source_unknown=self.counts["source unknown"],
            target_unknown=self.counts["target unknown"],
            copies=self.counts["copies"],
        )

    def __call__(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Columns of rows with their numbers -> the columns of `prepare`, without the rows that are left out."""
        columns = ("row", "input_ids", "labels", "source", "target")
        trees = () if self.syntax is None else ("syntax_heads", "syntax_nodes")
        out: dict[str, list[Any]] = {name: [] for name in (*columns, *trees)}
        self.counts["rows"] += len(indices)
        usable = [
            place
            for place, index in enumerate(indices)
            if self._is_usable(index, {side: batch[side][place] for side in _LIMITS})
        ]
        if not usable:
            return out
        sources = self._encode_sources({name: [values[place] for place in usable] for name, values in batch.items()})
        targets = encode_texts(self.tokenizers["target"], [batch["target"][place] for place in usable], target=True)
        for place, source, labels in zip(usable, sources, targets, strict=True):
            index = indices[place]
            if isinstance(source, TreeError):
                self._drop_or_refuse(
                    self.settings.bad_rows, index, "source", source.reason, f"has no tree: {source}", _REPAIR
                )
                continue
            row = {**source, "labels": labels}
            if not self._cut_or_drop(index, row):
                continue
            out["row"].append(index)
            self.counts["kept"] += 1
            self.counts["copies"] += batch["source"][place] == batch["target"][place]
            for side, column in _IDS.items():
                self.counts[f"{side} tokens"] += len(row[column])
                self.counts[f"{side} unknown"] += row[column].count(self.tokenizers[side].unk_token_id)
                out[side].append(batch[side][place])
            for name, values in row.items():
                out[name].append(values)
        return out

    def _encode_sources(self, batch: Mapping[str, list[Any]]) -> list[dict[str, list[int]] | TreeError]:
        tokenizer = self.tokenizers["source"]
        if self.syntax is None:
            return [{"input_ids": ids} for ids in encode_texts(tokenizer, batch["source"])]
        given = (batch["words"], batch["heads"]) if self.syntax.reads_heads else (batch["source"],)
        rows = self.syntax.encode(tokenizer, *given)
        return [row if isinstance(row, TreeError) else vars(row) for row in rows]

    def _cut_or_drop(self, index: int, row: dict[str, list[int]]) -> bool:
        """Cut what is too long; False where the row is dropped instead."""
        long = [side for side, limit in self.limits.items() if limit is not None and len(row[_IDS[side]]) > limit]
        if not long:
            return True
        if self.settings.too_long != "cut":
            tokens, limit = len(row[_IDS[long[0]]]), f"{_LIMITS[long[0]]}={self.limits[long[0]]}"
            self._drop_or_refuse(
                self.settings.too_long,
                index,
                long[0],
                "too long",
                f"has {tokens} tokens, more than {limit}",
                "Raise it, or set too_long to cut or drop.",
            )
            return False
        if "source" in long and self.syntax is not None:
            self.dropped["too long to cut a tree"] += 1
            return False
        self.counts["cut"] += 1
        for side in long:
            row[_IDS[side]] = [*row[_IDS[side]][: self.limits[side] - 1], self.tokenizers[side].eos_token_id]
        return True

    def _is_usable(self, index: int, row: Mapping[str, Any]) -> bool:
        for side, text in row.items():
            if text is None:
                reason, sentence = "missing", "is missing"
            elif not isinstance(text, str):
                reason, sentence = "wrong type", f"is a {type(text).__name__} and must be a text: {text!r:.60}"
            elif not text.strip():
                reason, sentence = "empty", "is empty"
            else:
                continue
            self._drop_or_refuse(self.settings.bad_rows, index, side, reason, sentence, _REPAIR)
            return False
        return True

    def _drop_or_refuse(self, choice: str, index: int, side: str, reason: str, sentence: str, advice: str) -> None:
        column = getattr(self.settings, f"{side}_column")
        what = f"row {index} (counted from 0) of {self.split}: column {column!r} {sentence}"
        if choice == "refuse":
            raise ValueError(f"{what}. {advice}")
        self.first_dropped = self.first_dropped or what
        self.dropped[reason] += 1
