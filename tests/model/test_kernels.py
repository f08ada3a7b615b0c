"""Which kernel computes a lookup is decided in one place, and does not show in what comes out."""

import pytest
import torch

from selfattn_hf import SelfAttnConfig
from selfattn_hf.model import attend
from selfattn_hf.model.attend import Attend, is_faster_written_out

MASKS = {
    "none": None,
    "bool": torch.tensor([[True, True, True, False, True], [True, False, True, True, True]])[:, None, None],
    "float": torch.zeros(2, 1, 1, 5).masked_fill(torch.tensor([False, False, True, True, False]), -3e38),
}


def inputs(dtype, queries=5):
    draw = torch.Generator().manual_seed(0)
    shapes = [(2, 2, n, 4) for n in (queries, 5, 5)]
    return [torch.randn(shape, generator=draw).to(dtype).requires_grad_() for shape in shapes]


def lookup(dtype, causal, mask, bias):
    module = Attend(SelfAttnConfig(hidden_size=8, num_attention_heads=2, dropout=0.0), causal, scaling=0.5)
    module.config._attn_implementation = "sdpa"
    given = inputs(dtype)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(dtype)
    added = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1)) if bias else None
    context, weights = module(*given, mask, added)
    assert weights is None
    context.double().square().sum().backward()
    return [context, *(x.grad for x in given)]


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize(("causal", "mask"), [(False, name) for name in MASKS] + [(True, "none")])
def test_half_precision_written_out_is_near_what_double_precision_fused_gives(causal, mask, bias, monkeypatch):
    taken = []
    eager = attend.eager_attention
    monkeypatch.setattr(attend, "eager_attention", lambda *a, **k: taken.append(a[1].dtype) or eager(*a, **k))
    for half, exact in zip(
        *(lookup(dtype, causal, MASKS[mask], bias) for dtype in (torch.bfloat16, torch.float64)), strict=True
    ):
        torch.testing.assert_close(half.double(), exact, atol=6e-2, rtol=3e-2)
    assert taken == [torch.bfloat16]


def test_where_it_is_written_out():
    query, key, _ = inputs(torch.bfloat16)
    assert is_faster_written_out(query, key)
    assert not is_faster_written_out(query.float(), key.float())
    assert not is_faster_written_out(query.detach(), key)  # nothing is trained
    long = key.expand(-1, -1, -1, -1).repeat(1, 1, attend.WRITTEN_OUT // 25 + 1, 1)
    assert not is_faster_written_out(query, long)
