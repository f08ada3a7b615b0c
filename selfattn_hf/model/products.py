"""Chapter 8 of 8, in the engine room: one product, many times. Before: stacks.py. Next: decoding.py.

While a text is written, the same weights meet a handful of rows again and again. How long that takes depends on the
order in which the weights lie in memory, and on how many bits they have.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# Uses of a weight after which it has paid to lay it out anew.
MANY_USES = 16
PACKED_FORMATS = (torch.float32, torch.bfloat16)
LARGEST_INT8 = 127


class Int8Linear(nn.Module):
    """A linear layer for inference: weights are rounded to 8 bits, with a scale for each output.

    So is what it reads, with a scale for each row, so that whole numbers are multiplied. No gradient passes.
    """

    # A way of multiplying that something beside the suitcase offers: from the layer and rows [R, in] on a CPU to
    # [R, out], or to None.
    offered: ClassVar[Callable[["Int8Linear", Tensor], Tensor | None] | None] = None

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_int8(layer.weight.detach())
        self.register_buffer("weight", weight)  # [out, in]
        self.register_buffer("scale", scale[:, 0])
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] -> [.., out]."""
        given = x.reshape(-1, x.shape[-1])
        offered = type(self).offered
        rows = None if offered is None else offered(self, given)
        if rows is None:
            rows = _whole_numbers(given, (self.weight, self.scale), self.bias)
        return rows.view(*x.shape[:-1], rows.shape[-1])


class Product:
    """x W^T + b for linear layers that read the same x, their outputs side by side.

    Weights are copied: a product serves while they do not change.

    Args:
        layers: all of one kind, with a bias all of them or none.
        rows: of x.
        uses: how often it will be computed; where it does not pay, nothing is laid out anew.
    """

    def __init__(self, layers: Sequence[Any], rows: int, uses: int) -> None:
        weight, bias = _side_by_side(layers, "weight"), layers[0].bias
        self.bias: Tensor | None = None if bias is None else _side_by_side(layers, "bias")
        self.weight: Any = weight
        self.compute: Callable[[Tensor, Any, Tensor | None], Tensor] = nn.functional.linear
        if isinstance(layers[0], Int8Linear):
            self.weight, self.compute = (weight, _side_by_side(layers, "scale")), _whole_numbers
        elif weight.device.type != "cpu" or weight.dtype not in PACKED_FORMATS or uses < MANY_USES:
            return
        elif rows == 1:
            # A single row waits for memory: a wide weight is read on end when it lies inputs first.
            if weight.shape[0] > weight.shape[1]:
                self.weight, self.compute = weight.T.contiguous(), _inputs_first
        elif can_pack(weight.dtype):
            self.weight, self.compute = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows), _packed

    def __call__(self, x: Tensor) -> Tensor:
        """[R, in] -> [R, out]."""
        return self.compute(x, self.weight, self.bias)


def with_products(module: nn.Module, rows: int, uses: int) -> nn.Module:
    """A module that computes as the one given, its own linear layers by products; the one given stays as it is."""
    twin = copy.copy(module)
    for name, part in module.named_children():
        if isinstance(part, nn.Linear | Int8Linear):
            vars(twin)[name] = Product([part], rows, uses)
    return twin


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch, on this processor, has oneDNN's products of weights that were packed before."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of numbers as whole numbers of 8 bits, and the scale of each: [N, D] -> [N, D], [N, 1]."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) / LARGEST_INT8
    return torch.round(x / scale).to(torch.int8), scale


def _side_by_side(layers: Sequence[Any], name: str) -> Tensor:
    parts = tuple(getattr(layer, name) for layer in layers)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _inputs_first(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _whole_numbers(x: Tensor, weight: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
    numbers, scale = weight
    rows, scale_of_rows = to_int8(x)
    product = torch._int_mm(rows, numbers.T).to(x.dtype).mul_(scale_of_rows)
    return product.mul_(scale) if bias is None else torch.addcmul(bias, product, scale)
