"""What `scripts/export.py` leaves: sentences per second, megabytes and equal answers, beside the model itself.

Every side takes ids and writes ids, greedily; what turns text into ids is the same for all and not timed. Nothing is
timed before the exports with whole weights have written what `model.generate` writes, token for token, in batches of
the size that is timed; with weights of 8 bits equal answers are counted.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfattn_hf import Translator
from selfattn_hf.data import encode_texts
from selfattn_hf.inference.export_rows import Write, longest_answer, reference, start_and_ends, until_end
from selfattn_hf.inference.exporting import TARGETS
from selfattn_hf.sharing import files_of

from ._generate import OURS_INT8
from ._measure import OURS, agree, interleaved, leave_out, ratios, surroundings
from ._serve import read_sentences

EXPORTS = {
    f"{target} int8" if int8 else target: (target, int8)
    for target in TARGETS
    for int8 in (False, True)
    if not (int8 and target == "torch")
}
Rows = list[list[int]]


def run(options: Any) -> dict[str, Any]:
    """Export, check and measure, for every number of sentences at once.

    Raises:
        ValueError: for a GPU.
        MismatchError: where an export with whole weights does not write what the model writes.
    """
    if options.device != "cpu":
        raise ValueError(f"exports are run by engines on a CPU, got --device {options.device}. Leave it out.")
    torch.set_num_threads(options.threads)
    texts = read_sentences(options.text, options.sentences)
    settings = {name: getattr(options, name) for name in ("sentences", "rows", "repeats")}
    result: dict[str, Any] = {
        "benchmark": "export", "surroundings": surroundings(options),
        "settings": {"model": options.model.name, "text": options.text.name, **settings},
        "checks": [], "goals": [], "rows": [], "left_out": {},
    }  # fmt: skip
    ours = Translator.from_pretrained(options.model, device="cpu", dtype="float32")
    most, ends = longest_answer(ours.model), start_and_ends(ours.model)[1]
    ids = sorted(encode_texts(ours.tokenizers.source, texts), key=len, reverse=True)  # as Translator does
    with tempfile.TemporaryDirectory() as folder:
        sides, sizes = make_sides(ours, options.model, Path(folder), result["left_out"])
        for rows in options.rows:
            batches = [ids[start : start + rows] for start in range(0, len(ids), rows)]
            equal, checks = check(sides, batches, most, ends, rows)
            result["checks"] += checks
            writers = {name: partial(_write, write, most) for name, write in sides.items()}
            took = interleaved(writers, batches * options.repeats, warm_up=0)  # the check has warmed them up
            measured = [
                {
                    "rows": rows, "side": name,
                    "sentences_per_second": float(f"{len(ids) * options.repeats / sum(times):.3g}"),
                    "selfattn_over_it": ratios(times, took[OURS]).rounded(3),
                    "mb": sizes[name], "equal_answers": f"{equal[name]} of {len(ids)}",
                }
                for name, times in took.items()
            ]  # fmt: skip
            result["rows"] += measured
            rates = ", ".join(f"{each['side']} {each['sentences_per_second']:g}" for each in measured)
            print(f"rows {rows}: {rates} sentences/s", flush=True)
    return result


def make_sides(
    ours: Translator, model: Path, folder: Path, left_out: dict[str, str]
) -> tuple[dict[str, Write], dict[str, float]]:
    """What writes, and the MB of its files: the model in both formats, and every export that there is of it."""
    rounded = Translator.from_pretrained(model, device="cpu", int8=True)
    sides: dict[str, Write] = {OURS: partial(reference, ours.model), OURS_INT8: partial(reference, rounded.model)}
    sizes = dict.fromkeys(sides, megabytes(files_of(model).values()))  # rounded when it is loaded
    for name, (target, int8) in EXPORTS.items():
        there = folder / name
        there.mkdir()
        try:
            sides[name] = TARGETS[target](ours.model, ours.tokenizers, there, int8)()
        except (ImportError, ValueError) as error:  # no such package, or no place for this model
            leave_out(name, error, left_out)
        else:
            sizes[name] = megabytes(there.iterdir())
    return sides, sizes


def check(
    sides: Mapping[str, Write], batches: Sequence[Rows], most: int, ends: set[int], rows: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How many answers of each side are those of the model, and the checks that were passed.

    Raises:
        MismatchError: where an answer of a side with whole weights is another.
    """
    equal = dict.fromkeys(sides, 0)
    for batch in batches:
        expected = sides[OURS](batch, most)
        for name, write in sides.items():
            found = expected if name == OURS else [until_end(row, ends) for row in write(batch, most)]
            equal[name] += sum(one == other for one, other in zip(expected, found, strict=True))
    count = sum(map(len, batches))
    whole = [name for name in sides if name != OURS and "int8" not in name]
    checks = [agree(f"what {name} writes, {rows} at once,", 1 - equal[name] / count, 0) for name in whole]
    return equal, checks


def megabytes(files: Iterable[Path]) -> float:
    """Of files on the disk, 10^6 bytes each."""
    return round(sum(path.stat().st_size for path in files if path.is_file()) / 1e6, 1)


def _write(write: Write, most: int, batch: Rows) -> Rows:
    return write(batch, most)
