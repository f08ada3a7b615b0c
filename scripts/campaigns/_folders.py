"""The ways to spoil a model folder, for the cases of the campaign `model_folders.py`."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], object]

# Ways into a folder; see `_doors.py`. Those that end with * are tried in a process without the package.
MODELS = ("AutoModelForSeq2SeqLM", "AutoModel")
RUNS = ("Translator", "evaluate", "init_from")
STRANGERS = ("AutoConfig*", "AutoModelForSeq2SeqLM*")
EVERY = ("AutoConfig", *MODELS, *RUNS, *STRANGERS)
WITH_WEIGHTS = (*MODELS, *RUNS, STRANGERS[1])


@dataclass(frozen=True)
class Case:
    """One bad folder: how a whole one is spoiled, the doors that must refuse it, and what the refusal must name."""

    name: str
    spoil: Spoil
    words: tuple[str, ...]
    doors: tuple[str, ...] = EVERY


class Pickled:
    """Runs a command when it is unpickled: what a hostile `.bin` does."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


def config(**changes: Any) -> Spoil:
    """Other values of fields in config.json."""

    def spoil(folder: Path) -> None:
        _edit_json(folder / "config.json", lambda fields: fields | changes)

    return spoil


def renamed(old: str, new: str) -> Spoil:
    """A field of config.json under another name; no name: left out."""

    def spoil(folder: Path) -> None:
        def rename(fields: dict[str, Any]) -> dict[str, Any]:
            value = fields.pop(old)
            return fields | ({new: value} if new else {})

        _edit_json(folder / "config.json", rename)

    return spoil


def json_file(name: str, **changes: Any) -> Spoil:
    """Other values in another JSON file of the folder."""

    def spoil(folder: Path) -> None:
        path = folder / name
        if not path.exists():
            path.write_text("{}")
        _edit_json(path, lambda fields: fields | changes)

    return spoil


def content(name: str, what: bytes) -> Spoil:
    """A file with another content."""
    return lambda folder: (folder / name).write_bytes(what)


def without(*names: str) -> Spoil:
    """Files that are not there."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def tensors(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    """Other tensors in model.safetensors."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({name: value.contiguous() for name, value in edit(load_file(path)).items()}, path, {"format": "pt"})

    return spoil


def tensor(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Spoil:
    """The first tensor with `part` in its name changed; None takes it out."""

    def edit(there: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in sorted(there) if part in name)
        changed = change(there.pop(name))
        return there if changed is None else there | {name: changed}

    return tensors(edit)


def cut(share: float) -> Spoil:
    """The weights' file ends early."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return spoil


def header(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    """Another header of the weights' file."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        text = json.dumps(edit(json.loads(whole[8 : 8 + size]))).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + size :])

    return spoil


def sharded(edit: Callable[[dict[str, Any]], Any] = lambda index: index, raw: bytes | None = None) -> Spoil:
    """Weights in two files with an index, which `edit` spoils."""

    def spoil(folder: Path) -> None:
        there = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names, weight_map = sorted(there), dict[str, str]()
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"model-{number:05}-of-00002.safetensors"
            save_file({name: there[name] for name in part}, folder / file, {"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        index = edit({"metadata": {"total_size": 1}, "weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_bytes(json.dumps(index).encode() if raw is None else raw)

    return spoil


def shards_renamed(change: Callable[[str], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Other file names in an index."""
    return lambda index: index | {"weight_map": {name: change(file) for name, file in index["weight_map"].items()}}


def pickled_weights(folder: Path) -> None:
    """Weights as a pickle that runs a command, in place of safetensors."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Pickled()}))


def torch_weights(folder: Path) -> None:
    """Weights as torch saves them, in place of safetensors: nothing bad in them."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def outside(folder: Path) -> None:
    """The weights beside the folder, and an index that points there."""
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    sharded(shards_renamed(lambda file: "../outside.safetensors"))(folder)


def outside_by_root(folder: Path) -> None:
    """The same, by an absolute path."""
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    sharded(shards_renamed(lambda file: str(folder.parent.resolve() / "outside.safetensors")))(folder)


def with_three_tables(there: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The table of embeddings as three, as a model has it whose tables are not tied."""
    table = there.pop("model.shared.weight")
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return there | {name: table.clone() + number for number, name in enumerate(names)}


def encoder_alone(folder: Path) -> None:
    """The encoder's weights, as a head on it is saved."""
    tensors(lambda there: {name: old for name, old in there.items() if "decoder" not in name and "lm_" not in name})(
        folder
    )
    config(architectures=["SelfAttnForSequenceClassification"])(folder)


def without_a_head(folder: Path) -> None:
    """A model as AutoModel saves it, of three tables: what writes is new wherever it is loaded."""
    tensors(with_three_tables)(folder)
    tensor("lm_head", lambda old: None)(folder)
    config(tie_word_embeddings=False, architectures=["SelfAttnModel"])(folder)


def tokenizer(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    """Another tokenizer.json."""
    return lambda folder: _edit_json(folder / "tokenizer.json", edit)


def _edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
