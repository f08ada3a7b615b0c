"""Whole runs on a tiny task."""

import csv
import json
import shutil

import pytest
import torch
from accelerate.data_loader import DataLoaderShard
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from selfattn_hf.data import LengthGroupedSampler
from selfattn_hf.training import evaluate, make_settings, read_settings, train
from selfattn_hf.training.checkpoints import MANIFEST, list_checkpoints
from selfattn_hf.training.trainer import SelfAttnTrainer


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def finished(reversing, tmp_path_factory):
    """A run that is done, with beams, an average and all metrics."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    settings = make_settings(
        {
            "dataset": reversing, "source_column": "source", "target_column": "target", "tokenizer_type": "word",
            "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "learning_rate": 1e-2, "warmup_steps": 2, "max_steps": 6, "eval_steps": 2,
            "logging_steps": 2, "per_device_train_batch_size": 16, "max_new_tokens": 6, "use_cpu": True,
            "metric": "chrf", "num_beams": 2, "average_checkpoints": 2, "output_dir": str(folder),
        }
    )  # fmt: skip
    return folder, train(settings)


def test_a_run_leaves_one_folder_with_everything_in_it(finished):
    folder, results = finished
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "settings.yaml",
                 "results.json", "training_curve.csv", "run.json"):  # fmt: skip
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("*.bin")), "nothing pickled but optimizer, scheduler and random state"
    assert not (folder / ".saving").exists()
    assert json.loads((folder / "results.json").read_text()) == results


def test_the_results_say_what_was_measured_and_how(finished):
    _, results = finished
    for split in ("validation", "test"):
        assert set(results[split]) == {"loss", "token_accuracy", "bleu", "chrf", "exact_match"}
    assert results["steps"] == 6 and results["seed"] == 42 and results["seconds"] > 0
    assert results["target_tokens_per_second"] > 0 and results["target_tokens"] > 0
    assert "tok:13a" in results["signatures"]["bleu"]
    assert results["kept"] in ("best", "average")
    assert {"torch", "transformers", "selfattn_hf"} <= set(results["versions"])
    assert len(results["examples"]) == 5 and set(results["examples"][0]) == {"source", "output", "reference"}


def test_the_folder_loads_by_the_auto_classes_and_writes_the_outputs_of_the_report(finished):
    folder, results = finished
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for example in results["examples"]:
        ids = model.generate(**tokenizer(example["source"], return_tensors="pt").to(model.device))
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == example["output"]


def test_evaluating_by_generation_spoils_neither_generation_config_nor_cache(finished):
    folder, _ = finished
    saved = json.loads((folder / "generation_config.json").read_text())
    for note in ("transformers_version", "_from_model_config"):
        saved.pop(note, None)
    assert saved == {
        "max_new_tokens": 6, "num_beams": 2, "length_penalty": 1.0, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 1, "do_sample": False,
    }  # fmt: skip
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).config.use_cache is True


def test_the_curve_has_a_line_per_evaluation(finished):
    folder, _ = finished
    with (folder / "training_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["eval_loss"]] == ["2", "4", "6"]
    assert [row["step"] for row in rows if row["loss"]] == ["2", "4", "6"]


def test_the_last_checkpoints_are_kept_for_the_average(finished):
    folder, _ = finished
    assert [path.name for path in list_checkpoints(folder)][-2:] == ["checkpoint-4", "checkpoint-6"]
    assert all((path / MANIFEST).is_file() for path in list_checkpoints(folder))


def test_evaluate_finds_the_same_figures_as_the_run(finished, tmp_path):
    folder, results = finished
    again = evaluate(str(folder), {"output": str(tmp_path / "figures.json")})
    assert again["test"] == pytest.approx(results["test"])
    assert json.loads((tmp_path / "figures.json").read_text())["test"] == pytest.approx(results["test"])


def test_evaluate_takes_other_rows_and_other_beams(finished, reversing):
    folder, _ = finished
    again = evaluate(str(folder), {"max_eval_rows": "4", "num_beams": "1"})
    assert again["generation"]["num_beams"] == 1
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).generation_config.num_beams == 2


@pytest.mark.parametrize(
    ("overrides", "named"),
    [({"tokenizer_type": "bpe"}, "no setting tokenizer_type"), ({"num_beam": "3"}, "Did you mean num_beams"),
     ({"per_device_eval_batch_size": "0"}, "starts at 1"), ({"output": "no/such/folder/x.json"}, "no folder")],
)  # fmt: skip
def test_evaluate_refuses_what_it_cannot_do(finished, overrides, named):
    with pytest.raises(ValueError, match=named):
        evaluate(str(finished[0]), overrides)


def test_the_settings_of_a_run_run_again_to_the_same_weights(finished, tmp_path):
    folder, _ = finished
    train(read_settings(folder / "settings.yaml", {"output_dir": str(tmp_path / "again")}))
    assert_same(weights(folder), weights(tmp_path / "again"))


VARIANTS = {
    "length groups": {},
    "random, accumulated": {"train_sampling_strategy": "random", "gradient_accumulation_steps": 2},
    "token budget": {"batch_tokens": 160},
    "recurrent": {"encoder_mixer": "rnn", "decoder_mixer": "rnn", "position_encoding": "none"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_equals_never_stopped(values, tmp_path, variant):
    values |= {**VARIANTS[variant], "label_smoothing_factor": 0.1, "predict_with_generate": False, "eval_steps": 4}
    if "batch_tokens" in values:
        values.pop("per_device_train_batch_size")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    values["max_steps"] = 16  # more than one epoch, stopped in the middle of one
    train(make_settings({**values, "output_dir": str(whole)}))
    train(make_settings({**values, "output_dir": str(parts), "max_steps": 8}))
    train(make_settings({**values, "output_dir": str(parts)}))
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        pairs = [(folder / "checkpoint-16" / name).read_bytes() for folder in (whole, parts)]
        assert pairs[0] == pairs[1], name


def test_length_groups_know_their_epoch_whatever_hides_the_sampler(values, monkeypatch):
    """Of several processes, each has a wrapper around its batches that passes no epoch on."""
    order, epochs = LengthGroupedSampler.__iter__, []

    def watched(self):
        epochs.append(self.epoch)
        return order(self)

    monkeypatch.setattr(DataLoaderShard, "set_epoch", lambda self, epoch: None)
    monkeypatch.setattr(LengthGroupedSampler, "__iter__", watched)
    train(make_settings({**values, "max_steps": 8, "predict_with_generate": False}))
    train(make_settings({**values, "max_steps": 16, "predict_with_generate": False}))
    assert epochs == [0, 1, 1, 2], "6 steps an epoch, stopped in the second one"


def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(values, tmp_path, capsys):
    values |= {"predict_with_generate": False}
    train(make_settings(values))
    folder = tmp_path / "out"
    expected = (folder / "checkpoint-8" / "model.safetensors").read_bytes()
    state = folder / "checkpoint-8" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-10])
    (folder / "results.json").unlink()
    capsys.readouterr()
    train(make_settings(values))
    assert "checkpoint-8 is not whole: optimizer.pt has" in capsys.readouterr().out
    assert (folder / "checkpoint-8" / "model.safetensors").read_bytes() == expected


def test_a_run_killed_while_it_saves_leaves_the_checkpoint_before_whole(values, tmp_path, monkeypatch):
    values |= {"predict_with_generate": False}

    class Killed(BaseException):
        pass

    original = SelfAttnTrainer._save_rng_state

    def killed_at_step_four(self, folder):
        if self.state.global_step == 4:
            raise Killed
        original(self, folder)

    monkeypatch.setattr(SelfAttnTrainer, "_save_rng_state", killed_at_step_four)
    with pytest.raises(Killed):
        train(make_settings(values))
    monkeypatch.undo()
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["checkpoint-2"]
    train(make_settings(values))
    train(make_settings({**values, "output_dir": str(tmp_path / "whole")}))
    assert_same(weights(tmp_path / "out" / "checkpoint-8"), weights(tmp_path / "whole" / "checkpoint-8"))


def test_a_full_disk_names_folder_and_space_and_leaves_what_was_whole(values, tmp_path, monkeypatch):
    def full(self, folder):
        raise OSError(28, "No space left on device")

    train(make_settings({**values, "max_steps": 2, "predict_with_generate": False}))
    monkeypatch.setattr(SelfAttnTrainer, "_save_rng_state", full)
    with pytest.raises(OSError, match=r"checkpoint-4 cannot be written.*No space left.*MiB are free"):
        train(make_settings({**values, "predict_with_generate": False}))
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["checkpoint-2"]
    assert not (tmp_path / "out" / ".saving").exists()


def test_the_same_command_once_more_shows_the_results_of_a_finished_run_and_does_nothing(values, tmp_path, capsys):
    first = train(make_settings(values))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    shown = capsys.readouterr().out
    assert train(make_settings(values)) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    again = capsys.readouterr().out
    assert f"{tmp_path / 'out'} holds this run, finished" in again
    assert again.splitlines()[-4:] == shown.splitlines()[-5:-1], "figures and signatures"


def test_a_run_stopped_while_it_wrote_its_results_trains_no_more(values, tmp_path, capsys):
    first = train(make_settings(values))
    path = tmp_path / "out" / "model.safetensors"
    before = path.read_bytes()
    (tmp_path / "out" / "results.json").unlink()
    path.write_bytes(before[:1000])
    second = train(make_settings(values))
    assert "nothing is left to train" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert second["test"] == first["test"] and second["steps"] == first["steps"]
    assert second["target_tokens"] == first["target_tokens"]


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(values, tmp_path, monkeypatch):
    original = SelfAttnTrainer.compute_loss

    def spoiled(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 4 else loss

    monkeypatch.setattr(SelfAttnTrainer, "compute_loss", spoiled)
    with pytest.raises(FloatingPointError, match="loss is nan at step 5"):
        train(make_settings(values))
    kept = weights(tmp_path / "out" / "checkpoint-4")
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def test_early_stopping_counts_evaluations(values, tmp_path, capsys):
    values |= {"learning_rate": 1e-12, "max_steps": 40, "early_stopping": 2, "dropout": 0.0}
    results = train(make_settings(values))
    assert results["steps"] == 6, "the first evaluation is the best, two more are not better"
    assert "stopping early" in capsys.readouterr().out
    again = train(make_settings(values))
    assert again["steps"] == 6


def test_one_line_per_evaluation_and_no_noise(values, capfd):
    train(make_settings(values))
    printed = capfd.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("step ")]
    assert len(lines) == 4
    for word in ("step 4/8", "loss", "token_accuracy", "tokens/s", "left"):
        assert word in lines[1]
    assert "{'" not in printed.out
    assert printed.err == ""


def test_a_run_starts_from_a_trained_model(finished, values, tmp_path):
    folder, _ = finished
    values = {name: value for name, value in values.items() if name not in ("hidden_size", "encoder_layers",
              "decoder_layers", "num_attention_heads", "intermediate_size", "tokenizer_type")}  # fmt: skip
    train(make_settings({**values, "init_from": str(folder), "learning_rate": 0.0, "max_steps": 1, "dropout": 0.3}))
    assert_same(weights(folder), weights(tmp_path / "out"))
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").config.dropout == 0.3


def test_a_run_that_starts_from_a_model_takes_other_switches_and_starts_texts_as_that_model(finished, values, tmp_path):
    shutil.copytree(finished[0], tmp_path / "other")
    config = AutoConfig.from_pretrained(tmp_path / "other")
    changed = config.with_switches(sinusoid_layout="halves")
    changed.decoder_start_token_id = config.eos_token_id  # as BART's, and its tokenizer does not say so
    changed.save_pretrained(tmp_path / "other")
    sizes = ("hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "intermediate_size")
    values = {name: value for name, value in values.items() if name not in (*sizes, "tokenizer_type")}
    train(make_settings({**values, "init_from": str(tmp_path / "other"), "position_encoding": "rope", "max_steps": 1}))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert (model.config.position_encoding, model.config.sinusoid_layout) == ("rope", "interleaved")
    assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == config.eos_token_id


def test_a_start_from_another_shape_is_refused_with_names_and_shapes(finished, values, tmp_path):
    folder, _ = finished
    values.pop("tokenizer_type")
    with pytest.raises(ValueError, match=r"are not those of .*\(16,\) and must have \(32,\)"):
        train(make_settings({**values, "init_from": str(folder), "hidden_size": 32}))
    assert not (tmp_path / "out").exists()


def test_a_start_with_another_tokenizer_is_refused(finished, values):
    with pytest.raises(ValueError, match="tokenizer_type would do nothing: init_from"):
        train(make_settings({**values, "init_from": str(finished[0]), "tokenizer_type": "word"}))


def test_rows_longer_than_a_bounded_table_are_refused_before_anything_is_written(values, tmp_path):
    values |= {"position_encoding": "learned", "max_position_embeddings": 4, "max_new_tokens": None}
    with pytest.raises(ValueError, match=r"row \d+ of the train split has a source of \d tokens.*knows 4 places"):
        train(make_settings(values))
    assert not (tmp_path / "out").exists()


def test_without_a_validation_split_the_last_weights_are_kept(values, tmp_path):
    values["dataset"] = {name: path for name, path in values["dataset"].items() if name != "validation"}
    values.pop("eval_steps")
    results = train(make_settings({**values, "save_steps": 4}))
    assert results["kept"] == "last" and "validation" not in results and "test" in results
    assert_same(weights(tmp_path / "out"), weights(tmp_path / "out" / "checkpoint-8"))


@pytest.mark.parametrize("asked", [{"eval_steps": 2}, {"early_stopping": 3}])
def test_evaluations_without_a_validation_split_are_refused(values, tmp_path, asked):
    values["dataset"] = {name: path for name, path in values["dataset"].items() if name != "validation"}
    values.pop("eval_steps")
    with pytest.raises(ValueError, match=f"{next(iter(asked))}.*needs a validation split"):
        train(make_settings({**values, **asked}))
    assert not (tmp_path / "out").exists()


def test_other_rows_are_not_mixed_into_a_run(values, tmp_path):
    rows = tmp_path / "train.jsonl"
    shutil.copy(values["dataset"]["train"], rows)
    values["dataset"] = {**values["dataset"], "train": str(rows)}
    train(make_settings({**values, "max_steps": 2}))
    rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match="training rows are not those"):
        train(make_settings(values))


def test_bf16_trains_and_the_saved_model_is_in_full_precision(values, tmp_path):
    train(make_settings({**values, "bf16": True, "max_steps": 2}))
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.float32}


def test_a_generation_config_of_ours_holds_nothing_of_the_global_defaults(finished):
    folder, _ = finished
    loaded = GenerationConfig.from_pretrained(folder)
    assert loaded.max_length is None or loaded.max_length == GenerationConfig().max_length
