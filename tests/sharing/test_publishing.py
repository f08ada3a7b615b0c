"""A run that ends on the Hub: what is checked before it begins, and what happens when its push fails."""

import json

import pytest

from selfattn_hf.training import make_settings, read_settings, read_study, train
from selfattn_hf.training.run_folder import fingerprint

from .conftest import READS, settings_of

NAME = "anna/backwards"
HUB = {"push_to_hub": True, "hub_model_id": NAME}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"push_to_hub": True}, "push_to_hub needs hub_model_id"),
        ({"hub_model_id": NAME}, "hub_model_id=anna/backwards does nothing without push_to_hub"),
        ({"hub_private_repo": True}, "hub_private_repo=True does nothing without push_to_hub"),
        ({"hub_revision": "x"}, "hub_revision=x does nothing without push_to_hub"),
        ({"push_to_hub": True, "hub_model_id": "a/b/c"}, "'a/b/c' is no name of a repository"),
        ({"push_to_hub": True, "hub_model_id": "b"}, "goes to owner/name"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(given, message, data, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_settings(settings_of(tmp_path, data, **given))


@pytest.mark.parametrize("name", ["hub_strategy", "hub_always_push", "hub_token"])
def test_the_trainer_does_not_push_by_itself(name, tmp_path):
    (tmp_path / "x.yaml").write_text(f"dataset: x\n{name}: y\n")
    with pytest.raises(ValueError, match=f"{name} is not taken"):
        read_settings(tmp_path / "x.yaml")


@pytest.mark.parametrize("token", [None, "hf_NobodyHasThis", READS])
def test_a_run_that_could_not_be_pushed_does_not_begin(token, online, data, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match="token"):
        train(make_settings(settings_of(tmp_path / "out", data, **HUB)))
    assert not (tmp_path / "out").exists()


def test_a_push_that_fails_is_made_up_by_the_same_command(online, believed, data, tmp_path, capsys):
    settings = make_settings(settings_of(tmp_path / "out", data, **HUB, hub_private_repo=True))
    online.breaks = "commit"
    with pytest.raises(ConnectionError, match="the same command pushes it"):
        train(settings)
    assert "will be pushed to anna/backwards, as anna" in capsys.readouterr().out
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    train(settings)
    said = capsys.readouterr().out
    assert "finished: nothing is left to do" in said and "pushed: http" in said
    there = online.tree(NAME)
    assert there["model.safetensors"] == weights and online.repos["model", NAME].private
    requests = len(online.requests)
    train(settings)
    assert f"it was pushed to {NAME} before: commit {online.head(NAME)}" in capsys.readouterr().out
    assert len(online.requests) == requests, "what is there already needs neither the Hub nor a token"


def test_a_finished_run_can_be_pushed_later_and_elsewhere(online, believed, data, tmp_path):
    folder = tmp_path / "out"
    train(make_settings(settings_of(folder, data)))
    assert not online.repos
    train(make_settings(settings_of(folder, data, **HUB)))
    train(make_settings(settings_of(folder, data, **HUB, hub_revision="b")))
    assert online.head(NAME) == online.head(NAME, "b"), "the branch begins where main is, and nothing differs"
    assert json.loads((folder / "run.json").read_text())["pushed"]["to"] == f"{NAME} (branch b)"


def test_a_study_does_not_push_all_its_models_to_one_place(data, tmp_path):
    base = settings_of(tmp_path, data, **HUB)
    del base["output_dir"]
    (tmp_path / "study.yaml").write_text(json.dumps({"base": base, "vary": {"norm": ["pre", "post"]}}))
    with pytest.raises(ValueError, match="push_to_hub would push every run to one place"):
        read_study(tmp_path / "study.yaml")


def test_who_repeats_the_run_does_not_push_where_we_did(data, tmp_path):
    plain = make_settings(settings_of(tmp_path, data))
    pushed = make_settings(settings_of(tmp_path, data, **HUB))
    assert pushed.to_yaml() == plain.to_yaml() and "hub" not in plain.to_yaml()
    assert {**fingerprint(plain)} == {**fingerprint(pushed)}
