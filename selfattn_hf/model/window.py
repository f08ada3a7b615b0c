"""Chapter 2 of 8: look at the neighbours. Before: recurrence.py. Next: attention.py.

Every word is computed from a window of words around it, all at once: no recurrence, but short-sighted. After L layers
of radius r a word has seen 1 + 2 r L words.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from .contracts import Places, PositionalEncoding, StateCacheLayer, TokenMixer


class WindowMixer(TokenMixer):
    """y(i) = tanh(W [x(i-r); ..; x(i+r)] + b); a causal one looks at [x(i-r); ..; x(i)].

    The window model of Bengio et al. (2003), https://www.jmlr.org/papers/v3/bengio03a.html. Beyond the ends of a
    sentence, and where padding stands, there are vectors of zeros.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.radius = config.window_radius
        self.seen = self.radius + 1 if causal else 2 * self.radius + 1
        self.proj = nn.Linear(self.seen * config.hidden_size, config.hidden_size)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None,
        position: PositionalEncoding,
        places: Places,
        cache: Cache | None = None,
        layer_idx: int = 0,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """[B, Q, D] or packed [1, N, D], and which of [B, Q] are real -> the same shape."""
        x = places.lay_out(self.ordered(x, position, places))
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)
        if cache is not None:
            x = self._behind(x, StateCacheLayer.of(cache, layer_idx))
        else:
            x = nn.functional.pad(x, (0, 0, self.radius, 0 if self.causal else self.radius))
        windows = x.unfold(1, self.seen, 1)  # [B, Q, D, seen]
        states = torch.tanh(self.proj(windows.transpose(2, 3).flatten(2)))
        return places.take_back(states)

    def _behind(self, x: Tensor, layer: StateCacheLayer) -> Tensor:
        """The new inputs [B, Q, D] behind the last r inputs that the layer remembers."""
        tokens, state = x.shape[1], layer.state
        before = x.new_zeros(x.shape[0], self.radius, x.shape[2]) if state is None else state[0]
        x = torch.cat([before, x], dim=1)
        history = None
        if layer.record_past:
            history = [(x[:, t : t + self.radius],) * 2 for t in range(1, tokens + 1)]
        last = x[:, tokens:]
        layer.update(last, last, tokens=tokens, history=history)
        return x
