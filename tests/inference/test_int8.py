"""Weights of 8 bits: near what float32 computes, by either way of decoding, and nothing else is rounded."""

import copy

import pytest
import torch
from torch import nn

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, Translator
from selfattn_hf.inference.int8 import to_int8
from selfattn_hf.model import Int8Linear, products
from selfattn_hf.model.decoding import DecodingState
from selfattn_hf.model.layers import MIXERS


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_with_whole_numbers(bias):
    """Against rounding and multiplying written out in float64."""
    layer = nn.Linear(32, 24, bias=bias)
    x = torch.randn(3, 5, 32)
    small = Int8Linear(layer)
    weight, rows = layer.weight.detach().double(), x.double()
    of_weight, of_rows = (of.abs().amax(-1, keepdim=True) / 127 for of in (weight, rows))
    exact = (rows / of_rows).round() * of_rows @ ((weight / of_weight).round() * of_weight).T
    if bias:
        exact = exact + layer.bias.detach()
    torch.testing.assert_close(small(x).double(), exact, atol=1e-5, rtol=1e-5)
    assert (small(x) - layer(x)).abs().max() < 0.05 < (layer(x)).abs().max()
    assert small.weight.dtype == torch.int8 and small(x).shape == (3, 5, 24)


def test_rows_of_zeros_stay_zeros():
    numbers, scale = products.to_int8(torch.zeros(2, 4))
    assert not numbers.any() and scale.isfinite().all()
    assert not Int8Linear(nn.Linear(4, 3, bias=False))(torch.zeros(2, 4)).any()


def made(**switches):
    torch.manual_seed(0)
    config = SelfAttnConfig(
        vocab_size=40, hidden_size=16, encoder_layers=2, decoder_layers=2, num_attention_heads=2, intermediate_size=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **switches,
    )  # fmt: skip
    return SelfAttnForConditionalGeneration(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_whole_model_is_near_what_it_was(mixer):
    whole = made(encoder_mixer=mixer, decoder_mixer=mixer)
    small = to_int8(copy.deepcopy(whole))
    left = [type(part) for part in small.modules() if type(part) is nn.Linear]
    assert not left and any(isinstance(part, Int8Linear) for part in small.modules())
    ids = torch.randint(3, 40, (4, 7))
    ours, theirs = (model(input_ids=ids, decoder_input_ids=ids).logits for model in (small, whole))
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.05


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("beams", [1, 3])
def test_both_ways_of_decoding_write_the_same(rows, beams, monkeypatch):
    small = to_int8(made())
    assert DecodingState.serves(small.get_decoder(), small.lm_head)
    asked = {"num_beams": beams, "max_new_tokens": 20, "min_new_tokens": 20}
    ids = torch.randint(3, 40, (rows, 6))
    sooner = small.generate(ids, **asked)
    monkeypatch.setattr(DecodingState, "serves", staticmethod(lambda *given: False))
    assert torch.equal(sooner, small.generate(ids, **asked))


def test_encodings_of_places_are_not_rounded():
    model = to_int8(made(position_encoding="transformer_xl"))
    assert type(model.get_encoder().position.proj) is nn.Linear


def test_a_translator_of_8_bits(saved, sentences):
    texts = sentences[:2]
    small = Translator.from_pretrained(saved, device="cpu", int8=True)
    assert any(isinstance(part, Int8Linear) for part in small.model.modules())
    assert small(texts) == Translator.from_pretrained(saved, device="cpu")(texts)  # which it has learned by heart
    with pytest.raises(ValueError, match="int8=True is for a CPU and rounds weights of float32, got .*bfloat16"):
        Translator.from_pretrained(saved, device="cpu", dtype="bfloat16", int8=True)
