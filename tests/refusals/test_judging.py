"""The judge of the campaigns: what is clear, unclear, silent, too much."""

import json
import sys
import time

import pytest
from _judging import CLEAR, HEAVY, SILENT, UNCLEAR, Outcome, Report, judge, measure


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("work", "verdict"),
    [
        (lambda: fail(ValueError("hidden_size must be 1, got 0")), CLEAR),
        (lambda: fail(FileNotFoundError("no hidden_size")), CLEAR),
        (lambda: fail(ValueError("something is wrong")), UNCLEAR),
        (lambda: fail(KeyError("hidden_size")), UNCLEAR),
        (lambda: fail(RuntimeError("hidden_size")), UNCLEAR),
        (lambda: json.loads("hidden_size"), UNCLEAR),
        (lambda: b"\xff hidden_size".decode(), UNCLEAR),
        (lambda: None, SILENT),
    ],
)
def test_a_refusal_is_judged_by_its_kind_and_its_words(work, verdict):
    assert judge(work, ("hidden_size",)).verdict == verdict


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_memory_is_measured_above_what_the_process_had():
    taken = measure(lambda: judge(lambda: bytearray(b"x" * 200 * 2**20) and None, ())).bytes
    assert 150 * 2**20 < taken < 500 * 2**20
    assert measure(lambda: Outcome(CLEAR, "", "")).bytes < 50 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="a process is limited on Linux")
def test_too_much_memory_is_a_verdict():
    assert measure(lambda: judge(lambda: bytearray(b"x" * (1100 * 2**20)) and None, ())).verdict == HEAVY


def test_too_much_time_is_a_verdict(monkeypatch):
    monkeypatch.setattr("_judging.MAX_SECONDS", 0.05)

    def work_on():
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        return Outcome(CLEAR, "", "")

    assert measure(work_on).verdict == HEAVY


def test_what_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr("_judging.PATIENCE", 0.2)
    outcome = measure(lambda: time.sleep(60) or Outcome(CLEAR, "", ""))
    assert outcome.verdict == HEAVY and outcome.kind == "stopped"


def test_a_report_counts_a_case_by_its_worst_door(tmp_path, capsys):
    report = Report("folders", 3)
    for name, door, verdict in (("a", "x", CLEAR), ("a", "y", SILENT), ("b", "x", CLEAR)):
        report.add(name, door, Outcome(verdict, "", ""))
    assert report.worst() == {"a": SILENT, "b": CLEAR}
    assert report.finish(str(tmp_path / "out.json")) == 1
    assert json.loads((tmp_path / "out.json").read_text())["cases"] == {"a": SILENT, "b": CLEAR}
    assert "| x | 2 | 0 | 0 | 0 |" in capsys.readouterr().out
    good = Report("folders", 1)
    good.add("a", "x", Outcome(CLEAR, "", ""))
    assert good.finish(None) == 0
    assert Report("none", 0).finish(None) == 1
