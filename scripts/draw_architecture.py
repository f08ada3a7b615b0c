"""Draw the model that a settings file or a saved folder describes: `scripts/draw_architecture.py CONFIG.yaml ...`."""

from pathlib import Path

import _cli

USAGE = """\
usage: draw_architecture.py CONFIG.yaml|MODEL_FOLDER ... [--folder FOLDER] [--changes]

Writes FOLDER/NAME.svg for every settings file or saved model: encoder and decoder with all parts that are switched on,
drawn from the config alone. With --changes, what each has that the one before has not is marked, and said in words.

  scripts/draw_architecture.py configs/lecture/*.yaml --folder runs/pictures --changes

Here:
  --folder text  (default: runs/pictures)
      Where the pictures are written.
  --changes
      Mark what changed from one to the next.
"""


def main(arguments: list[str]) -> None:
    """Read the command line, draw, write, print."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE.rstrip())
        return
    folder, marked = typed.named.pop("folder", "runs/pictures"), typed.named.pop("changes", False)
    if typed.named or not isinstance(folder, str) or not isinstance(marked, bool):
        raise _cli.UsageError(f"--folder FOLDER and --changes are all that can be given, got {' '.join(arguments)}.")
    if not typed.positional:
        raise _cli.UsageError("settings files or saved folders are needed, one for each picture. See --help.")
    from selfattn_hf import SelfAttnConfig
    from selfattn_hf.insight.architecture import changes, draw_architecture, draw_changes
    from selfattn_hf.training import read_family

    before = None
    Path(folder).mkdir(parents=True, exist_ok=True)
    for given in typed.positional:
        path = Path(given)
        config = SelfAttnConfig.from_pretrained(path) if path.is_dir() else read_family([path])[path.stem]
        target = Path(folder) / f"{path.name if path.is_dir() else path.stem}.svg"
        with_marks = marked and before is not None
        target.write_text(draw_changes(before, config) if with_marks else draw_architecture(config), encoding="utf-8")
        print(
            f"wrote {target}" + "".join(f"\n  {change}" for change in (changes(before, config) if with_marks else []))
        )
        before = config


if __name__ == "__main__":
    _cli.run(main)
