"""Small texts, settings and tokenizers that the tests of the data room share."""

import datasets
import pytest
from datasets import Dataset

from selfattn_hf.data import DataSettings, train_tokenizers

PAIRS = [
    ("Two old, grey cats sleep outside under three chairs.", "Zwei alte graue Katzen schlafen draußen."),
    ("A girl in a yellow coat looks at the moon.", "Ein Mädchen in einem gelben Mantel."),
    ("On 23 November 1984 it's snowing.", "Am 23. November 1984 schneit es."),
    ("Some sailors in blue caps pull a rope.", "Einige Matrosen mit blauen Mützen."),
] * 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test reads its data afresh, and without bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def rows():
    """Twenty pairs of text."""
    sources, targets = zip(*PAIRS, strict=True)
    return Dataset.from_dict({"source": sources, "target": targets})


@pytest.fixture
def make_settings():
    """Data settings with a name for the data that is never looked up."""
    return lambda **given: DataSettings(**{"dataset": "unused", "tokenizer_vocab_size": 400, **given})


@pytest.fixture
def make_tokenizers(rows, make_settings):
    """Tokenizers trained on the twenty pairs."""
    return lambda **given: train_tokenizers(make_settings(**given), rows)
