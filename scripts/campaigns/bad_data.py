"""Campaign: bad data. Each set is refused before the first step, or its bad rows are counted.

    scripts/campaigns/bad_data.py [--quick] [--only WORD] [--json FILE]

A refusal is a ValueError or OSError whose sentence names file, row and column, whichever are to blame. Where the data
are let through, the line about the split must count what was dropped, cut or odd. In less than 5 seconds and 1 GiB.
Each set is read twice: as a whole, and as a stream, of which the first rows are looked at before the first step.
"""

import contextlib
import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from _judging import CLEAR, SILENT, UNCLEAR, Outcome, Report, chosen, measure, parse, verdict_on, workplace  # noqa: E402

if TYPE_CHECKING:
    from _data_cases import Case

RUN = {
    "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "tokenizer_type": "word", "use_cpu": True, "metric": "token_accuracy", "max_steps": 1,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "as a whole": {},
    "as a stream": {"streaming": True, "eval_strategy": "no", "save_steps": 1, "logging_steps": 1, "max_new_tokens": 9},
}


def main() -> int:
    """Write, run, sum up."""
    options = parse(__doc__)
    with workplace() as scratch:
        from _data_cases import CASES, GOOD, Case, jsonl

        # Here, and not in a child, so that what is imported once counts for no attempt.
        if (whole := attempt(Case("good rows", jsonl(GOOD)), scratch / "good")).verdict != SILENT:
            raise RuntimeError(f"good data are not let through: {whole}")
        cases = chosen(CASES, options)
        report = Report("bad data", len(cases) * len(WAYS))
        for number, case in enumerate(cases):
            for way in WAYS:
                door = f"{'refused' if case.refused else 'counted'}, {way}"
                report.add(case.name, door, measure(partial(attempt, case, scratch / f"{way}_{number}", way)))
        return report.finish(options.json)


def attempt(case: "Case", folder: Path, way: str = "as a whole") -> Outcome:
    """Run up to the first step on the data of a case."""
    from _doors import up_to_the_first_step

    folder.mkdir()
    values = RUN | WAYS[way] | case.write(folder) | case.settings | {"output_dir": str(folder / "run")}
    printed = io.StringIO()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            up_to_the_first_step(values)
    except Exception as error:
        outcome = verdict_on(error, case.refused)
        if (folder / "run").exists() or not case.refused:
            return Outcome(UNCLEAR, outcome.kind, f"not what was expected: {outcome.message}")
        return outcome
    said = printed.getvalue()
    counted = bool(case.counted) and all(words in said for words in case.counted)
    return Outcome(CLEAR if counted else SILENT, "", said)


if __name__ == "__main__":
    sys.exit(main())
