"""Evaluate a trained model: `scripts/evaluate.py MODEL [--dataset ... --test_split ... --num_beams ...]`."""

import _cli

USAGE = """\
usage: evaluate.py MODEL [--name value ...]

Evaluates a folder that train.py left, or a model on the Hub, on the test split of its data set (the validation split
where there is no test split), and prints the figures with their signatures. Examples:

  scripts/evaluate.py runs/quickstart
  scripts/evaluate.py runs/multi30k_en_de --num_beams 5 --output beam5.json
  scripts/evaluate.py runs/scan_simple --dataset data/scan/length --test_split test

Data settings come from settings.yaml beside the model; what is given here beats them.
"""
# What can be asked anew of a model that is trained: not its tokenizer, nor how it was trained.
DATA = (
    "dataset", "dataset_config", "dataset_revision", "source_column", "target_column", "test_split",
    "max_source_length", "max_target_length", "too_long", "bad_rows", "max_eval_rows",
    "syntax", "syntax_column", "syntax_language",
)  # fmt: skip
RUN = ("num_beams", "max_new_tokens", "length_penalty", "metric", "examples")
OWN = """\
Here:
  --per_device_eval_batch_size number  (default: 64)
      Rows of a batch.
  --output text, null  (default: null)
      File to write the figures to, as JSON."""


def main(arguments: list[str]) -> None:
    """Read the command line, evaluate, print."""
    typed = _cli.parse(arguments)
    if typed.help:
        groups = [_cli.settings_help(_cli.DATA, "Data", only=DATA), _cli.settings_help(_cli.RUN, "Run", only=RUN)]
        print("\n\n".join([USAGE, *groups, OWN]))
        return
    if len(typed.positional) != 1:
        raise _cli.UsageError(
            f"one model is needed, a folder or a Hub id, got {typed.positional or 'none'}. See --help."
        )
    from selfattn_hf.training import evaluate

    evaluate(typed.positional[0], typed.named)


if __name__ == "__main__":
    _cli.run(main)
