"""A page's tables are those of the results beside it; the documentation's own page is up to date."""

import json
from pathlib import Path

import pytest

from selfattn_hf.training.study_page import fill_study_page, write_study_page

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "Before.\n\n<!-- study: two -->\nold\n<!-- end of study -->\n\nAfter.\n"


def results(**changes):
    mean = {f"exact_match_{what}": 12.5 for what in ("mean", "min", "max")}
    sizes = {"parameters_mean": 1234.0, "steps_mean": 7.0, "tokens_per_second_mean": 89.0}
    one = {
        "cell": "rope",
        "test": "t",
        "low": None,
        "high": None,
        "length": None,
        "n": 1,
        "seeds": [1],
        **mean,
        **sizes,
    }
    return {"study": "two", "metric": "exact_match", "trained_to": None, "cells": ["rope"], "summary": [one],
            "rows": [{"commit": "0123456789"}], "failed": [], "missing": [], "left_out": {},
            "theory": {"reach": {"rope": "all"}}, "gathered_with": {"commit": "f", "torch": "9.9"},
            **changes}  # fmt: skip


def test_the_tables_of_a_page_are_written_and_nothing_else():
    page = fill_study_page(PAGE, {"two": results()})
    assert page.startswith("Before.\n\n<!-- study: two -->\n") and page.endswith("<!-- end of study -->\n\nAfter.\n")
    assert "| rope | all | 1,234 | 7 | 89 | 12.5 | 1 |" in page
    assert "Commit 0123456; torch 9.9." in page and "old" not in page
    assert fill_study_page(page, {"two": results()}) == page


def test_a_page_without_a_place_and_a_study_without_results_are_refused():
    with pytest.raises(ValueError, match="no place for a table"):
        fill_study_page("Nothing here.", {"two": results()})
    with pytest.raises(ValueError, match="two, of which there are no results"):
        fill_study_page(PAGE, {})


def test_results_are_read_beside_the_page(tmp_path, in_process):
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "studies" / "two").mkdir(parents=True)
    (tmp_path / "studies" / "two" / "results.json").write_text(json.dumps(results()))
    code, printed, errors = in_process("study", "--page", tmp_path / "page.md")
    assert (code, errors) == (0, "") and "tables of two" in printed
    assert "| rope | all |" in (tmp_path / "page.md").read_text()


def test_every_number_of_the_documentation_is_that_of_its_results():
    page = DOCS / "studies.md"
    found = {path.parent.name: json.loads(path.read_text()) for path in DOCS.glob("studies/*/results.json")}
    assert len(found) >= 2
    assert fill_study_page(page.read_text(), found) == page.read_text()


def test_a_number_changed_by_hand_would_be_found(tmp_path):
    """Positive control."""
    page = fill_study_page(PAGE, {"two": results()})
    (tmp_path / "page.md").write_text(page.replace("12.5", "99.9"))
    (tmp_path / "studies" / "two").mkdir(parents=True)
    (tmp_path / "studies" / "two" / "results.json").write_text(json.dumps(results()))
    assert write_study_page(tmp_path / "page.md") == ["two"]
    assert (tmp_path / "page.md").read_text() == page
