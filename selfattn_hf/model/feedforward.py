"""Chapter 5 of 8: nonlinearity. Before: positions.py. Next: masking.py.

Attention averages values; averages of averages are averages. A layer that works on each word alone, between two
mixers, makes something new of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "swiglu": nn.functional.silu,
    "geglu": partial(nn.functional.gelu, approximate="tanh"),  # as T5 1.1 was trained
}


class FeedForward(nn.Module):
    """W2 act(W1 x + b1) + b2, in every token alone (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.feedforward]
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[.., D] -> [.., D]."""
        return self.down_proj(self.activation(self.up_proj(x)))


class GatedFeedForward(nn.Module):
    """W2 (act(Wg x) * W1 x), with SiLU or GELU (Shazeer 2020, https://arxiv.org/abs/2002.05202); it has no biases."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.feedforward]
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[.., D] -> [.., D]."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


# `none` has no entry: a feed-forward that is switched off is absent.
FEEDFORWARDS: dict[str, type[nn.Module]] = {
    "relu": FeedForward,
    "gelu": FeedForward,
    "silu": FeedForward,
    "swiglu": GatedFeedForward,
    "geglu": GatedFeedForward,
}
