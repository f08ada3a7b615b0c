"""scripts/draw_architecture.py: a picture for every settings file, what changed, errors without a traceback."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LECTURE = sorted((SCRIPTS.parent / "configs" / "lecture").glob("*.yaml"))


def test_every_config_is_drawn_and_changes_are_said(in_process, tmp_path):
    code, said, _ = in_process("draw_architecture", *LECTURE, "--folder", tmp_path, "--changes")
    drawn = sorted(tmp_path.iterdir())
    assert [path.stem for path in drawn] == [path.stem for path in LECTURE]
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in drawn)
    assert code == 0 and said.count("wrote ") == len(LECTURE) and len(said.splitlines()) > len(LECTURE)


def test_the_pictures_of_the_readme_are_those_of_the_configs(in_process, tmp_path):
    shown = SCRIPTS.parent / "docs" / "pictures"
    names = ("01_rnn_attention", "07_transformer")
    in_process("draw_architecture", *(path for path in LECTURE if path.stem in names), "--folder", tmp_path)
    for name in names:
        assert (tmp_path / f"{name}.svg").read_text() == (shown / f"{name}.svg").read_text(), (
            f"draw them again: scripts/draw_architecture.py configs/lecture/{name}.yaml --folder docs/pictures"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "settings files or saved folders are needed"), (["x.yaml", "--out", "y"], "--folder")],
)
def test_what_is_missing_or_unknown_is_said(in_process, arguments, message):
    code, _, errors = in_process("draw_architecture", *arguments)
    assert code == 2 and message in errors
