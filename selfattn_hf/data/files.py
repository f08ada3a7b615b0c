"""Lists of data files: which loader reads them, and which split each belongs to."""

import csv
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

from datasets import Features, Value

from selfattn_hf.model import near

from .conllu_builder import ConlluBuilder

# Suffix -> loader of the datasets library, or a class of ours, and its options. In CSV and TSV a text stays a text:
# neither "null" nor "NA" is missing, and in TSV a quotation mark is a character as any other.
_LOADERS: dict[str, tuple[Any, dict[str, Any]]] = {
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".parquet": ("parquet", {}),
    ".conllu": (ConlluBuilder, {}),
}
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def is_data_file(name: str) -> bool:
    """Whether the name ends as a data file does; a gzipped one too."""
    return suffix_of(name) in _LOADERS


def files_of(dataset: str | list[str] | dict[str, str | list[str]]) -> dict[str, list[str]]:
    """Split -> its local files, where they are named one by one. Those of a folder are of no split, or of any."""
    if isinstance(dataset, str) and Path(dataset).is_dir():
        return {
            "": sorted(str(path) for path in Path(dataset).rglob("*") if path.is_file() and is_data_file(path.name))
        }
    if isinstance(dataset, dict):
        return {split: [files] if isinstance(files, str) else list(files) for split, files in dataset.items()}
    files = [dataset] if isinstance(dataset, str) else list(dataset)
    return _by_split(files) if all(map(is_data_file, files)) else {}


def split_in_words(dataset: str | list[str] | dict[str, str | list[str]], split: str, asked: str | None) -> str:
    """A split with the files that its rows come from, for messages: rows of a slice are counted from its start.

    Examples:
        >>> split_in_words({"train": "pairs.jsonl"}, "validation", "train[95%:]")
        'the validation split (train[95%:] of pairs.jsonl)'
    """
    base, _, part = (asked or split).partition("[")
    files = [] if isinstance(dataset, str) and Path(dataset).is_dir() else files_of(dataset).get(base, [])
    where = f"{asked} of " if part else ""
    more = f" and {len(files) - 3} files more" if len(files) > 3 else ""
    return f"the {split} split ({where}{', '.join(files[:3])}{more})" if files else f"the {split} split"


def loader_arguments(dataset: str | list[str] | dict[str, str | list[str]]) -> dict[str, Any]:
    """Arguments of `load_dataset_builder` for files: the loader, its options, and the files of each split.

    For CoNLL-U files `path` is a class of ours, which takes the rest.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: for files that no loader reads, that need two loaders, or whose split is unclear.
    """
    if isinstance(dataset, dict):
        by_split = files_of(dataset)
    else:
        by_split = _by_split([dataset] if isinstance(dataset, str) else list(dataset))
    files = [file for names in by_split.values() for file in names]
    for file in files:
        if not Path(file).is_file():
            raise FileNotFoundError(_not_there(file))
        if not is_data_file(file):
            raise ValueError(
                f"dataset names the file {file}, and only {', '.join(_LOADERS)} (also .gz) can be read. Convert it."
            )
        if Path(file).stat().st_size == 0:
            raise ValueError(f"the data file {file} is empty.")
    suffixes = sorted({suffix_of(file) for file in files})
    if len({_LOADERS[suffix][0] for suffix in suffixes}) > 1 or {".csv", ".tsv"} <= set(suffixes):
        raise ValueError(f"dataset names files of several kinds ({', '.join(suffixes)}); they must be of one kind.")
    loader, options = _LOADERS[suffixes[0]]
    if loader == "csv":
        options = {**options, "features": _text_columns(files, options)}
    return {"path": loader, "data_files": by_split, **options}


def reader_options(suffix: str) -> dict[str, Any]:
    """Options of the loader for files that end so."""
    return _LOADERS[suffix][1]


def _not_there(file: str) -> str:
    """What to say of a file that does not exist, or is a folder."""
    if Path(file).is_dir():
        return f"dataset names the file {file}, which is a folder. Name the files in it, or the folder alone."
    folder = Path(file).parent
    beside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return (
        f"dataset names the file {file}, which does not exist.{near(Path(file).name, beside)} Relative paths start at "
        f"{Path.cwd()}."
    )


def suffix_of(name: str) -> str:
    """How a name ends, `.gz` left out, in small letters."""
    suffixes = Path(name).suffixes
    return (suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else "".join(suffixes[-1:])).lower()


def _by_split(files: list[str]) -> dict[str, list[str]]:
    """Split by the word in a file's name; files without any such word are all training data."""
    found: dict[str, list[str]] = {}
    unclear = []
    for file in files:
        words = re.split(r"[^a-z]+", Path(file).name.lower())
        split = next((split for split, names in _SPLIT_WORDS.items() if set(words) & set(names)), None)
        if split is None:
            unclear.append(file)
        else:
            found.setdefault(split, []).append(file)
    if found and unclear:
        raise ValueError(
            f"the name of the data file {unclear[0]} says no split, other names do ({', '.join(found)}). Rename it, or "
            "give files by split: dataset: {train: a.jsonl, test: b.jsonl}."
        )
    return found or {"train": unclear}


def _text_columns(files: list[str], options: dict[str, Any]) -> Features:
    """All columns of the CSV files as text, so that a column of digits is not read as numbers."""
    header: list[str] = []
    for file in files:
        open_text = gzip.open if file.endswith(".gz") else open
        with open_text(file, "rt", encoding="utf-8-sig", newline="") as lines:
            separator, quoting = options.get("sep", ","), options.get("quoting", csv.QUOTE_MINIMAL)
            names = next(csv.reader(lines, delimiter=separator, quoting=quoting), [])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"the data file {file} has the column {twice[0]!r} twice in its first line. Rename one of the two."
            )
        if header and names != header:
            raise ValueError(
                f"the data file {file} has the columns {', '.join(names)}, the ones before it {', '.join(header)}. All "
                "files need the same first line, in the same order."
            )
        header = names
    return Features({name: Value("string") for name in header})


def state_of(folder: str | Path) -> str:
    """A name for the state of a folder: it changes with the place, size or time of any file in it."""
    root = Path(folder).resolve()
    files = sorted(path for path in root.rglob("*") if path.is_file())
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]
