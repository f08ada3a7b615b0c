"""The folder of a run: who may write into it, and what says whose it is.

`run.json` is written before the first step. It keeps the settings that matter and a digest of the training rows, so
that a run is only ever continued with the settings and data it began with.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import SYNTAX_COLUMNS, DataSettings

from .arguments import MAY_CHANGE
from .checkpoints import list_checkpoints
from .settings import RunSettings, Settings

RUN_FILE = "run.json"
SETTINGS_FILE = "settings.yaml"
RESULTS_FILE = "results.json"
_TRACES = (RUN_FILE, SETTINGS_FILE, RESULTS_FILE, "config.json", "model.safetensors")
# Settings of ours that may change between a run and its continuation.
_MAY_CHANGE = {
    "num_beams", "max_new_tokens", "length_penalty", "early_stopping", "average_checkpoints", "resume", "examples",
    "test_split",
}  # fmt: skip


def check_folder(settings: Settings) -> None:
    """Refuse an output folder that the run may not write into, before any work is done.

    Raises:
        ValueError: if it is a file, cannot be written, holds a run that is not to be resumed, or another run.
    """
    folder = settings.output_dir
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={folder} is a file. Set output_dir to a folder, new or empty.")
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir={folder} cannot be written: {nearest} is no folder that takes files.")
    traces = [name for name in _TRACES if (folder / name).exists()] + [path.name for path in list_checkpoints(folder)]
    if not traces:
        return
    if not settings.run.resume:
        raise ValueError(
            f"output_dir={folder} holds a run already ({', '.join(traces[:4])}). Add --resume to go on with it, or "
            "--output_dir with another folder."
        )
    if not (folder / RUN_FILE).is_file():
        raise ValueError(
            f"output_dir={folder} holds {', '.join(traces[:4])} but no {RUN_FILE}, so it is no run that can be "
            "resumed. Set --output_dir to another folder."
        )
    before, now = read_run(folder)["settings"], fingerprint(settings)
    differing = [name for name in sorted({*before, *now}) if _value(before, name) != _value(now, name)]
    if differing:
        pairs = ", ".join(f"{name} was {_value(before, name)!r} and is {_value(now, name)!r}" for name in differing[:8])
        raise ValueError(
            f"output_dir={folder} holds another run: {pairs}. Resume it with the settings it began with, or set "
            "--output_dir to another folder."
        )


def check_data(folder: Path, digest: str) -> None:
    """Refuse to continue a run with other training rows.

    Raises:
        ValueError: if the rows are not those it began with.
    """
    if read_run(folder)["data"] != digest:
        raise ValueError(
            f"the training rows are not those that the run in {folder} began with: the data set or its preparation has "
            "changed. Restore it, or start anew with --output_dir."
        )


def fingerprint(settings: Settings) -> dict[str, Any]:
    """The settings that decide what is learned, by name, as they come out of a JSON file."""
    groups = settings.resolved()
    kept = {**groups["model"], **groups["data"], **groups["run"], **groups["training"]}
    kept = {name: value for name, value in kept.items() if name not in MAY_CHANGE | _MAY_CHANGE}
    plain: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True))
    return plain


def digest_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the ids of all rows, and of their trees if they have some, in order."""
    digest = hashlib.sha256()
    for row in rows:
        trees = [row[name] for name in SYNTAX_COLUMNS if name in row]
        digest.update(json.dumps([row["input_ids"], row["labels"], *trees]).encode())
    return digest.hexdigest()


def begin(settings: Settings, text: str, digest: str) -> None:
    """Make the folder a run's own: its settings, and what says whose it is."""
    folder = settings.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SETTINGS_FILE, text)
    write_text(folder / RUN_FILE, json.dumps({"settings": fingerprint(settings), "data": digest}, indent=1) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """What `begin` kept.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        kept = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        if not isinstance(kept["settings"], dict) or not isinstance(kept["data"], str):
            raise TypeError("settings or data of a wrong type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / RUN_FILE} cannot be read ({error}), so nobody can say whose run this is. Set --output_dir to "
            "another folder."
        ) from error
    return dict(kept)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _value(settings: Mapping[str, Any], name: str) -> Any:
    """A setting, or its default where it was left out or, in a run of an earlier version, did not exist yet."""
    if name in settings:
        return settings[name]
    for owner in (SelfAttnConfig, DataSettings, RunSettings, Seq2SeqTrainingArguments):
        field: Any = owner.__dataclass_fields__.get(name)
        if field is not None:
            return field.default
    return None
