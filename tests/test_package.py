"""What is installed with the package: what its distributions hold, that they work alone, and which licences bind."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import selfattn_hf

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = (".git", ".venv", "runs", "build", "site", "*.egg-info", ".*_cache", "__pycache__", ".hypothesis")

# Licences that ask no more of who uses a package than to name its authors, or to publish changes to that package.
FREE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL", "Mozilla Public", "HPND", "zlib")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source distribution of this checkout, and the wheel made from that alone."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    pack = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", pack, str(folder)], cwd=folder / "checkout")
    (source,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(command, *arguments):
    """The tools of the environment, without an index."""
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    return run([sys.executable, "-m", "pip", command, *options, *map(str, arguments)])


def test_the_source_distribution_holds_what_the_checkout_holds(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("configs", "constraints", "docs", "scripts", "selfattn_hf", "tests"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {path.relative_to(ROOT).as_posix() for path in files} <= inside
    assert {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "setup.cfg", "pyproject.toml"} <= inside


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    files = [path for path in (ROOT / "selfattn_hf").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"selfattn_hf/py.typed", "selfattn_hf/insight/page/report.html"} <= package
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == package
    for name in inside:
        assert wheel.read(name) == (ROOT / name).read_bytes()


USE = """
import selfattn_hf
from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, Translator, convert
from selfattn_hf import conversion, data, inference, insight, training
print(selfattn_hf.__file__)
sizes = dict(vocab_size=20, hidden_size=16, encoder_layers=1, decoder_layers=1, num_attention_heads=2)
model = SelfAttnForConditionalGeneration(SelfAttnConfig(**sizes, intermediate_size=16))
import torch
model.generate(torch.tensor([[3, 4, 2]]), max_new_tokens=3)
model.save_pretrained("saved")
from transformers import AutoModelForSeq2SeqLM
print(type(AutoModelForSeq2SeqLM.from_pretrained("saved")).__name__)
"""


def test_the_installed_wheel_is_used_far_from_the_checkout(built, tmp_path):
    (path,) = built.glob("*.whl")
    pip("install", "--target", tmp_path / "site", path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    printed = run([sys.executable, "-c", USE], cwd=tmp_path, env=environment).split()
    assert Path(printed[0]).is_relative_to(tmp_path / "site")
    assert printed[1] == "SelfAttnForConditionalGeneration"


def test_the_wheel_says_what_it_is(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == ("selfattn-hf", selfattn_hf.__version__)
    assert metadata["License"] == "Apache-2.0"
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
    assert "switch" in metadata.get_payload()
    (transformers,) = [r for r in map(Requirement, metadata.get_all("Requires-Dist")) if r.name == "transformers"]
    assert transformers.specifier.contains("5.23.0") and not transformers.specifier.contains("6.0")


def test_no_extra_moves_what_the_core_needs(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    requirements = [Requirement(text) for text in Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist")]
    extras = {str(r.marker).split('"')[1]: r for r in requirements if r.marker is not None}
    assert {"peft", "quant", "onnx", "ct2", "serve", "demo", "syntax", "parse", "viz", "docs", "dev"} <= set(extras)
    core = {r.name for r in requirements if r.marker is None}
    assert "transformers" in core
    assert not core & {r.name for r in requirements if r.marker is not None}
    # and what is installed beside it here agrees with it
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "check"])


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
