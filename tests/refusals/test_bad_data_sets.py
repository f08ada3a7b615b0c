"""Bad data are refused before the first step, or their rows are counted: every third case of the campaign."""

import pytest
from _data_cases import CASES, GOOD, Case, jsonl
from _judging import CLEAR, SILENT
from bad_data import attempt


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_bad_data_are_refused_or_counted(case, tmp_path):
    outcome = attempt(case, tmp_path / "data")
    assert outcome.verdict == CLEAR, outcome


def test_good_data_are_let_through(tmp_path):
    assert attempt(Case("good", jsonl(GOOD)), tmp_path / "data").verdict == SILENT


def test_a_row_that_is_dropped_without_a_word_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr("selfattn_hf.data.preparing.PrepareReport.__str__", lambda report: f"{report.kept} rows")
    case = next(case for case in CASES if case.name == "None for a target")
    assert attempt(case, tmp_path / "data").verdict == SILENT


def test_there_are_enough_cases():
    assert len({case.name for case in CASES}) == len(CASES) >= 25
