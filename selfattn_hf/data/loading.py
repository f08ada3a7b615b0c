"""A Hub id, a folder or files -> splits with the two text columns `source` and `target`, and heads if asked for."""

import logging
import re
from collections.abc import Sequence
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features, Json, load_dataset_builder
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowInvalid

from selfattn_hf.model import near

from .caching import caching
from .columns import chosen_columns
from .diagnosis import explained
from .files import is_data_file, loader_arguments, split_in_words, state_of
from .settings import SPLITS, DataSettings
from .streaming import Stream

logger = logging.getLogger(__name__)


@caching()
def load_splits(settings: DataSettings, splits: Sequence[str] = SPLITS) -> dict[str, Dataset]:
    """The splits of a data set, each with the columns `source` and `target`.

    A column with lists of words becomes text, one space between words. Where the heads of the words stand in the data
    (`syntax` is column or conllu), the source's `words` and their `heads` are columns too.

    Values of a wrong type inside a mixed column are left for `prepare` to count; they are the only ones that are no
    text here. With `streaming`, the training split is its first `streaming_buffer` rows.

    Args:
        settings: which data set, splits and columns.
        splits: which of train, validation and test are wanted.

    Returns:
        Split by name. Validation or test is absent where its setting is None and the set has no such split.

    Raises:
        FileNotFoundError: if a file or folder does not exist.
        ValueError: if a split or column is missing, a split is empty, a column holds no text, or the data are broken.

    Examples:
        >>> load_splits(DataSettings(dataset="configs/quickstart_data", source_column="text", target_column="iso"))
    """
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise ValueError(f"splits must be among {', '.join(SPLITS)}; got {', '.join(sorted(unknown))}.")
    if settings.streaming:
        return {
            split: stream.first(settings.streaming_buffer if split == "train" else settings.max_eval_rows)
            for split, stream in open_streams(settings, splits).items()
        }
    builder = _prepared_builder(settings)
    existing = list(builder.info.splits)
    loaded = {}
    for split in splits:
        asked = getattr(settings, f"{split}_split")
        if asked is None and split not in existing:
            logger.info("The data set has no %s split, and %s_split names none.", split, split)
            continue
        rows = _read_split(builder, settings.dataset, split, asked or split)
        try:
            rows.data.validate(full=True)  # the JSON reader takes any bytes for text, and they fail much later
        except ArrowInvalid as error:
            raise explained(error, settings.dataset) from error
        limit = settings.max_train_rows if split == "train" else settings.max_eval_rows
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        loaded[split] = chosen_columns(rows, settings, split_in_words(settings.dataset, split, asked))
    return loaded


def open_streams(settings: DataSettings, splits: Sequence[str] = SPLITS) -> dict[str, Stream]:
    """The splits of a data set, to be read row by row; otherwise as `load_splits`."""
    builder = _prepared_builder(settings)
    existing = list(builder.as_streaming_dataset())
    streams = {}
    for split in splits:
        asked = getattr(settings, f"{split}_split")
        if asked is not None or split in existing:
            _check_split(existing, split, asked or split)
            streams[split] = Stream(builder, settings, split, asked or split)
    return streams


def _prepared_builder(settings: DataSettings) -> Any:
    """The library's reader of the data set; all its splits are read already, unless they are to be streamed."""
    try:
        arguments = _builder_arguments(settings)
    except (UnicodeDecodeError, BadGzipFile, EOFError) as error:
        raise explained(error, settings.dataset) from error
    try:
        path = arguments.pop("path")
        builder = path(**arguments) if isinstance(path, type) else load_dataset_builder(path, **arguments)
        _read(builder, settings)
        # The JSON reader takes a column of dates for timestamps; as JSON values its texts stay as they were written.
        dates = [
            name
            for name in (settings.source_column, settings.target_column)
            if builder.name == "json"
            and str(getattr((builder.info.features or {}).get(name), "dtype", "")).startswith("timestamp")
        ]
        if dates:
            features = Features({**builder.info.features, **{name: Json() for name in dates}})
            builder = load_dataset_builder(path, **arguments, features=features)
            _read(builder, settings)
    except (DatasetGenerationError, ConnectionError, ValueError, OSError, EOFError) as error:
        raise explained(error, settings.dataset) from error
    if builder.name == "conll":
        # It takes the number of a word for the word, and leaves heads and comments out.
        raise ValueError(
            f"dataset={settings.dataset!r} holds CoNLL files, which must be named one by one: dataset: [train.conllu, "
            "dev.conllu], or {train: train.conllu, test: test.conllu}."
        )
    return builder


def _read(builder: Any, settings: DataSettings) -> None:
    """All rows into the cache; of a stream, as many as tell the columns."""
    if settings.streaming:
        builder.as_streaming_dataset()
    else:
        builder.download_and_prepare()


def _builder_arguments(settings: DataSettings) -> dict[str, Any]:
    dataset = settings.dataset
    if isinstance(dataset, str) and (Path(dataset).is_dir() or not is_data_file(dataset)):
        if not Path(dataset).is_dir() and (dataset.count("/") > 1 or dataset.startswith((".", "/", "~"))):
            raise FileNotFoundError(
                f"dataset={dataset!r} is a path, and there is no such folder. Relative paths start at {Path.cwd()}."
            )
        arguments = {"path": dataset, "name": settings.dataset_config, "revision": settings.dataset_revision}
        if Path(dataset).is_dir():
            # The library finds what it read before by the names of files alone, and would go on giving the rows of a
            # folder that has changed since.
            arguments["cache_dir"] = str(Path(datasets.config.HF_DATASETS_CACHE) / f"folder-{state_of(dataset)}")
        return arguments
    for name in ("dataset_config", "dataset_revision"):
        if getattr(settings, name) is not None:
            raise ValueError(f"{name} does nothing for a list of files. Remove it, or name a folder or Hub id.")
    return loader_arguments(dataset)


def _read_split(builder: Any, dataset: Any, split: str, asked: str) -> Dataset:
    existing = list(builder.info.splits)
    _check_split(existing, split, asked)
    try:
        rows = builder.as_dataset(split=asked)
    except (ValueError, AssertionError) as error:
        empty = f"{split_in_words(dataset, split, asked)} has no rows. Choose another file or split"
        wrong = f"{split}_split={asked!r} is no split or slice with rows in it, such as train[:95%]: {error}"
        raise ValueError(f"{empty if asked in existing else wrong}.") from error
    if len(rows) == 0:
        raise ValueError(f"{split}_split={asked!r} has no rows. Choose another split or a larger slice.")
    return rows


def _check_split(existing: list[str], split: str, asked: str) -> None:
    missing = [name for name in re.findall(r"(?:^|\+)\s*([\w.-]+)", asked) if name not in existing]
    if missing:
        hint = f" Or take rows of another: {split}_split: {existing[0]}[95%:]." if split == "validation" else ""
        raise ValueError(
            f"{split}_split={asked!r}: the data set has no split {missing[0]!r}, only {', '.join(existing)}."
            f"{near(missing[0], existing)}{hint}"
        )
