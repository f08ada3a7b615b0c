"""Whose folder it is."""

import pytest

from selfattn_hf.training import make_settings
from selfattn_hf.training.run_folder import RUN_FILE, begin, check_data, check_folder, digest_of


def test_a_new_folder_is_taken_and_nothing_is_written_by_asking(values, tmp_path):
    check_folder(make_settings(values))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_taken(values, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.log").write_text("")
    check_folder(make_settings(values))


def begun(values):
    settings = make_settings(values)
    begin(settings, settings.to_yaml(), "digest")
    return settings


def test_a_folder_with_a_run_is_refused_and_both_ways_out_are_named(values):
    begun(values)
    with pytest.raises(ValueError, match=r"holds a run already.*--resume.*--output_dir"):
        check_folder(make_settings(values))


def test_the_same_run_is_resumed_also_for_longer(values):
    begun(values)
    check_folder(make_settings({**values, "resume": True}))
    check_folder(make_settings({**values, "resume": True, "max_steps": 500, "logging_steps": 7, "num_beams": 4}))


@pytest.mark.parametrize(
    "changed", [{"hidden_size": 32}, {"seed": 7}, {"learning_rate": 1e-4}, {"dropout": 0.2}, {"max_train_rows": 3}]
)
def test_another_run_is_refused_with_the_settings_that_differ(values, changed):
    begun(values)
    (name,) = changed
    with pytest.raises(ValueError, match=f"holds another run: {name} was .* and is"):
        check_folder(make_settings({**values, "resume": True, **changed}))


def test_a_default_written_out_is_no_difference(values):
    begun(values)
    check_folder(make_settings({**values, "resume": True, "seed": 42, "weight_decay": 0.0}))


def test_a_model_that_is_no_run_is_not_resumed(values, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json but no run\.json"):
        check_folder(make_settings({**values, "resume": True}))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "data": ""}'])
def test_a_run_file_that_cannot_be_read_is_refused_by_name(values, tmp_path, content):
    begun(values)
    (tmp_path / "out" / RUN_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        check_folder(make_settings({**values, "resume": True}))


def test_a_file_instead_of_a_folder_is_refused(values, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_folder(make_settings(values))


def test_other_rows_are_refused(values, tmp_path):
    begun(values)
    check_data(tmp_path / "out", "digest")
    with pytest.raises(ValueError, match="training rows are not those"):
        check_data(tmp_path / "out", "another")


def test_the_digest_sees_order_and_every_id():
    rows = [{"input_ids": [1, 2], "labels": [3]}, {"input_ids": [4], "labels": [5]}]
    changed = [{"input_ids": [1, 2], "labels": [3]}, {"input_ids": [4], "labels": [6]}]
    assert len({digest_of(rows), digest_of(rows[::-1]), digest_of(changed)}) == 3
    assert digest_of(rows) == digest_of([dict(row) for row in rows])
