"""Pushing to a Hub on this machine: one commit or none, and it is said which; tokens stay secret."""

import hashlib

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import RepositoryNotFoundError

from selfattn_hf.sharing import Destination, files_of, push_folder

from .conftest import READS, TOKEN

NAME = "anna/backwards"
# huggingface_hub hands a file to its HTTP client in a way that the client calls old.


def push(model, name=NAME, said=None, **options):
    return push_folder(model, Destination(name, **options), say=(said if said is not None else []).append)


@pytest.fixture
def ready(online, believed):
    return online


def test_what_arrives_is_what_lay_there(ready, model):
    said = []
    pushed = push(model, said=said)
    there = ready.tree(NAME)
    assert {name: data for name, data in there.items() if name not in ("README.md", ".gitattributes")} == {
        name: path.read_bytes() for name, path in files_of(model).items() if name != "README.md"
    }
    assert pushed.commit == ready.head(NAME) and pushed.is_new and pushed.commit in pushed.url
    lfs = {path for path, (_, is_lfs) in ready.repos["model", NAME].commits[pushed.commit].items() if is_lfs}
    assert "model.safetensors" in lfs and "config.json" not in lfs
    assert len(ready.repos["model", NAME].commits) == 2  # the Hub's first one, and ours
    assert any(line.startswith("stays here: ") and "run.json" in line for line in said)


def test_the_card_there_knows_its_name(ready, model):
    push(model, "anna/other-name")
    card = ready.tree("anna/other-name")["README.md"].decode()
    assert '"anna/other-name"' in card and "owner/name" not in card
    assert "\n# other-name\n" in card and ModelCard(card).data.model_name == "other-name"
    assert "owner/name" in (model / "README.md").read_text()


def test_a_second_push_of_the_same_makes_no_commit(ready, model, recwarn):
    first = push(model)
    second = push(model)
    assert (second.commit, second.is_new) == (first.commit, False)


def test_a_changed_model_is_one_more_commit_and_the_old_one_stays(ready, model):
    first = push(model)
    (model / "training_curve.csv").unlink()
    (model / "results.json").write_text("{}")
    ready.repos["model", NAME].commits[first.commit]["notes.txt"] = (b"by hand", False)
    second = push(model)
    assert second.commit != first.commit
    assert ready.tree(NAME)["results.json"] == b"{}" and "training_curve.csv" not in ready.tree(NAME)
    assert ready.tree(NAME)["notes.txt"] == b"by hand", "what is no part of a model stays"
    assert "training_curve.csv" in ready.tree(NAME, first.commit)
    assert len(ready.repos["model", NAME].commits) == 3


def test_a_branch_is_made_and_main_is_not_touched(ready, model):
    first = push(model)
    (model / "results.json").write_text("{}")
    second = push(model, revision="second-try")
    assert ready.head(NAME) == first.commit and ready.head(NAME, "second-try") == second.commit


def test_a_private_model_is_seen_by_its_owner_alone(ready, model, monkeypatch):
    push(model, private=True)
    assert HfApi().model_info(NAME).private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(NAME)


def test_nothing_private_goes_to_a_public_place(ready, model):
    ready.add("model", NAME, {"README.md": b"hello"})
    with pytest.raises(ValueError, match="is there and public, and you asked for a private one.*Nothing was changed"):
        push(model, private=True)
    assert list(ready.tree(NAME)) == ["README.md"]


def test_an_organisation_of_the_user_is_an_owner(ready, model):
    push(model, "lab/backwards")
    assert ("model", "lab/backwards") in ready.repos


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "needs a token, and there is none: run `hf auth login`"),
        ("hf_NobodyHasThis", r"does not know the token \(401\)"),
        (READS, "the token, of anna, may only read"),
    ],
)
def test_a_token_that_will_not_do_is_named_before_anything_is_uploaded(ready, model, monkeypatch, token, message):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match=message) as error:
        push(model)
    assert token is None or token not in str(error.value)
    assert not ready.repos


def test_somebody_elses_name_is_refused(ready, model):
    with pytest.raises(ValueError, match="of anna, who cannot write to berta/x: the owner must be one of anna, lab"):
        push(model, "berta/x")
    assert not ready.repos


@pytest.mark.parametrize(
    "name", ["backwards", "anna/a/b", "anna/..", "anna/a--b", "anna/a b", "../anna/x", "anna/", "/x", "anna/x.git", ""]
)
def test_a_name_that_there_cannot_be_is_refused_before_the_hub_is_asked(name):
    with pytest.raises(ValueError):
        Destination(name)


@pytest.mark.parametrize("revision", ["a b", "-x", "../x", "a" * 40, "refs/../x", ""])
def test_a_branch_that_there_cannot_be_is_refused(revision):
    with pytest.raises(ValueError, match="revision"):
        Destination(NAME, revision=revision)


def test_an_upload_that_is_cut_is_tried_again_and_arrives_whole(ready, model):
    ready.breaks = "upload"  # the library tries a lost PUT again by itself
    push(model)
    weights = ready.tree(NAME)["model.safetensors"]
    assert hashlib.sha256(weights).digest() == hashlib.sha256((model / "model.safetensors").read_bytes()).digest()


def test_a_lost_commit_is_said_to_be_none_and_the_same_push_mends_it(ready, model):
    ready.breaks = "commit"
    with pytest.raises(ConnectionError) as error:
        push(model)
    assert "No commit was made: nothing was changed there, but that the repository was made" in str(error.value)
    assert "The same command tries again." in str(error.value)
    assert list(ready.tree(NAME)) == [".gitattributes"]
    assert TOKEN not in str(error.value) and "very-secret" not in str(error.value)
    assert push(model).commit == ready.head(NAME) and "model.safetensors" in ready.tree(NAME)


def test_a_lost_answer_is_not_taken_for_a_lost_commit(ready, model):
    ready.breaks = "answer"
    with pytest.raises(ConnectionError) as error:
        push(model)
    assert f"But commit {ready.head(NAME)} is there" in str(error.value)
    assert not push(model).is_new


def test_a_hub_that_is_gone_is_named(ready, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"could not be checked.*http://127\.0\.0\.1:9"):
        push(model)


def test_offline_is_said_in_a_sentence(ready, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        push(model)


def test_somebody_who_commits_meanwhile_is_not_overwritten(ready, model, monkeypatch):
    push(model)
    (model / "results.json").write_text("{}")
    listed = HfApi.list_repo_files

    def list_and_wait(self, *args, **kwargs):
        files = listed(self, *args, **kwargs)
        ready.repos["model", NAME].commit("main", {"other": (b"theirs", False)}, "meanwhile")
        return files

    monkeypatch.setattr(HfApi, "list_repo_files", list_and_wait)
    with pytest.raises(ValueError, match="A commit has happened since"):
        push(model)
    assert list(ready.tree(NAME)) == ["other"]


def test_the_script_says_what_it_did_and_never_the_token(ready, model, in_process, monkeypatch):
    code, said, errors = in_process("push_to_hub", model, NAME)
    assert code == 0 and ready.head(NAME) in said and "opened without the package" in said
    monkeypatch.setenv("HF_TOKEN", "hf_NobodyHasThis")
    code, more, wrong = in_process("push_to_hub", model, NAME)
    assert code == 2 and wrong.count("\n") == 1 and "does not know the token" in wrong
    for text in (said, errors, more, wrong):
        assert TOKEN not in text and "hf_NobodyHasThis" not in text
    code, _, refused = in_process("push_to_hub", model, NAME, "--token", TOKEN)
    assert code == 2 and "--token" in refused


def test_the_script_makes_a_card_where_there_is_none(ready, model, in_process):
    (model / "README.md").unlink()
    code, said, _ = in_process("push_to_hub", model, NAME)
    assert code == 0 and "README.md is new" in said and b"model-index" in ready.tree(NAME)["README.md"]
