"""transformers' own tests, which no wheel holds: the source distribution of the installed version has them."""

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path, PurePosixPath

import pytest
import transformers

# Not `tests`, which is the name of our own.
PACKAGE = "transformers_tests"

# What those files import of each other and setuptools leaves out of a source distribution: folders below tests/.
LEFT_OUT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    # Fields that every config has, each with a value that is not its default.
    "utils.test_configuration_utils": {
        "config_common_kwargs": {
            "return_dict": False,
            "output_hidden_states": True,
            "output_attentions": True,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "architectures": ["SelfAttnModel"],
            "id2label": {0: "label"},
            "label2id": {"label": 0},
            "problem_type": "regression",
        }
    },
}


def cache_folder() -> Path:
    """Where what was fetched is kept between runs, outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "selfattn_hf"


def fetch(cache: Path, version: str = transformers.__version__) -> Path:
    """The folder with the files of tests/; asks the package index where `cache` does not have it yet.

    Raises:
        OSError: where pip does not get it, with the last line that pip said.
    """
    folder = cache / f"transformers-{version}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        how = ["--quiet", "--timeout", "15", "--retries", "1", "--no-binary", "transformers", "--no-deps"]
        command = [sys.executable, "-m", "pip", "download", *how, "--dest", scratch, f"transformers=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise OSError(f"pip got no source distribution of transformers {version}: {said[-1]}")
        whole = Path(scratch) / "tests"
        whole.mkdir()
        (whole / "__init__.py").touch()  # asked for by test_configuration_common
        (sdist,) = Path(scratch).glob("transformers-*.tar.gz")
        with tarfile.open(sdist) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if len(path.parts) == 3 and path.parts[1] == "tests" and path.suffix == ".py":
                    (whole / path.name).write_bytes(archive.extractfile(member).read())
        try:
            whole.rename(folder)  # all of it or nothing
        except OSError:
            if not folder.is_dir():  # else another run was faster
                raise
    return folder


def load(folder: Path, name: str) -> types.ModuleType:
    """File `name` of the tests in `folder`, as a module of a package of its own; `sys.path` stays as it is."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        for path, content in LEFT_OUT.items():
            sys.modules[f"{PACKAGE}.{path.split('.')[0]}"] = types.ModuleType(path)
            sys.modules[f"{PACKAGE}.{path}"] = types.ModuleType(path)
            vars(sys.modules[f"{PACKAGE}.{path}"]).update(content)
    return importlib.import_module(f"{PACKAGE}.{name}")


def find() -> tuple[Path | None, str]:
    """The folder with the tests of the installed version, or None and why."""
    try:
        return fetch(cache_folder()), ""
    except OSError as error:
        return None, str(error)


def report_missing(missing: str) -> None:
    """Skip where the tests are missing, but fail where continuous integration counts on them."""
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
