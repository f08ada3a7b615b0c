"""Memory of a training step with a large vocabulary: the most that a process holds, less what it held before.

Weights, gradients and the two states of AdamW are part of it, 16 bytes for each weight in float32; what a step takes
beyond them is given beside it.
"""

from typing import Any

import torch

from . import _peers
from ._batches import MULTI30K, Batch
from ._check import check_training
from ._children import in_a_child, peak_of
from ._measure import MB, OURS, goal, leave_out, peaks, ratios, spread, surroundings
from ._sizes import SIZES, Sizes
from ._train import make_step

MOST = 0.5  # of what the best of Marian, BART and T5 takes
STATE_BYTES = 16


def run(options: Any) -> dict[str, Any]:
    """Check, measure and judge."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    sizes = SIZES[options.size].with_vocabulary(options.vocabulary)
    batch = draw(sizes, options)
    result: dict[str, Any] = {
        "benchmark": "memory", "surroundings": surroundings(options),
        "settings": {
            "size": options.size, "vocabulary": options.vocabulary, "batch_size": options.batch_size,
            "repeats": options.repeats, "seed": options.seed,
        },
        "peaks": peaks(options.device, torch.float32, options.size == "tiny"), "left_out": {},
        "checks": [check_training(sizes, batch.to(options.device), options.device, torch.float32, "training")],
        "goals": [], "rows": [],
    }  # fmt: skip
    taken: dict[str, list[float]] = {}
    for name in _peers.SIDES:
        found = [
            in_a_child(step_of, name, sizes, batch, options.device, options.threads) for _ in range(options.repeats)
        ]
        if reason := next((one for one in found if isinstance(one, str)), None):
            leave_out(name, reason, result["left_out"])
            continue
        taken[name] = [most for most, _ in found]
        most, parameters = spread(taken[name]), found[0][1]
        state = parameters * STATE_BYTES / MB
        result["rows"].append({
            "side": name, "parameters": parameters, "peak_mb": most.rounded(),
            "beyond_weights_and_optimizer_mb": round(most.median - state, 1),
        })  # fmt: skip
        print(f"{name}: {most.median:.0f} MB, {state:.0f} of them weights, gradients and AdamW", flush=True)
    rivals = [name for name in _peers.RIVALS if name in taken]
    if rivals:
        least = min(rivals, key=lambda name: spread(taken[name]).median)
        shares = ratios(taken[OURS], taken[least]) if OURS in taken else None
        result["goals"].append(goal("peak of a training step", MOST, shares, least, at_most=True))
    return result


def draw(sizes: Sizes, options: Any) -> Batch:
    """Rows of Multi30k's lengths in a random order."""
    return Batch.draw(MULTI30K.draw(options.batch_size, options.seed), sizes.vocabulary, options.seed)


def step_of(name: str, sizes: Sizes, batch: Batch, device: str, threads: int) -> tuple[float, int] | str:
    """In a process of its own: the most MB of two steps, and the parameters; a text says why there are none."""
    torch.set_num_threads(threads)
    parameters = 0

    def make(sizes: Sizes = sizes, batch: Batch = batch) -> Any:
        nonlocal parameters
        side = _peers.SIDES[name](sizes).to(device)
        parameters = sum(parameter.numel() for parameter in side.parameters() if parameter.requires_grad)
        step, own = make_step(side, device, torch.float32), batch.to(device)

        def two_steps() -> None:  # the states of AdamW come with the first
            step(own)
            step(own)

        return two_steps

    try:
        # What is loaded when it is first used must not count: a tiny model first.
        tiny = SIZES["tiny"]
        make(tiny, Batch.draw([(4, 3), (2, 5)], tiny.vocabulary, 0))()
    except ImportError as error:
        return str(error)
    most = peak_of(make, device)
    return "the machine has not enough memory" if most is None else (most, parameters)
