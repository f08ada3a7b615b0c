"""A run that starts from a model of the Hub at a pinned revision: config, tokenizer and weights are those of it."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from selfattn_hf.sharing import files_of
from selfattn_hf.training import make_settings, train
from selfattn_hf.training.run_folder import fingerprint
from selfattn_hf.training.starting import commit_of

from .conftest import settings_of

NAME = "anna/backwards"
OF_THE_MODEL = ("tokenizer_type", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads",
                "intermediate_size")  # fmt: skip


def tuning(folder, data, **others):
    """A step that changes nothing, so that weights show where they are from."""
    values = settings_of(folder, data, init_from=NAME, learning_rate=0.0, max_steps=1, **others)
    return {name: value for name, value in values.items() if name not in OF_THE_MODEL}


@pytest.fixture
def revisions(online, trained):
    """The commit of a model that lies on the branch `good`; on main is a newer one that is none any more."""
    good = online.add("model", NAME, {name: path.read_bytes() for name, path in files_of(trained).items()})
    repo = online.repos["model", NAME]
    repo.branches["good"] = good
    changed = {"config.json": None, "tokenizer.json": None, "model.safetensors": None}
    rest = {name: kept for name, kept in repo.commits[good].items() if name not in changed}
    config = json.loads((trained / "config.json").read_text()) | {"hidden_size": 32}
    repo.commit("main", {**rest, "config.json": (json.dumps(config).encode(), False)}, "another size, no weights")
    return good


@pytest.mark.parametrize("by", ["commit", "branch"])
def test_everything_comes_from_the_pinned_revision_which_results_and_card_name(by, revisions, trained, data, tmp_path):
    revision = revisions if by == "commit" else "good"
    results = train(make_settings(tuning(tmp_path / "out", data, init_from_revision=revision)))
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "out"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert results["init_from_commit"] == revisions
    assert json.loads((tmp_path / "out" / "results.json").read_text())["init_from_commit"] == revisions
    card = (tmp_path / "out" / "README.md").read_text()
    assert ModelCard(card).data.base_model == NAME
    named = f"commit {revisions}" if by == "commit" else f"revision good, commit {revisions}"
    assert f"- started from {NAME}, {named}\n" in card
    assert f"init_from_revision: {revision}\n" in (tmp_path / "out" / "settings.yaml").read_text()


def test_without_a_revision_it_is_the_newest_and_a_revision_that_is_not_there_is_refused(revisions, data, tmp_path):
    with pytest.raises((ValueError, OSError), match=r"anna/backwards"):
        train(make_settings(tuning(tmp_path / "out", data)))  # the positive control: main is no model
    with pytest.raises(OSError, match="nowhere"):
        train(make_settings(tuning(tmp_path / "out", data, init_from_revision="nowhere")))
    assert not (tmp_path / "out").exists()


def test_a_commit_is_known_of_the_hub_alone(revisions, trained):
    assert commit_of(NAME, "good") == revisions
    assert commit_of(str(trained), None) is None


def test_another_revision_is_another_run(data, tmp_path):
    one, other = (make_settings(tuning(tmp_path, data, init_from_revision=name)) for name in ("a", "b"))
    assert fingerprint(one) != fingerprint(other)


def test_a_revision_of_nothing_or_of_a_folder_is_refused(data, model, tmp_path, monkeypatch):
    values = settings_of(tmp_path / "out", data, init_from_revision="main")
    with pytest.raises(ValueError, match="init_from_revision=main does nothing without init_from"):
        make_settings(values)
    values = {name: value for name, value in values.items() if name not in OF_THE_MODEL}
    with pytest.raises(ValueError, match="is for a model on the Hub, and init_from=.* is a folder here"):
        make_settings({**values, "init_from": str(model)})
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "runs" / "first")
    with pytest.raises(ValueError, match="init_from=runs/first is a folder here"):
        make_settings({**values, "init_from": "runs/first"})
    assert make_settings({**values, "init_from": NAME}).run.init_from_revision == "main"
