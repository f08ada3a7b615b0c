"""The rules of the house: floors, imports, registries, files. Every rule is tried on a planted offence."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from selfattn_hf import SelfAttnConfig
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "selfattn_hf"
MAX_LINES = 350

# The suitcase: a file imports from lower floors only.
FLOORS = {
    "fields": 0,
    "trees": 0,
    "masking": 0,
    "loss": 1,
    "toeplitz": 0,
    "attend": 1,
    "dropout": 1,
    "products": 0,
    "sizes": 1,
    "switches": 1,
    "configuration_selfattn": 2,
    "contracts": 1,
    "recurrence": 2,
    "window": 2,
    "attention": 2,
    "local_attention": 2,
    "dense": 2,
    "feedforward": 2,
    "positions_embed": 2,
    "positions_affinity": 3,
    "positions": 4,
    "folders": 3,
    "layers": 3,
    "pretrained": 5,
    "stacks": 6,
    "decoding": 7,
    "writing": 8,
    "generation": 9,
    "causal_lm": 10,
    "encoder_heads": 10,
    "modeling_selfattn": 11,
    "__init__": 12,
}
# The rooms above it: what each may import of the others. The model is met through its public names alone.
ROOMS = {
    "data": {"data"},
    "training": {"data", "sharing", "training"},
    "inference": {"data", "inference"},
    "conversion": {"conversion"},
    "insight": {"data", "inference", "insight"},
    "sharing": {"data", "insight", "sharing"},
}
# huggingface_hub and safetensors are parts of transformers: `@strict`, by which it declares its own configs, lives in
# the one, and the other reads its weights.
TRAVELS = {"torch", "transformers", "huggingface_hub", "safetensors"} | set(sys.stdlib_module_names)


def imports(source):
    """Every import of a source text as dotted text, the relative ones with their dots: {".contracts", "torch.nn"}."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found |= {start} if node.module else {start + name.name for name in node.names}
    return found


def suitcase_offences(name, source):
    """What the file `name` of model/ must not import."""
    offences = []
    for line in re.findall(r"^\s*from \. import.*", source, re.MULTILINE):
        offences.append(f"{line.strip()}: transformers does not see it and leaves the file behind")
    for target in sorted(imports(source)):
        if target == "__future__":
            offences.append("__future__: annotations as text switch off the checks of a @strict config")
        elif not target.startswith("."):
            if target.split(".")[0] not in TRAVELS:
                offences.append(f"{target}: only the standard library, torch and transformers travel")
        elif not re.fullmatch(r"\.\w+", target):
            offences.append(f"{target}: one dot and one file, or it cannot be loaded from the Hub")
        elif target[1:] not in FLOORS:
            offences.append(f"{target}: no file of the suitcase with a floor")
        elif FLOORS[target[1:]] >= FLOORS[name]:
            offences.append(f"{target}: not on a lower floor than {name}")
    return offences


def room_offences(room, source):
    """What a file of selfattn_hf/`room` must not import."""
    offences = []
    for target in sorted(imports(source)):
        if target.startswith(".."):
            # `from ..data.loading import x` inside a room.
            target = "selfattn_hf." + target.lstrip(".")
        if not re.match(r"selfattn_hf(\.|$)", target):
            continue
        parts = target.split(".")
        neighbour = parts[1] if len(parts) > 1 else None
        if neighbour == "model" and len(parts) > 2:
            offences.append(f"{target}: the model is met through selfattn_hf and selfattn_hf.model")
        elif neighbour in ROOMS and neighbour not in ROOMS[room]:
            offences.append(f"{target}: {room} stands below {neighbour}")
    return offences


def python_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def of(*folders):
    return pytest.mark.parametrize("path", python_files(*folders), ids=lambda path: path.relative_to(ROOT).as_posix())


@of("selfattn_hf/model")
def test_a_file_of_the_suitcase_imports_from_lower_floors_only(path):
    assert path.stem in FLOORS, f"{path.name} needs a floor in this test"
    assert not suitcase_offences(path.stem, path.read_text())


@pytest.mark.parametrize(
    ("name", "offence"),
    [
        ("attention", "from .window import WordWindow"),
        ("contracts", "from .attention import SelfAttention"),
        ("attention", "from .layers import MIXERS"),
        ("layers", "from . import attention"),
        ("layers", "from ..data import load_splits"),
        ("layers", "from .parts.attention import SelfAttention"),
        ("layers", "import datasets"),
        ("layers", "from __future__ import annotations"),
        ("layers", "from selfattn_hf.model.attention import SelfAttention"),
        ("attention", "def hidden():\n    from .layers import MIXERS"),
        ("attention", "if TYPE_CHECKING:\n    import numpy.typing"),
    ],
)
def test_an_offence_planted_in_the_suitcase_is_found(name, offence):
    clean = (PACKAGE / f"model/{name}.py").read_text()
    assert not suitcase_offences(name, clean)
    assert suitcase_offences(name, f"{clean}\n{offence}\n")


@of(*(f"selfattn_hf/{room}" for room in ROOMS))
def test_a_room_imports_from_lower_rooms_and_meets_the_model_by_public_names(path):
    assert not room_offences(path.relative_to(PACKAGE).parts[0], path.read_text())


@pytest.mark.parametrize(
    ("room", "offence"),
    [
        ("data", "from selfattn_hf.training import train"),
        ("data", "from ..inference import Translator"),
        ("training", "from selfattn_hf.inference import Translator"),
        ("inference", "import selfattn_hf.training.settings"),
        ("inference", "from selfattn_hf.model.attention import SelfAttention"),
        ("training", "from ..model.layers import MIXERS"),
        ("data", "def hidden():\n    from selfattn_hf.training import train"),
    ],
)
def test_an_offence_planted_in_a_room_is_found(room, offence):
    assert room_offences(room, offence)


def test_an_import_that_is_allowed_is_no_offence():
    allowed = "import torch\nfrom selfattn_hf import SelfAttnConfig\nfrom selfattn_hf.model import SelfAttnModel\n"
    assert not room_offences(
        "training", allowed + "from selfattn_hf.data import load_splits\nfrom .settings import x\n"
    )


@pytest.mark.parametrize("name", sorted(set(FLOORS) - {"__init__"}))
def test_transformers_finds_every_file_and_asks_for_nothing_else(name):
    """The scanner that decides which files travel and what must be installed there, is transformers' own."""
    path = PACKAGE / f"model/{name}.py"
    relative = {target[1:] for target in imports(path.read_text()) if target.startswith(".")}
    assert set(get_relative_imports(path)) == relative
    assert {target.split(".")[0] for target in get_imports(path)} <= TRAVELS


@pytest.mark.parametrize(
    ("offence", "seen"),
    [
        ("import datasets", lambda path: "datasets" in get_imports(path)),
        ('"""Like\nfrom .elsewhere import Thing\n"""', lambda path: "elsewhere" in get_relative_imports(path)),
    ],
)
def test_the_scanner_sees_an_import_wherever_it_stands(tmp_path, offence, seen):
    path = tmp_path / "modeling.py"
    path.write_text(f"def later():\n    pass\n\n\n{offence}\n")
    assert seen(path)


def test_the_suitcase_has_no_files_beside_those_with_a_floor():
    assert {path.stem for path in (PACKAGE / "model").rglob("*.py")} == set(FLOORS)


def members(field):
    """The words that a config field accepts, `None` left out; a list of words counts like a word."""
    words = set()
    waiting = [SelfAttnConfig.__dataclass_fields__[field].type]
    while waiting:
        hint = waiting.pop()
        words |= {hint} if isinstance(hint, str) else set()
        waiting.extend(get_args(hint))
    return words


@pytest.mark.parametrize(
    ("registry", "fields"),
    [
        (MIXERS, ["encoder_mixer", "decoder_mixer"]),
        (POSITIONS, ["position_encoding", "encoder_position_encoding", "decoder_position_encoding"]),
    ],
    ids=["mixers", "positions"],
)
def test_a_registry_holds_what_the_config_accepts(registry, fields):
    for field in fields:
        assert members(field) == set(registry)


def test_a_word_without_a_class_would_be_found():
    assert members("encoder_mixer") != set(MIXERS) - {"rnn"}
    assert members("rnn_type") == {"lstm", "gru"}


def too_long(source):
    return len(source.splitlines()) > MAX_LINES


@of("selfattn_hf", "scripts")
def test_a_file_is_one_thing(path):
    assert not too_long(path.read_text()), f"past {MAX_LINES} lines a file is two things"


def test_a_long_file_would_be_found():
    assert too_long("x = 1\n" * (MAX_LINES + 1))
    assert not too_long("x = 1\n" * MAX_LINES)


@of("selfattn_hf", "scripts")
def test_a_file_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "the file has no docstring"


@of("selfattn_hf/model")
def test_a_chapter_opens_with_its_place_in_the_story(path):
    opening = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
    assert path.stem == "__init__" or re.match(r"Chapter \d", opening), opening


# A home folder, a temporary folder, a Windows drive: what exists on one machine only.
MACHINE_PATH = re.compile(r"(?<![\w.~/:])/(?:home|root|Users|work|tmp|mnt|data|scratch)/[\w.]|\b[A-Z]:\\\\?Users")
SELF = {"tests/test_house.py"}


def project_texts():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\n") if listed.returncode == 0 else []
    for name in filter(None, names):
        if name not in SELF and (ROOT / name).is_file():
            try:
                yield name, (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_of_the_project_names_a_path_of_one_machine():
    texts = dict(project_texts())
    if not texts:
        pytest.skip("the file list comes from git, and this is no git checkout")
    assert "setup.cfg" in texts
    offences = {name: found.group() for name, text in texts.items() if (found := MACHINE_PATH.search(text))}
    assert not offences


@pytest.mark.parametrize("offence", ["cd /home/anna/x", '"/tmp/run"', "=/root/.cache", "/Users/anna", r"C:\Users\anna"])
def test_a_path_of_one_machine_would_be_found(offence):
    assert MACHINE_PATH.search(offence)


@pytest.mark.parametrize(
    "text", ["https://example.org/data/x", "runs/quickstart", "selfattn_hf/data/x", "../home/x", "/bin/sh"]
)
def test_what_exists_everywhere_is_no_path_of_one_machine(text):
    assert not MACHINE_PATH.search(text)
