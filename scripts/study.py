"""Compare runs: `scripts/study.py --match parameters CONFIG.yaml CONFIG.yaml ...` gives models the same size."""

import _cli

USAGE = """\
usage: study.py --match parameters CONFIG.yaml CONFIG.yaml ... [--name value ...]

Sizes the models of several settings files so that they have equally many parameters: intermediate_size where that is
enough, else hidden_size too; the number of heads stays. Prints what changes, and writes the files with the new sizes
where asked to. Nothing is trained, and no memory is taken for weights. Examples:

  scripts/study.py --match parameters configs/lecture/*.yaml
  scripts/study.py --match parameters configs/lecture/*.yaml --parameters 500000 --write runs/equal
  scripts/study.py --match parameters a.yaml b.yaml --reference b --tolerance 0.005 --encoder_layers 4

Here:
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

Every setting of train.py is taken too, see train.py --help, and holds for all files.
"""


def main(arguments: list[str]) -> None:
    """Read the command line, match, print, write."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE.rstrip())
        return
    if typed.named.pop("match", None) != "parameters":
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
