"""What is installed with the package: what its wheel holds, and under which licences its dependencies stand."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import selfattn_hf

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = (".git", ".venv", "runs", "build", "*.egg-info", ".*_cache", "__pycache__", ".hypothesis")

# Licences that ask no more of who uses a package than to name its authors, or to publish changes to that package.
FREE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL", "Mozilla Public", "HPND", "zlib")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built aside with the tools of the environment."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
             "--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "checkout")]  # fmt: skip
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    files = [path for path in (ROOT / "selfattn_hf").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"selfattn_hf/py.typed", "selfattn_hf/insight/page/report.html"} <= package
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == package
    for name in inside:
        assert wheel.read(name) == (ROOT / name).read_bytes()


def test_the_wheel_says_what_it_is(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == ("selfattn-hf", selfattn_hf.__version__)
    assert metadata["License"] == "Apache-2.0"
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
    assert "switch" in metadata.get_payload()
    (transformers,) = [r for r in map(Requirement, metadata.get_all("Requires-Dist")) if r.name == "transformers"]
    assert transformers.specifier.contains("5.23.0") and not transformers.specifier.contains("6.0")


def closure(name, extras=frozenset()):
    """The distributions that installing `name` brings, itself left out."""
    found, todo = {}, [(name, extras)]
    while todo:
        name, extras = todo.pop()
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in (*extras, "")]
            if requirement.marker is not None and not any(map(requirement.marker.evaluate, environments)):
                continue
            key = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if key not in found:
                found[key] = importlib.metadata.distribution(requirement.name)
                todo.append((requirement.name, frozenset(requirement.extras)))
    return found


def licence_of(distribution):
    """What the metadata say of the licence: an expression, classifiers, or the first line of a text."""
    metadata = distribution.metadata
    expression = metadata.get("License-Expression")
    classifiers = [
        line.split("::")[-1].strip() for line in metadata.get_all("Classifier") or [] if "License ::" in line
    ]
    text = (metadata.get("License") or "").strip().splitlines()[:1]
    return expression or "; ".join(classifiers) or "".join(text)


def test_every_dependency_is_free():
    unknown = {}
    for name, distribution in closure("selfattn-hf").items():
        if name.startswith(("nvidia-", "cuda-")):
            continue  # what a torch for CUDA brings along; the one that set-up asks for brings none
        licence = licence_of(distribution)
        if not any(word.lower() in licence.lower() for word in FREE) or re.search(r"\bA?GPL", licence):
            unknown[name] = licence
    assert unknown == {}


def test_what_binds_its_users_would_be_found():
    """Positive control."""
    assert len(closure("selfattn-hf")) > 20
    assert not any(word.lower() in "GPL-3.0-only".lower() for word in FREE)
