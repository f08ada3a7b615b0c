"""What docs/pretrained.md says is so: its table, its code, its commands and the text they print."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from selfattn_hf.conversion.converting import FAMILIES
from selfattn_hf.training import read_settings, train

from .conftest import SOURCES, build
from .test_folders import TEXTS, TOKENIZERS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
# Sources that stand where the page names models of the Hub; facebook/bart-base has six layers on each side.
NAMED = {
    "facebook/bart-base": ("bart", {"encoder_layers": 6, "decoder_layers": 6}),
    "Helsinki-NLP/opus-mt-en-de": ("marian", {}),
    "mbart50": ("mbart50", {}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a checkout, in which the page's models lie under their names."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    for path, (name, fields) in NAMED.items():
        config_class, defaults = SOURCES[name]
        tokenizer = TOKENIZERS[name][0]()
        if name == "marian":
            pad = tokenizer.pad_token_id
            fields = {"pad_token_id": pad, "decoder_start_token_id": pad}
        sizes = {"vocab_size": len(tokenizer), **fields}
        build(config_class, {**defaults, **sizes}).save_pretrained(folder / path)
        tokenizer.save_pretrained(folder / path)
    rows = [json.dumps({"en": text, "de": text}) for text in TEXTS]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def run(place, monkeypatch, capsys, caplog):
    """Run a block of the page and return what it showed."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def script(line):
        words = shlex.split(line)
        assert words[:1] == ["python"]
        monkeypatch.setattr(sys, "argv", words[1:])
        namespace = {"__name__": "script"}
        exec(compile(Path(words[1]).read_text(), words[1], "exec"), namespace)
        namespace["main"](words[2:])

    def show(language, code):
        caplog.clear()
        capsys.readouterr()
        if language == "python":
            exec(compile(code, "pretrained.md", "exec"), {})
        elif language == "bash":
            for line in code.splitlines():
                if "translate.py" not in line and "train.py" not in line:
                    script(line)
        elif language == "yaml":
            (place / "finetune.yaml").write_text(code)
        return capsys.readouterr().out + "\n".join(record.getMessage() for record in caplog.records)

    transformers_logging.disable_progress_bar()
    return show


def test_the_page_runs_from_top_to_bottom_and_prints_what_it_shows(run, place):
    run("bash", "python scripts/convert.py mbart50 models/mbart50")
    shown, compared = "", 0
    for language, code in BLOCKS:
        if language == "text":
            assert shown.strip() == code.strip()
            compared += 1
        else:
            shown = run(language, code)
    assert compared == 3
    assert (place / "models" / "opus_en_de" / "tokenizer.json").is_file()
    for line in (line for language, code in BLOCKS if language == "bash" for line in code.splitlines()):
        assert Path(ROOT / re.search(r"scripts/\w+\.py", line)[0]).is_file()


def test_the_settings_of_the_page_train(run, place):
    """On three rows, for a step; the data set of the page is on the Hub."""
    if not (place / "models").exists():
        run("bash", "python scripts/convert.py Helsinki-NLP/opus-mt-en-de models/opus_en_de")
    run("yaml", next(code for language, code in BLOCKS if language == "yaml"))
    rows = {split: str(place / "rows.jsonl") for split in ("train", "validation", "test")}
    given = {"dataset": json.dumps(rows), "max_steps": "1", "eval_steps": "1", "output_dir": "out", "use_cpu": "true"}
    results = train(read_settings("finetune.yaml", given))
    assert results["steps"] == 1 and (place / "out" / "model.safetensors").is_file()


def rows_of_the_table():
    head, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in TEXT.splitlines()
        if line.startswith("|") and line.count("|") == 9
    ]
    return head, rows


def test_the_table_holds_what_every_family_always_has(pair):
    head, rows = rows_of_the_table()
    assert {row[1] for row in rows} == set(FAMILIES)
    for row in rows:
        for field, cell in zip(head[2:], row[2:], strict=True):
            values = {
                getattr(pair(name)[1].config, field)
                for name, (config_class, _) in SOURCES.items()
                if config_class.model_type == row[1]
            }
            written = {"true": True, "false": False, "": "interleaved"}.get(cell, cell)
            assert values == {written}, (row[0], field)
