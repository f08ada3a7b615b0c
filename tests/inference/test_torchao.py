"""Weights of 8 bits by torchao, in place or on loading: near what float32 computes, decoded, saved and loaded."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, TorchAoConfig

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.decoding import DecodingState
from selfattn_hf.model.layers import MIXERS

quantization = pytest.importorskip("torchao.quantization", reason="torchao is an extra: pip install selfattn-hf[quant]")
WAYS = {
    "weights": quantization.Int8WeightOnlyConfig,
    "weights and inputs": quantization.Int8DynamicActivationInt8WeightConfig,
}


def made(mixer="self_attention", **switches):
    torch.manual_seed(0)
    config = SelfAttnConfig(
        vocab_size=40, hidden_size=32, encoder_layers=2, decoder_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        encoder_mixer=mixer, decoder_mixer=mixer,
        position_encoding="none" if mixer in ("rnn", "window") else "sinusoidal", **switches,
    )  # fmt: skip
    return SelfAttnForConditionalGeneration(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_quantised_model_is_near_what_it_was_and_decodes_as_it_says(mixer, way):
    model, ids = made(mixer), torch.randint(3, 40, (3, 7))
    expected = model(input_ids=ids, decoder_input_ids=ids).logits
    quantization.quantize_(model, WAYS[way]())
    found = model(input_ids=ids, decoder_input_ids=ids).logits
    assert 0 < (found - expected).norm() / expected.norm() < 0.03
    assert not DecodingState.serves(model.get_decoder(), model.lm_head), "it reads weights as if they were plain"
    for beams in (1, 3):
        texts = [model.generate(ids, max_new_tokens=8, num_beams=beams, use_cache=cache) for cache in (True, False)]
        assert torch.equal(*texts)
    loss = model(input_ids=ids, labels=ids, loss_only=True).loss
    torch.testing.assert_close(loss, model(input_ids=ids, labels=ids).loss)


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_a_folder_is_quantised_on_loading_saved_small_and_loaded_again(way, tmp_path):
    made().save_pretrained(tmp_path / "whole")
    asked = TorchAoConfig(WAYS[way]())
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole", quantization_config=asked)
    model.save_pretrained(tmp_path / "small")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small")
    ids = torch.randint(3, 40, (3, 7))
    logits = [each(input_ids=ids, decoder_input_ids=ids).logits for each in (model, again)]
    assert torch.equal(*logits)
    assert torch.equal(model.generate(ids, max_new_tokens=8), again.generate(ids, max_new_tokens=8))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.6 * sizes[0]
