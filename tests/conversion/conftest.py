"""Checkpoints as transformers saves them: every family and variant, tiny, no weight at its first value."""

from functools import cache

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    MarianConfig,
    MBartConfig,
    MT5Config,
    PegasusConfig,
    T5Config,
)
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.utils import logging as transformers_logging

from selfattn_hf import convert

BART_SIZES = {
    "vocab_size": 40, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 3,
    "decoder_attention_heads": 3, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "max_position_embeddings": 32,
}  # fmt: skip
BART_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
PEGASUS_IDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
MARIAN_IDS = {"eos_token_id": 0, "pad_token_id": 39, "decoder_start_token_id": 39}
# transformers sizes the cache of a T5 by its encoder, so that its decoder must not be deeper.
T5_SIZES = {
    "vocab_size": 40, "d_model": 24, "d_kv": 8, "d_ff": 20, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "decoder_start_token_id": 0,
}  # fmt: skip
UNLIKE_WIDTH = {"d_kv": 6, "num_heads": 5}

# Class and fields of a config; `head: own` is a checkpoint whose output has a table of its own.
SOURCES = {
    "bart": (BartConfig, {**BART_SIZES, **BART_IDS, "activation_dropout": 0.1}),
    "bart_scaled": (BartConfig, {**BART_SIZES, **BART_IDS, "scale_embedding": True, "activation_function": "relu"}),
    "mbart": (MBartConfig, {**BART_SIZES, **BART_IDS, "scale_embedding": True, "decoder_start_token_id": 7}),
    "mbart50": (MBartConfig, {**BART_SIZES, **BART_IDS, "decoder_start_token_id": 2, "activation_function": "relu"}),
    "pegasus": (PegasusConfig, {**BART_SIZES, **PEGASUS_IDS, "scale_embedding": True, "activation_function": "relu"}),
    "marian": (MarianConfig, {**BART_SIZES, **MARIAN_IDS, "scale_embedding": True, "activation_function": "swish"}),
    "marian_untied": (MarianConfig, {**BART_SIZES, **MARIAN_IDS, "share_encoder_decoder_embeddings": False}),
    "marian_three_tables": (
        MarianConfig,
        {**BART_SIZES, **MARIAN_IDS, "share_encoder_decoder_embeddings": False, "head": "own"},
    ),
    "t5": (T5Config, T5_SIZES),
    "t5_gelu_wide_heads": (T5Config, {**T5_SIZES, **UNLIKE_WIDTH, "feed_forward_proj": "gelu"}),
    "t5_1.1": (
        T5Config,
        {**T5_SIZES, **UNLIKE_WIDTH, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "head": "own"},
    ),
    "t5_gated_silu": (T5Config, {**T5_SIZES, "feed_forward_proj": "gated-silu"}),
    "mt5": (MT5Config, {**T5_SIZES, **UNLIKE_WIDTH, "head": "own"}),
    "mt5_tied": (MT5Config, T5_SIZES),
}


def build(config_class, fields, dtype=torch.float32):
    """A model in evaluation mode with random weights; tables of sinusoids, which nobody trains, are left alone."""
    fields = dict(fields)
    own_head = fields.pop("head", None) == "own"
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config_class(**fields)).to(dtype).eval()
    if own_head:
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.2)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model


@pytest.fixture(scope="session")
def plain_sources(tmp_path_factory):
    """Folders of the sources as they are, by name and number format; no test writes into them."""

    @cache
    def make(name, dtype):
        folder = tmp_path_factory.mktemp(f"source_{name}")
        build(*SOURCES[name], dtype).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def make_source(plain_sources, tmp_path):
    """Folder of a checkpoint, by the name of a source; with other config fields, or changed, it is the test's own."""

    def make(name, dtype=torch.float32, change=None, **fields):
        if change is None and not fields:
            return plain_sources(name, dtype)
        config_class, defaults = SOURCES[name]
        model = build(config_class, {**defaults, **fields}, dtype)
        if change is not None:
            with torch.no_grad():
                change(model)
        folder = tmp_path / f"source_{name}"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def load():
    """A checkpoint as transformers reads it."""
    return lambda folder: AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


@pytest.fixture(scope="session")
def pair(plain_sources, load):
    """A source as it is, and what becomes of it, with the report, by name; no test changes them."""

    @cache
    def make(name):
        folder = plain_sources(name, torch.float32)
        return load(folder), *convert(folder, return_report=True)

    return make


@pytest.fixture(autouse=True, scope="session")
def without_bars():
    """Loading draws bars, which would fill what a failed test shows."""
    transformers_logging.disable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()


@pytest.fixture
def batch():
    """Three rows of different length as `forward` takes them, padded on the right with the id given."""

    def make(pad):
        generator = torch.Generator().manual_seed(3)
        mask = (torch.arange(9) < torch.tensor([9, 5, 2])[:, None]).long()
        ids = torch.randint(3, 39, (3, 9), generator=generator).masked_fill(mask == 0, pad)
        target_mask = (torch.arange(8) < torch.tensor([4, 8, 6])[:, None]).long()
        target = torch.randint(3, 39, (3, 8), generator=generator).masked_fill(target_mask == 0, pad)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "decoder_input_ids": target,
            "decoder_attention_mask": target_mask,
        }

    return make


@pytest.fixture
def difference(batch):
    """The largest difference of two models' logits at real target tokens, relative to the largest logit."""

    @torch.no_grad()
    def measure(theirs, ours):
        inputs = batch(theirs.config.pad_token_id)
        real = inputs["decoder_attention_mask"].bool()
        expected, got = (model(**inputs).logits[real] for model in (theirs, ours))
        assert got.dtype == expected.dtype
        return ((got - expected).abs().max() / expected.abs().max()).item()

    return measure


@pytest.fixture
def exact_norms(monkeypatch):
    """T5's own norm works in float32 whatever the model; here it works in the format of the model."""

    def forward(self, states):
        return self.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    for norm in (T5LayerNorm, MT5LayerNorm):
        monkeypatch.setattr(norm, "forward", forward)
