"""A test that asks for `stacks`, `position` or `mixer` is run for everything that the registries hold.

`stacks` is, as config fields: every mixer with every position encoding, on both sides or on the side that can have it;
every pair of mixers; and stacks of unlike layers, several encodings at once, shared layers and the like.
"""

import itertools
from typing import get_args

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.switches import TreePosition

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


def is_legal(stacks):
    try:
        tiny_config(**stacks)
    except ValueError:
        return False
    return True


def on_each_side(mixer, position):
    """Both sides at once where that is legal, else the side that can have it, beside a plain one."""
    both = {"encoder_mixer": mixer, "decoder_mixer": mixer, "position_encoding": position}
    if is_legal(both):
        yield both
        return
    for side in ("encoder", "decoder"):
        one = {f"{side}_mixer": mixer, "position_encoding": "none", f"{side}_position_encoding": position}
        if is_legal(one):
            yield one


def legal_stacks():
    for mixer, position in itertools.product(MIXERS, POSITIONS):
        yield from on_each_side(mixer, position)
    for encoder, decoder in itertools.permutations(MIXERS, 2):
        yield {"encoder_mixer": encoder, "decoder_mixer": decoder}
    yield from UNLIKE


UNLIKE = [
    {"encoder_mixer": ["rnn", "self_attention"], "decoder_mixer": ["rnn", "self_attention", "window"]},
    {"decoder_mixer": ["local_attention", "self_attention", "dense"], "position_encoding": "alibi", "window_radius": 1},
    {"decoder_mixer": ["window", "local_attention", "rnn"], "position_encoding": "t5", "encoder_mixer": ["dense"] * 2,
     "encoder_position_encoding": "none"},
    {"encoder_position_encoding": ["tree_depth", "tree_path", "tree_relative", "rope"],
     "decoder_position_encoding": ["sinusoidal", "shaw"]},
    {"position_encoding": ["learned", "kerple", "fire"], "position_combine": "concat", "position_injection": "block"},
    {"attend_to": "embeddings", "decoder_mixer": ["local_attention", "self_attention", "rnn"]},
    {"attend_to": "embeddings", "norm": "post", "position_injection": "block"},
    {"share_layers": True, "position_injection": "block"},
    {"share_layers": True, "encoder_mixer": "rnn", "decoder_mixer": "local_attention", "norm": "post"},
    {"norm_type": "rms_norm", "bias": False, "head_dim": 6, "feedforward": "geglu", "position_encoding": "t5",
     "relative_num_buckets": 8},
    {"embedding_norm": True, "scale_embedding": False, "output_bias": True, "norm": "post", "feedforward": "silu",
     "sinusoid_layout": "halves", "head_dim": 6},
    {"tie_word_embeddings": False, "position_encoding": "transformer_xl", "head_dim": 3},
]  # fmt: skip


def name_of(stacks):
    return "-".join(f"{name}={value}" if isinstance(value, bool) else str(value) for name, value in stacks.items())


def trees_by_rank(real):
    """Heads and nodes for [B, S] real tokens, by their rank alone: a heap, two tokens of one word, the last outside."""
    ranks = real.long().cumsum(1) - 1
    length = real.sum(1, keepdim=True)
    own = torch.arange(real.shape[1]).expand_as(ranks)
    first = own - ranks  # where the row starts
    heads = torch.where(ranks == 0, own, first + (ranks - 1) // 2)
    heads = torch.where((ranks == 5) | (ranks == 6), first + 1, heads)  # nothing depends on the second part of a word
    nodes = torch.where((ranks == 2) & (length > 3), own - 1, own)
    heads = torch.where((ranks == 2) & (length > 3), own - 1, heads)
    outside = ~real | ((ranks == length - 1) & (length > 1))
    return heads.masked_fill(outside, -1), nodes.masked_fill(outside, -1)


def give_trees(module, args, kwargs):
    """Hook: the encoder of a model that reads trees gets some, wherever a test gives none."""
    if kwargs.get("syntax_heads") is None:
        ids = args[0] if args else kwargs.get("input_ids")
        shape = (ids if ids is not None else kwargs["inputs_embeds"]).shape[:2]
        mask = kwargs.get("attention_mask")
        real = torch.ones(shape, dtype=torch.bool) if mask is None else mask.bool()
        kwargs["syntax_heads"], kwargs["syntax_nodes"] = trees_by_rank(real)
    return args, kwargs


def pytest_generate_tests(metafunc):
    if "stacks" in metafunc.fixturenames:
        metafunc.parametrize("stacks", list(legal_stacks()), ids=name_of)
    if "position" in metafunc.fixturenames:
        metafunc.parametrize("position", list(POSITIONS))
    if "mixer" in metafunc.fixturenames:
        metafunc.parametrize("mixer", list(MIXERS))


@pytest.fixture
def make_config():
    return tiny_config


@pytest.fixture
def on_a_side(position):
    """The encoding of the test as config fields: on both sides, or in the encoder where it reads trees."""
    if position in get_args(TreePosition):
        return {"position_encoding": "none", "encoder_position_encoding": position}
    return {"position_encoding": position}


def plant_trees(model):
    if model.config.reads_trees:
        model.get_encoder().register_forward_pre_hook(give_trees, with_kwargs=True)
    return model


@pytest.fixture
def with_trees():
    """Gives a model that reads trees some, wherever a test gives none."""
    return plant_trees


def tiny_model(dtype=torch.float64, kind=SelfAttnForConditionalGeneration, **switches):
    """A tiny model in eval mode, float64 unless told otherwise, with every weight away from its special value."""
    torch.manual_seed(1)
    model = kind(tiny_config(**switches)).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return plant_trees(model)


@pytest.fixture
def make_model():
    return tiny_model


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
