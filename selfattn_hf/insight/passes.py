"""One pass through a model as the probes see it: which stacks there are, what passes through their parts."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

SIDES = ("encoder", "decoder")


def sides_of_model(model: nn.Module) -> list[str]:
    """The sides that a model has, of "encoder" and "decoder"."""
    found = {getattr(part, "side", None) for part in model.modules()}
    return [side for side in SIDES if side in found]


def stack_of(model: nn.Module, side: str) -> Any:
    """The encoder or decoder of any model of ours.

    Raises:
        ValueError: for a side that there is not, or that this model does not have.
    """
    if side not in SIDES:
        raise ValueError(f"a side is one of {' and '.join(SIDES)}, got {side!r}.")
    for part in model.modules():
        if getattr(part, "side", None) == side:
            return part
    has = " and ".join(sides_of_model(model)) or "none"
    raise ValueError(f"{type(model).__name__} has no {side}, its stacks are: {has}. Ask for another side.")


@contextlib.contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """In here the model is in eval mode and keeps no gradients; afterwards it is as it was."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


@contextlib.contextmanager
def eagerly(model: Any) -> Iterator[None]:
    """In here attention is written out, so that it has weights to show; afterwards it is as it was."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def exact_twin(stack: Any, dtype: torch.dtype = torch.float64) -> Any:
    """A copy of a stack in eval mode and float64: rounding hides nothing, and the model itself stays as it is."""
    twin = copy.deepcopy(stack).to(dtype).eval()
    return twin.requires_grad_(False)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module: what it was given, and what it gave."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextlib.contextmanager
def heard(*modules: nn.Module) -> Iterator[list[list[Call]]]:
    """In here every call of the modules is noted; a layer that is shared is called again and again.

    Yields:
        For each module its calls, in order.
    """
    calls: list[list[Call]] = [[] for _ in modules]

    def note(number: int) -> Any:
        return lambda module, args, kwargs, output: calls[number].append(Call(args, kwargs, output))

    handles = [module.register_forward_hook(note(number), with_kwargs=True) for number, module in enumerate(modules)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def layers_of(stack: Any) -> list[tuple[str, Any, int]]:
    """Mixer, layer, and which call of that layer it is, for every step of a stack."""
    shared = stack.config.share_layers
    return [(mixer, layer, depth if shared else 0) for depth, (mixer, layer) in enumerate(stack.steps())]


@contextlib.contextmanager
def states_heard(stack: Any) -> Iterator[list[Tensor]]:
    """In here the states of one pass through the stack are noted: what enters the first layer, what leaves each.

    Yields:
        A list that holds L + 1 tensors [B, T, D] after the pass.
    """
    states: list[Tensor] = []
    layers = list(dict.fromkeys(layer for _, layer, _ in layers_of(stack)))

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not states:  # a shared layer is first again and again
            states.append(args[0])

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        states.append(output)

    handles = [layers[0].register_forward_pre_hook(before), *(layer.register_forward_hook(after) for layer in layers)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
