"""Chapter 7 of 8, in the engine room: dropout at half its price. Before: masking.py. Next: layers.py."""

import torch
from torch import Tensor, nn

from .masking import is_traced

LEVELS = 2**16  # of a random number; four of them are drawn at once


class Dropout(nn.Dropout):
    """`nn.Dropout` (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html), cheaper on a CPU.

    There a random number of 64 bits serves four elements. The rate is rounded to a multiple of 2^-16, and what is kept
    is scaled by the rate as it is then, so that the expectation stays exact.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..] -> [..]."""
        zeros = round(self.p * LEVELS)
        if not self.training or zeros in (0, LEVELS) or x.device.type != "cpu" or is_traced():
            return super().forward(x)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        numbers = draws.view(torch.int16)[: x.numel()].view(x.shape)  # from -LEVELS / 2 up to LEVELS / 2
        factors = torch.where(
            numbers >= zeros - LEVELS // 2,
            torch.tensor(LEVELS / (LEVELS - zeros), dtype=x.dtype),
            torch.zeros((), dtype=x.dtype),
        )
        return x * factors
