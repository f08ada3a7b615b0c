"""Theory: which places a mixer connects, and what follows for a stack of them. Chapters 1 to 3 of the lecture.

A place is connected with another where its state in a layer is computed from the other's state in the layer below.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Wiring(NamedTuple):
    """How one layer of a stack connects T places.

    Attributes:
        sees: [T, T] True where place t (row) reads place s of what its keys are made of.
        steps: [T, T] steps one after the other that a message from s to t takes inside this layer, 0 on the diagonal.
        from_input: whether what it reads of other places is the stack's input, not the layer below.
    """

    sees: Tensor
    steps: Tensor
    from_input: bool


def is_causal(config: Any, side: str) -> bool:
    """Whether no place of the side sees a later one."""
    return side == "decoder" and bool(config.future_mask)


def wiring(config: Any, side: str, length: int) -> list[Wiring]:
    """How each layer of a side connects the places of a row of `length` tokens.

    Raises:
        ValueError: for a mixer of which no theory is written here.
    """
    places = torch.arange(length)
    back = places[:, None] - places  # how far s stands before t
    causal = is_causal(config, side)
    everyone = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
    near = back.abs() <= config.window_radius
    one_step = (back != 0).long()
    known = {
        "rnn": (everyone, back.abs()),
        "window": (everyone & near, one_step),
        "self_attention": (everyone, one_step),
        "local_attention": (everyone & near, one_step),
        "dense": (everyone, one_step),
    }
    layers = []
    for mixer in config.mixers_of(side):
        if mixer not in known:
            raise ValueError(
                f"which places {mixer!r} connects is not written down. Add a line for it to wiring() in "
                "selfattn_hf/insight/connections.py."
            )
        from_input = config.attend_to == "embeddings" and mixer in ("self_attention", "local_attention")
        layers.append(Wiring(*known[mixer], from_input))
    return layers


def reachable(config: Any, side: str, length: int) -> list[Tensor]:
    """Which inputs can influence which state: L + 1 matrices [T, T], the first of the input itself.

    Row t of matrix l is True at the inputs s on which state t after l layers depends.
    """
    reach = [torch.eye(length, dtype=torch.bool)]
    for layer in wiring(config, side, length):
        below = reach[-1]
        # A query, a gate and the residual come from the place's own state below.
        seen = layer.sees | below if layer.from_input else (layer.sees.float() @ below.float()) > 0
        reach.append(seen)
    return reach


def ways(config: Any, side: str, length: int) -> Tensor:
    """Fewest steps one after the other from input s to state t of the last layer: [T, T], -1 where there is no way.

    A word that stays at its place takes no step; an attention, window or dense layer moves a message in one step, a
    recurrent one in as many as there are words to read.
    """
    far = 2 * length * (len(config.mixers_of(side)) + 1)
    here = torch.full((length, length), far).fill_diagonal_(0)
    steps = here
    for layer in wiring(config, side, length):
        inside = layer.steps.masked_fill(~layer.sees, far)
        below = here if layer.from_input else steps
        over = torch.stack([(row[:, None] + below).amin(0) for row in inside])  # over every place between
        steps = torch.minimum(steps, over)
    return steps.masked_fill(steps >= far, -1)


def width_of(config: Any, side: str) -> list[int | None]:
    """Words that a state far from both ends has seen after 0, 1, .. L layers: 1 + 2 r l; None: all there are.

    In a decoder the left side alone counts, 1 + r l.
    """
    sides = 1 if is_causal(config, side) else 2
    widths: list[int | None] = [1]
    for mixer in config.mixers_of(side):
        below = widths[-1]
        if below is None or mixer not in ("window", "local_attention"):
            widths.append(None)
        elif config.attend_to == "embeddings" and mixer == "local_attention":
            widths.append(max(below, 1 + sides * config.window_radius))
        else:
            widths.append(below + sides * config.window_radius)
    return widths
