"""The scripts as people call them."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


def call(*words, cwd=None):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_help_answers_within_a_second_and_imports_nothing_heavy(script):
    best = min(_timed(script) for _ in range(3))
    assert best < 1.0


def _timed(script):
    began = time.perf_counter()
    shown = call(SCRIPTS / script, "--help")
    assert shown.returncode == 0 and "usage:" in shown.stdout
    return time.perf_counter() - began


def test_help_imports_only_the_standard_library():
    imported = call("-X", "importtime", SCRIPTS / "train.py", "--help").stderr
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in imported.splitlines() if "|" in line}
    assert "ast" in names, "the list of imports is there"
    assert not names & {"torch", "transformers", "yaml", "selfattn_hf", "numpy", "datasets"}


def test_help_lists_every_setting_of_ours_in_groups_and_says_that_transformers_are_taken_too():
    from selfattn_hf.training.arguments import NOT_TAKEN
    from selfattn_hf.training.settings import DATA_TYPES, MODEL_TYPES, RUN_TYPES

    shown = call(SCRIPTS / "train.py", "--help").stdout
    for group in ("Model", "Data", "Run"):
        assert f"\n{group}" in shown
    for name in {**MODEL_TYPES, **DATA_TYPES, **RUN_TYPES}:
        assert f"--{name} " in shown
    assert "--vocab_size" not in shown
    assert "Every field of transformers' Seq2SeqTrainingArguments is taken too" in " ".join(shown.split())
    for name in NOT_TAKEN:
        assert name in shown.split("Not taken")[1]


def test_help_shows_legal_values_default_and_meaning_of_a_switch():
    lines = call(SCRIPTS / "train.py", "--help").stdout.splitlines()
    place = lines.index("  --norm pre, post, none  (default: pre)")
    assert lines[place + 1].startswith("      Norm before a sublayer")


@pytest.mark.parametrize("name", ["encoder_mixer", "position_encoding", "encoder_position_encoding"])
def test_help_shows_every_word_of_a_switch_and_that_it_takes_a_list_of_them(cli, name):
    from selfattn_hf.training.settings import MODEL_TYPES

    (shown,) = (
        head for head, _ in settings_in(cli.settings_help(cli.MODEL, "Model")) if head.split()[0] == f"--{name}"
    )
    words = [member for part in get_args(MODEL_TYPES[name]) for member in get_args(part) if isinstance(member, str)]
    assert len(words) >= 3
    values = re.split(r" +\(default: ", shown.removeprefix(f"--{name} "))[0]
    assert values.split(", ") == [
        *words, "a list of them", *(["null"] if type(None) in get_args(MODEL_TYPES[name]) else [])
    ]  # fmt: skip


def test_help_stays_within_its_width_and_leaves_no_words_of_the_sources(cli):
    shown = call(SCRIPTS / "train.py", "--help").stdout
    heads = [head for head, _ in settings_in(shown)]
    assert all(len(line) <= cli.WIDTH for line in shown.splitlines() if line.startswith("   "))
    assert len(heads) > 50 and not any("Literal" in head or "[" in head.split("(default")[0] for head in heads)


def settings_in(shown):
    """Every setting of a help text: its head in one line, and the lines below it that say what it is."""
    for block in re.split(r"\n(?=  --)", shown)[1:]:
        head, _, meaning = re.sub(r"\n {10}(?=\S)", " ", block.split("\n\n")[0]).strip().partition("\n")
        yield head, meaning


def test_every_setting_has_a_line_that_says_what_it_is(cli):
    for source in (cli.MODEL, cli.DATA, cli.RUN):
        for head, meaning in settings_in(cli.settings_help(source, "Group", skip=cli.DECIDED_ELSEWHERE)):
            assert re.match(r" {6}\S", meaning), head


def test_the_scripts_and_the_package_agree_on_what_the_tokenizer_decides(cli):
    from selfattn_hf.training.settings import DECIDED_ELSEWHERE

    assert cli.DECIDED_ELSEWHERE == DECIDED_ELSEWHERE


def test_the_evaluation_takes_what_its_help_lists(cli):
    from selfattn_hf.training.saved_model import _TYPES

    shown = call(SCRIPTS / "evaluate.py", "--help").stdout
    listed = {line.split()[0].removeprefix("--") for line in shown.splitlines() if line.startswith("  --")}
    assert listed == set(_TYPES)


@pytest.mark.parametrize(
    ("words", "positional", "named"),
    [
        (["a.yaml", "--seed", "3"], ["a.yaml"], {"seed": "3"}),
        (["--seed=3", "a.yaml"], ["a.yaml"], {"seed": "3"}),
        (["a.yaml", "--max-steps", "-1"], ["a.yaml"], {"max_steps": "-1"}),
        (["a.yaml", "--resume"], ["a.yaml"], {"resume": True}),
        (["a.yaml", "--resume", "--seed", "3"], ["a.yaml"], {"resume": True, "seed": "3"}),
        (["a.yaml", "--bf16", "true"], ["a.yaml"], {"bf16": "true"}),
        (["a.yaml", "--dataset=a=b"], ["a.yaml"], {"dataset": "a=b"}),
        (["--", "--odd"], ["--odd"], {}),
    ],
)
def test_names_and_values_are_read_in_every_spelling(cli, words, positional, named):
    typed = cli.parse(words)
    assert (typed.positional, typed.named) == (positional, named)


@pytest.mark.parametrize("words", [["-seed", "3"], ["--seed", "3", "--seed", "4"], ["--9", "3"], ["--a.b", "3"]])
def test_what_cannot_be_read_is_refused(cli, words):
    with pytest.raises(cli.UsageError):
        cli.parse(words)


@pytest.fixture
def config(tmp_path):
    rows = [{"source": f"{a} {b}", "target": f"{b} {a}"} for a in "abcdef" for b in "abcdef"]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"dataset: [{tmp_path}/train.jsonl, {tmp_path}/test.jsonl]\ntokenizer_type: word\nhidden_size: 16\n"
        "encoder_layers: 1\ndecoder_layers: 1\nnum_attention_heads: 2\nintermediate_size: 16\nlearning_rate: 1e-2\n"
        f"max_steps: 4\nmax_new_tokens: 4\nuse_cpu: true\noutput_dir: {tmp_path}/out\n"
    )
    return path


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--learnign_rate", "1"], "Did you mean learning_rate?"),
        (["--hidden_size", "wide"], "hidden_size takes a whole number"),
        (["--dataset", "no/such/file.jsonl"], "does not exist"),
        (["--target_column", "tagret"], "target_column"),
        (["more.yaml"], "one settings file is needed"),
    ],
)
def test_an_error_of_the_user_is_one_message_and_nothing_is_begun(config, words, named, tmp_path, in_process):
    code, out, err = in_process("train", config, *words)
    assert code == 2
    assert named in err
    assert err.startswith("train.py: error: ") and len(err.strip().splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_is_trained_in_a_process_of_its_own_without_noise(config, tmp_path):
    done = call(SCRIPTS / "train.py", config)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"the model lies in {tmp_path}/out" in done.stdout


def test_a_run_is_made_longer_and_evaluated_and_another_one_refused(config, tmp_path, in_process):
    assert in_process("train", config, "--save_steps=2")[0] == 0

    code, out, _ = in_process("train", config, "--save_steps=2")
    assert code == 0 and "holds this run, finished" in out

    code, _, err = in_process("train", config, "--save_steps=2", "--seed", "2")
    assert code == 2 and "holds another run: seed was 42 and is 2" in err and "--output_dir" in err

    code, out, _ = in_process("train", config, "--save_steps=2", "--max_steps", "6")
    assert code == 0 and "resuming from" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["steps"] == 6

    code, out, _ = in_process("evaluate", tmp_path / "out", "--output", tmp_path / "figures.json")
    assert code == 0 and "tok:13a" in out
    assert json.loads((tmp_path / "figures.json").read_text())["test"] == pytest.approx(results["test"])


def test_a_model_that_is_not_there_is_one_message(in_process):
    code, _, err = in_process("evaluate", "./no/such/model", "--dataset", "x.jsonl")
    assert code == 2 and "no/such/model" in err and len(err.strip().splitlines()) == 1


def test_the_traceback_is_there_for_who_asks(config, monkeypatch, in_process):
    monkeypatch.setenv("SELFATTN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no setting nothing"):
        in_process("train", config, "--nothing", "1")
