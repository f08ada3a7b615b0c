"""Checkpoints that are whole or not there: written aside, listed in a manifest, put in place by one rename.

A run that is killed while it saves leaves a folder with the name of work in progress, never half a checkpoint; a file
that was damaged later no longer fits the manifest. Resuming walks back to the newest checkpoint whose manifest holds.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .disk import sync_folder

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
STAGING = ".saving"  # folder beside the checkpoints in which one is written, and to which one goes to be deleted
# A file in a checkpoint that was written out of turn, because the run was asked to stop. It is there to go on from and
# for nothing else, so that a run that was stopped ends as one that never was.
OUT_OF_TURN = "out_of_turn"
NEEDED = (WEIGHTS, "config.json", "trainer_state.json", "optimizer.pt", "scheduler.pt")
_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Folders named `checkpoint-N`, by rising N."""
    if not run_folder.is_dir():
        return []
    numbered = [(int(match[1]), path) for path in run_folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered) if path.is_dir()]


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is no checkpoint: its name would be checkpoint-STEP.")
    return int(match[1])


def seal(folder: Path) -> None:
    """Write the manifest: size and sha256 of every file, all of them on the disk before it, and sha256 of this list."""
    listed = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        listed[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": listed, "sha256": _sha256_of(listed)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def put_in_place(staged: Path, target: Path) -> None:
    """Move a sealed folder to where it belongs, in one step; what stood there under that name is replaced.

    Raises:
        OSError: if what stands there then does not fit its manifest.
    """
    if target.exists():
        shutil.rmtree(target)
    staged.rename(target)
    sync_folder(target.parent)
    broken = what_is_broken(target)
    if broken is not None:
        raise OSError(f"it does not read back as it was written: {broken}")


def thin_out(run_folder: Path, limit: int | None, best: Path | None) -> None:
    """Delete checkpoints that are not needed any more: all that were written out of turn, but the newest of all.

    Where the newest was written in turn, also the oldest ones, until `limit` are left.

    Args:
        run_folder: where they lie.
        limit: how many to keep; None or 0: all of them.
        best: one that is kept, among these `limit` or beside the newest.
    """
    found = list_checkpoints(run_folder)
    newest = found.pop()
    surplus = [path for path in found if _is_out_of_turn(path)]
    if limit and not _is_out_of_turn(newest):
        old = [path for path in found if path not in (*surplus, best)]
        kept = 2 if best in found else 1
        surplus += old[: max(0, len(old) - max(limit - kept, 0))]
    for path in surplus:
        path.rename(run_folder / STAGING)  # so that a kill in between leaves no half of a checkpoint behind
        shutil.rmtree(run_folder / STAGING)


def in_turn(run_folder: Path, say: Callable[[str], None]) -> list[Path]:
    """The whole checkpoints but those written out of turn, by rising step; those that are not whole are named."""
    whole = []
    for checkpoint in list_checkpoints(run_folder):
        broken = what_is_broken(checkpoint)
        if broken is not None:
            say(f"{checkpoint} is not whole and is left out: {broken}")
        elif not _is_out_of_turn(checkpoint):
            whole.append(checkpoint)
    return whole


def what_is_broken(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from, in words; None where it is whole."""
    if not checkpoint.is_dir():
        return "it is not there"
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        listed, own_sum = manifest["files"], manifest["sha256"]
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in listed.items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__})"
    if _sha256_of(listed) != own_sum:
        return f"its {MANIFEST} is not what was written"
    for name in NEEDED:
        if name not in expected:
            return f"{name} is not in its {MANIFEST}"
    if not any(name.startswith("rng_state") for name in expected):
        return f"no random state is in its {MANIFEST}"
    for name, (size, sha256) in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if _sha256(path) != sha256:
            return f"{name} is not what was written"
    return None


def newest_whole(run_folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that is whole, and the newer ones that are not: each with what is wrong with it.

    Raises:
        ValueError: if there are checkpoints and none is whole, naming what is wrong with each.
    """
    broken: dict[Path, str] = {}
    for checkpoint in reversed(list_checkpoints(run_folder)):
        reason = what_is_broken(checkpoint)
        if reason is None:
            return checkpoint, broken
        broken[checkpoint] = reason
    if broken:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in broken.items())
        raise ValueError(
            f"none of the {len(broken)} checkpoints in {run_folder} is whole, so the run cannot go on ({reasons}). "
            "Restore one, or delete the folder to start again, or set --output_dir to another one."
        )
    return None, {}


def set_aside(broken: Mapping[Path, str], say: Callable[[str], None]) -> None:
    """Rename checkpoints that are not whole to `broken-N`, and say what is wrong with them."""
    for checkpoint, reason in broken.items():
        aside = checkpoint.with_name(f"broken-{step_of(checkpoint)}")
        say(f"{checkpoint} is not whole: {reason}. It is set aside as {aside.name}; going back to the one before.")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)


def shapes_in(weights: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a safetensors file, without reading the tensors.

    Raises:
        ValueError: if it is no safetensors file.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors raises an error of its own that is neither ValueError nor OSError
        raise ValueError(f"{weights} is no safetensors file that can be read: {error}") from error


def check_shapes(weights: Path, model: nn.Module) -> None:
    """Refuse weights of another shape.

    Raises:
        ValueError: naming tensors and shapes.
    """
    there, wanted = shapes_in(weights), {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    differing = [
        f"{name} {there[name]} instead of {wanted[name]}"
        for name in there
        if wanted.get(name, there[name]) != there[name]
    ]
    foreign = [f"{name} {there[name]} is not in the model" for name in there if name not in wanted]
    absent = [f"{name} {wanted[name]} is not in the file" for name in wanted if name not in there and name not in tied]
    problems = differing + foreign + absent
    if problems:
        shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise ValueError(
            f"{weights} holds a model of another shape: {shown}. Use the sizes and switches it was trained with, which "
            "stand in the config.json beside it."
        )


def average_weights(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints (Vaswani et al. 2017, section 6.1).

    Summed in double precision, so that the order does not matter; tensors that are no floating numbers come from the
    last one.
    """
    total: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        last = load_file(checkpoint / WEIGHTS)
        for name, tensor in last.items():
            if tensor.is_floating_point():
                total[name] = total.get(name, torch.zeros((), dtype=torch.float64)) + tensor.double()
    return {
        name: (total[name] / len(checkpoints)).to(tensor.dtype) if name in total else tensor
        for name, tensor in last.items()
    }


def load_weights(model: nn.Module, weights: Path | dict[str, Tensor]) -> None:
    """Give a model the weights of a checkpoint; tied tensors, which are stored once, stay tied."""
    if isinstance(weights, Path):
        check_shapes(weights, model)
        weights = load_file(weights)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    if unexpected or set(missing) - tied:
        raise ValueError(f"weights do not fit the model: missing {sorted(set(missing) - tied)}, unknown {unexpected}.")


def _is_out_of_turn(checkpoint: Path) -> bool:
    return (checkpoint / OUT_OF_TURN).is_file()


def _sha256_of(listed: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
