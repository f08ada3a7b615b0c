"""Chapter 7 of 8, continued: weights are looked at before they are loaded. Before: positions.py. Next: pretrained.py.

What a folder holds need not be what its config says, nor well meant. Names, shapes and formats of all tensors stand in
the heads of its files; they are compared with the model while that has shapes and no memory yet.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig

GENERATION = "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What transformers reads where there are no safetensors.
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
# What it reads in their place where it finds one, without a look at shapes.
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
# The parts of a base model. All else belongs to a head, and a head may be new on a model that is trained.
BASE = ("shared", "encoder", "decoder")
SHOWN = 5


class WeightsError(ValueError, RuntimeError):
    """Weights that cannot be loaded, or not into this model. For some of it transformers raises a RuntimeError."""


class Entry(NamedTuple):
    """A tensor in a file, as its head says."""

    shape: tuple[int, ...]
    dtype: str


def check_files(folder: Path, variant: str | None, config: Any = None) -> None:
    """Refuse a local folder whose weights are no safetensors, lie outside of it, or are of another depth.

    Where there are no weights at all, transformers says so.

    Raises:
        WeightsError: naming the file.
    """
    if shard := next((path for path in folder.iterdir() if DISTRIBUTED.fullmatch(path.name)), None):
        raise WeightsError(
            f"{shard} is a part of a distributed checkpoint, which is not read here. Save the model by "
            "save_pretrained(), in one process, and name that folder."
        )
    whole, index = (folder / _with_variant(name, variant) for name in (WEIGHTS, INDEX))
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        files = _files_of(index)
    else:
        if pickles := [name for name in PICKLES if (folder / name).is_file()]:
            raise WeightsError(
                f"{folder} has its weights in {pickles[0]}, a pickle, which may run code when it is read, and only "
                "safetensors are read. Load it where you trust it, and save it by save_pretrained()."
            )
        return
    there = read_heads(files)
    if config is not None:
        _check_depth(folder, there, config)


def check_generation_file(folder: Path) -> None:
    """Refuse a saved way of writing on which transformers fails, or which it takes for none without a word.

    Raises:
        ValueError: naming the file, and the field.
    """
    if not (path := folder / GENERATION).is_file():
        return
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a dictionary. Download or save it again.")
    if error := _generation_error(content):
        names = ", ".join(name for name, value in content.items() if _generation_error({name: value}))
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ValueError(
            f"{path} has values that are not taken in {names or 'several fields'} ({reason:.300}). "
            "Leave them out, or save it again."
        ) from error


def _generation_error(fields: dict[str, Any]) -> Exception | None:
    """What transformers says of fields of a GenerationConfig: it compares values without a look at their types."""
    try:
        GenerationConfig.from_dict(dict(fields))
    except Exception as error:
        return error
    return None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        WeightsError: naming the file that is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise WeightsError(f"{path} is no JSON ({error!s:.200}). Download or save it again.") from error


def read_heads(files: Sequence[str | Path]) -> dict[str, Entry]:
    """Name -> shape and format of every tensor in safetensors files, without reading the tensors.

    Raises:
        WeightsError: naming the file that is none.
    """
    entries = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as there:
                for name in there.keys():  # noqa: SIM118 - no mapping
                    head = there.get_slice(name)
                    entries[name] = Entry(tuple(head.get_shape()), str(head.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{file} is no safetensors file that can be read ({error!s:.200}). Download or save it again."
            ) from error
    return entries


def check_fit(model: Any, there: dict[str, Entry], where: str, any_shape: bool) -> None:
    """Refuse weights of another model.

    Of tables that are tied one is enough, and one is all there may be. A head may be missing, or left over, where the
    folder was saved by another class: it is drawn anew, or ignored, with transformers' warning. In a base model nothing
    is drawn by chance, and nothing left out but the stack that a model of one stack does not have.

    Args:
        model: on the meta device, where it has shapes and no memory.
        there: what the files hold.
        where: the folder, for the error.
        any_shape: pass over tensors of other shapes, as `ignore_mismatched_sizes` asks for.

    Raises:
        WeightsError: naming the tensors, with shapes.
    """
    prefix = f"{model.base_model_prefix}."
    wanted = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
    given = {name.removeprefix(prefix): entry for name, entry in there.items()}
    left_out = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    saved_by = model.config.architectures or []
    optional = set() if type(model).__name__ in saved_by else {name for name in {**wanted, **given} if _of_a_head(name)}
    problems = []
    for tables in _tied(model, prefix):
        found = sorted(tables & given.keys())
        optional |= tables if found else set()
        if len(found) > 1:
            problems.append(f"{' and '.join(found)} are several tables, and tie_word_embeddings=True means one")
    for name, entry in sorted(given.items(), key=lambda item: ".layers." in item[0]):  # tables tell most
        if name not in wanted:
            if name not in optional and not any(pattern.search(name) for pattern in left_out):
                problems.append(f"{name:.200} has no place in the model")
        elif wanted[name].is_meta and tuple(wanted[name].shape) != entry.shape and not any_shape:
            problems.append(f"{name} has the shape {entry.shape} and must have {tuple(wanted[name].shape)}")
        elif "F" not in entry.dtype:
            problems.append(f"{name} holds {entry.dtype}, which are no floating numbers")
    problems += [f"{name} is missing" for name in wanted if name not in given and name not in optional]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        others = [name for name in saved_by if name != type(model).__name__]
        other = f", or the class that saved them, {others[0]}" if others else ""
        raise WeightsError(
            f"the weights in {where} are not those of a {type(model).__name__} with this config: "
            f"{'; '.join(problems[:SHOWN])}{more}. Use the sizes and switches that were saved with them{other}."
        )


def _of_a_head(name: str) -> bool:
    return name.split(".")[0] not in BASE


def _tied(model: Any, prefix: str) -> list[set[str]]:
    """Groups of names that stand for one tensor."""
    groups: dict[str, set[str]] = {}
    for target, source in model.all_tied_weights_keys.items():
        source = source.removeprefix(prefix)
        groups.setdefault(source, {source}).add(target.removeprefix(prefix))
    return list(groups.values())


def _files_of(index: Path) -> list[Path]:
    """The files that an index names, all of them safetensors beside it.

    Raises:
        WeightsError: naming the index, and the file.
    """
    content = read_json(index)
    for key in ("weight_map", "metadata"):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise WeightsError(f"{index} must be a dictionary with the dictionary {key}. Download or save it again.")
    files = []
    for name in sorted(set(map(str, content["weight_map"].values()))):
        file = Path(os.path.abspath(index.parent / name))
        if not name.endswith(".safetensors"):
            raise WeightsError(f"weight_map of {index} names {name!r:.200}, and only .safetensors files are read.")
        if not file.is_relative_to(os.path.abspath(index.parent)):
            raise WeightsError(
                f"weight_map of {index} names {name!r:.200}, which lies outside of its folder. Do not use it."
            )
        files.append(file)
    return files


def _check_depth(folder: Path, there: dict[str, Entry], config: Any) -> None:
    """Layers that a config has and the files have not: found before so many are built."""
    for side in ("encoder", "decoder") if config.is_encoder_decoder else ("decoder",):
        numbers = [int(match[1]) for name in there if (match := re.search(rf"\b{side}\.layers\.(\d+)\.", name))]
        found, asked = max(numbers, default=-1) + 1, 1 if config.share_layers else getattr(config, f"{side}_layers")
        if found < asked and (found or not any(".layers." in name for name in there)):
            raise WeightsError(
                f"the config asks for {asked} layers by {side}_layers, and the weights in {folder} have {found} "
                f"({side}.layers.{found} is missing). Use the config that was saved with them."
            )


def _with_variant(name: str, variant: str | None) -> str:
    stem, dot, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}{dot}{ending}"
