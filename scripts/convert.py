"""Start from pretrained: `scripts/convert.py SOURCE FOLDER [--revision R] [--any_switch value ...]`."""

import _cli

USAGE = """\
usage: convert.py SOURCE FOLDER [--name value ...]

Converts a pretrained BART, mBART, Pegasus, Marian, T5 or mT5, a folder or the name of a model on the Hub, and writes
model, generation config and tokenizer to a folder that is new or empty. What is written computes what the source
computes; translate.py, evaluate.py and init_from of train.py take it. Examples:

  scripts/convert.py Helsinki-NLP/opus-mt-en-de models/opus_en_de
  scripts/convert.py facebook/bart-base models/bart --revision main
  scripts/convert.py facebook/bart-base models/bart_rope --position_encoding rope

A switch that is given takes the place of the source's. What then has no weights is drawn anew and listed, and the model
needs training.

Here:
  --revision text, null  (default: null)
      Commit, tag or branch on the Hub.
  --seed number  (default: 42)
      Of what is drawn anew."""


def main(arguments: list[str]) -> None:
    """Read the command line, convert, print."""
    typed = _cli.parse(arguments)
    if typed.help:
        title = "Switches; what is left out is as in the source, whatever the default"
        switches = _cli.settings_help(_cli.MODEL, title, skip=_cli.DECIDED_ELSEWHERE)
        print(f"{USAGE}\n\n{switches}")
        return
    if len(typed.positional) != 2:
        raise _cli.UsageError(
            f"a source and a folder to write to are needed, got {typed.positional or 'none'}. See --help."
        )
    from transformers import set_seed
    from transformers.utils import logging as transformers_logging

    from selfattn_hf.conversion import convert_folder
    from selfattn_hf.training.fields import near_name, read_typed
    from selfattn_hf.training.settings import MODEL_TYPES

    transformers_logging.disable_progress_bar()
    types = {"revision": str | None, "seed": int, **MODEL_TYPES}
    given = {}
    for name, word in typed.named.items():
        if name not in types:
            raise _cli.UsageError(f"there is no setting {name} for a conversion. {near_name(name, types)}")
        given[name] = read_typed(name, word, types[name])
    set_seed(given.pop("seed", 42))
    source, folder = typed.positional
    report, has_tokenizer = convert_folder(source, folder, **given)
    print(report)
    print(f"written to {folder}")
    if not has_tokenizer:
        print(f"{source} has no tokenizer, so there is none in {folder}: save one there before you translate or train.")


if __name__ == "__main__":
    _cli.run(main)
