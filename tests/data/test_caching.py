"""A full disk below the cache is named."""

import errno
import json
import resource

import datasets
import pytest

from selfattn_hf.data import DataSettings, load_splits
from selfattn_hf.data.caching import caching


@pytest.fixture
def small_files():
    """No file may grow past 4 KiB, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_cache_that_cannot_be_written_is_named_with_the_free_space(tmp_path, small_files):
    rows = "".join(json.dumps({"source": f"a {i}" * 20, "target": "b"}) + "\n" for i in range(300))
    (tmp_path / "train.jsonl").write_text(rows)
    settings = DataSettings(dataset=str(tmp_path / "train.jsonl"))
    small_files()
    with pytest.raises(
        OSError, match=r"cache of the datasets library, cannot be written .*MiB are free there"
    ) as error:
        load_splits(settings)
    assert str(datasets.config.HF_DATASETS_CACHE) in str(error.value)


def test_what_came_of_a_full_disk_is_a_full_disk():
    def fail():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("I/O operation on closed file")  # noqa: B904 - as libraries do

    with pytest.raises(OSError, match="MiB are free there"), caching():
        fail()


@pytest.mark.parametrize("error", [ValueError("a column is missing"), FileNotFoundError("no such file")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), caching():
        raise error
