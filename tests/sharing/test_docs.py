"""docs/sharing.md: its settings are taken, its commands are commands, its table is what is refused."""

import re
import shlex
from pathlib import Path

import pytest

from selfattn_hf.sharing import Destination
from selfattn_hf.sharing.folder import PICKLES, TRAVELS
from selfattn_hf.training import make_settings
from selfattn_hf.training.fields import check_value
from selfattn_hf.training.settings import annotation_of
from selfattn_hf.training.yaml_files import parse_yaml

TEXT = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_settings_are_taken():
    found = [parse_yaml(text) for text in blocks("yaml")]
    assert len(found) == 2
    for values in found:
        for name, value in values.items():
            check_value(name, value, annotation_of(name))
        assert make_settings({"dataset": "anna/dates", "output_dir": "x", **values}).run.push_to_hub


def test_the_commands_are_commands(in_process, tmp_path, monkeypatch):
    """They are read, and refused for the folder that is not there."""
    monkeypatch.chdir(tmp_path)
    pushes = [line for block in blocks("bash") for line in block.splitlines() if "push_to_hub.py" in line]
    assert len(pushes) == 4
    for line in pushes:
        code, _, errors = in_process("push_to_hub", *shlex.split(line)[2:])
        assert code == 2 and "is no folder" in errors, errors


def test_the_code_is_python():
    codes = blocks("python")
    assert len(codes) == 2
    for code in codes:
        compile(code, "sharing.md", "exec")


def test_the_names_it_calls_refused_are(tmp_path):
    (row,) = [line for line in TEXT.splitlines() if line.startswith("| the name")]
    names = re.findall(r"`([^`]+)`", row)
    assert len(names) == 3
    for name in names:
        with pytest.raises(ValueError):
            Destination(name)


def test_what_it_says_that_travels_does():
    said = TEXT.split("**What travels**")[1].split("All else stays")[0]
    assert all(name.replace("*", "model") in "".join(TRAVELS) or name in TRAVELS or name == "*.safetensors"
               for name in re.findall(r"`([^`]+)`", said))  # fmt: skip
    assert all(f"`{ending}`" in TEXT for ending in PICKLES[:2])
