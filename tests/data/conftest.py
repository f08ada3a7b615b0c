"""Small texts, settings and tokenizers that the tests of the data room share."""

import datasets
import pytest
from datasets import Dataset

from selfattn_hf.data import DataSettings, train_tokenizers

PAIRS = [
    ("Two young, white males are outside near many bushes.", "Zwei junge weiße Männer sind im Freien."),
    ("A man in an orange hat starring at something.", "Ein Mann mit einem orangefarbenen Hut."),
    ("On 23 November 1984 it's snowing.", "Am 23. November 1984 schneit es."),
    ("Several men in hard hats operate a pulley.", "Mehrere Männer mit Schutzhelmen."),
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
