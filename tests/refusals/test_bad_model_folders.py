"""A bad model folder is refused by name: every case of the campaign through one of its doors.

The campaign tries every door, in child processes, with limits of time and memory, and without the package too.
"""

import shutil

import pytest
from _doors import DOORS
from _folder_cases import CASES
from _judging import CLEAR, SILENT, judge

# The nearest to what people do first; what the others share with it is the same code.
FIRST = ("Translator", "AutoModelForSeq2SeqLM", "evaluate", "init_from", "AutoModel", "AutoConfig")


def spoiled(case, whole, tmp_path):
    shutil.copytree(whole.parent, tmp_path / "case")
    folder = tmp_path / "case" / "model"
    case.spoil(folder)
    return folder


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_a_bad_folder_is_refused(number, whole, tmp_path):
    case = CASES[number]
    doors = [door for door in FIRST if door in case.doors]
    door = doors[number % 2 % len(doors)]
    folder = spoiled(case, whole, tmp_path)
    outcome = judge(lambda: DOORS[door](folder), case.words)
    assert outcome.verdict == CLEAR, (door, outcome)


@pytest.mark.parametrize("door", DOORS)
def test_a_whole_folder_is_let_through(door, whole, tmp_path, capsys):
    shutil.copytree(whole.parent, tmp_path / "case")
    assert judge(lambda: DOORS[door](tmp_path / "case" / "model"), ()).verdict == SILENT


def test_there_are_enough_cases():
    assert len({case.name for case in CASES}) == len(CASES) >= 50


def test_weights_that_are_missing_without_a_word_would_be_found(whole, tmp_path, monkeypatch):
    """With transformers' own loading in place of ours, random numbers go through as weights."""
    monkeypatch.setattr("selfattn_hf.model.pretrained.check_fit", lambda *given: None)
    case = next(case for case in CASES if case.name == "weights: one tensor is missing")
    folder = spoiled(case, whole, tmp_path)
    assert judge(lambda: DOORS["AutoModelForSeq2SeqLM"](folder), case.words).verdict == SILENT
    assert judge(lambda: DOORS["Translator"](folder), case.words).verdict == CLEAR, "the report is looked at too"
