"""scripts/draw_architecture.py: a picture for every settings file, what changed, errors without a traceback."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LECTURE = sorted((SCRIPTS.parent / "configs" / "lecture").glob("*.yaml"))


@pytest.fixture
def draw(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    sys.modules.pop("_cli", None)
    import draw_architecture

    return draw_architecture


def test_every_config_is_drawn_and_changes_are_said(draw, tmp_path, capsys):
    draw.main([*map(str, LECTURE), "--folder", str(tmp_path), "--changes"])
    drawn = sorted(tmp_path.iterdir())
    assert [path.stem for path in drawn] == [path.stem for path in LECTURE]
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in drawn)
    said = capsys.readouterr().out
    assert said.count("wrote ") == len(LECTURE) and len(said.splitlines()) > len(LECTURE)


def test_the_pictures_of_the_readme_are_those_of_the_configs(draw, tmp_path):
    shown = SCRIPTS.parent / "docs" / "pictures"
    names = ("01_rnn_attention", "07_transformer")
    draw.main([*(str(path) for path in LECTURE if path.stem in names), "--folder", str(tmp_path)])
    for name in names:
        assert (tmp_path / f"{name}.svg").read_text() == (shown / f"{name}.svg").read_text(), (
            f"draw them again: scripts/draw_architecture.py configs/lecture/{name}.yaml --folder docs/pictures"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "settings files or saved folders are needed"), (["x.yaml", "--out", "y"], "--folder")],
)
def test_what_is_missing_or_unknown_is_said(draw, arguments, message):
    with pytest.raises(draw._cli.UsageError, match=message):
        draw.main(arguments)
