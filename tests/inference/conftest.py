"""A tiny model with its tokenizer, that repeats what it reads, so that every right answer is known."""

import threading

import pytest
import torch
from datasets import Dataset

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, Translator
from selfattn_hf.data import DataSettings, train_tokenizers
from selfattn_hf.inference.service_batching import Batcher
from selfattn_hf.inference.service_metrics import Metrics
from selfattn_hf.inference.sources import TextError

SENTENCES = [
    "a small dog sleeps in the sun",
    "two men walk",
    "a woman reads a book in the park while it rains",
    "ein kleiner Hund schläft",
    "snow",
    "the children play with a red ball",
]


@pytest.fixture(scope="session")
def tokenizers():
    rows = Dataset.from_dict({"source": SENTENCES, "target": SENTENCES[::-1]})
    settings = DataSettings(dataset="unused", tokenizer_type="word", tokenizer_shared=True, tokenizer_vocab_size=100)
    return train_tokenizers(settings, rows)


@pytest.fixture(scope="session")
def make_model(tokenizers):
    """A tiny model with fresh weights."""

    def make(**switches):
        tiny = {
            "vocab_size": tokenizers.vocab_size,
            "hidden_size": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 16,
            "dropout": 0.0,
            **tokenizers.special_ids(),
        }
        torch.manual_seed(3)
        model = SelfAttnForConditionalGeneration(SelfAttnConfig(**tiny | switches))
        model.generation_config.max_new_tokens = 14
        return model

    return make


@pytest.fixture(scope="session")
def saved(tmp_path_factory, make_model, tokenizers):
    """A folder as training leaves it; the model has learned to repeat each of the sentences."""
    folder = tmp_path_factory.mktemp("model")
    model = make_model()
    batch = tokenizers.source(SENTENCES, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizers.save(folder)
    return folder


@pytest.fixture
def translator(saved):
    return Translator.from_pretrained(saved, device="cpu")


@pytest.fixture
def sentences():
    return list(SENTENCES)


class Double:
    """In the place of a Translator: answers in capitals, notes its batches, and waits at the first one if told so."""

    def __init__(self, tokenizers, waits):
        self.tokenizers = tokenizers
        self.batches = []
        self.begun, self.go = threading.Event(), threading.Event()
        if not waits:
            self.go.set()

    def __call__(self, texts, batch_size, **options):
        self.batches.append((list(texts), options))
        self.begun.set()
        assert self.go.wait(60)
        for number, text in enumerate(texts):
            if text == "too long":
                raise TextError(number, "is too long")
            if text == "break":
                raise RuntimeError("out of memory")
        return [text.upper() for text in texts]


@pytest.fixture
def make_batcher(tokenizers):
    """A queue before a double, closed at the end of the test."""
    made = []

    def make(waits=False, max_wait_s=0.0):
        double = Double(tokenizers, waits)
        batcher = Batcher(double, max_batch=8, max_wait_s=max_wait_s, max_queue=32, metrics=Metrics())
        batcher.double = double
        batcher.start()
        made.append(batcher)
        return batcher

    yield make
    for batcher in made:
        batcher.double.go.set()
        batcher.close()


@pytest.fixture
def held(make_batcher):
    """A queue whose model stands still in its first batch until `double.go` is set."""
    return make_batcher(waits=True)
