"""A conversion from folder to folder: model, generation config and tokenizer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file, is_protobuf_available, is_sentencepiece_available

from .converting import convert
from .report import ConversionReport

# What a tokenizer is read from, and the packages by which transformers reads it where there is no tokenizer.json.
TOKENIZER_FILES: dict[str, tuple[str, ...]] = {
    "tokenizer.json": (),
    "tokenizer_config.json": (),
    "vocab.json": (),
    "source.spm": ("sentencepiece",),
    "spiece.model": ("sentencepiece", "protobuf"),
    "sentencepiece.bpe.model": ("sentencepiece", "protobuf"),
}


def convert_folder(
    folder_or_id: str | Path, folder: str | Path, *, revision: str | None = None, **switches: Any
) -> tuple[ConversionReport, bool]:
    """Convert a pretrained model and write it to a folder, with its tokenizer where it has one.

    Args:
        folder_or_id: see `convert`.
        folder: where to write; it is made, or is empty.
        revision: see `convert`.
        **switches: see `convert`.

    Returns:
        What was taken, and whether there was a tokenizer.

    Raises:
        ValueError: if the folder holds something, if the tokenizer cannot be read, and as `convert` does.
        OSError: where there is no model.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and is no empty folder. Name another, or empty it first.")
    model, report = convert(folder_or_id, revision=revision, return_report=True, **switches)
    tokenizer = load_tokenizer(folder_or_id, revision)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    return report, tokenizer is not None


def load_tokenizer(folder_or_id: str | Path, revision: str | None) -> PreTrainedTokenizerBase | None:
    """The tokenizer of the source, or None where it has no file of one.

    Raises:
        ValueError: if a package that reads its file is not installed, or its vocabulary is not there: transformers
            would make an empty one.
    """

    def present(names: Iterable[str]) -> list[str]:
        options: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
        return [name for name in names if cached_file(str(folder_or_id), name, **options)]

    found = present(TOKENIZER_FILES)
    if not found:
        return None
    installed = {"sentencepiece": is_sentencepiece_available(), "protobuf": is_protobuf_available()}
    for name in [] if "tokenizer.json" in found else found:
        if lacking := [package for package in TOKENIZER_FILES[name] if not installed[package]]:
            raise ValueError(
                f"the tokenizer of {folder_or_id} is in {name}, which transformers reads by "
                f"{' and '.join(TOKENIZER_FILES[name])}. Install what is missing: pip install {' '.join(lacking)}"
            )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder_or_id, revision=revision, trust_remote_code=False)
    except ImportError as error:  # a class that needs a package whatever its files
        needs = " ".join(str(error).split())
        raise ValueError(f"the tokenizer of {folder_or_id} needs a package that is not installed. {needs}") from error
    vocabulary = sorted(set(tokenizer.vocab_files_names.values()) - {"tokenizer_config.json"})
    if vocabulary and not present(vocabulary):
        raise ValueError(
            f"{folder_or_id} has a {type(tokenizer).__name__} without a vocabulary: none of {', '.join(vocabulary)} is "
            "there. Add its files; or take them all away, and the model is converted without a tokenizer."
        )
    return tokenizer
