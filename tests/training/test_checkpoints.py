"""Whole or not there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from selfattn_hf.training.checkpoints import (
    MANIFEST,
    NEEDED,
    average_weights,
    check_shapes,
    list_checkpoints,
    load_weights,
    newest_whole,
    put_in_place,
    seal,
    step_of,
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
    assert what_is_broken(checkpoint) is not None
    if name != MANIFEST:
        assert name in what_is_broken(checkpoint)


@pytest.mark.parametrize("name", FILES)
def test_a_file_the_manifest_does_not_know_is_missed(tmp_path, name):
    checkpoint = make_checkpoint(tmp_path, 3)
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    del manifest["files"][name]
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    assert what_is_broken(checkpoint) is not None


def test_resuming_walks_back_to_the_newest_whole_one_and_says_so(tmp_path):
    for step in (2, 10, 9):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    said = []
    assert newest_whole(tmp_path, said.append) == tmp_path / "checkpoint-9"
    assert "checkpoint-10 is not whole: optimizer.pt is missing" in said[0]
    assert (tmp_path / "broken-10").is_dir()
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [2, 9]


def test_checkpoints_that_are_all_broken_are_an_error_not_a_fresh_start(tmp_path):
    (make_checkpoint(tmp_path, 2) / "scheduler.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 checkpoints"):
        newest_whole(tmp_path, lambda line: None)


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert newest_whole(tmp_path, pytest.fail) is None
    assert newest_whole(tmp_path / "absent", pytest.fail) is None


def test_work_in_progress_is_no_checkpoint(tmp_path):
    make_checkpoint(tmp_path, 4)
    shutil.copytree(tmp_path / "checkpoint-4", tmp_path / ".saving" / "checkpoint-5")
    assert newest_whole(tmp_path, pytest.fail) == tmp_path / "checkpoint-4"


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
