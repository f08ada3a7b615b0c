"""The campaigns on checkpoints with a few points each; and that they can fail."""

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "campaigns"


@pytest.fixture
def campaign(monkeypatch):
    """Import one by name; its runs are processes of their own all the same."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


@pytest.mark.parametrize("name", ["kill", "damage", "disk_full", "resume"])
def test_help_answers_within_a_second(name):
    def seconds():
        began = time.perf_counter()
        shown = subprocess.run([sys.executable, FOLDER / f"{name}.py", "--help"], capture_output=True, text=True)
        assert shown.returncode == 0 and "--points" in shown.stdout and "--quick" in shown.stdout
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 1.0


def test_a_run_that_is_killed_ends_bit_exact(campaign, tmp_path, capsys):
    figures = campaign("kill").main(["--points", "2", "--json", str(tmp_path / "figures.json")])
    assert figures == {"points": 2, "exact": 2, "inside_a_save": figures["inside_a_save"]}
    assert figures["inside_a_save"] >= 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("point") and [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[-1].startswith("2 of 2 points: the same command went on by itself and ended bit-exact")
    assert len(json.loads((tmp_path / "figures.json").read_text())["rows"]) == 2


def test_a_damaged_checkpoint_is_never_silent(campaign):
    figures = campaign("damage").main(["--points", "2"])
    assert figures["fell back"] + figures["refused"] == 2
    assert figures["silent"] == figures["unclear"] == 0


def test_damage_would_be_found_silent_where_checkpoints_are_not_verified(campaign):
    figures = campaign("damage").main(["--quick", "--points", "3", "--control"])
    assert figures["silent"] >= 1


def test_a_full_disk_is_named_and_the_run_ends_bit_exact(campaign):
    figures = campaign("disk_full").main(["--points", "2"])
    assert (figures["points"], figures["clear"]) == (2, 2)


def test_a_run_that_is_stopped_ends_bit_exact(campaign):
    assert campaign("resume").main(["--points", "1"]) == {"points": 1, "exact": 1}


@pytest.fixture
def ended(tmp_path, campaign):
    """The place of a run that has ended."""
    runs = campaign("_runs")
    folder = tmp_path / "place" / "out" / runs.LAST
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_bytes(name.encode() * 9)
    shutil.copy(folder / "model.safetensors", folder.parent)
    results = dict.fromkeys(("kept", "kept_step", "steps", "validation", "test"), 1)
    (folder.parent / "results.json").write_text(json.dumps(results))
    return runs, tmp_path / "place"


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint-12/optimizer.pt", "checkpoint-12/rng_state.pth"])
def test_one_bit_is_a_difference(ended, name):
    runs, place = ended
    expected = runs.ending_of(place)
    assert runs.difference(place, expected) == ""
    path = place / "out" / name
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    assert runs.difference(place, expected) == f"out/{name} differs"
    path.unlink()
    assert name in runs.difference(place, expected)


def test_a_checkpoint_that_does_not_fit_its_manifest_is_seen(campaign, tmp_path):
    from selfattn_hf.training.checkpoints import seal

    (tmp_path / "weights").write_bytes(b"abc")
    seal(tmp_path)
    assert campaign("disk_full").fits_its_manifest(tmp_path)
    (tmp_path / "weights").write_bytes(b"abd")
    assert not campaign("disk_full").fits_its_manifest(tmp_path)
