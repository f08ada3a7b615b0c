"""Decoding: tokens per second of `generate`, greedy and by beam search, one sentence and many at once.

Weights are random. The end token is suppressed, so that every side writes the same number of tokens for every row.
"""

import copy
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfattn_hf.inference.int8 import to_int8

from ._batches import Batch
from ._check import check_decoding
from ._ctranslate2 import translators_of
from ._measure import OURS, goal, interleaved, peaks, ratios, spread, surroundings
from ._peers import RIVALS, XTransformers, build, choose_attention
from ._sizes import SIZES

# (rows, beams) -> how many times as many tokens a second as Marian.
GOALS = {(1, 1): 2.4, (1, 5): 2.2, (32, 1): 1.8, (32, 5): 2.0}
LEVEL = 1.0  # with CTranslate2 in the same number format
SOURCE = (16, 24)  # tokens of a source
OURS_INT8 = f"{OURS} int8"  # as `Translator` with int8=True
# (rows, beams) -> how many times as many tokens a second as CTranslate2, both with weights of 8 bits.
GOALS_INT8 = {(1, 1): 0.5, (1, 5): 0.5, (32, 1): 1.0, (32, 5): 1.0}
Writer = Callable[[Batch], torch.Tensor | list[list[str]]]


def run(options: Any) -> dict[str, Any]:
    """Check, measure and judge every number of rows and beams."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    sizes = SIZES[options.size].without_dropout()
    result: dict[str, Any] = {
        "benchmark": "generate", "surroundings": surroundings(options),
        "settings": {
            "size": options.size, "new_tokens": options.new_tokens, "rows": options.rows, "beams": options.beams,
            "repeats": options.repeats, "seed": options.seed,
        },
        "peaks": peaks(options.device, torch.float32, options.size == "tiny"), "checks": [], "goals": [], "rows": [],
    }  # fmt: skip
    sides, result["left_out"] = build(sizes, options.device, (OURS, *RIVALS, "x-transformers"))
    for beams in options.beams:
        fresh = draw(8, sizes.vocabulary, options.seed + 1000).to(options.device)
        what = "greedy search" if beams == 1 else f"beam search, {beams} beams"
        result["checks"].append(check_decoding(sides[OURS].model.eval(), fresh, beams, what))
    if options.device == "cpu":
        sides[OURS_INT8] = copy.deepcopy(sides[OURS])
        to_int8(sides[OURS_INT8].model)
    else:
        result["left_out"][OURS_INT8] = "weights of 8 bits are for a CPU"
    with tempfile.TemporaryDirectory() as folder:
        translators = translators_of(sizes, Path(folder), options, result["left_out"])
        for rows, beams in itertools.product(options.rows, options.beams):
            batches = [
                draw(rows, sizes.vocabulary, options.seed + number).to(options.device)
                for number in range(options.repeats + 1)
            ]
            writers = {
                name: writer(side, beams, options.new_tokens)
                for name, side in sides.items()
                if beams == 1 or not isinstance(side, XTransformers)
            }
            writers |= {name: make(beams, options.new_tokens) for name, make in translators.items()}
            check_lengths(writers, batches[0], options.new_tokens)
            attention = {
                name: choose_attention(name, side, partial(writers[name], batches[0]), options.device)
                for name, side in sides.items()
                if name in writers and name != OURS_INT8
            }
            measured, goals = measure(rows, beams, batches, writers, sizes, options, result["peaks"])
            result["rows"] += [{**row, "attention": attention.get(row["side"], "its own")} for row in measured]
            result["goals"] += goals
            rates = ", ".join(f"{row['side']} {row['tokens_per_second']:.0f}" for row in measured)
            print(f"rows {rows}, beams {beams}: {rates} tokens/s", flush=True)
    return result


def draw(rows: int, vocabulary: int, seed: int) -> Batch:
    """Sources of about twenty tokens; the targets are not read."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SOURCE[0], SOURCE[1] + 1, (rows,), generator=random).tolist()
    return Batch.draw([(length, 1) for length in lengths], vocabulary, seed)


def writer(side: Any, beams: int, new_tokens: int) -> Writer:
    """What writes `new_tokens` for each row of a batch, by transformers' `generate` or by x-transformers' own."""
    side.eval()
    if isinstance(side, XTransformers):
        return lambda batch: side.model.generate(
            batch.source, batch.decoder_inputs[:, :1], new_tokens, mask=batch.source_mask.bool(), temperature=0.0,
            cache_kv=True,
        )  # fmt: skip
    settings = {"num_beams": beams, "do_sample": False, "min_new_tokens": new_tokens, "max_new_tokens": new_tokens}

    @torch.inference_mode()
    def write(batch: Batch) -> torch.Tensor:
        answers: torch.Tensor = side.model.generate(
            input_ids=batch.source, attention_mask=batch.source_mask, **settings
        )
        return answers

    return write


def check_lengths(writers: dict[str, Writer], batch: Batch, new_tokens: int) -> None:
    """Every side writes as many tokens as every other; transformers returns the start token besides.

    Raises:
        ValueError: where one does not.
    """
    for name, write in writers.items():
        for answer in write(batch):
            written = len(answer) - isinstance(answer, torch.Tensor) * (name != "x-transformers")
            if written != new_tokens:
                raise ValueError(f"{name} wrote {written} tokens where {new_tokens} are timed.")


def measure(
    rows: int, beams: int, batches: list[Batch], writers: dict[str, Writer], sizes: Any, options: Any,
    best: dict[str, float],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """A row for every side, and the goals of this number of rows and beams.

    A step reads the decoder's weights once for all rows: their bytes are compared with what memory can stream, and two
    operations for each weight, row and beam with what a matrix product reaches.
    """
    took = interleaved(writers, batches, options.device, warm_up=1)
    weights = sizes.decoding_weights()
    measured = []
    for name, times in took.items():
        steps = spread([options.new_tokens / taken for taken in times]).median
        in_bytes = "int8" in name  # and not in the format whose peak was measured
        flops, read = 2 * weights * rows * beams * steps, (1 if in_bytes else 4) * weights * steps
        measured.append({
            "rows": rows, "beams": beams, "side": name, "tokens_per_second": float(f"{steps * rows:.4g}"),
            "selfattn_over_it": ratios(times, took[OURS]).rounded(3),
            "of_matmul_peak": None if in_bytes else round(flops / best["matmul_gflops"] / 1e9, 3),
            "of_memory_stream": round(read / best["stream_gb_s"] / 1e9, 3),
        })  # fmt: skip
    what = f"{rows} {'row' if rows == 1 else 'rows'}, {'greedy' if beams == 1 else f'beam {beams}'}"
    wanted = {"Marian": GOALS.get((rows, beams)), "CTranslate2 float32": LEVEL if (rows, beams) in GOALS else None}
    goals = [
        goal(what, least, ratios(took[name], took[OURS]), name)
        for name, least in wanted.items()
        if least is not None and name in took
    ]
    least, rival = GOALS_INT8.get((rows, beams)), "CTranslate2 int8"
    if least is not None and OURS_INT8 in took and rival in took:
        goals.append(goal(f"{what}, int8", least, ratios(took[rival], took[OURS_INT8]), rival))
    return measured, goals
