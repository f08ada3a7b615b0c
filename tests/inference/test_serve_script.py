"""scripts/serve.py as a process, its pages for a person, and what the benchmark says of it."""

import json
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service is an extra")
pytest.importorskip("uvicorn", reason="the service is an extra")
httpx = pytest.importorskip("httpx", reason="a client of the service is an extra")

from selfattn_hf.inference.service_gradio import make_gradio, table  # noqa: E402

from ..conftest import load_script  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def look(monkeypatch, translator):
    """What the page draws, as scripts/serve.py makes it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = load_script("serve")
    return script.look_by(translator)


def test_the_service_says_where_it_is_and_ends_when_it_is_told(saved, translator, sentences):
    command = [sys.executable, SCRIPTS / "serve.py", saved, "--port", "0", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            assert said.startswith(f"serving {saved} on http://127.0.0.1:"), process.stderr.read()
            answer = httpx.post(f"{said.split()[-1]}/translate", json={"text": sentences}, timeout=60)
            assert answer.json() == {"translation": translator(sentences)}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read().splitlines()[-1] == "every request that was accepted is answered"


def test_what_cannot_begin_says_why(in_process, saved, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = in_process("serve", saved, "--port", port)
    assert code == 2 and f"nothing can listen on 127.0.0.1:{port}" in error and "Choose another" in error
    code, _, error = in_process("serve", saved, "--port", 0, "--max_batch", 0)
    assert code == 2 and "max_batch is a number from 1 on, got 0" in error
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, error = in_process("serve", saved, "--port", 0, "--gradio")
    assert code == 2 and "pip install 'selfattn_hf[demo]'" in error


def test_the_attention_that_the_page_draws_is_that_of_the_answer(look, translator, sentences):
    seen = look(sentences[1])
    assert translator(sentences[1]) == sentences[1]  # it has learned to repeat
    assert [token.strip("\N{OPEN BOX}") for token in seen["written_tokens"]][:3] == seen["source_tokens"][:3]
    for heads in seen["weights"]:
        for rows in heads:
            assert len(rows) == len(seen["written_tokens"])
            assert all(sum(row) == pytest.approx(1.0, abs=1e-3) for row in rows)
    json.dumps(seen)


def test_a_page_of_gradio_answers_with_text_and_a_table(monkeypatch, translator, look, sentences):
    made = {}
    double = types.SimpleNamespace(
        Interface=lambda answer, *parts, **words: made.update(answer=answer),
        Textbox=lambda **words: words, HTML=lambda **words: words,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "gradio", double)
    make_gradio(translator, look)
    text, page = made["answer"](sentences[0])
    assert text == translator(sentences[0])
    assert page.count("<tr>") == 1 + len(look(sentences[0])["written_tokens"])
    assert made["answer"]("  ") == ("", "")
    assert "&lt;b&gt;" in table({"source_tokens": ["<b>"], "written_tokens": ["x"], "weights": [[[[1.0]]]]})
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match="pip install 'selfattn_hf\\[demo\\]'"):
        make_gradio(translator, look)


def test_the_benchmark_compares_the_service_with_one_by_one(in_process, saved, sentences, tmp_path):
    lines, file = tmp_path / "lines.txt", tmp_path / "serve.json"
    lines.write_text("\n".join(sentences))
    words = ["--clients", 1, 4, "--requests", 8, "--repeats", 1, "--json", file, "--plot", tmp_path / "serve.svg"]
    code, printed, error = in_process("benchmark", "serve", "--model", saved, "--text", lines, *words)
    assert code == 0, error
    assert "checked: 8 answers of the service are those of the Translator" in printed
    rows = json.loads(file.read_text())["rows"]
    assert [(row["side"], row["clients"]) for row in rows] == [
        ("generate, one by one", 1), ("service", 1), ("service", 4)
    ]  # fmt: skip
    assert all(row["p50_ms"] <= row["p95_ms"] and row["requests_per_second"][0] > 0 for row in rows)
    assert rows[0]["over_one_by_one"] == 1.0
    assert (tmp_path / "serve.svg").read_text().count("<rect") == 1 + 3
