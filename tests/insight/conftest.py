"""A test that asks for `position` or `mixer` is run for every word of the registry; `make_model`, `make_pair`: tiny."""

import json

import pytest
import torch
from datasets import Dataset

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import DataSettings, train_tokenizers
from selfattn_hf.insight import pair_of
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "dropout": 0.0,
}


def pytest_generate_tests(metafunc):
    for name, registry in (("position", POSITIONS), ("mixer", MIXERS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(registry))


@pytest.fixture
def make_model():
    """A tiny model in eval mode and float64, with every weight away from its special value."""

    def make(kind=SelfAttnForConditionalGeneration, dtype=torch.float64, **switches):
        torch.manual_seed(1)
        switches = {"position_encoding": "none"} | switches
        model = kind(SelfAttnConfig(**TINY | switches)).to(dtype).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        return model

    return make


@pytest.fixture
def make_pair():
    """Random ids for a model, with a tree where it reads trees."""

    def make(model, source=9, target=7, seed=2):
        generator = torch.Generator().manual_seed(seed)
        ids = [torch.randint(3, 40, (length,), generator=generator).tolist() for length in (source, target)]
        trees = {}
        if model.config.reads_trees:
            trees["heads"] = [max((place - 1) // 2, 0) for place in range(source - 1)] + [-1]
        return pair_of(model, ids[0], ids[1], **trees)

    return make


@pytest.fixture
def with_order():
    """The fields by which a position encoding is set where it is legal: on both sides, or in the encoder alone."""

    def fields(position):
        both = {"position_encoding": position}
        try:
            SelfAttnConfig(**TINY | both)
        except ValueError:
            return {"position_encoding": "none", "encoder_position_encoding": position}
        return both

    return fields


# Words that would be markup, if a page took them for it.
ODD_SENTENCES = [
    "one <b>two</b> three & four",
    'five "six" seven </script> eight',
    "<img src=x onerror=alert(1)> nine's",
    "three four five six seven",
]


@pytest.fixture(scope="session")
def report_tokenizers():
    rows = Dataset.from_dict({"source": ODD_SENTENCES, "target": ODD_SENTENCES[::-1]})
    return train_tokenizers(DataSettings(dataset="unused", tokenizer_type="word", tokenizer_vocab_size=60), rows)


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory, report_tokenizers):
    """A folder as training leaves it: an untrained model with its tokenizers, results and a curve."""

    def make(name="model", kind=SelfAttnForConditionalGeneration, tokenizers=report_tokenizers, **switches):
        torch.manual_seed(5)
        small = TINY | {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        }
        known = {"vocab_size": tokenizers.vocab_size, **tokenizers.special_ids()}
        folder = tmp_path_factory.mktemp("report") / name
        kind(SelfAttnConfig(**small | known | switches)).save_pretrained(folder)
        tokenizers.save(folder)
        examples = [{"source": text, "output": "one", "reference": "one two"} for text in ODD_SENTENCES]
        results = {"metric": "bleu", "test": {"loss": 1.23456789, "bleu": 99.8}, "parameters": 7, "seed": 1,
                   "examples": examples}  # fmt: skip
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "training_curve.csv").write_text("step,loss,eval_loss\n10,3.25,\n20,1.5,1.75\n")
        return folder

    return make
