"""The modules of the campaigns, and a whole model folder to spoil."""

import sys
from pathlib import Path

import datasets
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path[:0] = [str(SCRIPTS / "campaigns"), str(SCRIPTS)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test reads its data afresh, and without bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A folder as training leaves it, and a file of data beside it."""
    import _doors

    folder = tmp_path_factory.mktemp("whole") / "model"
    _doors.make_whole(folder)
    return folder
