"""A tiny task that a tiny model can learn: write the words backwards."""

import json
import random

import pytest

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


def write_rows(path, count, seed, longest=5):
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            words = [draw.choice(WORDS) for _ in range(draw.randint(1, longest))]
            file.write(json.dumps({"source": " ".join(words), "target": " ".join(reversed(words))}) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def reversing(tmp_path_factory):
    """Files of the three splits."""
    folder = tmp_path_factory.mktemp("reversing")
    return {
        "train": write_rows(folder / "train.jsonl", 96, 1),
        "validation": write_rows(folder / "validation.jsonl", 12, 2),
        "test": write_rows(folder / "test.jsonl", 10, 3),
    }


@pytest.fixture
def values(reversing, tmp_path):
    """Settings of a run that takes about a second."""
    return {
        "dataset": reversing,
        "source_column": "source",
        "target_column": "target",
        "tokenizer_type": "word",
        "hidden_size": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "dropout": 0.1,
        "metric": "token_accuracy",
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "max_steps": 8,
        "eval_steps": 2,
        "logging_steps": 2,
        "per_device_train_batch_size": 16,
        "max_new_tokens": 6,
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
    }
