"""Chapter 5: averages of averages. What becomes of the differences between words, layer by layer?

Attention alone mixes states, and a mix of mixes is ever more the same for all words: Dong et al. (2021),
https://arxiv.org/abs/2103.03404, show that without residuals and feed-forward layers the states fall to rank 1 at a
doubly exponential rate. The same weights are run with parts of the layers switched off.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from .pairs import Pair, arguments, ids_of, row
from .passes import exact_twin, stack_of, states_heard
from .results import Plain


@dataclasses.dataclass(frozen=True)
class Ranks(Plain):
    """How different the states of T words are, after 0, 1, .. L layers: L + 1 numbers each.

    X is the matrix [T, D] of the states, with singular values s.

    Attributes:
        stable_rank: sum of s^2 / largest s^2: from 1, where all states are multiples of one, to min(T, D).
        effective_rank: exp of the entropy of s / sum of s: Roy & Vetterli (2007).
        distance_to_mean: norm of X - 1 m / norm of X, with m the mean state: 0 where all words have one state. m is
            the nearest matrix of equal rows in the Frobenius norm; Dong et al. measure in another norm.
        cosine: mean cosine of the states of two different words; None for one word alone.
    """

    stable_rank: list[float]
    effective_rank: list[float]
    distance_to_mean: list[float]
    cosine: list[float | None]


@dataclasses.dataclass(frozen=True)
class Depth(Plain):
    """Ranks of a stack as it is, and with parts switched off.

    Attributes:
        side: "encoder" or "decoder".
        mixers: of every layer.
        tokens: T texts.
        variants: "as it is"; "without feed-forward", "without residual", "without both", where the model has them; the
            weights are the same.
    """

    side: str
    mixers: list[str]
    tokens: list[str]
    variants: dict[str, Ranks]


def rank_over_depth(model: Any, pair: Pair, side: str = "encoder", residual: bool = True) -> Depth:
    """How different the states of the words are after each layer; computed on a copy in float64.

    Args:
        model: any model of ours.
        pair: the sentence.
        side: "encoder" or "decoder".
        residual: also run it without residuals.

    Raises:
        ValueError: for a side that the model does not have.
    """
    stack = stack_of(model, side)
    tokens = pair.source_tokens if side == "encoder" else pair.target_tokens
    if not tokens:
        raise ValueError(f"the pair has nothing that the {side} reads. Make it by pair_of() for this model.")
    ids = row(model, ids_of(pair, side))
    given = arguments(model, pair, side)
    has_residual = residual and stack.config.residual
    thinks = stack.config.feedforward != "none"
    switched = {
        "as it is": (False, False),
        "without feed-forward": (True, False),
        "without residual": (False, True),
        "without both": (True, True),
    }
    variants = {}
    for name, (no_think, no_residual) in switched.items():
        if (thinks or not no_think) and (has_residual or not no_residual):
            variants[name] = ranks_of(_states(stack, ids, given, no_think, no_residual))
    return Depth(side, list(stack.mixers), tokens, variants)


def ranks_of(states: Tensor) -> Ranks:
    """Of states [L + 1, T, D]."""
    values = torch.linalg.svdvals(states)  # [L + 1, min(T, D)]
    tiny = torch.finfo(values.dtype).tiny
    power = values.square().sum(-1)
    shares = values / values.sum(-1, keepdim=True).clamp(min=tiny)
    entropy = torch.special.entr(shares).sum(-1)
    apart = (states - states.mean(1, keepdim=True)).flatten(1).norm(dim=-1)
    unit = torch.nn.functional.normalize(states, dim=-1)
    others = states.shape[1] * (states.shape[1] - 1)
    cosine = ((unit @ unit.transpose(1, 2)).sum((1, 2)) - unit.square().sum((1, 2))) / max(others, 1)
    return Ranks(
        stable_rank=(power / values[:, 0].square().clamp(min=tiny)).tolist(),
        effective_rank=entropy.exp().tolist(),
        distance_to_mean=(apart / power.sqrt().clamp(min=tiny)).tolist(),
        cosine=cosine.tolist() if others else [None] * len(states),
    )


@torch.no_grad()
def _states(stack: Any, ids: Tensor, given: dict[str, Any], no_think: bool, no_residual: bool) -> Tensor:
    """States [L + 1, T, D] of a copy of the stack with parts switched off."""
    twin = exact_twin(stack)
    for layer in twin.layers:
        if no_think:
            layer.think = None
        for part in (layer.mix, getattr(layer, "read", None), layer.think):
            if part is not None and no_residual:
                part.residual = False
    exact = {name: value.double() if name == "encoder_hidden_states" else value for name, value in given.items()}
    with states_heard(twin) as states:
        twin(ids, **exact)
    return torch.stack(states)[:, 0]
