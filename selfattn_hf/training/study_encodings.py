"""Own encodings in a study: `my_name: path/to/file.py:ClassName` loads a class from a file of the user's and joins it.

This executes the user's own file, as `python path/to/file.py` would. The path stands in the study's file or nowhere:
no config, model folder or data set can name one. A file in a saved model's folder or in a cache of what was downloaded
is refused, because it came from somebody else.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE
from transformers.utils.hub import HF_MODULES_CACHE

from selfattn_hf.model import PositionalEncoding, join_position, near

_OF_A_MODEL = ("config.json", "model.safetensors", "tokenizer_config.json")


def join_encodings(entries: Mapping[str, Any]) -> dict[str, str]:
    """Load every class and let its word stand for it, in this process.

    A class may set `reads_trees = True`: then it reads `places.tree`, and is for encoders alone.

    Args:
        entries: word -> `path/to/file.py:ClassName`, relative to where the command runs.

    Returns:
        Word -> sha256 of the file, so that a cell is another one when its encoding has changed.

    Raises:
        ValueError: naming the entry, what is wrong with it and what to do.
    """
    digests = {}
    for name, entry in entries.items():
        if not name.isidentifier():
            raise ValueError(f"encodings: {name!r} is no word: take letters, digits and _, as in my_name.")
        path, class_name = _place(name, entry)
        encoding = _loaded(name, path, class_name)
        try:
            join_position(name, encoding, reads_trees=bool(getattr(encoding, "reads_trees", False)))
        except ValueError as error:
            raise ValueError(f"encodings: {name}: {entry}: {error}") from error
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _place(name: str, entry: Any) -> tuple[Path, str]:
    """File and class that an entry names, checked before anything is executed."""
    file, colon, class_name = entry.rpartition(":") if isinstance(entry, str) else ("", "", "")
    if not (colon and file.endswith(".py") and class_name.isidentifier()):
        raise ValueError(f"encodings: {name} takes path/to/file.py:ClassName, got {entry!r:.80}.")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"encodings: {name}: {file} is no file. Relative paths start at {Path.cwd()}.")
    for place in (Path(os.path.abspath(path)), path.resolve()):  # a cache holds links to where its files lie
        caches = [Path(cache).resolve() for cache in (HF_HOME, HF_HUB_CACHE, HF_MODULES_CACHE)]
        if any(cache in place.parents for cache in caches) or any(
            (place.parent / beside).exists() for beside in _OF_A_MODEL
        ):
            raise ValueError(
                f"encodings: {name}: {file} lies in a saved model's folder or in a cache of what was downloaded, and "
                "nothing from there is executed. Copy it to a place of your own, once you have read it."
            )
    return path.resolve(), class_name


def _loaded(name: str, path: Path, class_name: str) -> type[PositionalEncoding]:
    module_name = f"selfattn_study_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # the name ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise ValueError(
                f"encodings: {name}: {path} cannot be loaded ({type(error).__name__}: {error})."
            ) from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = [word for word, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"encodings: {name}: {path} has no class {class_name}.{near(class_name, classes)}")
    encoding: type[PositionalEncoding] = found
    return encoding
