"""A Hub on loopback, a model that a run has left, and this process or another one that talks to that Hub."""

import json
import os
import shutil
import subprocess
import sys

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import transformers.utils.hub

from selfattn_hf.sharing import folder as looking
from selfattn_hf.training import make_settings, train

from ..training.conftest import write_rows
from .hub_server import Hub, User

TOKEN = "hf_WritesForAnnaAndTheLab"
READS = "hf_OnlyReadsForAnna"


def settings_of(folder, data, **others):
    """A run of about a second; its task is to write words backwards."""
    values = {
        "dataset": data, "tokenizer_type": "word", "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "metric": "exact_match", "learning_rate": 1e-2,
        "warmup_steps": 2, "max_steps": 4, "eval_steps": 2, "logging_steps": 2, "per_device_train_batch_size": 16,
        "max_new_tokens": 6, "examples": 2, "use_cpu": True, "output_dir": str(folder),
    }  # fmt: skip
    return values | others


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Files of the three splits."""
    folder = tmp_path_factory.mktemp("data")
    counts = {"train": (64, 1), "validation": (8, 2), "test": (8, 3)}
    return {split: write_rows(folder / f"{split}.jsonl", *count) for split, count in counts.items()}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data):
    """What a run leaves; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "backwards"
    train(make_settings(settings_of(folder, data)))
    return folder


@pytest.fixture
def model(trained, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(trained, tmp_path / "backwards", ignore=shutil.ignore_patterns("checkpoint-*"))


@pytest.fixture
def hub():
    """A Hub, empty; files from 5,000 bytes on go by LFS."""
    with Hub(lfs_from=5_000) as server:
        server.users |= {TOKEN: User("anna", orgs=("lab",)), READS: User("anna", role="read")}
        yield server


@pytest.fixture
def online(hub, monkeypatch):
    """This process talks to that Hub, with a token that may write."""
    talk_to(hub, monkeypatch)
    return hub


def talk_to(hub, patch):
    """What HF_ENDPOINT and its like do for a process that begins; the constants are read long before a test."""
    values = {
        "HF_HUB_OFFLINE": False, "ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
    }  # fmt: skip
    for name, value in values.items():
        patch.setattr(huggingface_hub.constants, name, value)
    # two objects keep the address they were made with: the one behind huggingface_hub's functions that are no methods,
    # made when it was imported, and the one of transformers, made when it is first needed, perhaps by an earlier test
    patch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    patch.setattr(transformers.utils.hub, "_hf_api", None)
    patch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def believed(monkeypatch):
    """The fresh process, which takes seconds, is believed to have opened the folder; other tests let it."""
    opened = {"AutoModelForSeq2SeqLM": "SelfAttnForConditionalGeneration"}
    monkeypatch.setattr(looking, "open_as_stranger", lambda files, text: (opened, "a b"))


def elsewhere(hub, home, *words, token=TOKEN):
    """A process of its own that talks to the Hub: exit code, what it printed, its errors."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    own |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    own |= {"HF_TOKEN": token} if token else {}
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=own, check=False)
    return done.returncode, done.stdout, done.stderr


def change_config(folder, **fields):
    """Other values in a saved config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
