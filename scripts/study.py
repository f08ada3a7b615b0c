"""Compare runs: `scripts/study.py STUDY.yaml` trains a grid of them; `--match parameters` gives files the same size."""

from pathlib import Path
from typing import Any

import _cli

USAGE = """\
usage: study.py STUDY.yaml [--name value ...]
       study.py --match parameters CONFIG.yaml CONFIG.yaml ... [--name value ...]
       study.py --page PAGE.md

Trains every cell of a grid for every seed, at equal budget and, where the file says so, at equal parameters; tries all
of them on the same test sets; writes results.json, results.parquet, a table and pictures. After any stop the same
command goes on; no cell is trained twice, and one that fails is recorded and does not stop the others. Examples:

  scripts/study.py configs/studies/reach_task.yaml --dry_run
  scripts/study.py configs/studies/length_curve_scan.yaml --dataset path/to/scan --seeds 1,2
  scripts/study.py configs/studies/ladder.yaml --shard 2/5     # on the second of five machines
  scripts/study.py configs/studies/ladder.yaml --results       # when their output folders are together

Of a study:
  --shard text, null  (default: null)
      N/K: the N-th of K parts of the list of runs, for machines that share the output folder or merge theirs later.
  --dry_run true, false  (default: false)
      Only list the cells with parameters and budget.
  --results true, false  (default: false)
      Only gather what is there, and draw it.
  --retry true, false  (default: false)
      Try once more what has failed.
  --seeds a list, null  (default: null)
      In place of those in the file, as in 1,2.
  --output_dir text, null  (default: null)
      Folder of the study; null: runs/studies/NAME. Studies with one folder share their cells.

The file has `base` (a settings file, or settings), `vary` (setting -> values; `all` for every word of it), `cells`
(name -> settings or file), `seeds`, `match`, `tests`, `curve`, and `encodings` of your own (my_name:
my_file.py:MyClass, which executes that file); see selfattn_hf/training/study.py and configs/studies.

With --match parameters it sizes the models of several settings files so that they have equally many parameters:
intermediate_size where that is enough, else hidden_size too; the number of heads stays. Prints what changes, and writes
the files with the new sizes where asked to. Nothing is trained, and no memory is taken for weights. Examples:

  scripts/study.py --match parameters configs/lecture/*.yaml
  scripts/study.py --match parameters configs/lecture/*.yaml --parameters 500000 --write runs/equal
  scripts/study.py --match parameters a.yaml b.yaml --reference b --tolerance 0.005 --encoder_layers 4

Then there are:
  --match parameters  (required)
      What is made equal.
  --reference text, null  (default: null)
      File, without folder and ending, whose model stays and whose count is the target; null: the first.
  --parameters number, null  (default: null)
      Number of parameters to aim at, instead of a reference.
  --tolerance number  (default: 0.02)
      Share of the target by which a count may differ.
  --vocab_size number, null  (default: null)
      Tokens of the vocabulary; null: tokenizer_vocab_size of each file. A trained tokenizer may have fewer, one of
      whole words above all: train.py prints how many.
  --write text, null  (default: null)
      Folder for the files with the new sizes; each run then goes to runs/FOLDER/NAME.

With --page it writes the tables of a page, each between `<!-- study: NAME -->` and `<!-- end of study -->`, from the
results that lie beside the page in studies/NAME/results.json. Example:

  scripts/study.py --page docs/studies.md

Every setting of train.py is taken too, see train.py --help, and holds for all files and cells.
"""
FLAGS = ("dry_run", "results", "retry")


def main(arguments: list[str]) -> None:
    """Read the command line; run a study, or match."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE.rstrip())
        return
    if "match" in typed.named:
        match(typed)
        return
    if "page" in typed.named:
        write_page(typed)
        return
    own: dict[str, Any] = {}
    for name in FLAGS:
        word = typed.named.pop(name, False)
        if isinstance(word, str) and word not in ("true", "false"):  # it stands in front of the file
            typed.positional.append(word)
        own[name] = word not in (False, "false")
    if len(typed.positional) != 1:
        raise _cli.UsageError(
            f"one study file is needed, got {typed.positional or 'none'}. --match parameters is needed to give several "
            "settings files the same size. See --help."
        )
    study(typed, _shard(typed.named.pop("shard", None)), **own)


def study(typed: _cli.CommandLine, shard: tuple[int, int] | None, *, dry_run: bool, results: bool, retry: bool) -> None:
    """Read, run, gather, show."""
    from selfattn_hf.training import read_study, run_study, show_plan, show_study

    read = read_study(typed.positional[0], typed.named)
    runs = read.unique if shard is None else read.shard(*shard)
    if dry_run:
        print(show_plan(read, runs))
        return
    outcome = None if results else run_study(read, runs, retry=retry)
    from selfattn_hf.insight import draw_study, theory_columns

    gathered, table, written = show_study(read, theory_columns(read.configs))
    print(table)
    try:
        written += draw_study(gathered, read.folder)
    except ValueError as error:
        print(f"no pictures: {error}")
    print("\n".join(f"wrote {path}" for path in written))
    if outcome is not None and outcome.failed:
        raise ArithmeticError(f"{len(outcome.failed)} of {len(runs)} runs failed: {', '.join(outcome.failed)}.")


def write_page(typed: _cli.CommandLine) -> None:
    """Write the tables of a page."""
    page = typed.named.pop("page")
    if typed.positional or typed.named or not isinstance(page, str):
        raise _cli.UsageError("--page takes one page and stands alone, as in --page docs/studies.md. See --help.")
    from selfattn_hf.training import write_study_page

    print(f"wrote {page}, with the tables of {', '.join(write_study_page(Path(page)))}")


def _shard(word: str | bool | None) -> tuple[int, int] | None:
    if word is None:
        return None
    number, _, of = str(word).partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise _cli.UsageError(f"--shard takes N/K with N from 1 to K, such as 2/5, got {word}.")
    return int(number), int(of)


def match(typed: _cli.CommandLine) -> None:
    """Give settings files the same size."""
    if typed.named.pop("match") != "parameters":
        raise _cli.UsageError("--match parameters is needed: it says what is made equal. See --help.")
    if not typed.positional:
        raise _cli.UsageError("settings files are needed, one for each model to compare, got none. See --help.")
    from selfattn_hf.training import match_parameters, read_family, write_family
    from selfattn_hf.training.fields import read_typed

    own = {
        name: read_typed(name, typed.named.pop(name), annotation)
        for name, annotation in (
            ("reference", str | None), ("parameters", int | None), ("tolerance", float), ("vocab_size", int | None),
            ("write", str | None),
        )
        if name in typed.named
    }  # fmt: skip
    if own.get("reference") is not None and own.get("parameters") is not None:
        raise _cli.UsageError("--reference and --parameters both say how many parameters to aim at. Give one of them.")
    target = own.get("reference") if own.get("parameters") is None else own["parameters"]
    family = read_family(typed.positional, typed.named, vocab_size=own.get("vocab_size"))
    tolerance = {"tolerance": own["tolerance"]} if "tolerance" in own else {}
    matched = match_parameters(family, reference=target, **tolerance)

    rows = [("config", "vocabulary", "before", "after", "difference", "changed")]
    for name, one in matched.items():
        changed = ", ".join(f"{size} {before} -> {after}" for size, (before, after) in one.changed.items()) or "nothing"
        vocabulary = f"{one.config.vocab_size:,}"
        rows.append((name, vocabulary, f"{one.before:,}", f"{one.after:,}", f"{one.difference:+.2%}", changed))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for name, *numbers, changed in rows:
        aligned = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        print("  ".join([name.ljust(widths[0]), *aligned, changed]))
    if own.get("write") is not None:
        for path in write_family(own["write"], typed.positional, matched, typed.named):
            print(f"wrote {path}")


if __name__ == "__main__":
    _cli.run(main)
