"""A conversion from folder to folder: model, generation config and tokenizer."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

from .converting import convert
from .report import ConversionReport

TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")


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
        ValueError: if the folder holds something, and as `convert` does.
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
    """The tokenizer of the source, or None where it has no file of one: transformers would make an empty one."""
    found = [
        cached_file(str(folder_or_id), name, revision=revision, _raise_exceptions_for_missing_entries=False)
        for name in TOKENIZER_FILES
    ]
    if not any(found):
        return None
    return AutoTokenizer.from_pretrained(folder_or_id, revision=revision, trust_remote_code=False)
