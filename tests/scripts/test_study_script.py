"""scripts/study.py --match parameters: the table, the files it writes, errors without a traceback."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.training import count_parameters, read_settings

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "large": "hidden_size: 32\nnum_attention_heads: 4\nintermediate_size: 64\nposition_encoding: none\n",
    "small": "hidden_size: 32\nnum_attention_heads: 4\nintermediate_size: 32\n",
    "bare": "hidden_size: 32\nnum_attention_heads: 1\nfeedforward: none\nposition_encoding: none\n",
}
REST = "dataset: some/data\ntokenizer_vocab_size: 50\nencoder_layers: 1\ndecoder_layers: 1\n"


@pytest.fixture
def files(tmp_path):
    for name, text in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(f"# what {name} shows\n{REST}{text}")
    return [tmp_path / f"{name}.yaml" for name in FILES]


@pytest.fixture
def match(in_process):
    return lambda *words: in_process("study", "--match", "parameters", *words)


def parameters_in(path, vocab_size=50):
    return count_parameters(SelfAttnConfig(**read_settings(path).model, vocab_size=vocab_size))


def test_help_answers_within_a_second_and_imports_only_the_standard_library():
    command = [sys.executable, "-X", "importtime", ROOT / "scripts/study.py", "--help"]
    began = time.perf_counter()
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - began < 1
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in shown.stderr.splitlines() if "|" in line}
    assert "ast" in names and not names & {"torch", "transformers", "yaml", "selfattn_hf", "numpy", "datasets"}
    for option in ("--match", "--reference", "--parameters", "--tolerance", "--vocab_size", "--write"):
        assert f"  {option} " in shown.stdout


def test_the_table_shows_what_was_counted_and_what_changes(files, match):
    code, out, err = match(*files)
    assert (code, err) == (0, "")
    head, *rows = (re.split(r" {2,}", line) for line in out.splitlines())
    assert head == ["config", "vocabulary", "before", "after", "difference", "changed"]
    assert [row[0] for row in rows] == list(FILES)
    before = [int(row[2].replace(",", "")) for row in rows]
    after = [int(row[3].replace(",", "")) for row in rows]
    assert before == [parameters_in(path) for path in files]
    assert all(abs(count - after[0]) < 0.02 * after[0] for count in after)
    assert [row[4] for row in rows] == [f"{(count - after[0]) / after[0]:+.2%}" for count in after]
    assert rows[0][5] == "nothing"
    assert re.fullmatch(r"intermediate_size 32 -> \d+", rows[1][5])
    assert re.fullmatch(r"hidden_size 32 -> \d+, head_width 32 -> \d+", rows[2][5])


def test_the_files_that_are_written_hold_the_new_sizes_and_all_else(files, match, tmp_path):
    folder = tmp_path / "equal"
    code, out, _ = match(*files, "--write", folder, "--encoder_layers", "2", "--parameters", "30000")
    assert code == 0
    for path in files:
        written = folder / path.name
        assert f"wrote {written}\n" in out
        old, new = read_settings(path, {"encoder_layers": "2"}), read_settings(written)
        assert abs(parameters_in(written) - 30000) < 0.02 * 30000
        sizes = {"hidden_size", "intermediate_size"}
        assert {k: v for k, v in new.model.items() if k not in sizes} == {
            k: v for k, v in old.model.items() if k not in sizes
        }
        assert (new.data, new.run) == (old.data, old.run)
        assert new.training == {**old.training, "output_dir": f"runs/equal/{path.stem}"}
        header = written.read_text().splitlines()[0]
        assert f"{parameters_in(written):,} parameters" in header and "30,000" in header


def test_nothing_is_overwritten(files, match, tmp_path):
    (tmp_path / "bare.yaml").unlink()
    code, _, err = match(*files[:2], "--write", tmp_path)
    assert code == 2 and "is there already" in err
    assert files[1].read_text().startswith("# what small shows")


def test_a_reference_and_a_vocabulary_can_be_named(files, match):
    code, out, _ = match(*files, "--reference", "small", "--vocab_size", "200")
    assert code == 0
    rows = {row[0]: row for row in (re.split(r" {2,}", line) for line in out.splitlines()[1:])}
    assert rows["small"][5] == "nothing" and rows["small"][3] == f"{parameters_in(files[1], 200):,}"
    assert rows["large"][5] != "nothing"
    assert {row[1] for row in rows.values()} == {"200"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--hiden_size", "3"], "Did you mean hidden_size?"),
        (["--tolerance", "tight"], "tolerance takes a number"),
        (["--tolerance", "0"], "above 0"),
        (["--vocab_size", "0"], "vocab_size"),
        (["--reference", "none_such"], "Choose one of: large, small, bare"),
        (["--reference", "small", "--parameters", "9000"], "Give one of them"),
        (["--parameters", "7"], "the nearest is"),
        (["--tokenizer", "some/tokenizer"], "Give vocab_size"),
        (["--init_from", "some/model"], "brings its own sizes"),
        (["--write", "equal", "--output_dir", "runs/one"], "each needs its own"),
        (["large.yaml"], "large.yaml is no file"),
    ],
)
def test_an_error_of_the_user_is_one_message(files, match, words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / ".." if words == ["large.yaml"] else tmp_path)
    files = files if "--tokenizer" not in words else [path for path in files if _without_vocabulary(path)]
    code, _, err = match(*files, *words)
    assert code == 2 and named in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "equal").exists()


def _without_vocabulary(path):
    path.write_text(path.read_text().replace("tokenizer_vocab_size: 50\n", ""))
    return True


@pytest.mark.parametrize("words", [[], ["--match", "size"], ["--match"]])
def test_what_is_made_equal_must_be_said(files, in_process, words):
    code, _, err = in_process("study", *files, *words)
    assert code == 2 and "--match parameters is needed" in err


def test_two_files_of_one_name_are_refused(files, match, tmp_path):
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / "large.yaml"
    twin.write_text(files[0].read_text())
    code, _, err = match(*files, twin)
    assert code == 2 and "two files are called large" in err
    assert match()[0] == 2
