"""Training: real tokens per second, source and target, of a step (forward, backward, AdamW).

All sides run in one process and take turns, batch by batch. A ratio is that of the same batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ._batches import Batch, draw_batches, lengths_of
from ._check import check_training
from ._measure import OURS, Spread, goal, interleaved, peaks, ratios, spread, surroundings
from ._peers import RIVALS, Side, build, choose_attention
from ._sizes import SIZES

# How many times as many tokens a second as the fastest of Marian, BART and T5.
GOALS = {
    "float32": {"uniform": 1.15, "random": 2.4, "grouped": 1.25, "tail_random": 3.0},
    "bfloat16": {"uniform": 1.5, "random": 2.8, "grouped": 1.6},
}
LEARNING_RATE = 1e-4
Step = Callable[[Batch], None]


def run(options: Any) -> dict[str, Any]:
    """Check, measure and judge every workload that is asked for."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.sizes = SIZES[options.size]
    dtype = getattr(torch, options.dtype)
    multi30k = lengths_of(options) if options.dataset else None
    result: dict[str, Any] = {
        "benchmark": "train",
        "surroundings": surroundings(options),
        "settings": {
            "size": options.size, "dtype": options.dtype, "batch_size": options.batch_size, "repeats": options.repeats,
            "seed": options.seed, "dataset": options.dataset and options.dataset.rstrip("/").split("/")[-1],
        },
        "peaks": peaks(options.device, dtype, options.size == "tiny"), "checks": [], "goals": [], "rows": [],
    }  # fmt: skip
    batches = {name: draw_batches(name, 2 + options.repeats, options, multi30k) for name in options.workloads}
    for name, (fresh, *_) in batches.items():
        what = f"training on {name}, {options.dtype}"
        result["checks"].append(check_training(options.sizes, fresh, options.device, dtype, what))
    sides, result["left_out"] = build(options.sizes, options.device)
    steps = {name: make_step(side, options.device, dtype) for name, side in sides.items()}
    for workload, (_, *timed) in batches.items():
        rows, goals = measure(workload, timed, sides, steps, options, result["peaks"])
        result["rows"] += rows
        result["goals"] += goals
        fastest = ", ".join(f"{row['side']} {row['tokens_per_second']:.0f}" for row in rows)
        print(f"{workload}: {fastest} tokens/s", flush=True)
    return result


def make_step(side: Side, device: str, dtype: torch.dtype) -> Step:
    """Forward, backward and AdamW, the fused one for every side."""
    side.train()
    optimizer = torch.optim.AdamW(side.parameters(), lr=LEARNING_RATE, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype != torch.float32):
            loss = side(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(
    workload: str, batches: list[Batch], sides: dict[str, Side], steps: dict[str, Step], options: Any,
    best: dict[str, float],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """A row for every side, and the goal where there is one; the first batch warms up."""
    warm_up, *timed = batches
    attention = {
        name: choose_attention(name, side, partial(steps[name], warm_up), options.device)
        for name, side in sides.items()
    }
    took = interleaved(steps, batches, options.device, warm_up=1)
    efficiency = sum(batch.real_tokens for batch in timed) / sum(batch.padded_tokens for batch in timed)
    rows = []
    for name, times in took.items():
        rates = spread([batch.real_tokens / taken for batch, taken in zip(timed, times, strict=True)])
        flops = spread(
            [options.sizes.training_flops(batch.lengths) / taken for batch, taken in zip(timed, times, strict=True)]
        )
        rows.append({
            "workload": workload, "real_share": round(efficiency, 3), "side": name, "attention": attention[name],
            "tokens_per_second": rates.rounded()[0], "selfattn_over_it": ratios(times, took[OURS]).rounded(3),
            "of_matmul_peak": round(flops.median / best["matmul_gflops"] / 1e9, 3),
        })  # fmt: skip
    wanted = GOALS.get(options.dtype, {}).get(workload)
    return rows, [] if wanted is None else [against_rivals(f"{workload}, {options.dtype}", wanted, took)]


def against_rivals(what: str, wanted: float, took: dict[str, list[float]]) -> dict[str, Any]:
    """The goal against the fastest of transformers' own models."""
    found: dict[str, Spread] = {name: ratios(took[name], took[OURS]) for name in RIVALS if name in took}
    fastest = min(found, key=lambda name: found[name].median)
    return goal(what, wanted, found[fastest], fastest)
