"""scripts/convert.py: what it prints and writes, errors without a traceback, and what the other scripts make of it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfattn_hf import convert
from selfattn_hf.training.settings import MODEL_TYPES

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(in_process):
    """Call the script in this process: exit code, lines of output, errors."""

    def call(*words):
        code, out, errors = in_process("convert", *words)
        return code, out.splitlines(), errors

    return call


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_help_answers_within_a_second_and_lists_every_switch():
    began = time.perf_counter()
    shown = subprocess.run([sys.executable, SCRIPTS / "convert.py", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - began < 1
    listed = {line.split()[0].removeprefix("--") for line in shown.stdout.splitlines() if line.startswith("  --")}
    assert listed == {"revision", "seed", *MODEL_TYPES}


def test_a_conversion_is_printed_and_written(script, make_source, pair, load, difference, tmp_path):
    source, target = make_source("bart"), tmp_path / "made"
    assert script(source, target) == (
        0,
        [
            f"{source} (bart) converted.",
            "Training goes on without: dropout inside the feed-forward (0.1).",
            f"written to {target}",
            f"{source} has no tokenizer, so there is none in {target}: save one there before you translate or train.",
        ],
        "",
    )
    assert difference(pair("bart")[0], load(target)) < 1e-5


def test_a_switch_is_set_and_what_it_costs_is_printed(script, make_source, load, tmp_path):
    source, target = make_source("bart"), tmp_path / "made"
    code, lines, err = script(source, target, "--position_encoding", "[sinusoidal, t5]", "--dropout=0.3")
    assert (code, err) == (0, "")
    assert lines[:4] == [
        f"{source} (bart) converted with position_encoding=['sinusoidal', 't5'] (was 'learned'), dropout=0.3 "
        "(was 0.1).",
        "It no longer computes what it did, and needs training.",
        "Newly initialised: model.encoder.position.parts.1.table.weight, model.decoder.position.parts.1.table.weight.",
        "Dropped: model.encoder.embed_positions.weight, model.decoder.embed_positions.weight.",
    ]
    config = load(target).config
    assert (config.position_encoding, config.dropout) == (["sinusoidal", "t5"], 0.3)


def test_what_is_drawn_anew_hangs_on_the_seed(script, make_source, tmp_path):
    source = make_source("marian")
    for name, words in {"first": (), "again": (), "other": ("--seed", "7")}.items():
        assert script(source, tmp_path / name, "--position_encoding", "learned", *words)[0] == 0
    first, again, other = (
        weights(tmp_path / name)["model.encoder.position.table.weight"] for name in ("first", "again", "other")
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a source and a folder to write to are needed, got none"),
        (["only_one"], r"a source and a folder to write to are needed, got \['only_one'\]"),
        (["SOURCE", "TARGET", "--position_encodin", "rope"], "no setting position_encodin.*position_encoding"),
        (["SOURCE", "TARGET", "--norm", "sometimes"], "norm .*pre.*post.*none.*sometimes"),
        (["SOURCE", "TARGET", "--vocab_size", "9"], "no setting vocab_size for a conversion"),
        (["SOURCE", "TARGET", "--window_radius", "3"], "window_radius=3 would do nothing"),
        (["not_there/at/all", "TARGET"], "not_there/at/all"),
        (["./not_there", "TARGET"], "there is no model in not_there"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(words, message, script, make_source, tmp_path):
    named = {"SOURCE": make_source("bart"), "TARGET": tmp_path / "made"}
    code, lines, err = script(*(named.get(word, word) for word in words))
    assert (code, lines) == (2, [])
    assert err.startswith("convert.py: error: ") and "Traceback" not in err
    assert re.search(message, err)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_holds_something_is_refused(script, make_source, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "note.txt").write_text("keep")
    code, _, err = script(make_source("t5"), tmp_path / "made")
    assert code == 2 and "is there already and is no empty folder" in err
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["note.txt"]


def test_the_script_and_the_function_make_the_same(script, make_source, tmp_path):
    source = make_source("t5_1.1")
    assert script(source, tmp_path / "made")[0] == 0
    convert(source).save_pretrained(tmp_path / "other")
    first, second = weights(tmp_path / "made"), weights(tmp_path / "other")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
