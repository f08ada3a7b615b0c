"""The columns that settings name -> `source` and `target` as text; words and heads of the source if asked for."""

from typing import Any

from datasets import Dataset, Features, Json, LargeList, List, Value, concatenate_datasets

from selfattn_hf.model import near

from .settings import DataSettings
from .syntax import Syntax

TRANSLATION = "translation"  # {"de": "...", "en": "..."}, as many translation sets on the Hub have it
_TEXT_TYPES = ("string", "large_string", "string_view", "null")


def chosen_columns(rows: Dataset, settings: DataSettings, split: str) -> Dataset:
    """The columns `source` and `target`; where heads stand in the data, also `words` of the source and their `heads`.

    Args:
        rows: of one split, with all columns.
        settings: which columns are wanted.
        split: the split in words, for messages.

    Raises:
        ValueError: if a column is missing, or holds neither text nor what is needed.
    """
    pair = {"source": settings.source_column, "target": settings.target_column}
    columns = rows.features
    syntax = Syntax.of(settings)
    if syntax is not None and syntax.reads_heads:
        return _with_heads(rows, pair, settings.syntax_column, split)
    inside = _keys(columns.get(TRANSLATION))
    if not set(pair.values()) <= set(columns) and inside is not None:
        _check_names(pair, inside, f"keys of the {TRANSLATION} column")
        rows = rows.select_columns([TRANSLATION]).map(
            lambda batch: {side: [row and row[key] for row in batch[TRANSLATION]] for side, key in pair.items()},
            batched=True,
            remove_columns=[TRANSLATION],
            features=Features({side: Value("string") for side in pair}),
            load_from_cache_file=False,
        )
        return rows
    _check_names(pair, list(columns), "columns")
    for side in pair:
        _check_text(side, pair[side], columns[pair[side]])
    rows = rows.select_columns(list(pair.values())).rename_columns({name: side for side, name in pair.items()})
    return _as_text(rows, pair, split)


def _with_heads(rows: Dataset, pair: dict[str, str], heads: str, split: str) -> Dataset:
    """The two columns of text, the source's words, and the heads of these words."""
    chosen, columns = {**pair, "syntax": heads}, rows.features
    _check_names(chosen, list(columns), "columns")
    if heads in pair.values():
        raise ValueError(f"syntax_column={heads!r} is the source or the target. Name the column with the heads.")
    _check_text("target", pair["target"], columns[pair["target"]])
    for name, kind, fits, needed in (
        ("source_column", columns[pair["source"]], _is_words, "lists of words, for heads are counted in words"),
        ("syntax_column", columns[heads], _is_heads, "lists of heads, one per word"),
    ):
        if not fits(kind):
            raise ValueError(
                f"{name}={chosen[name.removesuffix('_column')]!r} holds {_dtype(kind)} and must hold {needed}. Choose "
                "another column or convert it."
            )
    words = rows.select_columns([pair["source"]]).rename_columns({pair["source"]: "words"})
    rows = rows.select_columns(list(chosen.values()))
    rows = rows.rename_columns({name: "heads" if side == "syntax" else side for side, name in chosen.items()})
    return concatenate_datasets([_as_text(rows, chosen, split, counted="source"), words], axis=1)


def _check_text(side: str, name: str, kind: Any) -> None:
    # In a column of JSON values some rows may be text and some not: `prepare` counts them one by one.
    if not (isinstance(kind, Json) or _is_words(kind) or _dtype(kind) in _TEXT_TYPES):
        raise ValueError(
            f"{side}_column={name!r} holds {_dtype(kind)} and must hold text. Choose another column or convert it."
        )


def _is_words(kind: Any) -> bool:
    return isinstance(kind, List | LargeList) and _dtype(kind.feature) in _TEXT_TYPES


def _is_heads(kind: Any) -> bool:
    numbers = isinstance(kind, List | LargeList) and _dtype(kind.feature).startswith(("int", "uint"))
    return numbers or _is_words(kind) or isinstance(kind, Json)


def _dtype(kind: Any) -> str:
    return str(getattr(kind, "dtype", None) or kind)


def _as_text(rows: Dataset, names: dict[str, str], split: str, counted: str | None = None) -> Dataset:
    """Columns `source` and `target` that hold nothing but text, or lists of words, get the type string.

    Args:
        rows: the columns that were chosen.
        names: side -> its column's name in the data, for messages.
        split: the split in words, for messages.
        counted: the side in which heads say what a word is, so that one may have a space inside.
    """
    text = {
        name: Value("string")
        for name in ("source", "target")
        if not isinstance(rows.features[name], Json)
        or all(value is None or isinstance(value, str) for value in rows[name])
    }
    if all(rows.features[name] == kind for name, kind in text.items()):
        return rows

    def convert(batch: Any, indices: list[int]) -> dict[str, list[Any]]:
        # Looking a column up is what decodes its JSON values.
        columns = {name: list(batch[name]) for name in rows.features}
        for side in text:
            for place, value in enumerate(columns[side]):
                where = f"row {indices[place]} (counted from 0) of {split}: {side}_column={names[side]!r}"
                columns[side][place] = _joined(value, where, side == counted)
        return columns

    features = Features({**rows.features, **text})
    return rows.map(convert, with_indices=True, batched=True, features=features, load_from_cache_file=False)


def _joined(value: Any, where: str, spaces: bool) -> Any:
    """Words with a space between them; a list with a missing word is missing, and what is no list stays."""
    if not isinstance(value, list):
        return value
    if None in value:
        return None
    for word in value:
        if not spaces and len(word.split()) != 1:
            raise ValueError(
                f"{where} holds a list, and {word!r} in it is not one word. Lists of words are joined to a text; of "
                "lists of texts, choose one text for each row."
            )
    return " ".join(value)


def _keys(feature: Any) -> list[str] | None:
    """Names of the languages in a `translation` column; None if it is no such column."""
    if isinstance(feature, dict):
        return list(feature)
    languages = getattr(feature, "languages", None)
    return None if languages is None else list(languages)


def _check_names(pair: dict[str, str], existing: list[str], what: str) -> None:
    for side, name in pair.items():
        if name not in existing:
            raise ValueError(
                f"{side}_column={name!r} is not in the data; its {what} are {', '.join(existing)}."
                f"{near(name, existing)} Set {side}_column to one of them."
            )
