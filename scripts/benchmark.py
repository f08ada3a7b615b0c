"""Measure what a choice costs, on this machine: `scripts/benchmark.py mask [--lengths 16 32 64] [--threads 1]`.

    mask    the future masked in one pass, against every prefix recomputed (the same outputs, see insight/prefixes.py)

Both sides of a comparison take turns in one process, and medians are given. Timings are of this machine and this
moment; ratios travel better than seconds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mask"], help="which comparison")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64, 128, 256], help="target tokens")
    parser.add_argument("--hidden_size", type=int, default=128, help="width of the model (default: 128)")
    parser.add_argument("--layers", type=int, default=2, help="decoder layers (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="times that each side is measured (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    options = parser.parse_args()
    rows = _mask(options)
    print(f"{'tokens':>8}{'mask, ms':>12}{'prefixes, ms':>14}{'ratio':>9}{'difference':>12}")
    for row in rows:
        print(
            f"{row['tokens']:>8}{row['mask_ms']:>12.2f}{row['prefixes_ms']:>14.2f}{row['ratio']:>8.1f}x"
            f"{row['difference']:>12.0e}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _mask(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Forward and backward of a decoder, masked and prefix by prefix; outputs are compared before they are timed."""
    import torch

    from selfattn_hf import SelfAttnConfig, SelfAttnForCausalLM
    from selfattn_hf.insight import prefix_by_prefix

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = SelfAttnConfig(
        vocab_size=1000,
        hidden_size=options.hidden_size,
        intermediate_size=4 * options.hidden_size,
        decoder_layers=options.layers,
        num_attention_heads=4,
    )
    model = SelfAttnForCausalLM(config).eval()

    def step(ids: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        logits = model(input_ids=ids, use_cache=False).logits
        logits.square().mean().backward()
        return logits.detach()

    def slow_step(ids: torch.Tensor) -> torch.Tensor:
        with prefix_by_prefix(model):
            return step(ids)

    rows = []
    for length in options.lengths:
        ids = torch.randint(3, 1000, (1, length))
        difference = float((step(ids) - slow_step(ids)).abs().max())
        mask, prefixes = _interleaved([lambda ids=ids: step(ids), lambda ids=ids: slow_step(ids)], options.repeats)  # type: ignore[misc]
        rows.append({
            "tokens": length, "mask_ms": mask, "prefixes_ms": prefixes, "ratio": prefixes / mask,
            "difference": difference,
        })  # fmt: skip
    return rows


def _interleaved(sides: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median milliseconds of each side, measured in turns."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, times in zip(sides, taken, strict=True):
            start = time.perf_counter()
            side()
            times.append(1000 * (time.perf_counter() - start))
    return [statistics.median(times) for times in taken]


if __name__ == "__main__":
    main()
