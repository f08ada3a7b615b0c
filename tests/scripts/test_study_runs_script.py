"""scripts/study.py STUDY.yaml: the plan, the runs, the results, errors without a traceback, the exit status."""

import json

import pytest

from ..training.conftest import write_rows

STUDY = """\
base:
  dataset: {folder}/train.jsonl
  validation_split: train[:10]
  test_split: train[10:20]
  tokenizer_type: word
  tokenizer_vocab_size: 12
  hidden_size: 16
  encoder_layers: 1
  decoder_layers: 1
  num_attention_heads: 2
  intermediate_size: 16
  max_steps: 6
  eval_steps: 6
  metric: token_accuracy
vary: {vary}
seeds: [1, 2]
output_dir: {folder}/out
"""


@pytest.fixture
def study(tmp_path):
    write_rows(tmp_path / "train.jsonl", 96, 1)

    def written(vary="{position_encoding: [rope, none]}"):
        path = tmp_path / "small.yaml"
        path.write_text(STUDY.replace("{folder}", str(tmp_path)).replace("{vary}", vary))
        return path

    return written


def test_the_plan_lists_cells_and_writes_nothing(study, in_process, tmp_path):
    code, out, err = in_process("study", "--dry_run", study())
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert [row[:2] for row in rows[1:5]] == [["rope", "1"], ["none", "1"], ["rope", "2"], ["none", "2"]]
    assert all(row[-2] == "new" for row in rows[1:5])
    assert "4 of 4 runs" in out and "max_steps 6" in out
    assert not (tmp_path / "out").exists()


def test_shards_make_the_whole_and_results_are_gathered(study, in_process, tmp_path):
    code, out, _ = in_process("study", study(), "--shard", "1/2")
    assert code == 0 and out.count("trained in") == 2 and "Not there yet: rope, seed 2 (new)" in out
    assert in_process("study", study(), "--shard", "2/2")[0] == 0
    code, out, _ = in_process("study", study(), "--results")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert code == 0 and "trained in" not in out and not results["missing"]
    assert len(results["rows"]) == 4
    assert results["theory"]["reach"] == {"rope": "all", "none": "all"}
    for one in results["summary"]:
        assert f"{one['token_accuracy_mean']:.1f} (" in out and one["n"] == 2
    assert (tmp_path / "out" / "results.md").read_text().strip() in out


def test_a_failed_cell_is_told_by_the_exit_status(study, in_process, tmp_path):
    code, out, err = in_process("study", study("{learning_rate: [1e38, 1e-3]}"), "--seeds", "1")
    assert code == 1 and "1 of 2 runs failed" in err and len(err.strip().splitlines()) == 1
    assert "Failed: 1e+38, seed 1: FloatingPointError" in out
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["rows"]) == 1
    assert in_process("study", study("{learning_rate: [1e38, 1e-3]}"), "--seeds", "1")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "3/2"], "--shard takes N/K"),
        (["--shard"], "--shard takes N/K"),
        (["--shard", "0/2"], "--shard takes N/K"),
        (["--hiden_size", "3"], "Did you mean hidden_size?"),
        (["--seed", "3"], "Set seeds"),
        (["other.yaml"], "one study file is needed"),
        (["--learning_rate", "fast"], "learning_rate takes"),
    ],
)
def test_an_error_of_the_user_is_one_message(study, in_process, words, message, tmp_path):
    code, _, err = in_process("study", study(), *words)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
