"""The Hub of these tests behaves as the real one where it matters: who sees what, and what is refused."""

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .conftest import READS, TOKEN


@pytest.fixture
def api(online):
    return HfApi(endpoint=online.url, token=TOKEN)


def test_a_commit_has_an_id_and_old_revisions_stay_readable(api, hub, tmp_path):
    api.create_repo("anna/x")
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a/b.txt", repo_id="anna/x")
    first = api.model_info("anna/x").sha
    api.upload_file(path_or_fileobj=b"two" * 5000, path_in_repo="a/b.txt", repo_id="anna/x")
    assert first == list(hub.repos["model", "anna/x"].commits)[1] != api.model_info("anna/x").sha
    for revision, content in ((first, b"one"), ("main", b"two" * 5000)):
        path = hf_hub_download("anna/x", "a/b.txt", revision=revision, cache_dir=tmp_path, endpoint=hub.url)
        with open(path, "rb") as file:
            assert file.read() == content
    assert {entry.path for entry in api.list_repo_tree("anna/x", recursive=True)} == {".gitattributes", "a", "a/b.txt"}
    (info,) = api.get_paths_info("anna/x", ["a/b.txt", "nowhere"])
    assert info.lfs is not None and info.size == 15000


def test_what_is_not_there_is_said_as_the_hub_says_it(api, hub, tmp_path):
    hub.add("dataset", "anna/rows", {"rows.csv": b"a,b\n"})
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("anna/rows")  # it is a data set
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("anna/rows", revision="nowhere")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("anna/rows", "other.csv", repo_type="dataset", cache_dir=tmp_path)


def test_a_private_one_is_shown_to_those_who_may_see_it(hub, online):
    hub.add("model", "lab/secret", {"config.json": b"{}"}, private=True)
    hub.add("model", "berta/secret", {"config.json": b"{}"}, private=True)
    assert HfApi(endpoint=hub.url, token=TOKEN).model_info("lab/secret").private
    for token, name in ((TOKEN, "berta/secret"), (False, "lab/secret"), (READS, "lab/secret")):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub.url, token=token).model_info(name)


def test_tokens_that_are_wrong_or_only_read_write_nothing(hub, online):
    for token, status in (("hf_NobodyHasThis", 401), (READS, 403)):
        with pytest.raises(HfHubHTTPError) as error:
            HfApi(endpoint=hub.url, token=token).create_repo("anna/x")
        assert error.value.response.status_code == status
    assert not hub.repos


def test_a_file_that_did_not_arrive_cannot_be_committed(api, hub, monkeypatch):
    api.create_repo("anna/x")
    monkeypatch.setattr("huggingface_hub._commit_api.lfs_upload", lambda **_: None)
    with pytest.raises(HfHubHTTPError, match="does not exist"):
        api.upload_file(path_or_fileobj=b"x" * 9000, path_in_repo="big", repo_id="anna/x")
    assert len(hub.repos["model", "anna/x"].commits) == 1


def test_a_part_of_a_file_can_be_asked_for(api, hub):
    import httpx

    hub.add("model", "anna/x", {"f": b"0123456789"})
    url = f"{hub.url}/anna/x/resolve/main/f"
    assert httpx.get(url, headers={"Range": "bytes=2-4"}).content == b"234"
    assert httpx.get(url, headers={"Range": "bytes=7-"}).content == b"789"
    assert httpx.get(url, headers={"Range": "bytes=10-"}).status_code == 416
