"""Show models from the inside, on one static page: `scripts/report.py MODEL_FOLDER... [--output report.html]`."""

from pathlib import Path

import _cli

USAGE = """\
usage: report.py MODEL_FOLDER... [--output FILE] [--data FILE] [--sentences FILE] [--tiny FOLDER] [--notebook FILE]

Writes one HTML file that shows what happens inside the models: steps and reach, attention, one head step by step,
order, depth, the mask, fixed and dynamic weights, theory beside measurement. It opens by a double click and asks
nothing of any network; it can be the index.html of a static Space. With several models it shows what changed between
them.
Examples:

  scripts/report.py runs/quickstart
  scripts/report.py runs/01_rnn_attention runs/07_transformer --output ladder.html --data ladder.json
  scripts/report.py runs/quickstart --notebook report.ipynb

Here:
  --output text  (default: report.html in the first model's folder)
      Where the page is written.
  --data text, null  (default: null)
      Where the data of the page are written too, as JSON.
  --sentences text, null  (default: null)
      A file with a sentence in each line, four at most; null: examples of each folder's results.json.
  --tiny text, null  (default: null)
      Folder of a model of at most 100,000 parameters that answers inside the page; null: one of the models, if it is.
  --notebook text, null  (default: null)
      Writes a notebook that calls the same probes on the first model, instead of the page; running it needs matplotlib.
  --timed true, false  (default: true)
      Also measure the time of a gradient step."""
OWN = ("output", "data", "sentences", "tiny", "notebook", "timed")


def main(arguments: list[str]) -> None:
    """Read the command line, look, write, print."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE)
        return
    unknown = sorted(set(typed.named) - set(OWN))
    if unknown:
        raise _cli.UsageError(f"--{unknown[0]} is no setting of this script; it takes {', '.join(OWN)}. See --help.")
    if not typed.positional:
        raise _cli.UsageError("the folder of a model is needed, or several, and none was given. See --help.")
    named = {name: None if value == "null" else value for name, value in typed.named.items()}
    for name in OWN[:-1]:
        if named.get(name) is True:
            raise _cli.UsageError(f"--{name} names a file or folder, and nothing stands behind it. See --help.")
    if named.get("timed") not in (None, True, "true", "false"):
        raise _cli.UsageError(f"--timed is true or false, got {named['timed']}.")
    folders = typed.positional
    sentences = _sentences(named.get("sentences"))
    if named.get("notebook"):
        from selfattn_hf.insight.report_notebook import write_notebook

        print(f"wrote {write_notebook(folders[0], str(named['notebook']), sentences)}")
        return
    from selfattn_hf.insight.report import write_report

    _quiet()
    first = Path(folders[0])
    output = Path(str(named.get("output") or (first if first.is_dir() else Path()) / "report.html"))
    write_report(
        folders,
        output,
        texts=sentences,
        tiny=None if named.get("tiny") is None else str(named["tiny"]),
        data_file=None if named.get("data") is None else str(named["data"]),
        timed=named.get("timed") != "false",
    )
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB); open it by a double click")
    if named.get("data"):
        print(f"wrote {named['data']}")


def _sentences(file: str | bool | None) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        ValueError: for a file without a sentence.
    """
    if file is None:
        return []
    lines = [line.strip() for line in Path(str(file)).read_text(encoding="utf-8").splitlines()]
    if not any(lines):
        raise ValueError(f"{file} has no sentence in any line. Write one in a line, four at most.")
    return [line for line in lines if line]


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


if __name__ == "__main__":
    _cli.run(main)
