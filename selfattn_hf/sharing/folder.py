"""What of a folder travels to the Hub, and what is looked at before it does."""

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers.dynamic_module_utils import get_relative_import_files

import selfattn_hf
from selfattn_hf.model import MODELS, SelfAttnConfig

CARD = "README.md"
# What travels, by name; all else stays where it is: checkpoints, states of optimizers, whatever else lies there.
TRAVELS = (
    CARD, "config.json", "generation_config.json", "model.safetensors", "model-*-of-*.safetensors",
    "model.safetensors.index.json", "*.py", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "vocab.json", "vocab.txt", "merges.txt", "*.spm", "spiece.model",
    "sentencepiece.bpe.model", "target_tokenizer/*", "settings.yaml", "results.json", "training_curve.csv",
    "training_curve.svg", "report.html",
)  # fmt: skip
# Endings of pickles, which run code when they are read; those that a Trainer leaves beside a model stay behind.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
LEFT_BY_TRAINERS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
# Of the environment, what the process that tries a folder does not get: tokens, and its place among others of a run.
_STAYS = re.compile(r"TOKEN(?!IZERS)|SECRET|PASSWORD|^(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$|^MASTER_|^TORCHELASTIC_")
STRANGER = Path(__file__).parent / "stranger.py"


def files_of(folder: Path) -> dict[str, Path]:
    """What travels: path in the repository -> file."""
    here = {path.relative_to(folder).as_posix(): path for path in (*folder.glob("*"), *folder.glob("*/*"))}
    return {name: path for name, path in sorted(here.items()) if path.is_file() and travels(name)}


def travels(name: str) -> bool:
    """Whether a file of this name travels."""
    return any(name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern) for pattern in TRAVELS)


def check_folder(folder: str | Path, text: str = "a") -> tuple[dict[str, str], str | None, str | None]:
    """Look at a folder as carefully as a stranger should, before it leaves; the last look is a fresh process.

    Args:
        folder: a saved model.
        text: what the model is to write about.

    Returns:
        Auto class -> the class that it gave without the package; what the model wrote, None for one that does not
        write; and a remark on code of another version, else None.

    Raises:
        ValueError: as `look_at`, or with what the fresh process said.
    """
    remark = look_at(folder)
    opened, wrote = open_as_stranger(files_of(Path(folder)), text)
    return opened, wrote, remark


def look_at(folder: str | Path) -> str | None:
    """Look at the files of a folder without running any.

    Returns:
        A remark on code of another version, else None.

    Raises:
        ValueError: naming the file, for a folder that is no model of ours, holds pickles, names code of elsewhere, has
            other code than this package, or a card that the Hub would not take.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder. Name one that scripts/train.py or save_pretrained() left.")
    saved = _read_config(folder)
    check_pickles(folder)
    files = files_of(folder)
    if not any(name.endswith(".safetensors") for name in files):
        raise ValueError(f"{folder} has no weights (model.safetensors). Train it to its end, or save the model there.")
    _check_map(folder, saved)
    remark = check_code(folder, saved)
    if CARD in files:
        _check_card(files[CARD])
    return remark


def check_pickles(folder: Path) -> None:
    """Refuse weights that run code when they are read.

    Raises:
        ValueError: naming the file.
    """
    for path in sorted(folder.iterdir()):
        left = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in LEFT_BY_TRAINERS)
        if path.suffix in PICKLES and not left:
            raise ValueError(
                f"{path} is a pickle, which may run code when somebody reads it, and none is pushed. Save the model by "
                "save_pretrained(), which writes safetensors, and delete it."
            )


def check_code(folder: Path, saved: Mapping[str, Any]) -> str | None:
    """Compare the code beside the weights with the suitcase of this package, file by file.

    Returns:
        None where they are the same; a remark where the folder says that it is of another version, and they differ.

    Raises:
        ValueError: naming the files that differ, are missing, or are no part of it.
    """
    suitcase = {path.name: path for path in Path(selfattn_hf.model.__file__).parent.glob("*.py")}
    del suitcase["__init__.py"]
    there = {path.name: path for path in folder.glob("*.py")}
    needed = _needed(suitcase, saved)
    problems = [f"{name} differs" for name in there if name in suitcase and _sum(there[name]) != _sum(suitcase[name])]
    problems += [f"{name} is missing" for name in sorted(needed - there.keys())]
    problems += [f"{name} is no file of it" for name in sorted(there.keys() - suitcase.keys())]
    if not problems:
        return None
    version = saved.get("selfattn_version")
    if version != selfattn_hf.__version__:
        return (
            f"the code in {folder} is of selfattn_hf {version}, and this package is {selfattn_hf.__version__}: it goes "
            "as it is, looked at by nobody but the process that opened it"
        )
    raise ValueError(
        f"the code in {folder} is not that of selfattn_hf {version}: {', '.join(problems[:5])}"
        f"{f', and {len(problems) - 5} more' if len(problems) > 5 else ''}. Load the model with this package and save "
        "it there again."
    )


def open_as_stranger(files: Mapping[str, Path], text: str) -> tuple[dict[str, str], str | None]:
    """Open what travels in a fresh process that has neither the package, nor a token, nor the network.

    Returns:
        Auto class -> class, and what the model wrote.

    Raises:
        ValueError: with what that process said, where it does not open or does not write.
    """
    with tempfile.TemporaryDirectory(prefix="selfattn_hf-") as place:
        suite = Path(place) / "model"
        for name, path in files.items():
            (suite / name).parent.mkdir(parents=True, exist_ok=True)
            (suite / name).symlink_to(path.resolve())
        quiet = {name: value for name, value in os.environ.items() if not _STAYS.search(name)}
        quiet |= {"HF_HOME": f"{place}/home", "HF_MODULES_CACHE": f"{place}/modules", "HF_HUB_OFFLINE": "1",
                  "HF_HUB_CACHE": f"{place}/hub"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-I", str(STRANGER), str(suite), text],
            capture_output=True, text=True, env=quiet, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            said = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it said nothing"]
            raise ValueError(
                f"the folder does not open without the package, so nobody else could use it: "
                f"{said[-1].replace(str(suite), 'the folder')[:400]}"
            )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return answer["opened"], answer["wrote"]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: {folder} is no saved model. Name one that scripts/train.py left.")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}). Save the model again.") from error
    if not isinstance(saved, dict) or saved.get("model_type") != SelfAttnConfig.model_type:
        kind = saved.get("model_type") if isinstance(saved, dict) else None
        raise ValueError(f"{folder} holds a model of type {kind!r}, and this pushes {SelfAttnConfig.model_type!r}.")
    return saved


def _check_map(folder: Path, saved: Mapping[str, Any]) -> None:
    """Refuse a map that leads out of the folder, or to classes that are not those of the package."""
    ours = {model._auto_class: model.__name__ for model in MODELS} | {"AutoConfig": SelfAttnConfig.__name__}
    given = saved.get("auto_map")
    if not isinstance(given, dict) or "AutoConfig" not in given:
        raise ValueError(
            f"{folder / 'config.json'} names no code (auto_map), so nobody can open it without the package. Load the "
            "model with this package and save it again."
        )
    for auto, where in given.items():
        if isinstance(where, str) and "--" in where:
            raise ValueError(
                f"auto_map of {folder / 'config.json'} takes {auto} from another repository, {where:.120}, which may "
                "change or go away. Load the model with this package and save it again."
            )
        if not isinstance(where, str) or not re.fullmatch(r"\w+\.\w+", where) or ours.get(auto) != where.split(".")[1]:
            raise ValueError(
                f"auto_map of {folder / 'config.json'} names {where!r:.120} for {auto:.80}, which is no class of this "
                "package. Load the model with this package and save it again."
            )


def _check_card(path: Path) -> None:
    """Refuse a card whose head the Hub's library cannot read."""
    try:
        ModelCard(path.read_text(encoding="utf-8"))
    except Exception as error:  # of YAML's kinds, and the library's own
        raise ValueError(
            f"{path} has a head that the Hub would not take: {' '.join(str(error).split())[:300]}"
        ) from error


def _needed(suitcase: Mapping[str, Path], saved: Mapping[str, Any]) -> set[str]:
    """The files that the classes of the map are made of."""
    entries = {f"{where.split('.')[0]}.py" for where in saved["auto_map"].values()} & suitcase.keys()
    found = {Path(path).name for entry in entries for path in get_relative_import_files(suitcase[entry])}
    return entries | found


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
