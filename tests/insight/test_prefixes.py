"""Recomputing every prefix is the mask, written out: the same outputs and gradients, without looking ahead."""

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForCausalLM, SelfAttnForConditionalGeneration
from selfattn_hf.insight import prefix_by_prefix

TINY = {"vocab_size": 40, "hidden_size": 16, "encoder_layers": 2, "decoder_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 24, "dropout": 0.0, "max_position_embeddings": 16}  # fmt: skip


def model_of(head=SelfAttnForConditionalGeneration, **switches):
    torch.manual_seed(0)
    return head(SelfAttnConfig(**TINY | switches)).double().eval()


def logits_and_gradients(model, **inputs):
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits
    logits.square().sum().backward()
    return logits.detach(), [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"position_encoding": "shaw"},
        {"position_encoding": "rope", "attend_to": "embeddings"},
        {"position_encoding": "transformer_xl", "share_layers": True},
        {"decoder_mixer": ["dense", "self_attention", "dense"]},
    ],
    ids=lambda switches: "-".join(map(str, switches.values())) or "default",
)
def test_prefix_by_prefix_equals_the_mask_forward_and_backward(switches, implementation):
    model = model_of(**switches)
    model.set_attn_implementation(implementation)
    ids = torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    masked, gradients = logits_and_gradients(model, input_ids=ids, decoder_input_ids=ids)
    with prefix_by_prefix(model):
        slow, others = logits_and_gradients(model, input_ids=ids, decoder_input_ids=ids)
    torch.testing.assert_close(slow, masked, atol=1e-12, rtol=0)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, atol=1e-10, rtol=1e-10)
    again, _ = logits_and_gradients(model, input_ids=ids, decoder_input_ids=ids)
    assert torch.equal(again, masked)


def test_a_whole_sentence_without_a_mask_is_something_else():
    """Positive control: one pass without mask looks ahead, and differs."""
    model, open_future = model_of(), model_of(future_mask=False)
    ids = torch.randint(3, 40, (1, 7), generator=torch.Generator().manual_seed(1))
    open_future.load_state_dict(model.state_dict())
    masked = model(input_ids=ids, decoder_input_ids=ids).logits
    assert (open_future(input_ids=ids, decoder_input_ids=ids).logits - masked)[:, :-1].abs().max() > 1e-3


def test_a_decoder_alone_has_a_slow_way_too():
    model = model_of(SelfAttnForCausalLM, position_encoding="alibi")
    ids = torch.randint(3, 40, (2, 5), generator=torch.Generator().manual_seed(1))
    masked = model(input_ids=ids).logits
    with prefix_by_prefix(model):
        torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, masked, atol=1e-12, rtol=0)


def test_what_has_no_slow_way_is_refused():
    with (
        pytest.raises(ValueError, match="'window', which cannot see it"),
        prefix_by_prefix(model_of(decoder_mixer=["self_attention", "window", "rnn"])),
    ):
        pass
    model, ids = model_of(), torch.full((2, 5), 7)
    mask = torch.tensor([[1] * 5, [1] * 3 + [0] * 2])
    with prefix_by_prefix(model), pytest.raises(ValueError, match="a cache or padding"):
        model(input_ids=ids, decoder_input_ids=ids, decoder_attention_mask=mask, use_cache=False)
    with prefix_by_prefix(model), pytest.raises(ValueError, match="a cache or padding"):
        model(input_ids=ids, decoder_input_ids=ids, use_cache=True)
