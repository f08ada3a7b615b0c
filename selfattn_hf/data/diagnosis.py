"""Why a data file cannot be read: the first line that is to blame, by its number.

Asked only when reading has failed, so that files that are in order are read once. What the libraries say names neither
the file nor, often, the line.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from datasets.exceptions import DatasetGenerationError

from .files import files_of, reader_options, suffix_of


def explained(error: Exception, dataset: str | list[str] | dict[str, str | list[str]]) -> Exception:
    """What to say of data that cannot be read: the file and the line, where they can be found, else what was said."""
    files = [file for files in files_of(dataset).values() for file in files if Path(file).is_file()]
    if problem := first_problem(files):
        return ValueError(problem)
    if isinstance(error, DatasetGenerationError):
        # The library's own sentence only says that something went wrong; its cause says what.
        return ValueError(f"dataset={dataset!r} cannot be read: {error.__cause__ or error}")
    kinds: tuple[type[Exception], ...] = (FileNotFoundError, ConnectionError, OSError)
    return next((kind for kind in kinds if isinstance(error, kind)), ValueError)(
        f"dataset={dataset!r} cannot be loaded: {error}. It must be a Hub id, a folder or files; paths start at "
        f"{Path.cwd()}."
    )


def first_problem(files: Iterable[str]) -> str | None:
    """A sentence about the first local file with a problem that this module knows; None where there is none."""
    for file in files:
        kind = suffix_of(file)
        if kind == ".parquet":
            continue  # no text, and the library names what is wrong
        try:
            with open_bytes(file) as lines:
                problem = _undecodable(lines) or (_check(file, kind) if kind in _CHECKS else None)
        except (OSError, EOFError) as error:  # gzip's errors among them
            problem = f" is no file that can be unpacked ({error}). Download or write it again."
        if problem:
            return f"the data file {file}{problem}"
    return None


def open_bytes(file: str) -> IO[bytes]:
    """A file, gzipped or not, as bytes."""
    return gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb")  # type: ignore[return-value]


def _check(file: str, kind: str) -> str | None:
    with open_bytes(file) as lines:
        decoded = (line.decode("utf-8-sig" if not number else "utf-8") for number, line in enumerate(lines))
        return _CHECKS[kind](decoded, reader_options(kind))


def _undecodable(lines: Iterable[bytes]) -> str | None:
    for number, line in enumerate(lines, start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            return f", line {number}, is not UTF-8 ({error.reason}). Save the file as UTF-8."
    return None


def _wrong_json(lines: Iterator[str], options: dict[str, Any]) -> str | None:
    """JSON lines, a dictionary in each; a file that is one list over several lines is left to the library's words."""
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.strip() == "[":
            return None
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError as error:
            return f", line {number}, is no JSON ({error}). A file of JSON lines has one whole row in each; repair it."
        if not isinstance(row, dict):
            return f", line {number}, is a {type(row).__name__}, and a row is a dictionary from columns to values."
    return None


def _wrong_cells(lines: Iterator[str], options: dict[str, Any]) -> str | None:
    rows = csv.reader(lines, delimiter=options.get("sep", ","), quoting=options.get("quoting", csv.QUOTE_MINIMAL),
                      strict=True)  # fmt: skip
    began = 1
    try:
        columns = next(rows, [])
        for row in rows:
            began += 1
            if len(row) > len(columns):
                return (
                    f", line {rows.line_num}, has {len(row)} cells, and there are {len(columns)} columns "
                    f"({', '.join(columns)}). Put a text with a separator in it in quotation marks."
                )
            began = rows.line_num
    except csv.Error as error:
        return f": a quotation that begins after line {began} does not end ({error}). Close it, or double the mark."
    return None


_CHECKS: dict[str, Callable[[Iterator[str], dict[str, Any]], str | None]] = {
    ".jsonl": _wrong_json,
    ".json": _wrong_json,
    ".csv": _wrong_cells,
    ".tsv": _wrong_cells,
}
