"""The folder of a run: who may write into it, and what says whose it is.

`run.json` is written before the first step. It keeps the settings that matter and a digest of the training rows, so
that a run is only ever continued with the settings and data it began with.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import SYNTAX_COLUMNS, DataSettings

from .arguments import MAY_CHANGE
from .checkpoints import WEIGHTS, list_checkpoints
from .disk import nearest_folder, write_text
from .processes import processes
from .settings import HUB, RunSettings, Settings

RUN_FILE = "run.json"
SETTINGS_FILE = "settings.yaml"
RESULTS_FILE = "results.json"
_TRACES = (RUN_FILE, SETTINGS_FILE, RESULTS_FILE, "config.json", WEIGHTS)
# Settings of ours that may change between a run and its continuation.
_MAY_CHANGE = {
    "num_beams", "max_new_tokens", "length_penalty", "early_stopping", "average_checkpoints", "resume", "examples",
    "test_split", "license", *HUB,
}  # fmt: skip

# Settings that say how many processes share a step, and in what pieces; a run may go on with others if its steps read
# the same rows.
_SHARING = {"processes", "per_device_train_batch_size", "gradient_accumulation_steps"}
_WAY_OUT = {
    False: "Start as many processes as before, or keep their number times per_device_train_batch_size times "
    "gradient_accumulation_steps as it was",
    True: "Start as many processes as before, or keep their number times gradient_accumulation_steps as it was",
}


def check_folder(settings: Settings) -> None:
    """Refuse an output folder that the run may not write into, before any work is done.

    Raises:
        ValueError: if it is a file, cannot be written, holds another run, or any run where `resume` is false.
    """
    folder = settings.output_dir
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={folder} is a file. Set output_dir to a folder, new or empty.")
    nearest = nearest_folder(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir={folder} cannot be written: {nearest} is no folder that takes files.")
    traces = [name for name in _TRACES if (folder / name).exists()] + [path.name for path in list_checkpoints(folder)]
    if not traces:
        return
    if not settings.run.resume:
        raise ValueError(
            f"output_dir={folder} holds a run already ({', '.join(traces[:4])}), and resume is false. Leave it out to "
            "go on with that run, or set --output_dir to another folder."
        )
    if not (folder / RUN_FILE).is_file():
        raise ValueError(
            f"output_dir={folder} holds {', '.join(traces[:4])} but no {RUN_FILE}, so it is no run that can be gone on "
            "with. Set --output_dir to another folder."
        )
    before, now = read_run(folder)["settings"], fingerprint(settings)
    differing = _differing(before, now)
    if set(differing) <= _SHARING and _reads_the_same(before, now):
        return
    if differing:
        rows = [_rows_of_a_step(kept) for kept in (before, now)]
        if set(differing) <= _SHARING:
            raise ValueError(
                f"output_dir={folder} holds a run whose steps read {rows[0]}, and they would read {rows[1]} now. "
                f"{_WAY_OUT[_is_cut_ahead(now)]}, or set --output_dir to another folder."
            )
        pairs = ", ".join(f"{name} was {_value(before, name)!r} and is {_value(now, name)!r}" for name in differing[:8])
        raise ValueError(
            f"output_dir={folder} holds another run: {pairs}. Go on with the settings it began with, or set "
            "--output_dir to another folder."
        )


def check_still_new(folder: Path) -> None:
    """Refuse a folder that was not there when the run was prepared, and holds one now.

    Raises:
        ValueError: if another process was faster.
    """
    if (folder / RUN_FILE).exists():
        raise ValueError(
            f"another process has begun a run in output_dir={folder} meanwhile. The same command goes on with it, or "
            "set --output_dir to another folder."
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
    if processes() > 1:
        kept["processes"] = processes()
    plain: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True))
    return plain


def say_other_processes(settings: Settings, say: Callable[[str], None]) -> None:
    """Say it where a run goes on with another number of processes than it had."""
    kept = read_run(settings.output_dir)["settings"], fingerprint(settings)
    before, now = (_count(one, "processes") for one in kept)
    if before != now:
        say(
            f"this run had {before} process{'es' if before > 1 else ''} and goes on with {now}: its steps read the "
            "same rows as before, and dropout draws other numbers"
        )


def _reads_the_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the steps of both read the same rows, although others share them."""
    sizes_match = _value(before, "per_device_train_batch_size") == _value(now, "per_device_train_batch_size")
    return _rows_of_a_step(before) == _rows_of_a_step(now) and (sizes_match or not _is_cut_ahead(now))


def _is_cut_ahead(settings: Mapping[str, Any]) -> bool:
    """Whether batches are made before they are shared, so that their size may not change."""
    return bool(settings.get("streaming") or settings.get("batch_tokens"))


def _rows_of_a_step(settings: Mapping[str, Any]) -> str:
    """In words: how much a step reads."""
    batches = _count(settings, "processes") * _count(settings, "gradient_accumulation_steps")
    if settings.get("batch_tokens"):
        return f"{batches} batches of {settings['batch_tokens']} tokens"
    size = _count(settings, "per_device_train_batch_size")
    return f"{batches} batches of {size} rows" if settings.get("streaming") else f"{batches * size} rows"


def _count(settings: Mapping[str, Any], name: str) -> int:
    return int(_value(settings, name) or 1)


def digest_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the ids of all rows, and of their trees if they have some, in order."""
    digest = hashlib.sha256()
    for row in rows:
        trees = [row[name] for name in SYNTAX_COLUMNS if name in row]
        digest.update(json.dumps([row["input_ids"], row["labels"], *trees]).encode())
    return digest.hexdigest()


def begin(settings: Settings, text: str, digest: str) -> None:
    """Make the folder a run's own: what says whose it is, and its settings."""
    write_text(settings.output_dir / RUN_FILE, _run_text(settings, digest))
    write_text(settings.output_dir / SETTINGS_FILE, text)


def finish(settings: Settings, digest: str) -> None:
    """Note that nothing is left to do for these settings."""
    write_text(settings.output_dir / RUN_FILE, _run_text(settings, digest, finished=_all_settings(settings)))


def is_finished(settings: Settings) -> bool:
    """Whether the folder holds what a run with these very settings leaves, those that may change included."""
    folder = settings.output_dir
    there = all((folder / name).is_file() for name in (RUN_FILE, RESULTS_FILE, WEIGHTS))
    finished = read_run(folder).get("finished") if there else None
    return isinstance(finished, dict) and not _differing(finished, _all_settings(settings))


def _run_text(settings: Settings, digest: str, **more: Any) -> str:
    return json.dumps({"settings": fingerprint(settings), "data": digest, **more}, indent=1) + "\n"


def _all_settings(settings: Settings) -> dict[str, Any]:
    """Every setting but those of the machine and the place, as they come out of a JSON file."""
    kept = {name: value for group in settings.portable().values() for name, value in group.items()}
    kept.pop("output_dir")
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


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


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings that are not the same."""
    return [name for name in sorted({*before, *now}) if _value(before, name) != _value(now, name)]


def _value(settings: Mapping[str, Any], name: str) -> Any:
    """A setting, or its default where it was left out or, in a run of an earlier version, did not exist yet."""
    if name in settings:
        return settings[name]
    for owner in (SelfAttnConfig, DataSettings, RunSettings, Seq2SeqTrainingArguments):
        field: Any = owner.__dataclass_fields__.get(name)
        if field is not None:
            return field.default
    return None
