"""Chapter 4: set or sequence? Shuffle the words of the source and see what changes.

Self-attention without positions sees a set: every word keeps its state, wherever it stands. Whatever gives order (a
position encoding, a window, a recurrent network, a table of places) gives the words other states.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .pairs import Pair, arguments, row, trees_of
from .passes import sides_of_model, stack_of, states_heard, still
from .results import Plain


@dataclasses.dataclass(frozen=True)
class Shuffled(Plain):
    """What another order of the words changes.

    Attributes:
        mixers: of every encoder layer.
        positions: encodings of the encoder.
        tokens: S texts in their order.
        shuffled_tokens: S texts in the other order.
        permutation: for each place of the other order, the place that its token had.
        state_change: for 0, 1, .. L layers and every token of the first order, how far its state in the other order is
            from its state in this one, divided by the length of the latter; layer 0 is what enters the first layer.
        mean_change: for the same layers, the mean over the tokens.
        target_tokens: T texts that the decoder reads, the same in both orders; empty where there is no output.
        output_change: for each of them, the total variation between what is predicted in both orders: 0 the same, 1
            with nothing in common.
        other_choice: for each of them, whether the most likely next token is another one.
        is_set: theory: whether the states are the same in any order.
        agrees: whether they are the same where theory says so, up to rounding.
    """

    mixers: list[str]
    positions: list[str]
    tokens: list[str]
    shuffled_tokens: list[str]
    permutation: list[int]
    state_change: list[list[float]]
    mean_change: list[float]
    target_tokens: list[str]
    output_change: list[float]
    other_choice: list[bool]
    is_set: bool
    agrees: bool


def shuffle_words(model: Any, pair: Pair, permutation: Sequence[int] | None = None, seed: int = 0) -> Shuffled:
    """Compare the encoder's states, word by word, and the predictions, in two orders of the source.

    A tree goes with its words: each keeps its head. The decoder reads the same target behind both.

    Args:
        model: a model with an encoder.
        pair: source and target.
        permutation: for each place of the other order, the place its token had; None: the words in a random order, the
            tokens of a word together and the end token where it is.
        seed: of the random order.

    Raises:
        ValueError: for a model without an encoder, or a list that is no permutation of the places.
    """
    stack = stack_of(model, "encoder")
    length = len(pair.source)
    order = shuffled_places(pair, seed) if permutation is None else list(permutation)
    if sorted(order) != list(range(length)):
        raise ValueError(f"a permutation names each of the places 0 to {length - 1} once, got {order}.")
    other = _in_order(pair, order)
    states, moved = (_states(model, one) for one in (pair, other))
    back = torch.tensor(order, device=model.device).argsort()
    change = (moved[:, back] - states).norm(dim=-1) / states.norm(dim=-1).clamp(min=torch.finfo(states.dtype).tiny)
    writes = pair.target and "decoder" in sides_of_model(model) and hasattr(model, "lm_head")
    predicted, instead = (_predictions(model, one) for one in (pair, other)) if writes else (torch.zeros(0, 1),) * 2
    is_set = sees_a_set(stack.config, length)
    return Shuffled(
        mixers=list(stack.mixers),
        positions=stack.config.positions_of("encoder"),
        tokens=pair.source_tokens,
        shuffled_tokens=other.source_tokens,
        permutation=order,
        state_change=change.tolist(),
        mean_change=change.mean(-1).tolist(),
        target_tokens=pair.target_tokens if writes else [],
        output_change=((predicted - instead).abs().sum(-1) / 2).tolist(),
        other_choice=(predicted.argmax(-1) != instead.argmax(-1)).tolist(),
        is_set=is_set,
        agrees=not is_set or bool((change <= math.sqrt(torch.finfo(states.dtype).eps)).all()),
    )


def sees_a_set(config: Any, length: int) -> bool:
    """Theory: whether the encoder's states do not depend on the order of `length` words.

    That takes mixers that compare every word with every other, and no encoding but the depth in a tree, which goes with
    the word.
    """
    whole = config.window_radius >= length - 1  # then local attention sees all
    return all(
        mixer == "self_attention" or (mixer == "local_attention" and whole) for mixer in config.mixers_of("encoder")
    ) and set(config.positions_of("encoder")) <= {"tree_depth"}


def shuffled_places(pair: Pair, seed: int = 0) -> list[int]:
    """The places of the source with its words in a random order, the last word, which is the end token, where it is.

    Where there are two words or more beside the last, it is never the order that they have.
    """
    words: dict[int, list[int]] = {}
    for place, word in enumerate(pair.source_words):
        words.setdefault(word, []).append(place)
    *moving, last = words.values()
    generator = torch.Generator().manual_seed(seed)
    order = list(range(len(moving)))
    while len(moving) > 1 and order == sorted(order):
        order = torch.randperm(len(moving), generator=generator).tolist()
    return [place for number in order for place in moving[number]] + last


def _in_order(pair: Pair, order: list[int]) -> Pair:
    """The pair with the token of place order[i] at place i; heads and nodes point to where their tokens went."""
    new = {old: place for place, old in enumerate(order)} | {-1: -1}

    def pointing(values: list[int] | None) -> list[int] | None:
        return None if values is None else [new[values[old]] for old in order]

    return dataclasses.replace(
        pair,
        source=[pair.source[old] for old in order],
        source_tokens=[pair.source_tokens[old] for old in order],
        source_words=[pair.source_words[old] for old in order],
        heads=pointing(pair.heads),
        nodes=pointing(pair.nodes),
    )


def _states(model: Any, pair: Pair) -> Tensor:
    """[L + 1, S, D]."""
    stack = stack_of(model, "encoder")
    with still(model), states_heard(stack) as states:
        stack(row(model, pair.source), **trees_of(model, pair))
    return torch.stack(states)[:, 0]


def _predictions(model: Any, pair: Pair) -> Tensor:
    """Probabilities of the next token after each target token: [T, V]."""
    given = arguments(model, pair, "decoder")
    with still(model):
        states = stack_of(model, "decoder")(row(model, pair.target), **given).last_hidden_state
        return model.lm_head(states)[0].softmax(-1)
