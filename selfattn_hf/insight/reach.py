"""Chapters 2 and 3: which words can influence which state, and how long the way between two words is.

A window of radius r sees 1 + 2 r l words after l layers, a pyramid; self-attention sees all of them in one.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from .connections import reachable, ways, width_of
from .pairs import Pair, arguments, ids_of, row
from .passes import exact_twin, stack_of, states_heard
from .results import Plain

ROWS = 256  # copies of the sentence that are computed at once


@dataclasses.dataclass(frozen=True)
class Reach(Plain):
    """Measured and theoretical influence of inputs on states; matrices [T, T] of which row t is a state.

    Attributes:
        side: "encoder" or "decoder".
        mixers: of every layer.
        tokens: T texts.
        gradients: for 0, 1, .. L layers, the mean absolute derivative of the numbers of state t by those of embedding
            s; layer 0 is what enters the first layer.
        theory: for the same layers, whether input s can influence state t.
        widths: for the same layers, how many words a state far from both ends can see, 1 + 2 r l (in a decoder
            1 + r l); None: all.
        agrees: whether the derivatives are exactly zero where theory says so, and nowhere else.
    """

    side: str
    mixers: list[str]
    tokens: list[str]
    gradients: list[list[list[float]]]
    theory: list[list[list[bool]]]
    widths: list[int | None]
    agrees: bool


@dataclasses.dataclass(frozen=True)
class PathLength(Plain):
    """How long the way from each word to each state is; matrices [T, T], row t a state, None where there is no way.

    Attributes:
        side: "encoder" or "decoder".
        mixers: of every layer.
        tokens: T texts.
        layers: theory: fewest layers after which input s can influence the state at place t.
        measured: the same, found in the derivatives: the first layer at which they are not zero.
        steps: theory: fewest steps one after the other, of which a recurrent layer takes one for each word that it
            reads on the way, any other layer one for all.
        longest: the largest of `steps`; None where no two words are connected.
    """

    side: str
    mixers: list[str]
    tokens: list[str]
    layers: list[list[int | None]]
    measured: list[list[int | None]]
    steps: list[list[int | None]]
    longest: int | None


def reach(model: Any, pair: Pair, side: str = "encoder", dimensions: int | None = None) -> Reach:
    """Which inputs influence which states, by derivatives of the real model, beside what theory allows.

    Computed on a copy in float64 and eval mode, so that nothing but a structural zero is zero. In the decoder the
    encoder's states are held fixed: what reaches a state by way of the source is not counted.

    Args:
        model: any model of ours.
        pair: the sentence.
        side: "encoder" or "decoder".
        dimensions: so many numbers of each state, spread evenly, are differentiated; None: all of them. The work
            grows with it, and with the square of the row.

    Raises:
        ValueError: for a side that the model does not have, or a number of dimensions that a state does not have.
    """
    stack = stack_of(model, side)
    gradients = state_gradients(model, pair, side, dimensions)
    theory = reachable(stack.config, side, len(ids_of(pair, side)))
    return Reach(
        side=side,
        mixers=list(stack.mixers),
        tokens=tokens_of(pair, side),
        gradients=gradients.tolist(),
        theory=[layer.tolist() for layer in theory],
        widths=width_of(stack.config, side),
        agrees=torch.equal(gradients != 0, torch.stack(theory)),
    )


def path_length(model: Any, pair: Pair, side: str = "encoder", dimensions: int | None = 4) -> PathLength:
    """The shortest way between any two words: by theory, and as the zeros of `reach` show it.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, table 1, maximum path length: O(T) for a recurrent
    network, O(T / r) for windows, O(1) for self-attention.

    Args:
        model: any model of ours.
        pair: the sentence.
        side: "encoder" or "decoder".
        dimensions: as for `reach`; a few are enough to tell zeros.

    Raises:
        ValueError: as for `reach`.
    """
    found = reach(model, pair, side, dimensions)
    steps = ways(stack_of(model, side).config, side, len(found.tokens))
    longest = int(steps.max())
    return PathLength(
        side=side,
        mixers=found.mixers,
        tokens=found.tokens,
        layers=_first(torch.tensor(found.theory)),
        measured=_first(torch.tensor(found.gradients) != 0),
        steps=[[None if way < 0 else way for way in line] for line in steps.tolist()],
        longest=longest if longest > 0 else None,
    )


def state_gradients(model: Any, pair: Pair, side: str, dimensions: int | None = None) -> Tensor:
    """Mean absolute derivatives of states by embeddings: [L + 1, T, T], entry [l, t, s]; see `Reach.gradients`."""
    stack = stack_of(model, side)
    twin = exact_twin(stack)
    ids = row(model, ids_of(pair, side))
    given = {name: _exact(value) for name, value in arguments(model, pair, side).items()}
    width, length = stack.config.hidden_size, ids.shape[1]
    wanted = width if dimensions is None else dimensions
    if not 1 <= wanted <= width:
        raise ValueError(f"a state has {width} dimensions, got dimensions={dimensions}. Ask for 1 to {width} or None.")
    if length == 0:
        raise ValueError(f"the pair has nothing that the {side} reads. Make it by pair_of() for this model.")
    numbers = torch.linspace(0, width - 1, wanted, device=ids.device).long()
    places = torch.arange(length, device=ids.device)
    # A row of the batch for each number of each state: its sum over the batch has all their gradients at once.
    asked = torch.cartesian_prod(places, numbers)
    total = torch.zeros(len(twin.mixers) + 1, length, length, dtype=torch.float64, device=ids.device)
    for some in asked.split(ROWS):
        rows = torch.arange(len(some), device=ids.device)
        embeds = twin.embed_tokens(ids).expand(len(some), -1, -1).clone().requires_grad_()
        trees = {name: value.expand(len(some), -1) for name, value in given.items() if name.startswith("syntax")}
        with states_heard(twin) as states:
            twin(inputs_embeds=embeds, **given | trees)
        for depth, state in enumerate(states):
            chosen = state[rows, some[:, 0], some[:, 1]].sum()
            (gradient,) = torch.autograd.grad(chosen, embeds, retain_graph=True)
            total[depth].index_add_(0, some[:, 0], gradient.abs().mean(-1))
    return (total / wanted).cpu()


def tokens_of(pair: Pair, side: str) -> list[str]:
    """The text of what the side reads."""
    return pair.source_tokens if side == "encoder" else pair.target_tokens


def _exact(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _first(reached: Tensor) -> list[list[int | None]]:
    """[L + 1, T, T] -> the first layer at which it is True, None where it never is."""
    never = ~reached.any(0)
    return [
        [None if missing else layer for layer, missing in zip(*lines, strict=True)]
        for lines in zip(reached.int().argmax(0).tolist(), never.tolist(), strict=True)
    ]
