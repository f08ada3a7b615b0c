"""Chapters 1, 3 and 6: who looks at whom. Attention maps of a real sentence, and the alignment of a translation.

A decoder of any kind reads the source by attention: for a recurrent one, too, there is a map of who reads what, which
Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473, were the first to show.
"""

import contextlib
import dataclasses
import math
from typing import Any

from torch import Tensor

from .pairs import Pair, arguments, ids_of, row
from .passes import eagerly, heard, layers_of, sides_of_model, stack_of, still
from .results import Plain

Map = list[list[list[float]]]
"""Weights [H, Q, K] of one layer: a row for each query, of which the weights sum up to 1."""


@dataclasses.dataclass(frozen=True)
class AttentionMaps(Plain):
    """Attention weights of one pair; for each layer a map, or None where its mixer has no affinities.

    Attributes:
        source_tokens: S texts.
        target_tokens: T texts that the decoder reads.
        written_tokens: T texts that it writes after reading each of them.
        encoder_mixers: of every encoder layer.
        decoder_mixers: of every decoder layer.
        encoder: L maps [H, S, S].
        decoder: L maps [H, T, T].
        cross: L maps [H, T, S], how the source is read while each token is written; empty for a decoder alone.
    """

    source_tokens: list[str]
    target_tokens: list[str]
    written_tokens: list[str]
    encoder_mixers: list[str]
    decoder_mixers: list[str]
    encoder: list[Map | None]
    decoder: list[Map | None]
    cross: list[Map | None]


@dataclasses.dataclass(frozen=True)
class Alignment(Plain):
    """Which source token each written token was read from.

    Attributes:
        source_tokens: S texts.
        written_tokens: T texts.
        layer: whose maps; None: the mean of all layers.
        head: whose map; None: the mean of all heads.
        weights: [T, S], soft: how much of each source token was read.
        best: for each written token the source token read most.
        entropy: for each written token, in bits: 0 where it was read from one source token alone.
        sharpness: for each written token, 1 - entropy / log2(S): 1 for one token alone, 0 for all alike.
    """

    source_tokens: list[str]
    written_tokens: list[str]
    layer: int | None
    head: int | None
    weights: list[list[float]]
    best: list[int]
    entropy: list[float]
    sharpness: list[float]


def attention_maps(model: Any, pair: Pair) -> AttentionMaps:
    """All attention maps of a pair; those of the sides that the model has.

    Attention is written out meanwhile, whatever implementation the model was loaded with.

    Args:
        model: any model of ours with attention.
        pair: source and target.

    Raises:
        ValueError: for a model without a single map.
    """
    maps: dict[str, list[Map | None]] = {"encoder": [], "decoder": [], "cross": []}
    mixers: dict[str, list[str]] = {"encoder": [], "decoder": []}
    for side in sides_of_model(model):
        mixers[side] = list(stack_of(model, side).mixers)
        mixing, reading = side_weights(model, pair, side)
        maps[side] = [None if weights is None else weights.tolist() for weights in mixing]
        if side == "decoder":
            maps["cross"] = [weights.tolist() for weights in reading]
    if not any(layer for layers in maps.values() for layer in layers):
        has = ", ".join(sorted({mixer for side in mixers.values() for mixer in side}))
        raise ValueError(
            f"an attention map is of a mixer with affinities, or of a decoder that reads a source, and this model has "
            f"{has} alone. Ask for its reach instead, which every mixer has."
        )
    return AttentionMaps(
        source_tokens=pair.source_tokens,
        target_tokens=pair.target_tokens,
        written_tokens=pair.written_tokens,
        encoder_mixers=mixers["encoder"],
        decoder_mixers=mixers["decoder"],
        encoder=maps["encoder"],
        decoder=maps["decoder"],
        cross=maps["cross"],
    )


def alignment(maps: AttentionMaps, layer: int | None = None, head: int | None = None) -> Alignment:
    """The alignment that a cross-attention shows.

    Args:
        maps: of a model that reads a source.
        layer: of the decoder, from 0 on, -1 the last; None: the mean of all.
        head: from 0 on; None: the mean of all.

    Raises:
        ValueError: for maps without a cross-attention, a layer or a head that there is not.
    """
    cross = [weights for weights in maps.cross if weights is not None]
    if not cross:
        raise ValueError("an alignment is read from the cross-attention, and this model reads no source.")
    layers = cross if layer is None else [chosen(cross, layer, "layer")]
    heads = [one for weights in layers for one in (weights if head is None else [chosen(weights, head, "head")])]
    mean = [[sum(column) / len(heads) for column in zip(*lines, strict=True)] for lines in zip(*heads, strict=True)]
    entropy = [entropy_of(line) for line in mean]
    most = math.log2(len(maps.source_tokens)) or 1.0  # of one token alone there is nothing to choose
    return Alignment(
        source_tokens=maps.source_tokens,
        written_tokens=maps.written_tokens,
        layer=layer,
        head=head,
        weights=mean,
        best=[max(range(len(line)), key=line.__getitem__) for line in mean],
        entropy=entropy,
        sharpness=[1 - bits / most for bits in entropy],
    )


def side_weights(model: Any, pair: Pair, side: str) -> tuple[list[Tensor | None], list[Tensor]]:
    """Weights of a stack: of its mixers, [H, T, T] or None for each layer, and of its cross-attention, [H, T, S]."""
    stack = stack_of(model, side)
    if not ids_of(pair, side):
        raise ValueError(f"the pair has nothing that the {side} reads. Make it by pair_of() for this model.")
    layers = layers_of(stack)
    mixing = [getattr(layer.mix.sublayer, "attend", None) for _, layer, _ in layers]
    reads = side == "decoder" and stack.config.is_encoder_decoder
    reading = [layer.read.sublayer.attend for _, layer, _ in layers] if reads else []
    given = arguments(model, pair, side)
    lookups = [*(attend for attend in mixing if attend is not None), *reading]
    with contextlib.ExitStack() as during:
        for manager in (still(model), eagerly(model)):
            during.enter_context(manager)
        own = list(dict.fromkeys(lookups))
        calls = dict(zip(own, during.enter_context(heard(*own)), strict=True))
        stack(row(model, ids_of(pair, side)), **given)
    numbers = [number for _, _, number in layers]

    def weights(attend: Any, number: int) -> Tensor:
        return calls[attend][number].output[1][0]

    return (
        [None if attend is None else weights(attend, number) for attend, number in zip(mixing, numbers, strict=True)],
        [weights(attend, number) for attend, number in zip(reading, numbers, strict=False)],
    )


def entropy_of(weights: list[float]) -> float:
    """Entropy in bits of weights that sum up to 1."""
    return -sum(weight * math.log2(weight) for weight in weights if weight > 0) or 0.0


def chosen(items: list[Any], index: int, name: str) -> Any:
    """One of several layers or heads.

    Raises:
        ValueError: saying how many there are.
    """
    if not -len(items) <= index < len(items):
        raise ValueError(f"there are {len(items)} {name}s, from 0 to {len(items) - 1}, got {name}={index}.")
    return items[index]
