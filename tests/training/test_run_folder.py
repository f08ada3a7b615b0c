"""Whose folder it is."""

import subprocess
import sys

import pytest

from selfattn_hf.training import make_settings
from selfattn_hf.training.disk import sole_use
from selfattn_hf.training.run_folder import (
    RUN_FILE,
    begin,
    check_data,
    check_folder,
    check_still_new,
    digest_of,
    finish,
    is_finished,
)


def test_a_new_folder_is_taken_and_nothing_is_written_by_asking(values, tmp_path):
    check_folder(make_settings(values))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_taken(values, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.log").write_text("")
    check_folder(make_settings(values))


def begun(values):
    settings = make_settings(values)
    settings.output_dir.mkdir()
    begin(settings, settings.to_yaml(), "digest")
    return settings


def test_where_resume_is_false_a_folder_with_a_run_is_refused_and_both_ways_out_are_named(values):
    begun(values)
    with pytest.raises(ValueError, match=r"holds a run already.*resume is false. Leave it out.*--output_dir"):
        check_folder(make_settings({**values, "resume": False}))


def test_the_same_run_is_gone_on_with_also_for_longer(values):
    begun(values)
    check_folder(make_settings(values))
    check_folder(make_settings({**values, "max_steps": 500, "logging_steps": 7, "num_beams": 4}))


def test_a_run_is_finished_for_the_very_settings_that_it_was_finished_with(values, tmp_path):
    settings = begun(values)
    assert not is_finished(settings)
    finish(settings, "digest")
    assert not is_finished(settings), "neither results nor model are there"
    for name in ("results.json", "model.safetensors"):
        (tmp_path / "out" / name).write_text("{}")
    assert is_finished(settings) and is_finished(make_settings({**values, "resume": True, "seed": 42}))
    for changed in ({"max_steps": 500}, {"num_beams": 4}, {"average_checkpoints": 2}):
        assert not is_finished(make_settings({**values, **changed}))
    begin(settings, settings.to_yaml(), "digest")
    assert not is_finished(settings), "it has begun again"


def test_a_finished_run_is_the_same_from_another_place(values, tmp_path, monkeypatch):
    finish(begun(values), "digest")
    for name in ("results.json", "model.safetensors"):
        (tmp_path / "out" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert is_finished(make_settings({**values, "output_dir": "out"}))


@pytest.mark.parametrize(
    "changed", [{"hidden_size": 32}, {"seed": 7}, {"learning_rate": 1e-4}, {"dropout": 0.2}, {"max_train_rows": 3}]
)
def test_another_run_is_refused_with_the_settings_that_differ(values, changed):
    begun(values)
    (name,) = changed
    with pytest.raises(ValueError, match=f"holds another run: {name} was .* and is"):
        check_folder(make_settings({**values, **changed}))


def test_a_default_written_out_is_no_difference(values):
    begun(values)
    check_folder(make_settings({**values, "seed": 42, "weight_decay": 0.0}))


def test_a_model_that_is_no_run_is_not_gone_on_with(values, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json but no run\.json"):
        check_folder(make_settings(values))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "data": ""}'])
def test_a_run_file_that_cannot_be_read_is_refused_by_name(values, tmp_path, content):
    begun(values)
    (tmp_path / "out" / RUN_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        check_folder(make_settings(values))


def test_a_file_instead_of_a_folder_is_refused(values, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_folder(make_settings(values))


def test_other_rows_are_refused(values, tmp_path):
    begun(values)
    check_data(tmp_path / "out", "digest")
    with pytest.raises(ValueError, match="training rows are not those"):
        check_data(tmp_path / "out", "another")


def test_a_folder_that_another_process_took_meanwhile_is_refused(values, tmp_path):
    check_still_new(tmp_path / "out")
    begun(values)
    with pytest.raises(ValueError, match="another process has begun a run"):
        check_still_new(tmp_path / "out")


def test_a_folder_in_which_another_process_works_is_refused_until_it_ends(tmp_path):
    asked = f"""
import sys
from pathlib import Path
from selfattn_hf.training.disk import sole_use
with sole_use(Path({str(tmp_path)!r})):
    print("working", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"working\n"
        with pytest.raises(ValueError, match="another process is training into"), sole_use(tmp_path):
            pytest.fail("two at once")
        other.kill()
        other.wait()
        with sole_use(tmp_path):
            pass


def test_the_digest_sees_order_and_every_id():
    rows = [{"input_ids": [1, 2], "labels": [3]}, {"input_ids": [4], "labels": [5]}]
    changed = [{"input_ids": [1, 2], "labels": [3]}, {"input_ids": [4], "labels": [6]}]
    assert len({digest_of(rows), digest_of(rows[::-1]), digest_of(changed)}) == 3
    assert digest_of(rows) == digest_of([dict(row) for row in rows])
