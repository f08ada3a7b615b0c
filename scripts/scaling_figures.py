"""What a training step needs on N devices: memory of each, and what travels between them, from a config's own shapes.

scaling_figures.py                        the tables of docs/scaling.md
scaling_figures.py CONFIG.yaml --gpus 4   of the model of a settings file
"""

import _cli

USAGE = """\
usage: scaling_figures.py [CONFIG.yaml] [--gpus N] [--rows N] [--tokens N] [--vocabulary N]

Counts what one step of training needs on each device, and how many bytes each sends: with the whole model on every
device (DDP), and with weights, gradients and optimiser cut among them (FSDP2). Without a file: three models of 2.6, 60
and 1,000 million parameters on 1, 8 and 64 devices, the tables of docs/scaling.md.

  --gpus N        devices (1, 8 and 64)
  --rows N        rows of a device's batch (32)
  --tokens N      tokens of a source, and of a target (64)
  --vocabulary N  of the tokenizer (32000; 10000 for the smallest of the three)
"""


def number(typed: _cli.CommandLine, name: str, default: int) -> int:
    """A number from 1 on that was typed, or the default."""
    word = typed.named.pop(name, str(default))
    if not isinstance(word, str) or not word.isdecimal() or int(word) < 1:
        raise _cli.UsageError(f"--{name} is a whole number from 1 on, got {word!r}.")
    return int(word)


def main(arguments: list[str]) -> None:
    """Count, and print tables."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE)
        return
    rows, tokens = number(typed, "rows", 32), number(typed, "tokens", 64)
    devices = [number(typed, "gpus", 1)] if "gpus" in typed.named else [1, 8, 64]
    vocabulary = number(typed, "vocabulary", 32000)
    if typed.named:
        raise _cli.UsageError(f"--{next(iter(typed.named))} is no option of this script. See --help.")
    if len(typed.positional) > 1:
        raise _cli.UsageError(f"one settings file at most, got {typed.positional}.")
    from selfattn_hf import SelfAttnConfig
    from selfattn_hf.training import read_settings
    from selfattn_hf.training.scaling import EXAMPLES, table

    if typed.positional:
        switches = read_settings(typed.positional[0], {"output_dir": "runs/none"}).model
        print(table(SelfAttnConfig(**switches, vocab_size=vocabulary), devices, rows, tokens))
        return
    for name, switches in EXAMPLES.items():
        print(f"### {name}\n\n{table(SelfAttnConfig(**switches), devices, rows, tokens)}\n")


if __name__ == "__main__":
    _cli.run(main)
