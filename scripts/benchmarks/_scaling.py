"""One mixing layer over the length of rows: a batch of always as many tokens, forward and backward.

Time for a token grows as length ** exponent, fitted by least squares over the logarithms. Memory is the most that one
pass takes beyond layer and input, in a process of its own; a layer that finds too little is not timed at that length.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any, get_args

import torch

from selfattn_hf import SelfAttnConfig
from selfattn_hf.model import SelfAttnEncoderModel
from selfattn_hf.model.switches import AffinityPosition, TreePosition

from ._check import plain_copy
from ._children import in_a_child, peak_of
from ._measure import Spread, agree, goal, interleaved, peaks, ratios, spread, surroundings
from ._sizes import SIZES, Sizes

BASE, EAGER, LOCAL = "self_attention", "eager", "local_attention"
# Name -> its switches; attention is sdpa unless it says otherwise. A position stands for self-attention with it.
LAYERS: dict[str, dict[str, Any]] = {
    EAGER: {"attn_implementation": "eager"},
    BASE: {},
    LOCAL: {"encoder_mixer": LOCAL},
    "window": {"encoder_mixer": "window"},
    "rnn": {"encoder_mixer": "rnn"},
    "dense": {"encoder_mixer": "dense"},
}
BIASED = [name for name in get_args(AffinityPosition) if name not in get_args(TreePosition)]
LAYERS |= {name: {"encoder_position_encoding": name} for name in BIASED}
# What the goals are: exponent of local_attention, from which length on it is faster than full attention, and how much
# more a position may cost than none at the greatest length.
EXPONENT, FASTER_FROM, TIMES_TIME, TIMES_MEMORY = 0.05, 512, 1.3, 1.5
TOLERANCE = 1e-4


def run(options: Any) -> dict[str, Any]:
    """Check at the smallest length, then measure memory and time at every length, and judge."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    lengths, device = sorted(options.lengths), options.device
    sizes = SIZES[options.size]
    names = [name for name in LAYERS if name == BASE or name in (options.layers or LAYERS)]
    result: dict[str, Any] = {
        "benchmark": "scaling", "surroundings": surroundings(options),
        "settings": {
            "size": options.size, "tokens": options.tokens, "lengths": lengths, "radius": options.radius,
            "layers": options.layers, "repeats": options.repeats, "seed": options.seed,
        },
        "peaks": peaks(device, torch.float32, options.size == "tiny"), "left_out": {},
        "checks": [check(name, sizes, lengths[0], options) for name in names], "goals": [], "rows": [],
    }  # fmt: skip
    memory: dict[tuple[str, int], float | None] = {}
    times: dict[tuple[str, int], list[float]] = {}
    for length in lengths:
        rows = max(1, options.tokens // length)
        for name in names:
            taken = in_a_child(memory_of, name, sizes, (rows, length), options.radius, device, options.threads)
            memory[name, length] = taken
        fitting = {
            name: make_pass(name, sizes, (rows, length), options.radius, device)
            for name in names
            if memory[name, length] is not None
        }
        took = interleaved(fitting, range(options.repeats + 1), device)
        times |= {(name, length): of for name, of in took.items()}
        shown = ", ".join(f"{name} {1000 * spread(of).median:.0f}" for name, of in took.items())
        print(f"{length} tokens: {shown} ms", flush=True)
    exponents = {name: exponent(name, lengths, times) for name in names}
    for name, grown in exponents.items():
        row: dict[str, Any] = {"layer": name, "exponent": grown and grown.rounded(2)}
        for length in lengths:
            of = times.get((name, length))
            row[f"ms_{length}"] = None if of is None else Spread(*(1000 * value for value in spread(of))).rounded(3)
            row[f"mb_{length}"] = memory[name, length]
        result["rows"].append(row)
    result["goals"] = goals(names, lengths, times, memory, exponents)
    return result


def make_layer(name: str, sizes: Sizes, length: int, radius: int) -> SelfAttnEncoderModel:
    """An encoder of one layer that mixes and does nothing else."""
    switches = {"encoder_mixer": BASE, "encoder_position_encoding": "none", **LAYERS[name]}
    if switches["encoder_mixer"] == LOCAL:
        switches["window_radius"] = radius
    if switches["encoder_mixer"] == "dense":
        switches["max_position_embeddings"] = length
    implementation = switches.pop("attn_implementation", "sdpa")
    config = SelfAttnConfig(
        vocab_size=8, hidden_size=sizes.width, num_attention_heads=sizes.heads, encoder_layers=1, dropout=0.0,
        norm="none", residual=False, feedforward="none", scale_embedding=False, **switches,
    )  # fmt: skip
    config._attn_implementation = implementation
    return SelfAttnEncoderModel(config).train()


def make_pass(
    name: str, sizes: Sizes, shape: tuple[int, int], radius: int, device: str
) -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
    """Forward and backward of one batch [B, T]; returns the states and the gradient of the input."""
    return passing(make_layer(name, sizes, shape[1], radius).to(device), *draw(sizes, shape, device))


def draw(sizes: Sizes, shape: tuple[int, int], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters the layer [B, T, D], and the gradient of what leaves it."""
    x, gradient = (torch.randn(*shape, sizes.width, device=device) for _ in range(2))
    return x.requires_grad_(), gradient


def passing(layer: Any, x: torch.Tensor, gradient: torch.Tensor) -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
    """A pass that can be repeated."""

    def go(_: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        states = layer(inputs_embeds=x).last_hidden_state
        states.backward(gradient)
        assert x.grad is not None
        return states.detach(), x.grad

    return go


def memory_of(name: str, sizes: Sizes, shape: tuple[int, int], radius: int, device: str, threads: int) -> float | None:
    """In a process of its own: the most MB of a pass; None where the machine has not enough."""
    torch.set_num_threads(threads)
    make_pass(name, SIZES["tiny"], (2, 8), 2, device)(None)  # what is loaded when it is first used must not count
    go = make_pass(name, sizes, shape, radius, device)
    return peak_of(lambda: lambda: go(None), device)


def check(name: str, sizes: Sizes, length: int, options: Any) -> dict[str, Any]:
    """Compare states and the gradient of the input with float64 and eager attention.

    Raises:
        MismatchError: where they differ by more than rounding explains.
    """
    layer = make_layer(name, sizes, length, options.radius).to(options.device)
    x, gradient = draw(sizes, (2, length), options.device)
    plain = plain_copy(layer)
    found = passing(layer, x, gradient)(None)
    wanted = passing(plain, x.detach().double().requires_grad_(), gradient.double())(None)
    apart = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, wanted, strict=True))
    return agree(f"{name} at {length} tokens", apart, TOLERANCE)


def exponent(name: str, lengths: list[int], times: dict[tuple[str, int], list[float]]) -> Spread | None:
    """The slope of log time over log length, of each repeat; every length has as many tokens."""
    known = [length for length in lengths if (name, length) in times]
    if len(known) < 2:
        return None
    repeats = zip(*(times[name, length] for length in known), strict=True)
    return spread([slope(known, list(of)) for of in repeats])


def slope(lengths: list[int], seconds: list[float]) -> float:
    """By least squares in the logarithms."""
    return statistics.linear_regression([math.log(one) for one in lengths], [math.log(one) for one in seconds]).slope


def goals(
    names: list[str], lengths: list[int], times: dict[tuple[str, int], list[float]],
    memory: dict[tuple[str, int], float | None], exponents: dict[str, Spread | None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Local attention is linear and soon the faster one; a position hardly costs more than none."""
    last, judged = lengths[-1], []
    if LOCAL in names:
        what = f"exponent of {LOCAL}, {lengths[0]} to {last}"
        judged.append(goal(what, EXPONENT, exponents[LOCAL], "0", at_most=True))
        for length in lengths:
            if length >= FASTER_FROM and (BASE, length) in times:
                found = ratios(times[BASE, length], times[LOCAL, length])
                judged.append(goal(f"{LOCAL} at {length}, speed", 1.0, found, BASE))
    for name in (name for name in names if name in BIASED):
        own, base = memory[name, last], memory[BASE, last]
        time = space = None
        if own is not None and base is not None:
            time = ratios(times[name, last], times[BASE, last])
            space = spread([own / max(base, 1)])
        judged.append(goal(f"{name} at {last}, time", TIMES_TIME, time, BASE, at_most=True))
        judged.append(goal(f"{name} at {last}, memory", TIMES_MEMORY, space, BASE, at_most=True))
    return judged
