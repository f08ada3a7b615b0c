"""Bad data are refused before the first step, or their rows are counted: every third case of the campaign."""

import pytest
from _data_cases import CASES, GOOD, Case, jsonl
from _judging import CLEAR, SILENT
from bad_data import WAYS, attempt


@pytest.mark.parametrize("number", range(0, len(CASES), 3), ids=lambda number: CASES[number].name)
def test_bad_data_are_refused_or_counted(number, tmp_path):
    way = list(WAYS)[number % 2]
    outcome = attempt(CASES[number], tmp_path / "data", way)
    assert outcome.verdict == CLEAR, (way, outcome)


@pytest.mark.parametrize("way", WAYS)
def test_good_data_are_let_through(way, tmp_path):
    assert attempt(Case("good", jsonl(GOOD)), tmp_path / "data", way).verdict == SILENT


def test_a_row_that_is_dropped_without_a_word_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr("selfattn_hf.data.preparing.PrepareReport.__str__", lambda report: f"{report.kept} rows")
    case = next(case for case in CASES if case.name == "None for a target")
    assert attempt(case, tmp_path / "data").verdict == SILENT


def test_there_are_enough_cases():
    assert len({case.name for case in CASES}) == len(CASES) >= 25
