"""scripts/translate.py: every way in, every way out, errors without a traceback."""

import ast
import importlib
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfattn_hf import Translator

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("translate")


@pytest.fixture
def translate(script, translator, monkeypatch, capsysbinary):
    """Call the script's main in this process, with the model loaded once; returns what it wrote."""
    monkeypatch.setattr(Translator, "from_pretrained", lambda *args, **kwargs: translator)

    def call(*arguments, stdin=b"", terminal=False):
        pipe = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        pipe.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", pipe)
        script.main(["model", *map(str, arguments)])
        written = capsysbinary.readouterr()
        return written.out.decode(), written.err.decode()

    return call


def run(*arguments, stdin=b""):
    return subprocess.run(
        [sys.executable, SCRIPTS / "translate.py", *map(str, arguments)], input=stdin, capture_output=True, timeout=60
    )


def test_help_answers_within_a_second_and_imports_nothing_heavy():
    start = time.perf_counter()
    result = run("--help")
    assert time.perf_counter() - start < 1
    assert result.returncode == 0
    for name in (
        "--text",
        "--output",
        "--num_beams",
        "--batch_size",
        "--batch_tokens",
        "--max_new_tokens",
        "--revision",
    ):
        assert name in result.stdout.decode()
    top = [node for node in ast.parse((SCRIPTS / "translate.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    assert {node.module.split(".")[0] for node in top} <= set(sys.stdlib_module_names) | {"_cli"}


def test_a_saved_folder_translates_a_file_in_a_fresh_process(saved, sentences, tmp_path):
    source, target = tmp_path / "source.txt", tmp_path / "target.txt"
    source.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    result = run(saved, source, "--output", target, "--device", "cpu")
    assert result.returncode == 0, result.stderr.decode()
    assert target.read_text(encoding="utf-8").splitlines() == sentences
    assert result.stdout == b""


def test_one_sentence(translate, translator, sentences):
    assert translate("--text", sentences[0])[0] == translator(sentences[0]) + "\n"


def test_settings_reach_the_search(translate, translator, sentences):
    wide, _ = translate("--text", sentences[2], "--num_beams", 4, "--max_new_tokens", 3)
    assert wide == translator(sentences[2], num_beams=4, max_new_tokens=3) + "\n"


def test_a_pipe_is_answered_line_by_line(translate, translator, sentences):
    written, _ = translate(stdin="\n".join(sentences).encode())
    assert written.splitlines() == translator(sentences)
    assert translate("-", stdin="\n".join(sentences).encode())[0] == written


def test_line_numbers_stay_aligned_over_empty_lines_and_windows_line_ends(translate, translator, sentences):
    written, _ = translate("--batch_size", 1, stdin=f"\ufeff\n{sentences[0]}\r\n\r\n  \n{sentences[1]}\n\n".encode())
    assert written.split("\n") == ["", translator(sentences[0]), "", "", translator(sentences[1]), "", ""]


def test_a_line_break_that_the_model_writes_becomes_a_space(script):
    target = io.BytesIO()
    script.write(target, "two\nlines\u2028or three")
    assert target.getvalue() == b"two lines or three\n"


def test_a_conversation_goes_on_after_an_error(translate, translator, sentences, monkeypatch):
    def with_a_limit(text, **given):
        if len(text) > 100:
            raise ValueError("too long")
        return translator(text, **given)

    with_a_limit.reads_heads = False
    monkeypatch.setattr(Translator, "from_pretrained", lambda *args, **kwargs: with_a_limit)
    written, asked = translate(stdin=f"{sentences[0]}\n{'x' * 101}\n\n{sentences[1]}\n".encode(), terminal=True)
    assert written.split("\n") == [translator(sentences[0]), "", translator(sentences[1]), ""]
    assert "too long" in asked
    assert asked.count("> ") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "file", "--text", "x"], "so give one of the two"),
        (["model", "--text", "x", "--batch_size", "3"], "--batch_size does nothing for one --text"),
        (["model", "--text", "x", "--batch_tokens", "3"], "--batch_tokens does nothing for one --text"),
        (["model", "--num_beams", "0"], "a whole number from 1 on is needed, got '0'"),
        (["model", "--max_new_tokens", "many"], "a whole number from 1 on is needed, got 'many'"),
        (["model", "no-such-file.txt"], "no-such-file.txt"),
        ([], "MODEL"),
    ],
)
def test_a_wrong_command_line_ends_at_once_with_one_message(arguments, message):
    start = time.perf_counter()
    result = run(*arguments)
    assert time.perf_counter() - start < 1
    assert result.returncode == 2
    assert message in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_a_model_that_is_not_there_is_one_message(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["translate.py", str(tmp_path / "nowhere"), "--text", "x"])
    with pytest.raises(SystemExit) as stop:
        script.run(script.main)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert "nowhere" in error and "Traceback" not in error


def test_the_input_file_is_never_emptied(translate, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("precious\n")
    with pytest.raises(ValueError, match="would be emptied"):
        translate(file, "--output", file)
    assert file.read_text() == "precious\n"


def test_a_line_that_is_not_utf8_is_named_and_what_came_before_is_kept(translate, sentences, tmp_path):
    file, target = tmp_path / "text.txt", tmp_path / "out.txt"
    file.write_bytes((sentences[0] + "\n").encode() * 16 + b"gr\xfcn\n")
    with pytest.raises(ValueError, match="text.txt, line 17, is not UTF-8"):
        translate(file, "--output", target, "--batch_size", 1)
    assert len(target.read_text().splitlines()) == 16


def test_a_line_that_is_too_long_is_named(script, make_model, tokenizers, sentences, monkeypatch):
    bounded = Translator(make_model(position_encoding="learned"), tokenizers)
    text = "\n".join([sentences[0], " ".join(sentences)]).encode()
    with pytest.raises(ValueError, match="text.txt, line 2, has .* knows 16 places"):
        script.translate_lines(bounded, io.BytesIO(text), io.BytesIO(), "text.txt", {})
