"""CoNLL-U files, in which Universal Dependencies are published: one row per sentence.

Columns: `tokens`, `lemmas`, `upos`, `xpos`, `head` and `deprel`, lists of texts with one entry per syntactic word; and
the comments of a sentence, such as `sent_id`, `text` or `text_en`, one text each. A multi-word token ("3-4 don't") and
an empty node ("8.1") stand in no tree and are left out.
Format: https://universaldependencies.org/format.html. The files are read by the package conllu, which is an extra.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

# Column -> field of the package conllu.
WORD_COLUMNS = {"tokens": "form", "lemmas": "lemma", "upos": "upos", "xpos": "xpos", "head": "head", "deprel": "deprel"}
_COMMENT = re.compile(r"#\s*([^=]*[^=\s])\s*=")


def read_conllu(path: str | Path) -> Iterator[dict[str, Any]]:
    """The sentences of a file, gzipped or not, as rows.

    Raises:
        ValueError: if the package conllu is missing, or naming the file and the sentence that cannot be read.
    """
    parse_incr, broken = _package()
    with _open(path) as lines:
        number = 0
        try:
            for number, sentence in enumerate(parse_incr(lines), start=1):
                words = [word for word in sentence if isinstance(word["id"], int)]
                if [word["id"] for word in words] != list(range(1, len(words) + 1)):
                    raise ValueError(f"{path}, sentence {number}: its words must be numbered 1, 2, 3, ... Repair it.")
                row: dict[str, Any] = {name: text for name, text in sentence.metadata.items() if text is not None}
                if clash := sorted(set(row) & set(WORD_COLUMNS)):
                    raise ValueError(f"{path}, sentence {number}: its comment {clash[0]!r} has the name of a column.")
                for column, field in WORD_COLUMNS.items():
                    row[column] = ["_" if word.get(field) is None else str(word[field]) for word in words]
                yield row
        except broken as error:
            raise ValueError(f"{path}, sentence {number + 1}, is no CoNLL-U: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason}). Save the file as UTF-8.") from None


def comment_names(path: str | Path) -> list[str]:
    """The names of all comments of a file, in the order of their first sentences."""
    _package()  # a missing package should be named before anything is read
    with _open(path) as lines:
        names = dict.fromkeys(match[1] for line in lines if (match := _COMMENT.match(line)))
    return [name for name in names if name not in WORD_COLUMNS]


def _open(path: str | Path) -> TextIO:
    if str(path).lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return open(path, encoding="utf-8-sig")


def _package() -> tuple[Any, type[Exception]]:
    try:
        from conllu import parse_incr
        from conllu.exceptions import ParseException
    except ImportError as error:
        raise ValueError(
            "CoNLL-U files are read by the package conllu, which is not installed: pip install 'selfattn_hf[syntax]'."
        ) from error
    return parse_incr, ParseException
