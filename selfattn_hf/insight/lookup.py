"""Chapter 3: one lookup from the inside. States become queries and keys, affinities, weights, a mix of values.

Everything is computed from the parts of the model, step by step, so that each step can be shown; the sum over the heads
is what the model's own layer says.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from .attention_maps import chosen
from .connections import wiring
from .pairs import Pair, arguments, ids_of, row
from .passes import Call, heard, layers_of, stack_of, still
from .results import Plain

Matrix = list[list[float]]


@dataclasses.dataclass(frozen=True)
class Lookup(Plain):
    """One head of one layer on a real sentence: Q queries ask, K keys are asked.

    Attributes:
        part: "encoder", "decoder" or "cross".
        mixer: of the layer, or "cross".
        score: how a query is compared with a key: "scaled_dot"; for a cross-attention its `attention_score`; "table"
            for `dense`, where nobody asks.
        layer: from 0 on.
        head: from 0 on.
        asking_tokens: Q texts.
        asked_tokens: K texts.
        states: [Q, D] what queries are made of, normed where the layer norms it.
        asked_states: [K, D] what keys and values are made of.
        queries: [Q, d], turned by their places where the encoding turns them; None for `dense`.
        keys: [K, d]; None for `dense`.
        values: [K, d].
        scaling: factor on the products of queries and keys.
        products: [Q, K] q . k times the scaling; an additive score; for `dense` its table.
        bias: [Q, K] what the position encoding adds; None where it adds nothing.
        seen: [Q, K] whether a query may see a key.
        affinities: [Q, K] products and bias, before the mask.
        masked: [Q, K] the same after the mask: None stands for -inf.
        weights: [Q, K] softmax of a row.
        mixed: [Q, d] the values, mixed by the weights.
        added: [Q, D] what the head adds to the output of the layer; the sum over the heads, and a bias, is the output.
    """

    part: str
    mixer: str
    score: str
    layer: int
    head: int
    asking_tokens: list[str]
    asked_tokens: list[str]
    states: Matrix
    asked_states: Matrix
    queries: Matrix | None
    keys: Matrix | None
    values: Matrix
    scaling: float
    products: Matrix
    bias: Matrix | None
    seen: list[list[bool]]
    affinities: Matrix
    masked: list[list[float | None]]
    weights: Matrix
    mixed: Matrix
    added: Matrix


@dataclasses.dataclass(frozen=True)
class Heads:
    """A lookup of all heads, as tensors: [H, Q, d], [H, K, d], [H, Q, K]; None as in `Lookup`."""

    states: Tensor
    asked_states: Tensor
    queries: Tensor | None
    keys: Tensor | None
    values: Tensor
    scaling: float
    products: Tensor
    bias: Tensor | None


def lookup(model: Any, pair: Pair, part: str = "encoder", layer: int = 0, head: int = 0) -> Lookup:
    """One head of one layer, step by step.

    Args:
        model: any model of ours.
        pair: source and target.
        part: "encoder", "decoder", or "cross" for the decoder that reads the source.
        layer: from 0 on, -1 the last.
        head: from 0 on, -1 the last.

    Raises:
        ValueError: for a part, layer or head that the model does not have, or a mixer without a lookup.
    """
    side = "decoder" if part == "cross" else part
    stack = stack_of(model, side)
    steps = layers_of(stack)
    mixer, block, number = chosen(steps, layer, "layer")
    layer = layer % len(steps)
    if part == "cross" and not stack.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} is a decoder alone and reads no source. Ask for part='decoder'.")
    if part != "cross" and not hasattr(block.mix.sublayer, "attend"):
        raise ValueError(
            f"layer {layer} of the {side} has the mixer {mixer!r}, which looks nothing up: it has no queries, keys and "
            "weights. Ask for a layer of self_attention, local_attention or dense, or for part='cross'."
        )
    module = block.read.sublayer if part == "cross" else block.mix.sublayer
    heads = _recorded(model, pair, side, module, number)
    head = head % chosen([heads.values.shape[0]] * heads.values.shape[0], head, "head")
    seen = _seen(stack.config, part, layer, heads.products)
    affinities = heads.products if heads.bias is None else heads.products + heads.bias
    weights = weights_of(affinities, seen)[head]
    mixed = weights @ heads.values[head]
    width = heads.values.shape[2]
    added = mixed @ module.out_proj.weight[:, head * width : (head + 1) * width].T
    shown = affinities[head].tolist()
    return Lookup(
        part=part,
        mixer="cross" if part == "cross" else mixer,
        score=stack.config.attention_score if part == "cross" else "table" if heads.queries is None else "scaled_dot",
        layer=layer,
        head=head,
        asking_tokens=pair.source_tokens if part == "encoder" else pair.target_tokens,
        asked_tokens=pair.target_tokens if part == "decoder" else pair.source_tokens,
        states=heads.states.tolist(),
        asked_states=heads.asked_states.tolist(),
        queries=None if heads.queries is None else heads.queries[head].tolist(),
        keys=None if heads.keys is None else heads.keys[head].tolist(),
        values=heads.values[head].tolist(),
        scaling=heads.scaling,
        products=heads.products[head].tolist(),
        bias=None if heads.bias is None else heads.bias[head].tolist(),
        seen=seen.tolist(),
        affinities=shown,
        masked=[
            [value if is_seen else None for value, is_seen in zip(*lines, strict=True)]
            for lines in zip(shown, seen.tolist(), strict=True)
        ],
        weights=weights.tolist(),
        mixed=mixed.tolist(),
        added=added.tolist(),
    )


def weights_of(affinities: Tensor, seen: Tensor) -> Tensor:
    """Softmax over the keys that may be seen: [.., Q, K] and [Q, K] -> [.., Q, K]."""
    return affinities.masked_fill(~seen, -torch.inf).softmax(-1)


def _recorded(model: Any, pair: Pair, side: str, module: Any, number: int) -> Heads:
    """What passes through a mixer or a cross-attention in a pass over the pair, with the lookup worked out."""
    given = arguments(model, pair, side)
    names = [name for name in ("q_proj", "k_proj", "v_proj") if getattr(module, name, None) is not None]
    with still(model):
        with heard(module, *(getattr(module, name) for name in names)) as calls:
            stack_of(model, side)(row(model, ids_of(pair, side)), **given)
        call = calls[0][number]
        projections = {name: of[number] for name, of in zip(names, calls[1:], strict=True)}
        if "source" in call.kwargs:
            return _read(module, call, projections)
        return _mixed(module, call, projections)


def _mixed(module: Any, call: Call, projections: dict[str, Call]) -> Heads:
    """The lookup of a mixer."""
    position, places = call.kwargs["position"], call.kwargs["places"]
    value = _split(projections["v_proj"].output, module.heads)
    asked = projections["v_proj"].args[0][0]
    if "q_proj" not in projections:  # a table of places instead of queries and keys
        table = module.affinities()[:, places.queries[0]][:, :, places.keys[0]]
        return Heads(asked, asked, None, None, value[0], 1.0, table, None)
    query, key = (
        position.rotate(_split(projections[name].output, module.heads), places) for name in ("q_proj", "k_proj")
    )
    scaling = module.attend.scaling
    bias = position.bias(query, key, places)
    products = query @ key.transpose(2, 3) * scaling
    own = projections["q_proj"].args[0][0]
    return Heads(own, asked, query[0], key[0], value[0], scaling, products[0], None if bias is None else bias[0])


def _read(module: Any, call: Call, projections: dict[str, Call]) -> Heads:
    """The lookup of a cross-attention; a projection that its score does not have is absent."""
    x, source = call.args[0], call.kwargs["source"]
    query, key = (
        _split(projections[name].output if name in projections else states, module.heads)[0]
        for name, states in (("q_proj", x), ("k_proj", source))
    )
    value, scaling = _split(projections["v_proj"].output, module.heads)[0], module.attend.scaling
    if module.energy is None:
        products = query @ key.transpose(1, 2) * scaling
    else:  # v . tanh(q + k)
        products = (torch.tanh(query[:, :, None] + key[:, None]) * module.energy[:, None, None]).sum(-1)
    return Heads(x[0], source[0], query, key, value, scaling, products, None)


def _seen(config: Any, part: str, layer: int, products: Tensor) -> Tensor:
    """Which of [Q, K] may be seen: all of a source; of one's own row what the mixer connects."""
    if part == "cross":
        return torch.ones_like(products[0], dtype=torch.bool)
    return wiring(config, part, products.shape[-1])[layer].sees.to(products.device)


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, T, H d] -> [B, H, T, d]."""
    return nn.Unflatten(-1, (heads, -1))(x).transpose(1, 2)
