"""Settings from file and command line, refused before anything is written."""

import difflib
from pathlib import Path

import pytest

from selfattn_hf.training import make_settings, read_settings
from selfattn_hf.training.arguments import ARGUMENT_TYPES, NOT_TAKEN, TRAINING_DEFAULTS
from selfattn_hf.training.settings import DATA_TYPES, MODEL_TYPES, RUN_TYPES
from selfattn_hf.training.yaml_files import dump_yaml, parse_yaml


@pytest.fixture
def config(tmp_path):
    def write(text="", **values):
        path = tmp_path / "tiny.yaml"
        path.write_text(dump_yaml({"dataset": "some/data", **values}) + text)
        return path

    return write


def test_the_command_line_beats_the_file_and_the_file_beats_the_default(config):
    path = config(hidden_size=64, learning_rate=1e-3)
    settings = read_settings(path, {"hidden_size": "128", "seed": "7"})
    assert settings.model["hidden_size"] == 128
    assert settings.training["learning_rate"] == 1e-3
    assert settings.training["seed"] == 7
    assert settings.complete_training()["lr_scheduler_type"] == TRAINING_DEFAULTS["lr_scheduler_type"]


def test_a_number_in_scientific_notation_is_a_number(config):
    settings = read_settings(config("learning_rate: 5e-4\n"), {"weight_decay": "1e-2"})
    assert settings.training["learning_rate"] == 5e-4
    assert settings.training["weight_decay"] == 1e-2


def test_the_output_folder_is_named_after_the_file(config):
    assert read_settings(config()).output_dir == Path("runs/tiny")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("hiden_size", "hidden_size"), ("encoder_mixr", "encoder_mixer"), ("learnign_rate", "learning_rate"),
     ("sorce_column", "source_column"), ("num_beam", "num_beams"), ("warmup_step", "warmup_steps"),
     ("metrik", "metric"), ("lable_smoothing_factor", "label_smoothing_factor")],
)  # fmt: skip
@pytest.mark.parametrize("where", ["file", "command line"])
def test_an_unknown_name_is_refused_with_the_near_name(config, typo, meant, where):
    with pytest.raises(ValueError, match=f"no setting {typo}.*Did you mean {meant}"):
        if where == "file":
            read_settings(config(**{typo: 1}))
        else:
            read_settings(config(), {typo: "1"})


@pytest.mark.parametrize("name", sorted({**MODEL_TYPES, **DATA_TYPES, **RUN_TYPES, **ARGUMENT_TYPES}))
def test_every_setting_misspelt_is_refused_by_name(config, name):
    typo = name[:-1] + "qz"
    with pytest.raises(ValueError, match=f"no setting {typo}") as error:
        read_settings(config(**{typo: 1}))
    near = difflib.get_close_matches(
        typo, {**MODEL_TYPES, **DATA_TYPES, **RUN_TYPES, **ARGUMENT_TYPES}, n=1, cutoff=0.6
    )
    assert near[0] in str(error.value) if near else "--help" in str(error.value)


@pytest.mark.parametrize(
    "values",
    [{"hidden_size": "64"}, {"hidden_size": 6.5}, {"dropout": "a"}, {"residual": "yes"}, {"encoder_mixer": "rn"},
     {"tokenizer_type": "bp"}, {"too_long": "ignore"}, {"metric": "blue"}, {"num_beams": True}, {"resume": 1},
     {"learning_rate": "high"}, {"max_steps": "many"}, {"bf16": "on"}, {"lr_scheduler_type": "cosin"}, {"seed": None},
     {"eval_strategy": "sometimes"}, {"learning_rate": float("nan")}, {"dataset": 3}, {"dataset": None}],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_refused_by_name(config, values):
    with pytest.raises(ValueError, match=next(iter(values))):
        read_settings(config(**values))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads must divide hidden_size"),
        ({"encoder_mixer": "rnn", "position_encoding": "rope"}, "encoder_mixer='rnn' has none"),
        ({"dropout": 1.5}, "dropout"),
        ({"rnn_type": "gru"}, "rnn_type='gru' would do nothing"),
        ({"tokenizer_shared": False}, "tie_word_embeddings"),
        ({"position_encoding": "learned", "max_position_embeddings": 8, "max_source_length": 9}, "max_source_length=9"),
        ({"batch_tokens": 100, "per_device_train_batch_size": 8}, "batch_tokens"),
        ({"batch_tokens": 100, "train_sampling_strategy": "random"}, "train_sampling_strategy"),
        ({"batch_tokens": 100, "dataloader_drop_last": True}, "dataloader_drop_last would do nothing"),
        ({"learning_rate": -1.0}, "learning_rate is a number from 0 on"),
        ({"early_stopping": 2, "eval_strategy": "no"}, "early_stopping"),
        ({"early_stopping": 0}, "early_stopping"),
        ({"average_checkpoints": 1}, "average_checkpoints"),
        ({"average_checkpoints": 5, "save_total_limit": 3}, "save_total_limit=3"),
        ({"average_checkpoints": 5, "save_strategy": "no"}, "average_checkpoints"),
        ({"length_penalty": 0.6}, "length_penalty"),
        ({"metric": "bleu", "predict_with_generate": False}, "metric=bleu"),
        ({"eval_steps": 5, "eval_strategy": "epoch"}, "eval_steps=5 does nothing"),
        ({"eval_steps": 5, "save_steps": 7}, "training arguments"),
        ({"num_beams": 0}, "num_beams"),
        ({"accelerator_config": "no/such.json"}, "(accelerator_config): [Errno 2]"),
        ({"lr_scheduler_kwargs": {"a": [1, float("nan")]}}, "lr_scheduler_kwargs must be a finite number"),
        ({"learning_rate": 10**400}, "learning_rate must be a finite number"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_before_data_are_read(config, values, named):
    with pytest.raises(ValueError) as error:
        read_settings(config(**values))
    assert named in str(error.value)


@pytest.mark.parametrize("name", sorted(NOT_TAKEN))
def test_what_would_do_nothing_is_refused_with_what_to_do(config, name):
    with pytest.raises(ValueError, match=f"{name} is not taken. .{{10,}}"):
        read_settings(config(**{name: 1}))


@pytest.mark.parametrize("name", ["vocab_size", "pad_token_id", "decoder_start_token_id"])
def test_what_the_tokenizer_decides_is_refused(config, name):
    with pytest.raises(ValueError, match=f"{name} is not taken: the tokenizer decides"):
        read_settings(config(**{name: 5}))


def test_a_data_set_must_be_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("hidden_size: 64\n")
    with pytest.raises(ValueError, match="dataset must be set"):
        read_settings(path)


@pytest.mark.parametrize("batch", [{"per_device_train_batch_size": 8}, {"batch_tokens": 4096}])
def test_the_resolved_settings_are_read_back_as_the_same_run(batch, values, tmp_path):
    values.pop("per_device_train_batch_size")
    settings = make_settings(values | batch)
    path = tmp_path / "settings.yaml"
    path.write_text(settings.to_yaml())
    again = read_settings(path)
    assert again.resolved() == settings.resolved()
    assert "resume" not in parse_yaml(path.read_text())


def test_checkpoints_to_average_are_kept_beside_the_best(values):
    assert make_settings({**values, "average_checkpoints": 5}).complete_training()["save_total_limit"] == 6


def test_no_default_of_ours_repeats_the_one_of_transformers():
    from transformers import Seq2SeqTrainingArguments

    fields = Seq2SeqTrainingArguments.__dataclass_fields__
    same = [name for name, value in TRAINING_DEFAULTS.items() if fields[name].default == value]
    assert same == []
