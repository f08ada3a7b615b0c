"""Chapter 4: what a model's own positions do, trained or not: vectors, similarity, bias, and what lies beyond.

An encoding is asked by the doors that it opens (`positions.py`). Rows are drawn twice as long as those of training, so
that what no training has seen is there to be looked at.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..model import Places, Tree
from .passes import stack_of
from .positions import Encoding
from .results import Plain

SAME = 1e-4  # what differs less is a rounding error


@dataclasses.dataclass(frozen=True)
class PositionValues(Plain):
    """What the encoding of one side does at P places.

    Attributes:
        side: "encoder" or "decoder".
        names: of the encodings that act together; empty for none.
        doors: the open ones, of "embed", "rotate" and "bias".
        trained: number of places in the longest row of training, as it was given.
        places: P, twice as many, or as many as are known.
        bounded: number of places that the side knows, where it has a table of them (`learned`, `dense`); else None.
        beyond: "raises" where it is bounded, "goes on" where every later place has a value.
        vectors: [P, D] what joins the embeddings; None where nothing does.
        dot: [P, P] p(i) . p(j); None without vectors.
        cosine: [P, P] the same of vectors of length 1; None without vectors.
        distances: the 2 P - 1 distances j - i, from -(P - 1) on, that go with the next fields.
        turned: for each distance, q . k of equal words of length 1, the mean over all words; None where nothing turns.
        bias: [H, 2 P - 1] what is added to the affinity of equal words, the mean over the pairs of each distance;
            None where nothing is. What is added between the words of a sentence is in `lookup`.
        bias_spread: how far the bias of a pair is at most from the mean of its distance: 0 where the distance decides.
        constant_from: distance on both sides from which on the bias stays the same; None where it does not.
        theory: name of an encoding -> its formula at each distance: of `sinusoidal` p(i) . p(j), of `rope` `turned`.
    """

    side: str
    names: list[str]
    doors: list[str]
    trained: int
    places: int
    bounded: int | None
    beyond: str
    vectors: list[list[float]] | None
    dot: list[list[float]] | None
    cosine: list[list[float]] | None
    distances: list[int]
    turned: list[float] | None
    bias: list[list[float]] | None
    bias_spread: float | None
    constant_from: int | None
    theory: dict[str, list[float]]


@torch.no_grad()
def position_values(
    model: Any, side: str = "encoder", trained: int = 32, heads: Sequence[int] | None = None
) -> PositionValues:
    """Everything that the positions of one side do, asked of a copy of the module that the model has.

    Args:
        model: any model of ours.
        side: "encoder" or "decoder".
        trained: number of places in the longest row of training.
        heads: of a tree over the places, one for each, where the encoding reads trees; None: each depends on the one
            before. With heads there are as many places as heads.

    Raises:
        ValueError: for a side that the model does not have, no place, or a tree that nobody reads.
    """
    stack = stack_of(model, side)
    config = stack.config
    reads_trees = side == "encoder" and config.reads_trees
    if trained < 1:
        raise ValueError(f"training has rows of at least one place, got trained={trained}.")
    if heads is not None and not reads_trees:
        names = ", ".join(config.positions_of(side)) or "none"
        raise ValueError(f"heads would do nothing: the {side}'s position_encoding is {names}. Leave them out.")
    encoding = Encoding(copy.deepcopy(stack.position).cpu().float().eval(), config)
    bounded = config.known_places(side)
    count = len(heads) if heads is not None else 2 * trained if bounded is None else min(2 * trained, bounded)
    tree = None if heads is None else Tree(torch.tensor([list(heads)]))
    places, doors = encoding.places(count, tree=tree), encoding.doors()
    distances = torch.arange(-(count - 1), count)
    vectors = encoding.vectors(places) if "embed" in doors else None
    unit = None if vectors is None else torch.nn.functional.normalize(vectors, dim=-1)
    bias = encoding.bias(words := encoding.equal_words(count), words, places) if "bias" in doors else None
    by_distance, spread = (None, None) if bias is None else _mean_by_distance(bias)
    return PositionValues(
        side=side,
        names=config.positions_of(side),
        doors=doors,
        trained=trained,
        places=count,
        bounded=bounded,
        beyond="goes on" if bounded is None else "raises",
        vectors=_plain(vectors),
        dot=None if vectors is None else (vectors @ vectors.T).tolist(),
        cosine=None if unit is None else (unit @ unit.T).tolist(),
        distances=distances.tolist(),
        turned=_turned(encoding, places).tolist() if "rotate" in doors else None,
        bias=_plain(by_distance),
        bias_spread=spread,
        constant_from=None if by_distance is None else _constant_from(by_distance),
        theory=_theory(config, side, distances),
    )


def _turned(encoding: Encoding, places: Places) -> Tensor:
    """For each distance the mean of q . k over all equal words of length 1: the trace of the turn over d."""
    width, count = encoding.config.head_width, places.shape[1]
    axes = torch.eye(width)[:, None].expand(-1, count, -1)  # every direction as a head of its own
    turned = encoding.turned(axes, places)
    forwards = torch.einsum("hd,hpd->p", turned[:, 0], turned) / width
    return torch.cat([forwards[1:].flip(0), forwards])


def _mean_by_distance(bias: Tensor) -> tuple[Tensor, float]:
    """[H, P, P] -> means [H, 2 P - 1] of its diagonals, and the largest distance of a pair from its mean."""
    count = bias.shape[1]
    diagonals = [bias.diagonal(offset, 1, 2) for offset in range(-(count - 1), count)]
    means = torch.stack([values.mean(-1) for values in diagonals], dim=-1)
    apart = [
        float((values - mean[:, None]).abs().max()) for values, mean in zip(diagonals, means.unbind(-1), strict=True)
    ]
    return means, max(apart)


def _constant_from(bias: Tensor) -> int | None:
    """The smallest distance from which on [H, 2 P - 1] stays the same on each side, with two distances to show it."""
    last = bias.shape[1] // 2
    backwards, forwards = bias[:, : last + 1].flip(1), bias[:, last:]
    apart = torch.stack([(side - side[:, -1:]).abs().amax(0) for side in (backwards, forwards)]).amax(0)  # [P]
    moving = (apart > SAME).nonzero().flatten()
    first = int(moving[-1]) + 1 if len(moving) else 0
    return first if first < last else None


def _theory(config: Any, side: str, distances: Tensor) -> dict[str, list[float]]:
    """Formulas over the distance."""
    found = {}
    for name in config.positions_of(side):
        if name == "sinusoidal" and config.position_combine == "add":  # sin a sin b + cos a cos b = cos(a - b)
            found[name] = _waves(distances, config.hidden_size, 10000).sum(-1).tolist()
        elif name == "rope":
            found[name] = _waves(distances, config.head_width, config.rope_theta).mean(-1).tolist()
    return found


def _waves(distances: Tensor, width: int, base: float) -> Tensor:
    """Cosines of [..] at `width` / 2 wavelengths: [.., width / 2]."""
    rates = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.cos(distances[..., None] * rates)


def _plain(values: Tensor | None) -> Any:
    return None if values is None else values.tolist()
