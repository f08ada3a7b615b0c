"""Chapter 8 of 8, in the engine room: one product, many times. Before: stacks.py. Next: decoding.py.

While a text is written, the same weights meet a handful of rows again and again. How long that takes depends on the
order in which the weights lie in memory, so they are laid out anew, once, for as many rows as there will be.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# Uses of a weight after which it has paid to lay it out anew.
MANY_USES = 16
PACKED_FORMATS = (torch.float32, torch.bfloat16)


class Product:
    """x W^T + b for linear layers that read the same x, their outputs side by side.

    Weights are copied: a product serves while they do not change.

    Args:
        layers: with a bias all of them or none.
        rows: of x.
        uses: how often it will be computed; where it does not pay, nothing is laid out anew.
    """

    def __init__(self, layers: Sequence[nn.Linear], rows: int, uses: int) -> None:
        one, weight, bias = len(layers) == 1, layers[0].weight, layers[0].bias
        weight = weight if one else torch.cat(tuple(layer.weight for layer in layers))
        self.bias = bias if one or bias is None else torch.cat(tuple(layer.bias for layer in layers))
        self.weight: Tensor = weight
        self.compute: Callable[[Tensor, Tensor, Tensor | None], Tensor] = nn.functional.linear
        if weight.device.type != "cpu" or weight.dtype not in PACKED_FORMATS or uses < MANY_USES:
            return
        if rows == 1:
            # A single row waits for memory: a wide weight is read on end when it lies inputs first.
            if weight.shape[0] > weight.shape[1]:
                self.weight, self.compute = weight.T.contiguous(), _inputs_first
        elif can_pack():
            self.weight, self.compute = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows), _packed

    def __call__(self, x: Tensor) -> Tensor:
        """[R, in] -> [R, out]."""
        return self.compute(x, self.weight, self.bias)


def with_products(module: nn.Module, rows: int, uses: int) -> nn.Module:
    """A module that computes as the one given, its own linear layers by products; the one given stays as it is."""
    twin = copy.copy(module)
    for name, part in module.named_children():
        if isinstance(part, nn.Linear):
            vars(twin)[name] = Product([part], rows, uses)
    return twin


def can_pack() -> bool:
    """Whether this torch has oneDNN's products of weights that were packed before."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _inputs_first(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
