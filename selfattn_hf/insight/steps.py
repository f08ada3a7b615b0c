"""Chapter 1: how many steps must be taken one after the other until a state can be computed, and the time they take.

A recurrent network cannot compute the state of word t before that of word t - 1: O(T). Everything else computes all
places of a layer at once: O(1) for each layer. Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, table 1.
"""

import copy
import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .connections import Wiring, is_causal, wiring
from .pairs import row
from .passes import stack_of
from .results import Plain


@dataclasses.dataclass(frozen=True)
class Steps(Plain):
    """Theory: steps one after the other.

    Attributes:
        side: "encoder" or "decoder".
        mixers: of every layer.
        length: T.
        by_place: for every layer, T numbers: steps after which the state at each place is there.
        total: steps until all states of the last layer are there.
        orders: for every layer, "O(T)" or "O(1)": how the steps inside it grow with the row.
    """

    side: str
    mixers: list[str]
    length: int
    by_place: list[list[int]]
    total: int
    orders: list[str]


@dataclasses.dataclass(frozen=True)
class StepTimes(Plain):
    """Measured: time of a gradient step, forward and backward, of one stack.

    Attributes:
        side: "encoder" or "decoder".
        lengths: T of the rows, in order.
        seconds: median of the repeats at each length.
        all_seconds: every repeat at each length.
        exponent: b of the fit seconds = a T^b over all lengths.
        exponents: b between each two lengths that follow each other.
        steps: theory: `Steps.total` at each length.
        threads: CPU threads that torch used.
        device: where it was computed.
    """

    side: str
    lengths: list[int]
    seconds: list[float]
    all_seconds: list[list[float]]
    exponent: float
    exponents: list[float]
    steps: list[int]
    threads: int
    device: str


def sequential_steps(model: Any, length: int, side: str = "encoder") -> Steps:
    """Steps until the state at each place can be computed, while training: the whole row is given.

    A step is what can be done at once: one word of a recurrent layer, or all of any other layer. While a decoder
    writes, each word waits for the last one, whatever its layers are.

    Args:
        model: any model of ours.
        length: T.
        side: "encoder" or "decoder".

    Raises:
        ValueError: for a side that the model does not have, or a length below 1.
    """
    config = stack_of(model, side).config
    if length < 1:
        raise ValueError(f"a row has at least one token, got length={length}.")
    ready, by_place, orders = [0] * length, [], []
    for mixer, layer in zip(config.mixers_of(side), wiring(config, side, length), strict=True):
        if mixer == "rnn":
            ready = _read(ready) if is_causal(config, side) else _read_both_ways(ready)
        else:
            ready = _at_once(layer, ready)
        by_place.append(ready)
        orders.append("O(T)" if mixer == "rnn" else "O(1)")
    return Steps(side, config.mixers_of(side), length, by_place, max(ready), orders)


def time_per_step(
    model: Any, lengths: Sequence[int] = (16, 32, 64, 128, 256), repeats: int = 5, side: str = "encoder", rows: int = 1
) -> StepTimes:
    """Time of a gradient step of one stack over several lengths; the model itself is not changed.

    A decoder reads a source of one token, so that its own rows alone grow. Dropout is as in training.

    Args:
        model: any model of ours; where it lives, there it is timed.
        lengths: two or more lengths T.
        repeats: timed steps at each length, after one that does not count.
        side: "encoder" or "decoder".
        rows: rows of a batch.

    Raises:
        ValueError: for a side that the model does not have, fewer than two lengths, or more places than it knows.
    """
    stack = stack_of(model, side)
    lengths = sorted(set(lengths))
    if len(lengths) < 2 or lengths[0] < 1 or repeats < 1 or rows < 1:
        raise ValueError(
            "growth is seen at two lengths or more, each from 1 on and timed at least once, got "
            f"lengths={lengths}, repeats={repeats}, rows={rows}."
        )
    known = stack.config.known_places(side)
    if known is not None and lengths[-1] + stack.config.position_shift > known:
        raise ValueError(f"the {side} knows {known} places, got a length of {lengths[-1]}. Ask for shorter rows.")
    twin = copy.deepcopy(stack).train()
    # Round by round over all lengths, so that a busy moment of the machine is not one length's alone.
    rounds = [[_seconds(twin, model, length, rows) for length in lengths] for _ in range(repeats + 1)]
    all_seconds = [list(times) for times in zip(*rounds[1:], strict=True)]
    seconds = [statistics.median(times) for times in all_seconds]
    return StepTimes(
        side=side,
        lengths=list(lengths),
        seconds=seconds,
        all_seconds=all_seconds,
        exponent=fitted_exponent(lengths, seconds),
        exponents=[fitted_exponent(lengths[i : i + 2], seconds[i : i + 2]) for i in range(len(lengths) - 1)],
        steps=[sequential_steps(model, length, side).total for length in lengths],
        threads=torch.get_num_threads(),
        device=str(model.device),
    )


def fitted_exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The b of values = a T^b, by least squares of the logarithms."""
    slope, _ = statistics.linear_regression([math.log(n) for n in lengths], [math.log(v) for v in values])
    return slope


def _read(ready: list[int]) -> list[int]:
    """A word is read when it is there and the one before has been read."""
    done, after = 0, []
    for there in ready:
        done = max(done, there) + 1
        after.append(done)
    return after


def _read_both_ways(ready: list[int]) -> list[int]:
    backwards = _read(ready[::-1])[::-1]
    return [max(pair) for pair in zip(_read(ready), backwards, strict=True)]


def _at_once(layer: Wiring, ready: list[int]) -> list[int]:
    """A state waits for all that it sees, and takes one step more; its own query comes from the layer below."""
    there = torch.tensor(ready)
    seen = there if layer.from_input else there.expand(len(ready), -1).masked_fill(~layer.sees, 0).amax(1)
    return list((seen + 1).tolist())


def _seconds(stack: Any, model: Any, length: int, rows: int) -> float:
    ids = torch.arange(length).remainder(stack.config.vocab_size).expand(rows, -1).to(model.device)
    given: dict[str, Any] = {}
    if stack.side == "decoder":
        given["use_cache"] = False
        if stack.config.is_encoder_decoder:
            width, dtype = stack.config.hidden_size, stack.embed_tokens.weight.dtype
            given["encoder_hidden_states"] = torch.zeros(rows, 1, width, device=model.device, dtype=dtype)
    elif stack.config.reads_trees:
        chain = [max(place - 1, 0) for place in range(length)]
        given["syntax_heads"] = row(model, chain).expand(rows, -1)
    _wait(model)
    start = time.perf_counter()
    _step(stack(ids, **given).last_hidden_state)
    _wait(model)
    taken = time.perf_counter() - start
    stack.zero_grad(set_to_none=True)
    return taken


def _step(states: Tensor) -> None:
    states.square().mean().backward()


def _wait(model: Any) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
