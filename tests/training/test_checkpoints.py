"""Whole or not there."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers.trainer_utils import rotate_checkpoints

from selfattn_hf.training.checkpoints import (
    MANIFEST,
    NEEDED,
    OUT_OF_TURN,
    STAGING,
    average_weights,
    check_shapes,
    in_turn,
    list_checkpoints,
    load_weights,
    newest_whole,
    put_in_place,
    seal,
    set_aside,
    step_of,
    thin_out,
    what_is_broken,
)


def make_checkpoint(run, step, value=1.0):
    staged = run / "staged"
    staged.mkdir(parents=True)
    for name in NEEDED:
        (staged / name).write_bytes(f"{name} {step}".encode() * 40)
    (staged / "rng_state.pth").write_bytes(b"numbers" * 40)
    save_file({"weight": torch.full((2, 3), value), "count": torch.tensor([step])}, staged / "model.safetensors")
    seal(staged)
    put_in_place(staged, run / f"checkpoint-{step}")
    return run / f"checkpoint-{step}"


def test_a_sealed_checkpoint_is_whole(tmp_path):
    assert what_is_broken(make_checkpoint(tmp_path, 3)) is None


FILES = [*NEEDED, "rng_state.pth"]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "one byte flipped"])
def test_every_damage_of_every_file_is_found_by_name(tmp_path, name, damage):
    checkpoint = make_checkpoint(tmp_path, 3)
    path = checkpoint / name
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert name in what_is_broken(checkpoint)


def test_the_manifest_is_named_wherever_a_byte_of_it_is_flipped(tmp_path):
    checkpoint = make_checkpoint(tmp_path, 3)
    content = (checkpoint / MANIFEST).read_bytes()
    for place in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[place] ^= 1
        (checkpoint / MANIFEST).write_bytes(flipped)
        broken = what_is_broken(checkpoint)
        same = _as_json(flipped) == json.loads(content)
        assert same or MANIFEST in broken, f"byte {place}: {broken}"


def _as_json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_the_manifest_does_not_know_is_missed(tmp_path, name):
    checkpoint = make_checkpoint(tmp_path, 3)
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    del manifest["files"][name]
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    assert what_is_broken(checkpoint) is not None


def test_resuming_walks_back_to_the_newest_whole_one_and_sets_the_newer_aside_by_name(tmp_path):
    for step in (2, 10, 9):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    found, broken = newest_whole(tmp_path)
    assert found == tmp_path / "checkpoint-9" and (tmp_path / "checkpoint-10").is_dir(), "looking changes nothing"
    said = []
    set_aside(broken, said.append)
    assert "checkpoint-10 is not whole: optimizer.pt is missing" in said[0]
    assert (tmp_path / "broken-10").is_dir()
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [2, 9]


def test_checkpoints_that_are_all_broken_are_an_error_that_names_what_is_wrong_with_each(tmp_path):
    (make_checkpoint(tmp_path, 2) / "scheduler.pt").write_bytes(b"")
    (make_checkpoint(tmp_path, 4) / MANIFEST).unlink()
    with pytest.raises(ValueError, match="none of the 2 checkpoints") as error:
        newest_whole(tmp_path)
    assert "checkpoint-2: scheduler.pt has 0 bytes" in str(error.value)
    assert f"checkpoint-4: it has no {MANIFEST}" in str(error.value)


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert newest_whole(tmp_path) == (None, {})
    assert newest_whole(tmp_path / "absent") == (None, {})


def test_work_in_progress_is_no_checkpoint(tmp_path):
    make_checkpoint(tmp_path, 4)
    shutil.copytree(tmp_path / "checkpoint-4", tmp_path / STAGING / "checkpoint-5")
    assert newest_whole(tmp_path) == (tmp_path / "checkpoint-4", {})


def test_a_checkpoint_that_does_not_read_back_as_it_was_sealed_is_an_error(tmp_path):
    staged = make_checkpoint(tmp_path, 3).rename(tmp_path / "staged")
    (staged / "scheduler.pt").write_bytes(b"other")
    with pytest.raises(OSError, match="does not read back as it was written: scheduler.pt has 5 bytes"):
        put_in_place(staged, tmp_path / "checkpoint-3")


@pytest.mark.parametrize("limit", [None, 0, 1, 2, 3, 9])
@pytest.mark.parametrize("best", [None, 2, 6, 10])
def test_what_is_deleted_is_what_transformers_would_delete(tmp_path, limit, best):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for step in (2, 4, 6, 8, 10):
        make_checkpoint(ours, step)
    shutil.copytree(ours, theirs)
    thin_out(ours, limit, best and ours / f"checkpoint-{best}")
    rotate_checkpoints(str(theirs), limit, best and str(theirs / f"checkpoint-{best}"))
    assert [step_of(path) for path in list_checkpoints(ours)] == [step_of(path) for path in list_checkpoints(theirs)]
    assert not (ours / STAGING).exists()


def test_a_checkpoint_out_of_turn_is_there_to_go_on_from_and_for_nothing_else(tmp_path):
    for step in (2, 4):
        make_checkpoint(tmp_path, step)
    (make_checkpoint(tmp_path, 5) / OUT_OF_TURN).touch()
    thin_out(tmp_path, 1, None)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [2, 4, 5], "it pushes no other out"
    assert newest_whole(tmp_path)[0] == tmp_path / "checkpoint-5"
    assert in_turn(tmp_path, pytest.fail) == [tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"]
    make_checkpoint(tmp_path, 6)
    thin_out(tmp_path, 2, None)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [4, 6]


def test_one_that_is_not_whole_is_left_out_of_the_average_by_name(tmp_path):
    for step in (2, 4):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"")
    said = []
    assert in_turn(tmp_path, said.append) == [tmp_path / "checkpoint-4"]
    assert "checkpoint-2 is not whole and is left out: model.safetensors has 0 bytes" in said[0]


def test_the_average_is_the_mean_of_numbers_and_the_last_of_counts(tmp_path):
    folders = [make_checkpoint(tmp_path, step, value) for step, value in ((1, 1.0), (2, 2.0), (3, 6.0))]
    average = average_weights(folders)
    assert torch.equal(average["weight"], torch.full((2, 3), 3.0))
    assert average["count"].item() == 3
    assert average["weight"].dtype == torch.float32


def test_weights_of_another_shape_are_refused_with_names_and_shapes(tmp_path):
    save_file({"weight": torch.zeros(2, 3), "foreign": torch.zeros(1)}, tmp_path / "w.safetensors")
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError) as error:
        check_shapes(tmp_path / "w.safetensors", model)
    for words in (
        "weight (2, 3) instead of (2, 4)",
        "foreign (1,) is not in the model",
        "bias (2,) is not in the file",
    ):
        assert words in str(error.value)


def test_weights_that_fit_are_loaded(tmp_path):
    source, target = nn.Linear(4, 2), nn.Linear(4, 2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(source.weight, target.weight)


def test_a_file_that_is_no_safetensors_is_refused_by_name(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"w\.safetensors is no safetensors file"):
        check_shapes(tmp_path / "w.safetensors", nn.Linear(1, 1))
