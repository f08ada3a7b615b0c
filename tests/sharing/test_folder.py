"""What is looked at before a folder leaves: pickles, code, the map to it, its card, and a process that opens it."""

import json
import shutil

import pytest

import selfattn_hf
from selfattn_hf.sharing import check_folder, files_of
from selfattn_hf.sharing.folder import check_code

from .conftest import change_config


def test_a_run_passes_and_says_by_whom_it_was_opened(model):
    """The fresh process itself; the other tests are refused before it starts."""
    opened, wrote, remark = check_folder(model, "a b c")
    saved = json.loads((model / "config.json").read_text())
    assert opened == {auto: where.split(".")[1] for auto, where in saved["auto_map"].items()} and len(opened) == 8
    assert isinstance(wrote, str) and wrote and remark is None


def test_code_of_another_version_goes_with_a_word_but_not_where_it_does_not_open(model):
    change_config(model, selfattn_version="0.0.1")
    (model / "modeling_selfattn.py").write_text("raise RuntimeError('this is old code')\n")
    saved = json.loads((model / "config.json").read_text())
    assert f"of selfattn_hf 0.0.1, and this package is {selfattn_hf.__version__}" in check_code(model, saved)
    with pytest.raises(ValueError, match="does not open without the package.*this is old code"):
        check_folder(model)


def test_checkpoints_and_what_trainers_leave_stay_behind(model):
    for name in ("training_args.bin", "notes.txt", ".env", ".results.json.part"):
        (model / name).write_text("x")
    (model / "checkpoint-4").mkdir()
    (model / "checkpoint-4" / "model.safetensors").write_text("x")
    names = set(files_of(model))
    assert {"config.json", "model.safetensors", "README.md", "settings.yaml", "results.json"} <= names
    assert not names & {"training_args.bin", "notes.txt", ".env", "run.json", ".results.json.part"}
    assert not any(name.startswith("checkpoint") for name in names)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "state.pkl", "old.ckpt"])
def test_a_pickle_is_refused(model, believed, name):
    assert check_folder(model)
    (model / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=rf"{name} is a pickle, which may run code"):
        check_folder(model)


def test_code_that_was_changed_is_refused(model, believed):
    path = model / "attention.py"
    path.write_text(path.read_text() + "\nprint('hello')\n")
    with pytest.raises(ValueError, match=r"is not that of selfattn_hf .*: attention\.py differs\."):
        check_folder(model)


def test_code_that_is_missing_or_too_much_is_refused(model, believed):
    (model / "window.py").unlink()
    (model / "helper.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"window\.py is missing, helper\.py is no file of it"):
        check_folder(model)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("anna/other--modeling_selfattn.SelfAttnModel", "from another repository"),
        ("modeling_selfattn.Trojan", "no class of this package"),
        ("../x.SelfAttnModel", "no class of this package"),
        (["a.B", None], "no class of this package"),
    ],
)
def test_a_map_that_leads_elsewhere_is_refused(model, believed, where, message):
    saved = json.loads((model / "config.json").read_text())
    change_config(model, auto_map=saved["auto_map"] | {"AutoModel": where})
    with pytest.raises(ValueError, match=message):
        check_folder(model)


def test_a_folder_without_a_map_cannot_be_opened_by_strangers(model, believed):
    change_config(model, auto_map=None)
    with pytest.raises(ValueError, match="names no code"):
        check_folder(model)


def test_what_is_no_model_of_ours_is_named(model, believed, tmp_path):
    for folder, message in ((tmp_path / "nowhere", "is no folder"), (tmp_path, "config.json is missing")):
        with pytest.raises(ValueError, match=message):
            check_folder(folder)
    change_config(model, model_type="bart")
    with pytest.raises(ValueError, match="of type 'bart'"):
        check_folder(model)
    (model / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        check_folder(model)


def test_a_folder_without_weights_is_named(model, believed):
    (model / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="has no weights"):
        check_folder(model)


def test_a_card_that_cannot_be_read_is_named(model, believed):
    (model / "README.md").write_text("---\n- a list\n---\n# x\n")
    with pytest.raises(ValueError, match=r"README\.md has a head that the Hub would not take"):
        check_folder(model)


def test_a_target_tokenizer_travels(model):
    (model / "target_tokenizer").mkdir()
    shutil.copy(model / "tokenizer.json", model / "target_tokenizer" / "tokenizer.json")
    assert "target_tokenizer/tokenizer.json" in files_of(model)
