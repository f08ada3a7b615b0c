"""Two processes with gloo do what one does: losses, figures, files, and going on with another number of them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from selfattn_hf.training import make_settings, read_settings, train
from selfattn_hf.training.processes import InTurn, share_of

from .conftest import write_rows

WORKER = Path(__file__).with_name("several_processes.py")
STEPS = 10  # more than two epochs of 4 steps, the last of which has a batch for the first process alone
# What differs from a run in rows that are grouped by length. Each batch of one process is cut in two; batches that are
# made before they are shared, by a budget or of a stream, are taken in turn.
WAYS = {
    "groups": {"metric": "bleu", "num_beams": 2},
    "random": {"train_sampling_strategy": "random", "label_smoothing_factor": 0.1, "gradient_accumulation_steps": 2},
    "tokens": {"batch_tokens": 60, "per_device_train_batch_size": None},
}
STREAM = {"streaming": True, "streaming_buffer": 20, "predict_with_generate": False}


def as_one(job):
    """The settings with which one process reads what two read."""
    given = dict(job)
    if job.get("batch_tokens") or job.get("streaming"):
        return given | {"gradient_accumulation_steps": 2}
    return given | {"per_device_train_batch_size": 2 * job["per_device_train_batch_size"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of the runs of two processes, what they said, and what stopped them in the end."""
    folder = tmp_path_factory.mktemp("processes")
    base = {
        "dataset": {
            "train": write_rows(folder / "train.jsonl", 53, 1),
            "validation": write_rows(folder / "validation.jsonl", 13, 2),
            "test": write_rows(folder / "test.jsonl", 11, 3),
        },
        "source_column": "source", "target_column": "target", "tokenizer_type": "word", "hidden_size": 16,
        "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "dropout": 0.0,
        "metric": "token_accuracy", "learning_rate": 1e-2, "warmup_steps": 2, "max_steps": STEPS, "eval_steps": 5,
        "logging_steps": 1, "per_device_train_batch_size": 8, "max_new_tokens": 6, "use_cpu": True,
    }  # fmt: skip
    jobs = {
        name: {k: v for k, v in {**base, **way, "output_dir": str(folder / name)}.items() if v is not None}
        for name, way in WAYS.items()
    }
    jobs["stream"] = {**base, **STREAM, "output_dir": str(folder / "stream")}
    train(make_settings({**as_one(jobs["stream"]), "max_steps": 5}))
    jobs["other steps"] = {**jobs["stream"], "gradient_accumulation_steps": 2, "max_steps": STEPS + 5}
    jobs["fails"] = {**base, "output_dir": str(folder / "fails")}
    listed = [{**job, "fails": name == "fails"} for name, job in jobs.items()]
    (folder / "jobs.json").write_text(json.dumps(listed))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(WORKER),
         str(folder / "jobs.json")],
        capture_output=True, text=True, timeout=150, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    return folder, jobs, done


def curve(folder):
    with (folder / "training_curve.csv").open() as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def assert_alike(one, two):
    lines = list(zip(curve(one), curve(two), strict=True))
    assert len(lines) >= STEPS
    for ours, theirs in lines:
        for name in set(ours) - {"seconds", "epoch"}:
            assert theirs[name] == pytest.approx(ours[name], abs=1e-4), (name, ours["step"])
    weights = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, tensor in weights[0].items():
        # What all keys have in common changes no weight of a lookup: its gradient is what rounding leaves of 0.
        assert "k_proj.bias" in name or (tensor - weights[1][name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_learns(runs, way, tmp_path):
    folder, jobs, done = runs
    assert (folder / way / "results.json").is_file(), done.stderr[-3000:]
    results = train(make_settings({**as_one(jobs[way]), "output_dir": str(tmp_path / "one")}))
    assert_alike(tmp_path / "one", folder / way)
    theirs = json.loads((folder / way / "results.json").read_text())
    for split in ("validation", "test"):  # 13 and 11 rows, and each counts once
        assert theirs[split] == pytest.approx(results[split], abs=1e-4)
    assert theirs["target_tokens"] == results["target_tokens"] and theirs["kept_step"] == results["kept_step"]
    assert theirs["examples"] == results["examples"]


def test_two_processes_begin_and_one_goes_on(runs, tmp_path, capsys):
    folder, jobs, _ = runs
    longer = {**jobs["random"], "max_steps": STEPS + 5, "output_dir": str(tmp_path / "two_one")}
    shutil.copytree(folder / "random", longer["output_dir"])
    with pytest.raises(ValueError, match=r"whose steps read 32 rows, and they would read 16 rows now\. Start as many"):
        train(make_settings(longer))
    train(make_settings(as_one(longer)))
    assert "this run had 2 processes and goes on with 1: its steps read the same rows" in capsys.readouterr().out
    train(make_settings({**as_one(longer), "output_dir": str(tmp_path / "one")}))
    assert_alike(tmp_path / "one", tmp_path / "two_one")


def test_one_process_begins_a_stream_and_two_go_on(runs, tmp_path):
    folder, jobs, done = runs
    assert "this run had 1 process and goes on with 2" in done.stdout, done.stderr[-3000:]
    assert "steps read 2 batches of 8 rows, and they would read 4 batches of 8 rows now" in done.stdout
    assert "process 1 refused: process 1 of 2 ends because the first one could not begin." in done.stdout
    train(make_settings({**as_one(jobs["stream"]), "output_dir": str(tmp_path / "one")}))
    assert_alike(tmp_path / "one", folder / "stream")


def test_the_first_process_speaks_and_writes_for_all(runs):
    folder, jobs, done = runs
    assert done.stdout.count(" training rows, on cpu") == len(WAYS) + 1, "one that fails among them"
    assert done.stdout.count("trained in ") == len(WAYS) + 1, "the stream among them"
    assert "find_unused_parameters" not in done.stderr
    written = json.loads((folder / "written_1.json").read_text())
    assert [path for _, path in written if "/.saving" not in path] == [], "its random state goes there"
    states = {path.name for path in (folder / "groups" / f"checkpoint-{STEPS}").glob("rng_state*")}
    assert states == {"rng_state_0.pth", "rng_state_1.pth"}


def test_a_process_that_fails_ends_all_of_them_and_says_why(runs):
    folder, _, done = runs
    assert done.returncode == 1
    assert "several_processes.py: error: the loss is nan at step 3, so the run stops" in done.stderr
    assert not (folder / "fails" / "results.json").exists()


def test_a_launch_that_would_cut_the_model_is_refused(runs, monkeypatch):
    folder, jobs, _ = runs
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"launched with FSDP.*take scripts/examples/train_fsdp\.py"):
        train(make_settings({**jobs["groups"], "output_dir": str(folder / "none")}))
    with pytest.raises(ValueError, match="fsdp is not taken"):
        read_settings(None, {"dataset": "x", "fsdp": "true", "output_dir": "y"})
    assert not (folder / "none").exists()


def test_every_batch_comes_once_and_who_has_none_left_gets_an_empty_one():
    batches = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    shares = [list(InTurn(batches, index, 3)) for index in range(3)]
    assert shares == [[[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5], []]]
    assert {len(InTurn(batches, index, 3)) for index in range(3)} == {2}
    assert [list(InTurn(batches, index, 3, drop_last=True)) for index in range(3)] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert len(InTurn(batches, 0, 3, drop_last=True)) == 1
    assert [list(share_of(batches, index, 2)) for index in (0, 1)] == [[[0, 1], [4, 5], [8]], [[2, 3], [6, 7]]]
