"""Every shipped study is read and checked, its data are made, and its cells train a step."""

import dataclasses
import re
from pathlib import Path

import pytest

from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.training import gather, read_study, run_study

from ..conftest import load_script

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.yaml"))
DATA = {"ladder": "multi30k_en_de", "length_curve_scan": "scan", "scan_cutoff_26": "scan"}


@pytest.fixture(scope="module")
def maker():
    return load_script("make_study_data")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder like a checkout, without what runs have left."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_studies():
    assert {path.stem for path in STUDIES} >= {"ladder", "reach_task", *(f"length_curve_{x}" for x in ("copy", "scan"))}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_whole(path, place):
    study = read_study(path.relative_to(ROOT))
    assert study.left_out == {} and study.folder == Path("runs/studies") / path.stem
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"#   python scripts/study.py configs/studies/{path.name}" in line for line in header)
    if path.stem.startswith("length_curve"):
        assert set(POSITIONS) <= {run.cell for run in study.runs}
        lengths = [high for test in study.tests for _, high in test.ranges]
        assert study.trained_to in lengths and max(lengths) > 2 * study.trained_to
    parameters = {run.parameters for run in study.runs}
    if path.stem in ("ladder", "reach_task"):
        assert max(parameters) < 1.02 * min(parameters)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_cells_of_a_shipped_study_train_a_step(path, place, maker, request):
    overrides = {"max_steps": "1", "eval_steps": "1", "max_train_rows": "600", "max_eval_rows": "3", "seeds": "1",
                 "max_new_tokens": "4"}  # fmt: skip
    if path.stem in DATA:
        overrides["dataset"] = str(request.getfixturevalue("real_data") / DATA[path.stem])
    else:
        task = re.search(r"make_study_data.py (\w+)", path.read_text())[1]
        maker.main([task])
    study = read_study(path.relative_to(ROOT), overrides)
    few = {**study.tests[-1].changes, "max_eval_rows": 3}
    study = dataclasses.replace(
        study, tests=[dataclasses.replace(study.tests[-1], changes=few, ranges=(), of="source")]
    )
    cells = study.runs[:1] + study.runs[-1:]
    outcome = run_study(study, cells)
    assert not outcome.failed and len(outcome.trained) == 2
    assert {row["steps"] for row in gather(study)["rows"]} == {1}


def test_the_same_seed_makes_the_same_data(maker):
    for task in ("copy", "reach"):
        assert maker.files_of(task) == maker.files_of(task)
        assert maker.files_of(task)["validation"] != maker.files_of(task, seed=1)["validation"]


@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_letters_are_copied_or_turned_round_and_lengths_are_even(maker, task):
    files = maker.files_of(task)
    for name, number in (("train", maker.ROWS_OF_A_LENGTH), ("lengths", maker.TEST_ROWS_OF_A_LENGTH)):
        counts = {}
        for row in files[name]:
            letters = row["source"].split()
            assert row["target"].split() == (letters if task == "copy" else letters[::-1])
            counts[len(letters)] = counts.get(len(letters), 0) + 1
        assert set(counts.values()) == {number}
    assert not {row["source"] for row in files["train"]} & {row["source"] for row in files["lengths"]}


def test_a_verb_agrees_with_a_subject_that_only_distance_tells(maker):
    files = maker.files_of("reach")
    for distance in maker.DISTANCES:
        rows = files[f"distance_{distance}"]
        assert len(rows) == maker.TEST_ROWS_OF_A_DISTANCE
        for row in rows:
            words = row["source"].split()
            asked = words.index("?")
            subjects = [place + 1 for place, word in enumerate(words) if word == "the"]
            own = max(place for place in subjects if place < asked)
            (told,) = (place for place, word in enumerate(words) if word in maker.SLEPT)
            # as far on both sides: who is too far from the one cannot rule out the other
            assert asked - own - 1 == told - max(place for place in subjects if place < told) - 1 == distance
            numbers = {place: words[place].endswith("s") for place in subjects}
            assert row["target"] == ("are" if numbers[own] else "is")
            assert sorted(numbers.values()) == [False, True]  # no majority tells
            assert all(maker.EDGE[0] <= place - 1 for place in subjects)
        share = sum(row["target"] == "are" for row in rows) / len(rows)
        first = sum(row["source"].index("?") < row["source"].rindex("the ") for row in rows) / len(rows)
        assert 0.35 < share < 0.65 and 0.35 < first < 0.65
