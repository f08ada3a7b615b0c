"""Chapter 6: the future must not be seen. Affinities before and after the mask, and a test that nothing leaks.

Instead of recomputing every prefix (`prefix_by_prefix`), the affinities of what a word must not see become -inf, and
their weights exactly 0.
"""

import dataclasses
from typing import Any

import torch

from .connections import is_causal, reachable
from .lookup import lookup, weights_of
from .pairs import Pair
from .passes import stack_of
from .reach import state_gradients
from .results import Plain


@dataclasses.dataclass(frozen=True)
class MaskEffect(Plain):
    """The mask of one decoder head; matrices [T, T], row t of the token that asks.

    Attributes:
        mixer: of the layer.
        layer: from 0 on.
        head: from 0 on.
        tokens: T texts that the decoder reads.
        future_mask: the switch.
        affinities: before the mask.
        masked: after it; None stands for -inf.
        weights_before: the softmax of the affinities without a mask: what would be looked at.
        weights: the softmax after it: what is looked at.
        future_weight: for each token, the share of `weights_before` that lies on later tokens: what the mask forbids.
    """

    mixer: str
    layer: int
    head: int
    tokens: list[str]
    future_mask: bool
    affinities: list[list[float]]
    masked: list[list[float | None]]
    weights_before: list[list[float]]
    weights: list[list[float]]
    future_weight: list[float]


@dataclasses.dataclass(frozen=True)
class LeakTest(Plain):
    """Whether a decoder's output depends on what it has yet to write.

    Attributes:
        mixers: of every decoder layer.
        tokens: T texts that the decoder reads.
        future_mask: the switch.
        gradients: [T, T] mean absolute derivative of output t by embedding s.
        leaks: the pairs (t, s), s after t, whose derivative is not exactly zero.
        largest: the largest derivative by a later token; 0 where nothing leaks.
        expected: theory: whether there may be a leak, which is where `future_mask` is False.
        agrees: whether exactly those later tokens leak that the layers reach: none under the mask.
    """

    mixers: list[str]
    tokens: list[str]
    future_mask: bool
    gradients: list[list[float]]
    leaks: list[tuple[int, int]]
    largest: float
    expected: bool
    agrees: bool


def mask_effect(model: Any, pair: Pair, layer: int = 0, head: int = 0) -> MaskEffect:
    """Affinities of a decoder head before and after the mask.

    Args:
        model: a model with a decoder.
        pair: source and target.
        layer: from 0 on, -1 the last.
        head: from 0 on, -1 the last.

    Raises:
        ValueError: for a model without a decoder, a layer or head that it does not have, or a mixer that reads from
            left to right by itself and so has no affinities to mask.
    """
    stack = stack_of(model, "decoder")
    asked = lookup(model, pair, "decoder", layer, head)
    affinities, length = torch.tensor(asked.affinities, dtype=torch.float64), len(asked.asking_tokens)
    before = weights_of(affinities, torch.ones(length, length, dtype=torch.bool))
    return MaskEffect(
        mixer=asked.mixer,
        layer=asked.layer,
        head=asked.head,
        tokens=asked.asking_tokens,
        future_mask=stack.config.future_mask,
        affinities=asked.affinities,
        masked=asked.masked,
        weights_before=before.tolist(),
        weights=asked.weights,
        future_weight=before.triu(1).sum(-1).tolist(),
    )


def leak_test(model: Any, pair: Pair, dimensions: int | None = None) -> LeakTest:
    """Whether output t depends on inputs after t, by exact derivatives; every kind of decoder.

    The output is the state of the last layer: norm and vocabulary above it work on each place alone. A model with
    `future_mask=False` is the positive control: its decoder leaks wherever its layers reach, and cheats in training.

    Args:
        model: a model with a decoder.
        pair: source and target.
        dimensions: so many numbers of each state, spread evenly, are differentiated; None: all of them.

    Raises:
        ValueError: for a model without a decoder.
    """
    stack = stack_of(model, "decoder")
    gradients = state_gradients(model, pair, "decoder", dimensions)[-1]
    future = gradients.triu(1)
    leaks = [(t, s) for t, s in future.nonzero().tolist()]
    theory = reachable(stack.config, "decoder", len(gradients))[-1].triu(1)
    return LeakTest(
        mixers=list(stack.mixers),
        tokens=pair.target_tokens,
        future_mask=stack.config.future_mask,
        gradients=gradients.tolist(),
        leaks=leaks,
        largest=float(future.max()),
        expected=not is_causal(stack.config, "decoder"),
        agrees=torch.equal(future != 0, theory),
    )
