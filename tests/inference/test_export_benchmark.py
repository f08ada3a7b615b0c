"""What scripts/benchmark.py says of exports: every engine on the same batches, equality first."""

import importlib
import json

import pytest

from selfattn_hf.inference import exporting

from ..conftest import SCRIPTS

SIDES = ["selfattn", "selfattn int8", "ctranslate2", "ctranslate2 int8"]


@pytest.fixture
def measure(in_process, saved, sentences, tmp_path):
    """Run it on the tiny model: exit code, what it wrote, output, errors."""

    def run(*words):
        lines, file = tmp_path / "lines.txt", tmp_path / "export.json"
        lines.write_text("\n".join(sentences))
        given = ["--model", saved, "--text", lines, "--sentences", 5, "--rows", 1, 4, *words, "--json", file]
        code, out, err = in_process("benchmark", "export", *given)
        return code, json.loads(file.read_text()) if file.exists() else None, out, err

    return run


def only(monkeypatch, target):
    """One engine, for time."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    benchmark = importlib.import_module("benchmarks._export")
    assert list(benchmark.EXPORTS) == ["onnx", "onnx int8", "torch", "ctranslate2", "ctranslate2 int8"]
    fewer = {name: pair for name, pair in benchmark.EXPORTS.items() if pair[0] == target}
    monkeypatch.setattr(benchmark, "EXPORTS", fewer)


def test_exports_are_measured_beside_the_model_on_the_same_sentences(measure, monkeypatch, tmp_path):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra")
    only(monkeypatch, "ctranslate2")
    code, result, out, err = measure("--plot", tmp_path / "export.svg")
    assert code == 0, err
    assert [(row["rows"], row["side"]) for row in result["rows"]] == [(n, side) for n in (1, 4) for side in SIDES]
    assert result["left_out"] == {} and out.count("checked: ") == len(result["checks"]) == 2
    size = {}
    for row in result["rows"]:
        assert row["sentences_per_second"] > 0 and row["selfattn_over_it"][1] <= row["selfattn_over_it"][2]
        assert "int8" in row["side"] or row["equal_answers"] == "5 of 5"
        size[row["side"]] = row["mb"]
    assert result["rows"][0]["selfattn_over_it"] == [1.0, 1.0, 1.0]
    assert size["selfattn"] == size["selfattn int8"] > 0
    assert (tmp_path / "export.svg").read_text().count("<rect") == 1 + len(result["rows"])


def test_an_export_that_writes_something_else_is_not_timed(measure, monkeypatch):
    def wrong(model, tokenizers, folder, int8):
        return lambda: lambda rows, most: [[7] for _ in rows]

    only(monkeypatch, "torch")
    monkeypatch.setitem(exporting.TARGETS, "torch", wrong)
    code, result, out, err = measure()
    assert code == 1 and result is None
    assert "what torch writes, 1 at once, differs from the plain path by 1" in err and "sentences/s" not in out


def test_an_engine_that_is_missing_or_cannot_hold_the_model_is_left_out_by_name(measure, monkeypatch):
    def missing(model, tokenizers, folder, int8):
        raise ImportError("No module named 'engine'") if not int8 else ValueError("it has no place for it")

    only(monkeypatch, "onnx")
    monkeypatch.setitem(exporting.TARGETS, "onnx", missing)
    code, result, out, err = measure()
    assert code == 0, err
    assert {row["side"] for row in result["rows"]} == {"selfattn", "selfattn int8"}
    assert "No module named 'engine'" in result["left_out"]["onnx"] and "no place" in out
    code, _, _, err = measure("--device", "cuda")
    assert code == 2 and "engines on a CPU" in err
