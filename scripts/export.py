"""Export a trained model for another engine: onnxruntime, torch.export or CTranslate2.

    scripts/export.py FOLDER --to onnx                    FOLDER/onnx: two graphs, a tokenizer, a runner without torch
    scripts/export.py FOLDER --to onnx --int8             weights of 8 bits, by dynamic quantisation
    scripts/export.py FOLDER --to torch                   FOLDER/torch: encoder.pt2 and decoder.pt2
    scripts/export.py FOLDER --to ctranslate2 --int8      FOLDER/ctranslate2_int8

What was exported is opened again and compared with the model: greedy answers, token for token, on the lines of --text
or on rows of drawn tokens. Where they differ, the exit code is 1. What a target cannot hold is refused with the reason;
docs/serving.md has the table.
"""

import argparse
import itertools
from pathlib import Path

import _cli

TARGETS = ("onnx", "torch", "ctranslate2")


def main(arguments: list[str]) -> None:
    """Parse, export, print."""
    options = parse(arguments)
    texts = read_lines(options.text, options.rows) if options.text else []
    from transformers.utils import logging

    from selfattn_hf.inference import export_folder

    logging.disable_progress_bar()
    name = f"{options.to}_int8" if options.int8 else options.to
    output = options.output or Path(options.model) / name
    report = export_folder(
        options.model, options.to, output, int8=options.int8, texts=texts, rows=options.rows, revision=options.revision
    )
    print(report)
    if report.left_out:
        print(f"left out, since an export writes greedily: {', '.join(report.left_out)}")
    print(f"written to {report.folder}, {report.megabytes:.1f} MB")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line with the standard library alone, so that --help answers at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", metavar="FOLDER", help="folder that scripts/train.py left, or a model on the Hub")
    parser.add_argument("--to", choices=TARGETS, required=True, help="engine that will run it")
    parser.add_argument("--output", type=Path, metavar="DIR", help="new or empty folder (FOLDER/onnx, ...)")
    parser.add_argument("--int8", action="store_true", help="round weights to 8 bits; not for torch")
    parser.add_argument("--text", type=Path, metavar="FILE", help="compare on the first lines of this file")
    parser.add_argument("--rows", type=int, default=8, metavar="N", help="rows to compare (8)")
    parser.add_argument("--revision", help="commit, tag or branch of a model on the Hub")
    options = parser.parse_args(arguments)
    if options.rows < 1:
        parser.error(f"--rows is a number of rows and starts at 1, got {options.rows}")
    if options.output is None and not Path(options.model).is_dir():
        parser.error("a model on the Hub has no folder to write into; give --output")
    return options


def read_lines(path: Path, count: int) -> list[str]:
    """The first lines that are not empty."""
    with path.open(encoding="utf-8") as file:
        lines = list(itertools.islice((line.rstrip("\r\n") for line in file if line.strip()), count))
    if not lines:
        raise ValueError(f"{path} has no line to compare on. Name a file with a sentence a line.")
    return lines


if __name__ == "__main__":
    _cli.run(main)
