"""Pictures of a study: every number drawn stands in the results, the SVG says in words what it shows."""

import re
from xml.etree import ElementTree

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.insight.study_pictures import (
    cells_picture,
    curve_of,
    draw_study,
    length_curve,
    number,
)
from selfattn_hf.insight.study_theory import theory_columns
from selfattn_hf.training.study_results import summarise

pytest.importorskip("matplotlib")
CELLS = ["rope", "alibi", "tree_relative"]


@pytest.fixture
def results():
    """Of three cells, two seeds, four lengths and a test set without any; one cell has no figure at the last length."""
    rows = []
    for place, cell in enumerate(CELLS):
        for seed in (1, 2):
            row = {"cell": cell, "seed": seed, "loss": 0.5, "bleu": 3.25 * place + seed, "chrf": 1.0,
                   "validation_loss": 0.1, "parameters": 9, "steps": 4, "seconds": 1.0,
                   "tokens_per_second": 1000.0 * (place + 1) + seed}  # fmt: skip
            for length in (4, 8, 12, 20):
                right = None if (cell, length) == ("alibi", 20) else 100.0 / (1 + place + seed) - length
                figures = {"exact_match": right, "token_accuracy": None if right is None else right / 2 + 50}
                rows.append({**row, **figures, "test": "t", "length": float(length), "low": length, "high": length})
            figures = {"exact_match": 1.0, "token_accuracy": 2.0}
            rows.append({**row, **figures, "test": "whole", "length": None, "low": None, "high": None})
    return {"study": "curve <1>", "metric": "exact_match", "trained_to": 8, "axis": "letters", "cells": CELLS,
            "summary": summarise(rows)}  # fmt: skip


def of(results, cell, metric, what="mean"):
    """Length -> figure, straight from the summary."""
    return {
        one["length"]: one[f"{metric}_{what}"]
        for one in results["summary"]
        if one["cell"] == cell and one["length"] is not None and one[f"{metric}_{what}"] is not None
    }


def test_lines_are_the_means_and_bands_the_seeds(results):
    panels = length_curve(results).axes
    assert len(panels) == 2
    for axes, metric in zip(panels, ("exact_match", "token_accuracy"), strict=True):
        lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(lines) == CELLS
        for cell, line in lines.items():
            assert dict(zip(*line.get_data(), strict=True)) == of(results, cell, metric)
        for cell, band in zip(CELLS, axes.collections, strict=True):
            corners = {tuple(corner) for path in band.get_paths() for corner in path.vertices}
            for what in ("min", "max"):
                assert set(of(results, cell, metric, what).items()) <= corners
    assert max(panels[0].lines[1].get_xdata()) == 12  # it ends where the model knows no more places


def test_no_two_lines_look_alike(results):
    results["cells"] = [f"cell {place}" for place in range(13)]
    results["summary"] = [{**one, "cell": cell} for one in results["summary"] for cell in results["cells"]
                          if one["cell"] == "rope"]  # fmt: skip
    lines = [line for line in length_curve(results).axes[0].lines if not line.get_label().startswith("_")]
    assert len(lines) == 13 and len({line.get_marker() for line in lines}) == 13
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 13


def test_dots_are_the_means_with_their_numbers(results):
    results["metric"] = "bleu"
    quality, speed = cells_picture(results).axes
    for axes, metric in ((quality, "bleu"), (speed, "tokens_per_second")):
        expected = [one[f"{metric}_mean"] for one in results["summary"] if one["length"] is None]
        dots = [line.get_xdata()[0] for line in axes.lines if line.get_label() in CELLS]
        assert dots == expected
        assert [text.get_text() for text in axes.texts] == [number(value, metric) for value in expected]
    assert [label.get_text() for label in quality.get_yticklabels()] == CELLS


def test_the_files_are_svg_with_words_and_follow_the_theme(results, tmp_path):
    paths = draw_study(results, tmp_path)
    assert [path.name for path in paths] == ["length_curve.svg", "cells.svg"]
    before = [path.read_bytes() for path in paths]
    draw_study(results, tmp_path)
    assert [path.read_bytes() for path in paths] == before
    for path in paths:
        text = path.read_text()
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img" and "curve <1>" in root.get("aria-label")
        assert "prefers-color-scheme:dark" in text and "currentColor" in text and "#010203" not in text
        assert not re.search(r'(?:href|src)="(?!#)', text)
    said = ElementTree.fromstring(paths[0].read_text()).find("{*}desc").text
    for cell in CELLS:
        points = ", ".join(f"{mean:.1f} at {length:g}" for length, mean in of(results, cell, "exact_match").items())
        assert f"{cell}: {points}" in said


def test_nothing_is_drawn_of_nothing(results, tmp_path):
    assert draw_study({**results, "summary": []}, tmp_path) == []
    assert curve_of({**results, "summary": []}, "bleu") == {}


def test_theory_of_a_ladder():
    common = {"encoder_layers": 2, "decoder_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    columns = theory_columns(
        {
            "rnn": SelfAttnConfig(encoder_mixer="rnn", decoder_mixer="rnn", position_encoding="none", **common),
            "window": SelfAttnConfig(encoder_mixer="window", window_radius=3, position_encoding="none", **common),
            "attention": SelfAttnConfig(**common),
        },
        length=10,
    )
    assert columns == {
        "steps, T=10": {"rnn": 20, "window": 2, "attention": 2},
        "reach": {"rnn": "all", "window": 1 + 2 * 3 * 2, "attention": "all"},
    }
