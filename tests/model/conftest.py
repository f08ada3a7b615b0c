"""A test that asks for `stacks`, `position` or `mixer` is run for everything that the registries hold.

`stacks` is every legal pairing of encoder mixer, decoder mixer and position encoding, as config fields.
"""

import itertools

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "dropout": 0.0,
}


def tiny_config(**switches):
    return SelfAttnConfig(**TINY | switches)


def legal_stacks():
    for encoder, decoder, position in itertools.product(MIXERS, MIXERS, POSITIONS):
        stacks = {"encoder_mixer": encoder, "decoder_mixer": decoder, "position_encoding": position}
        try:
            tiny_config(**stacks)
        except ValueError:
            # An encoding that one side cannot have is still tried on the other.
            for side in ("encoder", "decoder"):
                mixed = {**stacks, "position_encoding": "none", f"{side}_position_encoding": position}
                try:
                    tiny_config(**mixed)
                except ValueError:
                    continue
                yield mixed
        else:
            yield stacks


def pytest_generate_tests(metafunc):
    if "stacks" in metafunc.fixturenames:
        metafunc.parametrize("stacks", list(legal_stacks()), ids=lambda stacks: "-".join(stacks.values()))
    if "position" in metafunc.fixturenames:
        metafunc.parametrize("position", list(POSITIONS))
    if "mixer" in metafunc.fixturenames:
        metafunc.parametrize("mixer", list(MIXERS))


@pytest.fixture
def make_config():
    return tiny_config


@pytest.fixture
def make_model():
    """A tiny model in eval mode, float64 unless told otherwise, with every weight away from its special value."""

    def make(dtype=torch.float64, **switches):
        torch.manual_seed(1)
        model = SelfAttnForConditionalGeneration(tiny_config(**switches)).to(dtype).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        return model

    return make


@pytest.fixture
def batch():
    """Three rows of different length, as ids without padding."""
    generator = torch.Generator().manual_seed(2)
    draw = lambda *lengths: [torch.randint(3, 40, (n,), generator=generator) for n in lengths]  # noqa: E731
    return {"source": draw(7, 4, 1), "target": draw(5, 6, 2)}


@pytest.fixture
def pad():
    """Rows of ids -> ids and mask, padded on the side named, to the width of the longest row or more."""

    def pad_rows(rows, side="right", width=None):
        width = width or max(len(row) for row in rows)
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            ids[i, where], mask[i, where] = row, 1
        return ids, mask

    return pad_rows
