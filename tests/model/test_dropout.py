"""Dropout of four elements at once: the rate, the scale and the gradient of torch's own."""

import pytest
import torch

from selfattn_hf.model.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_every_element_is_dropped_at_its_rate_and_the_others_are_scaled(rate, dtype):
    x = torch.ones(999, 501, dtype=dtype, requires_grad=True)
    y = Dropout(rate)(x)
    y.sum().backward()
    dropped = y == 0
    bound = 5 * (rate * (1 - rate) / x.numel()) ** 0.5  # five standard deviations of the share
    assert abs(dropped.double().mean() - rate) < bound
    # each of the four elements that share a draw, and no element like its neighbour
    by_turn = dropped.flatten()[: x.numel() // 4 * 4].view(-1, 4).double()
    assert (by_turn.mean(0) - rate).abs().max() < 2 * bound
    assert torch.corrcoef(by_turn.T).fill_diagonal_(0).abs().max() < 5 / len(by_turn) ** 0.5
    torch.testing.assert_close(y[~dropped], torch.full_like(y[~dropped], 1 / (1 - rate)), rtol=1e-2, atol=0)
    assert torch.equal(x.grad, y.detach())  # of a one, what it was multiplied by
    assert y.dtype == x.grad.dtype == dtype


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_any_number_of_elements(size):
    assert Dropout(0.5)(torch.ones(size, 1, 3)).shape == (size, 1, 3)


def test_what_is_off_drops_nothing_and_draws_nothing():
    x, state = torch.randn(5, 7), torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not Dropout(1.0)(x).any()


def test_a_seed_decides():
    x, drop = torch.ones(50), Dropout(0.5)
    torch.manual_seed(3)
    first, other = drop(x), drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first) and not torch.equal(first, other)
