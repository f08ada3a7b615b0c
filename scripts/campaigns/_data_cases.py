"""Bad data: what is wrong in the files of a run, and what must be said of it, as a refusal or as a count."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

Values = dict[str, Any]
GOOD = [{"source": f"word {i} here", "target": f"wort {i} hier"} for i in range(12)]
HEADS = {"syntax": "column", "syntax_column": "head", "encoder_position_encoding": "tree_depth"}


@dataclass(frozen=True)
class Case:
    """One bad data set.

    Attributes:
        name: what is wrong.
        write: puts files into an empty folder, and returns the settings that name them.
        refused: what the refusal must name; empty: the data are let through.
        counted: what must be said of the rows, where the data are let through.
        settings: other settings of the run.
    """

    name: str
    write: Callable[[Path], Values]
    refused: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    settings: Values = field(default_factory=dict)


def jsonl(rows: list[Any], name: str = "train.jsonl") -> Callable[[Path], Values]:
    """A file of JSON lines; what is no dictionary is written as it is."""
    return lambda folder: file_of(folder / name, "\n".join(row if isinstance(row, str) else json.dumps(row)
                                                            for row in rows) + "\n")  # fmt: skip


def text(what: str | bytes, name: str) -> Callable[[Path], Values]:
    """A file with any content."""
    return lambda folder: file_of(folder / name, what)


def file_of(path: Path, what: str | bytes) -> Values:
    """Write it, and name it as the data set."""
    path.write_bytes(what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what)
    return {"dataset": {"train": str(path)}}


def good_and(name: str, what: str | bytes) -> Callable[[Path], Values]:
    """Good rows, and another file as validation split."""

    def write(folder: Path) -> Values:
        jsonl(GOOD)(folder)
        file_of(folder / name, what)
        return {"dataset": {"train": str(folder / "train.jsonl"), "validation": str(folder / name)}}

    return write


def only(**dataset: Any) -> Callable[[Path], Values]:
    """Nothing is written; the settings name the data."""
    return lambda folder: dataset


def parquet(columns: dict[str, list[Any]]) -> Callable[[Path], Values]:
    """A parquet file of columns."""

    def write(folder: Path) -> Values:
        Dataset.from_dict(columns).to_parquet(folder / "train.parquet")
        return {"dataset": {"train": str(folder / "train.parquet")}}

    return write


def trees(*heads: Any) -> Callable[[Path], Values]:
    """Rows of three words with these heads, after good rows."""
    good = [{"source": ["old", "cats", "sleep"], "target": "x y", "head": [2, 3, 0]}] * 8
    return jsonl(good + [{"source": ["old", "cats", "sleep"], "target": "x y", "head": these} for these in heads])


def folder_of(**files: str) -> Callable[[Path], Values]:
    """A folder as the data set; `_` in a name stands for a dot."""

    def write(folder: Path) -> Values:
        (folder / "set").mkdir()
        for name, what in files.items():
            (folder / "set" / name.replace("_", ".")).write_text(what)
        return {"dataset": str(folder / "set")}

    return write


def folder_named(name: str) -> Callable[[Path], Values]:
    """A folder where a file is named."""

    def write(folder: Path) -> Values:
        (folder / name).mkdir()
        return {"dataset": {"train": str(folder / name)}}

    return write


def lines(rows: list[dict[str, Any]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def spoiled(row: Any) -> list[Any]:
    """The good rows with one more in the middle, at place 6."""
    return [*GOOD[:6], row, *GOOD[6:]]


def cells(*rows: str) -> str:
    """A CSV file."""
    return "\n".join(["source,target", *(f"word {i},wort {i}" for i in range(6)), *rows]) + "\n"


REFUSE = {"bad_rows": "refuse"}
COLUMNS = [
    Case("no such source column", jsonl(GOOD), ("source_column", "'sorce'", "Did you mean source?"), (),
         {"source_column": "sorce"}),
    Case("no such target column", jsonl(GOOD), ("target_column", "'tarqet'", "Did you mean target?"), (),
         {"target_column": "tarqet"}),
    Case("source and target in one column", jsonl(GOOD), ("source_column", "target_column", "'source'"), (),
         {"target_column": "source"}),
    Case("no such language in a translation column",
         jsonl([{"translation": {"en": "a", "de": "b"}}] * 3), ("target_column", "'fr'", "en"), (),
         {"source_column": "en", "target_column": "fr"}),
    Case("a column of numbers", jsonl([row | {"source": i} for i, row in enumerate(GOOD)]),
         ("source_column", "int64", "text")),
    Case("a column of true and false", jsonl([row | {"target": True} for row in GOOD]), ("target_column", "bool")),
    Case("a column of dictionaries", jsonl([row | {"source": {"a": "b"}} for row in GOOD]),
         ("source_column", "source", "text")),
    Case("a column of lists of numbers", jsonl([row | {"target": [1, 2]} for row in GOOD]),
         ("target_column", "text")),
    Case("a column of lists of texts", jsonl(spoiled({"source": "x", "target": "y"}) and [
        row | {"target": ["two words", "more"]} for row in GOOD]), ("target_column", "'two words'", "row 0", "train")),
    Case("a column of binary values", parquet({"source": [b"\xff\x00"] * 4, "target": ["x"] * 4}),
         ("source_column", "binary")),
    Case("a column of nothing", jsonl([row | {"source": None} for row in GOOD]), ("source", "missing", "train")),
    Case("two columns of one name", text("source,source,target\na,b,c\n", "train.csv"),
         ("train.csv", "source", "twice")),
    Case("columns that differ between files", lambda folder: {"dataset": [
        file_of(folder / "train.csv", cells())["dataset"]["train"],
        file_of(folder / "test.csv", "target,source\na,b\n")["dataset"]["train"]]}, ("test.csv", "target, source")),
]  # fmt: skip

ROWS = [
    Case("a row without source", jsonl(spoiled({"target": "x"})), (), ("1 dropped", "1 missing")),
    Case("a row without source, refused", jsonl(spoiled({"target": "x"})),
         ("row 6", "train.jsonl", "'source'", "missing"), (), REFUSE),
    Case("None for a target", jsonl(spoiled({"source": "x", "target": None})), (), ("1 missing",)),
    Case("an empty source", jsonl(spoiled({"source": "", "target": "x"})), (), ("1 empty",)),
    Case("an empty source, refused", jsonl(spoiled({"source": "", "target": "x"})),
         ("row 6", "train.jsonl", "'source'", "empty"), (), REFUSE),
    Case("a target of spaces", jsonl(spoiled({"source": "x", "target": " \t\n "})), (), ("1 empty",)),
    Case("a number among texts", jsonl(spoiled({"source": 5, "target": "x"})), (), ("1 wrong type",)),
    Case("a number among texts, refused", jsonl(spoiled({"source": 5, "target": "x"})),
         ("row 6", "train.jsonl", "'source'", "int", "5"), (), REFUSE),
    Case("a list among texts", jsonl(spoiled({"source": ["x"], "target": "x"})), (), ("1 wrong type",)),
    Case("a dictionary among texts", jsonl(spoiled({"source": {"x": 1}, "target": "x"})), (), ("1 wrong type",)),
    Case("a huge row", jsonl(spoiled({"source": "word " * 200_000, "target": "x"})), (), ("1 cut",)),
    Case("a huge row, dropped", jsonl(spoiled({"source": "word " * 200_000, "target": "x"})), (), ("1 too long",),
         {"too_long": "drop"}),
    Case("a huge row, refused", jsonl(spoiled({"source": "x", "target": "word " * 5000})),
         ("row 6", "train.jsonl", "'target'", "max_target_length=256"), (), {"too_long": "refuse"}),
    Case("a row longer than the places known", jsonl(spoiled({"source": "word " * 50, "target": "x"})),
         ("row 6", "train", "source", "20 places"), (),
         {"position_encoding": "learned", "max_position_embeddings": 20, "max_new_tokens": 9}),
    Case("a huge word", jsonl(spoiled({"source": "x" * 2_000_000, "target": "x"})), (), ("13 of 13 rows",)),
    Case("every target is its source", jsonl([row | {"target": row["source"]} for row in GOOD]), (),
         ("12 of them with the source as target",)),
    Case("every row is bad", jsonl([{"source": "", "target": "x"}] * 3),
         ("train", "3 empty", "row 0", "source"), ()),
    Case("words that are all unknown", good_and("validation.jsonl", lines([{"source": "aa bb", "target": "cc"}] * 3)),
         (), ("validation", "of the source tokens unknown")),
    Case("half a surrogate pair", jsonl(spoiled('{"source": "\\ud800", "target": "x"}')), ("train.jsonl",)),
    Case("a row that is a list", jsonl(spoiled("[1, 2]")), ("train.jsonl",)),
]  # fmt: skip

FILES = [
    Case("no such file", only(dataset=["train.jsonl"]), ("train.jsonl", "does not exist")),
    Case("a name that is nearly right", lambda folder: jsonl(GOOD)(folder) and {
        "dataset": {"train": str(folder / "trian.jsonl")}}, ("trian.jsonl", "train.jsonl")),
    Case("no such folder", only(dataset="./no_such"), ("./no_such",)),
    Case("a folder in place of a file", folder_named("train.jsonl"), ("train.jsonl", "folder")),
    Case("a folder without data", folder_of(notes_txt="nothing"), ("source_column", "text")),
    Case("an empty folder", folder_of(), ("set",)),
    Case("an empty file", text("", "train.jsonl"), ("train.jsonl", "empty")),
    Case("a file of blank lines", text("\n\n\n", "train.jsonl"), ("train.jsonl",)),
    Case("a first line alone", text("source,target\n", "train.csv"), ("train", "no rows")),
    Case("broken JSON", jsonl(spoiled('{"source": "a", "targ')), ("train.jsonl", "line 7")),
    Case("a line of text among JSON", jsonl(spoiled("this is a sentence")), ("train.jsonl", "line 7")),
    Case("a row with more cells than columns", text(cells("a,b,c"), "train.csv"), ("train.csv", "line 8")),
    Case("a row with fewer cells than columns", text(cells("alone"), "train.csv"), (), ("1 empty",)),
    Case("a quotation that does not end", text(cells('"a,b', "c,d"), "train.csv"), ("train.csv",)),
    Case("Latin-1 in place of UTF-8", text(cells("Käse,fromage").encode("latin-1"), "train.csv"),
         ("train.csv", "UTF-8")),
    Case("Latin-1 in JSON", text(lines(GOOD).encode() + '{"source": "Käse", "target": "x"}\n'.encode("latin-1"),
                                 "train.jsonl"), ("train.jsonl", "UTF-8")),
    Case("Latin-1 in TSV", text("source\ttarget\nKäse\tx\n".encode("latin-1"), "train.tsv"), ("train.tsv", "UTF-8")),
    Case("UTF-16", text(cells("a,b").encode("utf-16"), "train.csv"), ("train.csv", "UTF-8")),
    Case("binary with the name of CSV", text(bytes(range(256)) * 9, "train.csv"), ("train.csv",)),
    Case("text with the name of parquet", text("source,target\na,b\n", "train.parquet"), ("train.parquet",)),
    Case("text with the name of gzip", text("source,target\na,b\n", "train.csv.gz"), ("train.csv.gz",)),
    Case("half a gzip", text(gzip.compress(cells().encode() * 50)[:100], "train.csv.gz"), ("train.csv.gz",)),
    Case("a kind of file that is not read", text("x", "train.docx"), ("train.docx", ".jsonl")),
    Case("files of two kinds", lambda folder: {"dataset": [
        file_of(folder / "train.jsonl", lines(GOOD))["dataset"]["train"],
        file_of(folder / "test.csv", cells())["dataset"]["train"]]}, (".csv", ".jsonl")),
    Case("a file of no split beside others", lambda folder: {"dataset": [
        file_of(folder / name, lines(GOOD))["dataset"]["train"] for name in ("train.jsonl", "more.jsonl")]},
        ("more.jsonl", "train")),
]  # fmt: skip

SPLITS = [
    Case("the validation split is not there", jsonl(GOOD), ("validation_split", "'dev'", "train"), (),
         {"validation_split": "dev"}),
    Case("the test split is nearly right",
         good_and("x.jsonl", lines(GOOD[:2])), ("test_split", "'validaton'", "Did you mean validation?"), (),
         {"test_split": "validaton"}),
    Case("no training split", lambda folder: {"dataset": {"test": jsonl(GOOD)(folder)["dataset"]["train"]}},
         ("train_split", "test")),
    Case("a slice without rows", jsonl(GOOD), ("train_split", "train[5:5]"), (), {"train_split": "train[5:5]"}),
    Case("a slice that means nothing", jsonl(GOOD), ("train_split", "train[half]"), (),
         {"train_split": "train[half]"}),
    Case("a validation split without a good row", good_and("x.jsonl", lines([{"source": "", "target": "x"}] * 2)),
         ("validation", "2 empty")),
    Case("an empty validation file", good_and("x.jsonl", ""), ("x.jsonl", "empty")),
    Case("a validation split with other columns", good_and("x.jsonl", lines([{"a": "b"}])), ("x.jsonl", "source")),
    Case("a bad row in validation, refused", good_and("x.jsonl", lines([*GOOD[:2], {"source": "", "target": "x"}])),
         ("row 2", "x.jsonl", "validation", "'source'"), (), REFUSE),
]  # fmt: skip

TREES = [
    Case(f"heads: {name}", trees(heads), (), ("1 broken tree",), HEADS)
    for name, heads in (
        ("a circle", [2, 1, 0]), ("two roots", [0, 0, 2]), ("no root", [2, 3, 2]), ("too large", [9, 3, 0]),
        ("one too few", [2, 0]), ("missing", None), ("one's own head", [1, 3, 0]), ("negative", [-1, 3, 0]),
    )
] + [
    Case("heads: a circle, refused", trees([2, 1, 0]), ("row 8", "train.jsonl", "'old'"), (), HEADS | REFUSE),
    Case("heads: no such column", jsonl(GOOD), ("syntax_column", "'head'"), (), HEADS),
    Case("heads: a column of text", jsonl([row | {"head": "2 0"} for row in GOOD]), ("source_column", "words"), (),
         HEADS),
    Case("heads: CoNLL-U that breaks off", text("1\told\told\tADJ\n", "train.conllu"),
         ("train.conllu", "row 0", "word 1"), (),
         {"syntax": "conllu", "encoder_position_encoding": "tree_depth", "source_column": "tokens",
          "target_column": "upos"}),
    Case("heads: commands that the grammar does not know", jsonl(GOOD), ("train.jsonl", "row 0", "SCAN command"), (),
         {"syntax": "grammar", "encoder_position_encoding": "tree_depth"}),
]  # fmt: skip

CASES = [*COLUMNS, *ROWS, *FILES, *SPLITS, *TREES]
