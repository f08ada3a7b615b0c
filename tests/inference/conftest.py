"""A tiny model with its tokenizer, that repeats what it reads, so that every right answer is known."""

import pytest
import torch
from datasets import Dataset

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, Translator
from selfattn_hf.data import DataSettings, train_tokenizers

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
