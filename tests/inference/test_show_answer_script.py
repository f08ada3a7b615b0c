"""scripts/show_answer.py: a saved folder opens in a fresh process, with the package and where it is forbidden."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/show_answer.py"


def run(*arguments):
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("how", "said"), [([], "with the package"), (["--without_package"], "without the package")], ids=["with", "without"]
)
def test_a_saved_folder_answers_in_a_fresh_process(saved, sentences, tmp_path, how, said):
    folder = shutil.copytree(saved, tmp_path / "model")
    measured = {"metric": "bleu", "test": {"bleu": 41.0}, "examples": [{"source": text} for text in sentences]}
    (folder / "results.json").write_text(json.dumps(measured))
    result = run(folder, *how)
    assert result.returncode == 0, result.stderr
    assert "bleu when trained: 41.00 on the test split" in result.stdout
    assert said in result.stdout
    for sentence in sentences:
        assert f"{sentence}  ->  {sentence}\n" in result.stdout
    assert "[y/N]" not in result.stdout


def test_a_folder_without_code_does_not_open_where_the_package_is_forbidden(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model", ignore=shutil.ignore_patterns("*.py"))
    (folder / "results.json").write_text(json.dumps({"examples": [{"source": "snow"}]}))
    assert run(folder, "--without_package").returncode != 0


def test_a_folder_that_no_training_left_is_one_message(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 2
    assert "results.json is missing" in result.stderr
    assert "Traceback" not in result.stderr
