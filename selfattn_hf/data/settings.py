"""Which data, which columns and which tokenizer: the data settings of a run, checked when they are built.

Standard library only: the scripts' `--help` reads names, defaults and the line below each field from this source.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

TooLong = Literal["cut", "drop", "refuse"]
BadRows = Literal["drop", "refuse"]
TokenizerType = Literal["bpe", "unigram", "word"]
SyntaxName = Literal["column", "grammar", "conllu", "parser", "chain", "flat", "random"]

SPLITS = ("train", "validation", "test")


@dataclass(kw_only=True)
class DataSettings:
    """The data settings of a run; every field is described below it.

    Raises:
        ValueError: for an illegal value, or a setting that would do nothing beside another.

    Examples:
        >>> DataSettings(dataset="configs/quickstart_data", source_column="text", target_column="iso")
    """

    dataset: str | list[str] | dict[str, str | list[str]]
    """Hub id, local folder, file or list of files (JSONL, CSV, TSV, parquet, CoNLL-U), or split -> files."""
    dataset_config: str | None = None
    """Name of one configuration of the data set, where it has several."""
    dataset_revision: str | None = None
    """Commit, tag or branch of a data set on the Hub."""
    source_column: str = "source"
    """Column with the input, or a key inside a `translation` column; lists of words are joined by spaces."""
    target_column: str = "target"
    """Column with the output, or a key inside a `translation` column; lists of words are joined by spaces."""
    train_split: str = "train"
    """Split to train on; a slice such as `train[:95%]` works too."""
    validation_split: str | None = None
    """Split, or slice such as `train[95%:]`, to choose the best model on; null: `validation` if the set has it."""
    test_split: str | None = None
    """Split, or slice, for the figure at the end; null: `test` if the set has it."""
    max_source_length: int | None = 256
    """Most tokens of an input, its end token included; null: no limit."""
    max_target_length: int | None = 256
    """Most tokens of an output, its end token included; null: no limit."""
    too_long: TooLong = "cut"
    """What happens to a row over these lengths: cut it, drop it, or refuse the data. A source with a tree is dropped
    instead of cut, because what is left of a tree is none."""
    bad_rows: BadRows = "drop"
    """What happens to a row that is empty, missing or no text, or has no tree: drop and count it, or refuse the
    data."""
    streaming: bool = False
    """Read the training split while training on it, for sets larger than memory or disk: in the order of the data, and
    without a copy in the cache. Needs `max_steps`, and `eval_steps` or `save_steps`."""
    streaming_buffer: int = 10_000
    """For `streaming`: so many rows are made ready at a time and shuffled; a new tokenizer is trained on the first
    ones."""
    max_train_rows: int | None = None
    """Only the first so many rows of the training split."""
    max_eval_rows: int | None = None
    """Only the first so many rows of the validation split, and of the test split."""
    tokenizer: str | None = None
    """Folder or Hub id of a tokenizer; null: train one on the training split."""
    tokenizer_type: TokenizerType = "bpe"
    """Tokenizer to train: byte-level BPE, byte-level unigram, or whole words."""
    tokenizer_vocab_size: int = 8000
    """Most tokens of a trained tokenizer, the special ones included."""
    tokenizer_shared: bool = True
    """One vocabulary for source and target, or one each (which needs `tie_word_embeddings: false`)."""
    lowercase: bool = False
    """Lower-case all text in the trained tokenizer."""
    syntax: SyntaxName | None = None
    """Where the trees come from that a `tree_*` encoding reads: heads in a column or in CoNLL-U files, beside a source
    of words; the grammar of SCAN; the parser Stanza. Controls: each token under the one before it, all under the first,
    a random tree that the text decides."""
    syntax_column: str = "head"
    """For `syntax: column`: each word's head as Universal Dependencies count it, from 1 on, and 0 for the root."""
    syntax_language: str = "en"
    """For `syntax: parser`: the language of the source."""

    def __post_init__(self) -> None:
        self._check_dataset()
        for name, legal in (("too_long", TooLong), ("bad_rows", BadRows), ("tokenizer_type", TokenizerType)):
            if getattr(self, name) not in get_args(legal):
                raise ValueError(f"{name} must be one of {', '.join(get_args(legal))}; got {getattr(self, name)!r}.")
        self._check_syntax()
        for name, least in (
            ("max_source_length", 2),  # one token and the end token
            ("max_target_length", 2),
            ("streaming_buffer", 1),
            ("max_train_rows", 1),
            ("max_eval_rows", 1),
            ("tokenizer_vocab_size", 5),  # four special tokens and one more
        ):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be a whole number from {least} on, got {value!r}.")
        if self.source_column == self.target_column:
            raise ValueError(
                f"source_column and target_column must differ, both are {self.source_column!r}: the model would only "
                "learn to copy. To train a copying model, duplicate the column in the data."
            )
        self._refuse_settings_that_do_nothing()

    @property
    def splits(self) -> dict[str, str | None]:
        """What is asked for as training, validation and test split."""
        return {split: getattr(self, f"{split}_split") for split in SPLITS}

    def _check_dataset(self) -> None:
        if not self.dataset:
            raise ValueError(
                f"dataset names no data: got {self.dataset!r}. Set it to a Hub id, a folder, or a list of files."
            )
        if isinstance(self.dataset, dict):
            unknown = sorted(set(self.dataset) - set(SPLITS))
            if unknown and self.train_split.split("[")[0] not in self.dataset:
                raise ValueError(
                    f"dataset names files for {', '.join(self.dataset)}, and train_split={self.train_split!r} is none "
                    "of them. Set train_split to one of these names."
                )

    def _check_syntax(self) -> None:
        if self.syntax is not None and self.syntax not in get_args(SyntaxName):
            raise ValueError(f"syntax must be one of {', '.join(get_args(SyntaxName))} or null; got {self.syntax!r}.")
        conllu = is_conllu(self.dataset)
        if self.syntax == "conllu" and not conllu:
            raise ValueError(
                f"syntax='conllu' reads the trees of .conllu files, and dataset={self.dataset!r} names none. Name "
                "some, or set syntax to column."
            )
        if self.syntax == "column" and conllu:
            raise ValueError(
                f"syntax='column' is for other data: the trees of dataset={self.dataset!r} stand in .conllu files. Set "
                "syntax to conllu."
            )

    def _refuse_settings_that_do_nothing(self) -> None:
        default = {field.name: field.default for field in fields(self)}
        for name, beside, needs in (
            ("syntax_column", "syntax", "column"), ("syntax_language", "syntax", "parser"),
            ("streaming_buffer", "streaming", True), ("max_train_rows", "streaming", False),
        ):  # fmt: skip
            if getattr(self, name) != default[name] and getattr(self, beside) != needs:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} would do nothing with {beside}={getattr(self, beside)!r}: it is "
                    f"for {beside}={needs!r}. Remove one of the two."
                )
        sliced = [f"{split}_split={asked!r}" for split, asked in self.splits.items() if asked and "[" in asked]
        if self.streaming and sliced:
            raise ValueError(
                f"{sliced[0]} is a slice, and the rows of a stream are not known before they are read. Name a whole "
                "split, or set streaming to false."
            )
        if self.tokenizer is None:
            return
        for name in ("tokenizer_type", "tokenizer_vocab_size", "tokenizer_shared", "lowercase"):
            if getattr(self, name) != default[name]:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is for a tokenizer that is trained, and "
                    f"tokenizer={self.tokenizer!r} is loaded as it is. Remove one of the two."
                )


def is_conllu(dataset: str | list[str] | dict[str, str | list[str]]) -> bool:
    """Whether the data are CoNLL-U files, gzipped ones too."""
    groups = dataset.values() if isinstance(dataset, dict) else [dataset]
    names = [name for group in groups for name in ([group] if isinstance(group, str) else group)]
    return any(name.lower().endswith((".conllu", ".conllu.gz")) for name in names)
