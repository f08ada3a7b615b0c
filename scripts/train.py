"""Train a model as a settings file says: `scripts/train.py CONFIG.yaml [--any_setting value ...]`."""

import _cli

USAGE = """\
usage: train.py CONFIG.yaml [--name value ...]

Trains a sequence-to-sequence model and leaves one folder: model, tokenizer, settings, results. The command line beats
the file, the file beats the default. Ctrl-C or SIGTERM finishes the step and saves; after any stop, the same command
goes on from the newest whole checkpoint. Examples:

  scripts/train.py configs/quickstart.yaml
  scripts/train.py configs/quickstart.yaml --encoder_mixer rnn --position_encoding none --output_dir runs/rnn
  scripts/train.py runs/quickstart/settings.yaml --output_dir runs/again --seed 2
"""


def help_text() -> str:
    """The settings in groups, read from the sources."""
    defaults = _cli.constant_of(_cli.ARGUMENTS, "TRAINING_DEFAULTS")
    refused = _cli.names_of(_cli.ARGUMENTS, "NOT_TAKEN")
    ours = ", ".join(f"{name} {_cli.plain(value)}" for name, value in defaults.items())
    return "\n\n".join(
        [
            USAGE,
            _cli.settings_help(_cli.MODEL, "Model: the switches", skip=_cli.DECIDED_ELSEWHERE),
            _cli.settings_help(_cli.DATA, "Data"),
            _cli.settings_help(_cli.RUN, "Run"),
            _cli.fill(
                "Every field of transformers' Seq2SeqTrainingArguments is taken too, but those listed last: "
                "learning_rate, max_steps, num_train_epochs, eval_steps, label_smoothing_factor, lr_scheduler_type, "
                "gradient_accumulation_steps, bf16, seed and so on, see "
                "https://huggingface.co/docs/transformers/main_classes/trainer. "
                f"Where ours differ, the defaults are: {ours}"
                "; output_dir is runs/NAME-OF-THE-CONFIG. Evaluation and saving come once an epoch, or every "
                "eval_steps."
            ),
            _cli.fill(
                "Not taken, because something above replaces them or they would do nothing: " + ", ".join(refused) + "."
            ),
        ]
    )


def main(arguments: list[str]) -> None:
    """Read the command line, train."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(help_text())
        return
    if len(typed.positional) != 1:
        raise _cli.UsageError(f"one settings file is needed, got {typed.positional or 'none'}. See --help.")
    from selfattn_hf.training import read_settings, train

    train(read_settings(typed.positional[0], typed.named))


if __name__ == "__main__":
    _cli.run(main)
