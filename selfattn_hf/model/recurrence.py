"""Chapter 1 of 8: read word by word. Before: masking.py (what is padding). Next: window.py.

A recurrent network carries one state from word to word. T words cost T steps that cannot run side by side, and what was
read long ago must survive every step in between.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from .contracts import Places, PositionalEncoding, StateCacheLayer, TokenMixer

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}

State = tuple[Tensor, Tensor]


class RecurrentMixer(TokenMixer):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078).

    Reads in both directions, each with half of the width, unless it is causal. Padding is skipped, wherever it stands.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        cell = CELLS[config.rnn_type]
        self.is_lstm = config.rnn_type == "lstm"  # the cell may be wrapped by others later
        width = config.hidden_size if causal else config.hidden_size // 2
        self.forwards = cell(config.hidden_size, width, batch_first=True)
        self.backwards = None if causal else cell(config.hidden_size, width, batch_first=True)

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
        states = self._read(x, mask) if cache is None else self._step(x, mask, StateCacheLayer.of(cache, layer_idx))
        return places.take_back(states)

    def _read(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """All words at once, from a state of zeros."""
        if mask is None:
            states = [_read_by(self.forwards, x)[0]]
            if self.backwards is not None:
                states.append(_read_by(self.backwards, x.flip(1))[0].flip(1))
            return torch.cat(states, dim=-1)
        # Real words first, then padding, where no later word can see what it did to the state.
        order = torch.argsort(~mask, dim=1, stable=True)  # [B, Q]
        states = [_through(self.forwards, x, order)]
        if self.backwards is not None:
            step, length = torch.arange(mask.shape[1], device=x.device), mask.sum(1, keepdim=True)
            mirrored = torch.where(step < length, length - 1 - step, step)  # [B, Q]
            states.append(_through(self.backwards, x, order.gather(1, mirrored)))
        return torch.cat(states, dim=-1)

    def _step(self, x: Tensor, mask: Tensor | None, layer: StateCacheLayer) -> Tensor:
        """New words behind those that the state has read; a padded word leaves the state as it was."""
        state = layer.state
        if mask is None and not layer.record_past:
            states, state = self._run(x, state)
            layer.update(*state, tokens=x.shape[1])
            return states
        outputs, history = [], []
        for t in range(x.shape[1]):
            output, after = self._run(x[:, t : t + 1], state)
            if mask is not None:
                before = state or (torch.zeros_like(after[0]), torch.zeros_like(after[1]))
                real = mask[:, t, None, None]
                after = (torch.where(real, after[0], before[0]), torch.where(real, after[1], before[1]))
            outputs.append(output)
            history.append(after)
            state = after
        layer.update(*history[-1], tokens=x.shape[1], history=history)
        return torch.cat(outputs, dim=1)

    def _run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The cell itself; states are kept rows first, [B, 1, D], so that a cache can reorder them."""
        if state is None:
            start = None
        else:
            hidden, cell = (part.transpose(0, 1).contiguous() for part in state)
            start = (hidden, cell) if self.is_lstm else hidden
        states, end = _read_by(self.forwards, x, start)
        hidden, cell = end if self.is_lstm else (end, end)
        return states, (hidden.transpose(0, 1), cell.transpose(0, 1))


def _read_by(cell: nn.Module, x: Tensor, start: Any = None) -> Any:
    """The cell itself; in the precision of its weights where autocast asks a processor for one it has no LSTM for."""
    asked = torch.get_autocast_dtype("cpu")
    has_it = asked == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or has_it:
        return cell(x, start)
    with torch.autocast("cpu", enabled=False):
        return cell(x.to(next(cell.parameters()).dtype), start)


def _through(cell: nn.Module, x: Tensor, order: Tensor) -> Tensor:
    """Read the words of each row in the given order [B, Q] and put the states back where the words stood."""
    states = _read_by(cell, x.gather(1, order[..., None].expand_as(x)))[0]
    back = order.argsort(1)[..., None].expand(-1, -1, states.shape[-1])
    return states.gather(1, back)
