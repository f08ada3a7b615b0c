"""Whole runs on a training split that is streamed."""

import json

import pytest

from selfattn_hf.training import evaluate, make_settings, train
from selfattn_hf.training.checkpoints import MANIFEST


@pytest.fixture
def streamed(values):
    return values | {"streaming": True, "streaming_buffer": 30, "predict_with_generate": False, "eval_steps": 4}


WAYS = {
    "groups": {},
    "token budget": {
        "batch_tokens": 100,
        "per_device_train_batch_size": None,
        "max_source_length": 9,
        "max_target_length": 9,
    },
    "random, accumulated": {"train_sampling_strategy": "random", "gradient_accumulation_steps": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_streamed_run_resumed_equals_one_never_stopped(streamed, tmp_path, way):
    shared = {name: value for name, value in (streamed | WAYS[way]).items() if value is not None}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train(make_settings({**shared, "output_dir": str(whole), "max_steps": 16}))  # more than two passes
    train(make_settings({**shared, "output_dir": str(parts), "max_steps": 8}))
    results = train(make_settings({**shared, "output_dir": str(parts), "max_steps": 16}))
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        pairs = [(folder / "checkpoint-16" / name).read_bytes() for folder in (whole, parts)]
        assert pairs[0] == pairs[1], name
    assert results["data"] == expected["data"] and results["data"]["train"]["rows"] > 96
    assert results["target_tokens"] == expected["target_tokens"]


def test_a_place_in_the_stream_that_is_lost_would_be_noticed(streamed, tmp_path, monkeypatch):
    """The control of the test above: the same run, going on at the first row."""
    from selfattn_hf.data import StreamedBatches

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(make_settings({**streamed, "output_dir": str(whole)}))
    train(make_settings({**streamed, "output_dir": str(parts), "max_steps": 4}))
    go_on = StreamedBatches.go_on
    monkeypatch.setattr(
        StreamedBatches, "go_on", lambda self, place, batches: go_on(self, {**self._start, "batches": batches}, batches)
    )
    train(make_settings({**streamed, "output_dir": str(parts)}))
    ends = [(folder / "checkpoint-8" / "model.safetensors").read_bytes() for folder in (whole, parts)]
    assert ends[0] != ends[1]


def test_a_streamed_run_is_evaluated_and_says_how_its_rows_came(streamed, tmp_path, capsys):
    results = train(make_settings(streamed))
    assert "training rows as they come, 30 at a time" in capsys.readouterr().out
    assert evaluate(str(tmp_path / "out"))["test"]["loss"] == pytest.approx(results["test"]["loss"])
    listed = json.loads((tmp_path / "out" / "checkpoint-8" / MANIFEST).read_text())["files"]
    assert "stream.json" in listed


def test_other_rows_at_the_start_of_a_stream_are_another_run(streamed, tmp_path):
    rows = tmp_path / "train.jsonl"
    lines = open_lines(streamed["dataset"]["train"])
    rows.write_text("\n".join(lines))
    streamed["dataset"] = {**streamed["dataset"], "train": str(rows)}
    train(make_settings({**streamed, "max_steps": 4}))
    rows.write_text("\n".join(lines[::-1]))
    with pytest.raises(ValueError, match="training rows are not those"):
        train(make_settings(streamed))


def open_lines(path):
    with open(path) as file:
        return file.read().splitlines()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"max_steps": None}, "streaming=true needs max_steps"),
        ({"num_train_epochs": 3.0}, "num_train_epochs would do nothing with streaming=true"),
        ({"eval_steps": None}, "eval_strategy=epoch never comes with streaming=true"),
        ({"eval_strategy": "no", "eval_steps": None, "save_strategy": "epoch"}, "save_strategy=epoch never comes"),
        ({"logging_strategy": "epoch"}, "logging_strategy=epoch never comes"),
        ({"dataloader_num_workers": 2}, "dataloader_num_workers=2 does not go with streaming=true"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last=True does not go with streaming=true"),
        ({"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy=batch_rebalance does not go"),
        ({"batch_tokens": 300, "per_device_train_batch_size": None}, "batch_tokens=300 must have room for any row"),
    ],
)
def test_what_does_not_go_with_a_stream_is_refused_before_data_are_read(streamed, changed, named):
    values = {
        name: value for name, value in {**streamed, **changed, "dataset": "./no/data"}.items() if value is not None
    }
    with pytest.raises(ValueError) as error:
        make_settings(values)
    assert named in str(error.value)


def test_a_row_that_a_bounded_table_may_not_know_is_refused_before_the_first_step(streamed, tmp_path):
    bounded = {**streamed, "position_encoding": "learned", "max_position_embeddings": 40}
    with pytest.raises(ValueError, match=r"max_source_length=256 tokens, and the encoder knows 40 places"):
        train(make_settings(bounded))
    assert not (tmp_path / "out").exists()
    train(make_settings({**bounded, "max_source_length": 40, "max_target_length": 40, "max_steps": 4}))
