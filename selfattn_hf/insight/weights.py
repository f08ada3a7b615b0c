"""Chapter 3: dynamic against fixed weights. How is self-attention different from a fully connected layer?

In self-attention the words decide how much each hears of each other; in a fully connected layer over places, `dense`,
how much is learned once for every pair of places and is the same in every sentence: the random Synthesizer of Tay et
al. (2021), https://arxiv.org/abs/2005.00743.
"""

import dataclasses
from typing import Any

from .attention_maps import chosen, side_weights
from .pairs import Pair, ids_of
from .passes import layers_of, stack_of
from .reach import tokens_of
from .results import Plain


@dataclasses.dataclass(frozen=True)
class MixingWeights(Plain):
    """How one head of one layer mixes the places of two sentences; matrices [T, T].

    Attributes:
        side: "encoder" or "decoder".
        mixer: of the layer.
        layer: from 0 on.
        head: from 0 on.
        first_tokens: T texts of the first sentence.
        second_tokens: T texts of the second.
        first: its weights.
        second: its weights.
        difference: `second` less `first`.
        largest: the largest absolute difference.
        mean: the mean absolute difference.
        dynamic: theory: whether the weights depend on the words.
    """

    side: str
    mixer: str
    layer: int
    head: int
    first_tokens: list[str]
    second_tokens: list[str]
    first: list[list[float]]
    second: list[list[float]]
    difference: list[list[float]]
    largest: float
    mean: float
    dynamic: bool


def mixing_weights(
    model: Any, first: Pair, second: Pair, side: str = "encoder", layer: int = 0, head: int = 0
) -> MixingWeights:
    """The weights of one head on two sentences of the same number of tokens.

    Args:
        model: any model of ours.
        first: a sentence.
        second: another, with as many tokens on that side.
        side: "encoder" or "decoder".
        layer: from 0 on, -1 the last.
        head: from 0 on, -1 the last.

    Raises:
        ValueError: for a side, layer or head that the model does not have, a mixer that does not mix places by weights,
            or sentences of different lengths.
    """
    lengths = [len(ids_of(pair, side)) for pair in (first, second)]
    steps = layers_of(stack_of(model, side))
    mixer, block, _ = chosen(steps, layer, "layer")
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"weights of two sentences are compared place by place, so both have as many tokens, got {lengths[0]} and "
            f"{lengths[1]} in the {side}. Choose sentences of one length."
        )
    first_weights, second_weights = (side_weights(model, pair, side)[0][layer] for pair in (first, second))
    if first_weights is None or second_weights is None:
        raise ValueError(
            f"layer {layer} of the {side} has the mixer {mixer!r}, which has no weight for a pair of places: what it "
            "hears of a word is a matrix times its state. Ask for a layer of self_attention, local_attention or dense."
        )
    one, other = (chosen(list(weights), head, "head") for weights in (first_weights, second_weights))
    difference = other - one
    return MixingWeights(
        side=side,
        mixer=mixer,
        layer=layer % len(steps),
        head=head % len(first_weights),
        first_tokens=tokens_of(first, side),
        second_tokens=tokens_of(second, side),
        first=one.tolist(),
        second=other.tolist(),
        difference=difference.tolist(),
        largest=float(difference.abs().max()),
        mean=float(difference.abs().mean()),
        dynamic=hasattr(block.mix.sublayer, "q_proj"),  # somebody asks
    )
