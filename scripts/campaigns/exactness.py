"""Campaign: how exact every combination of parts is, beside models of transformers.

    scripts/campaigns/exactness.py [--quick] [--layouts N] [--seed N] [--json FILE]

Every encoder mixer x decoder mixer x position that the config accepts, tiny, with random weights, and BART, T5, Marian,
M2M100 and LED of transformers go through the same probes: padding, batch mates, rows without a token, the future, the
cache, beam search against a search of the whole tree, and the loss. A row of the table is one probe: the number of its
promise, the largest figure that keeps it, the largest of all combinations of ours, how many there are, and the peers.
"""

import argparse
import contextlib
import io
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from _runs import Table  # noqa: E402

if TYPE_CHECKING:
    from _exact_models import Subject
    from _exact_probes import Probe
    from _exact_texts import Texts

QUICK = 2  # combinations


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure; returns how many combinations there are, and which rows miss their limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} combinations, drawn at random, and one peer")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of weights, texts and what is drawn")
    parser.add_argument("--layouts", type=int, default=25, metavar="N", help="of padding (default: 25)")
    parser.add_argument("--json", metavar="FILE", help="write every row there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="exactness_") as scratch:
        os.environ.setdefault("HF_HOME", f"{scratch}/home")
        with _alone():
            import _exact_training  # loads the code of training before anything is measured
            from _exact_models import PEERS, combinations, peers
            from _exact_probes import PROBES
            from _exact_texts import draw_texts

            ours, others = list(combinations(options.seed)), peers(options.seed)
            texts = draw_texts(options.seed, 5 if options.quick else options.layouts)
            if options.quick:
                ours, others = random.Random(options.seed).sample(ours, QUICK), others[:1]
            widths = {"promise": 8, "what": 42, "limit": 6, "ours": 8, "combinations": 13, **dict.fromkeys(PEERS, 9)}
            table = Table(len(PROBES) + 2, **widths, worst=0)
            empty = dict.fromkeys(PEERS, "-")
            for probe in PROBES:
                table.add(**empty | _row(probe, ours, others if probe.for_peers else [], texts))
            for smoothing in (0.0, 0.1):
                table.add(
                    **empty | _row_of_training(_exact_training.accumulation_in_training, smoothing, others, texts)
                )
            missed = [row["what"] for row in table.rows if not row["kept"]]
            kept = f"{len(table.rows) - len(missed)} of {len(table.rows)} figures are kept by all combinations"
            table.end(
                kept + (f"; missed: {', '.join(missed)}" if missed else ""), options.json,
                seed=options.seed, layouts=len(texts.layouts), missed=missed,
                combinations=[subject.name for subject in ours],
            )  # fmt: skip
    return {"combinations": len(ours), "missed": missed}


def measured(work: Callable[[], float]) -> float | str:
    """A figure, or the error that came instead."""
    try:
        return work()
    except Exception as error:  # whatever a model raises is its figure
        return f"{type(error).__name__}: {error}"


def summed_up(figures: Sequence[float | str], is_rate: bool) -> float | str:
    """The largest of all figures, or their mean; an error before NaN, NaN before any number."""
    errors = [figure for figure in figures if isinstance(figure, str)]
    if errors:
        return errors[0]
    numbers = [float(figure) for figure in figures]
    if any(map(math.isnan, numbers)):
        return math.nan
    return sum(numbers) / len(numbers) if is_rate else max(numbers)


def keeps(figure: float | str, limit: float | None) -> bool:
    """Whether a figure is within its limit; an error is in none, NaN neither."""
    return not isinstance(figure, str) and (limit is None or figure <= limit)


def shown(figure: float | str) -> str:
    """In a column of the table."""
    if isinstance(figure, str):
        return figure.split(":")[0][:9]
    return "0" if figure == 0 else f"{figure:.1e}" if figure < 0.01 else f"{figure:.3g}"


def _row(probe: "Probe", ours: Sequence["Subject"], others: Sequence["Subject"], texts: "Texts") -> dict[str, Any]:
    figures = {subject.name: measured(partial(probe.measure, subject.make, texts)) for subject in [*ours, *others]}
    own = {subject.name: figures[subject.name] for subject in ours}
    worst = max(own, key=lambda name: _badness(own[name]))
    return {
        **_cells(probe.promise, probe.what, probe.limit, summed_up(list(own.values()), probe.is_rate), len(ours)),
        **{subject.name: shown(figures[subject.name]) for subject in others},
        "worst": worst if own[worst] != 0 and probe.limit is not None else "",
        "figures": _for_a_file(figures),
    }


def _row_of_training(
    measure: Callable[..., float], smoothing: float, others: Sequence["Subject"], texts: "Texts"
) -> dict[str, Any]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        own = measured(partial(measure, None, texts, smoothing))
        figures = {subject.name: measured(partial(measure, subject, texts, smoothing)) for subject in others}
    return {
        **_cells(11, f"in the Trainer{', smoothed' if smoothing else ''}", 1e-4, own, 1),
        **{name: shown(figure) for name, figure in figures.items()},
        "worst": "",
        "figures": _for_a_file({"ours": own, **figures}),
    }


def _cells(promise: int, what: str, limit: float | None, own: float | str, count: int) -> dict[str, Any]:
    return {
        "promise": promise, "what": what, "limit": "-" if limit is None else shown(limit), "ours": shown(own),
        "combinations": count, "kept": keeps(own, limit),
    }  # fmt: skip


def _for_a_file(figures: dict[str, float | str]) -> dict[str, float | str]:
    """JSON has finite numbers alone."""
    return {
        name: figure if isinstance(figure, str) or math.isfinite(figure) else str(figure)
        for name, figure in figures.items()
    }


def _badness(figure: float | str) -> float:
    return math.inf if isinstance(figure, str) or math.isnan(figure) else figure


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One thread, and nothing on the screen but the table; afterwards as before."""
    import torch
    from transformers.utils import logging

    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        logging.set_verbosity(verbosity)


if __name__ == "__main__":
    sys.exit(1 if main()["missed"] else 0)
