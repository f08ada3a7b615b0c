"""Translate text with a trained model: one sentence, a file, what comes through a pipe, or line by line as you type.

    scripts/translate.py MODEL                                  type sentences; through a pipe: one per line
    scripts/translate.py MODEL --text "a small dog sleeps"      one sentence
    scripts/translate.py MODEL FILE --output FILE               a file of any size, line by line
    scripts/translate.py MODEL FILE.conllu                      for a model trained on the trees of its data

Line n of the output belongs to line n of the input, or to its sentence n; an empty line stays empty.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from _cli import run

if TYPE_CHECKING:
    from selfattn_hf import Translator


def main(arguments: list[str]) -> None:
    """Parse, load, translate."""
    options = parse(arguments)
    given = {"num_beams": options.num_beams, "max_new_tokens": options.max_new_tokens}
    limits = {"batch_size": options.batch_size, "batch_tokens": options.batch_tokens}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    with contextlib.ExitStack() as files:
        # Files are opened first: a wrong name should not cost the seconds that loading a model takes.
        source = sys.stdin.buffer if options.file in (None, "-") else files.enter_context(open(options.file, "rb"))
        target = files.enter_context(open_output(options)) if options.output else sys.stdout.buffer
        translator = load(options)
        check_input(options, translator.reads_heads)
        if options.text is not None:
            write(target, translator(options.text, **given))
        elif translator.reads_heads:
            translate_sentences(translator, options.file, target, {**limits, **given})
        elif source is sys.stdin.buffer and sys.stdin.isatty():
            converse(translator, target, given)
        else:
            translate_lines(translator, source, target, options.file or "standard input", {**limits, **given})


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line with the standard library alone, so that --help answers at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", metavar="MODEL", help="folder that scripts/train.py left, or a model on the Hub")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="text in UTF-8, one sentence per line, or CoNLL-U; - is a pipe"
    )
    parser.add_argument("--text", help="one sentence, instead of a file")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--num_beams", type=positive, metavar="N", help="beams of the search, 1 is greedy (as saved)")
    parser.add_argument("--batch_size", type=positive, metavar="N", help="sentences that are computed at once (32)")
    most = "source tokens that are computed at once, at most: many short sentences, few long ones"
    parser.add_argument("--batch_tokens", type=positive, metavar="N", help=most)
    parser.add_argument("--max_new_tokens", type=positive, metavar="N", help="longest answer in tokens (as saved)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU where there is one)")
    parser.add_argument("--dtype", help="number format of the weights, such as bfloat16 (as saved)")
    parser.add_argument("--int8", action="store_true", help="round weights to 8 bits: smaller, faster, on a CPU")
    parser.add_argument("--revision", help="commit, tag or branch of a model on the Hub")
    options = parser.parse_args(arguments)
    if options.text is not None and options.file is not None:
        parser.error("--text is translated instead of a file, so give one of the two")
    for name in ("batch_size", "batch_tokens"):
        if options.text is not None and getattr(options, name) is not None:
            parser.error(f"--{name} does nothing for one --text; leave it out")
    return options


def positive(text: str) -> int:
    """A number from 1 on."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, got {text!r}")
    return number


def open_output(options: argparse.Namespace) -> BinaryIO:
    """The output file, never the input file: opening that one would empty it before it is read."""
    output = Path(options.output)
    if options.file not in (None, "-") and output.exists() and os.path.samefile(options.file, output):
        raise ValueError(f"--output {output} is the input file and would be emptied before it is read. Name another.")
    return output.open("wb")


def load(options: argparse.Namespace) -> "Translator":
    """The model, without the bars that loading draws."""
    from transformers.utils import logging

    from selfattn_hf import Translator

    logging.disable_progress_bar()
    return Translator.from_pretrained(
        options.model, revision=options.revision, device=options.device, dtype=options.dtype, int8=options.int8
    )


def check_input(options: argparse.Namespace, reads_heads: bool) -> None:
    """Text for a model that reads text, CoNLL-U for one that reads words and heads."""
    conllu = options.file is not None and options.file.lower().endswith((".conllu", ".conllu.gz"))
    if reads_heads and not conllu:
        raise ValueError(
            f"{options.model} was trained on the trees of its data, which a text alone does not tell. Name a .conllu "
            "file."
        )
    if conllu and not reads_heads:
        raise ValueError(
            f"{options.file} is CoNLL-U, and {options.model} reads text. Name a file with a sentence a line."
        )


def translate_sentences(translator: "Translator", path: str, target: BinaryIO, given: dict[str, Any]) -> None:
    """Sentence by sentence of a CoNLL-U file; what was answered before a broken tree is written already."""
    from selfattn_hf.data import read_conllu
    from selfattn_hf.inference import TextError

    rows, again = itertools.tee(read_conllu(path))
    texts, heads = (row["tokens"] for row in rows), (row["head"] for row in again)
    try:
        for answer in translator.stream(texts, heads=heads, **given):
            write(target, answer)
    except TextError as error:
        raise ValueError(f"{path}, sentence {error.index + 1}, {error.reason}.") from None


def translate_lines(
    translator: "Translator", source: BinaryIO, target: BinaryIO, name: str, given: dict[str, Any]
) -> None:
    """Line by line; what was answered before a line that cannot be translated is written already."""
    from selfattn_hf.inference import TextError

    try:
        for answer in translator.stream(lines(source, name), **given):
            write(target, answer)
    except TextError as error:
        raise ValueError(f"{name}, line {error.index + 1}, {error.reason}.") from None


def lines(source: BinaryIO, name: str) -> Iterator[str]:
    """Lines of a file as text, without their ends; one that is not UTF-8 is named."""
    for number, line in enumerate(source, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, line {number}, is not UTF-8 ({error.reason}). Save the file as UTF-8.") from None


def write(target: BinaryIO, answer: str) -> None:
    """One answer is one line: a line break that the model wrote becomes a space."""
    target.write(" ".join(answer.splitlines()).encode() + b"\n")
    target.flush()


def converse(translator: "Translator", target: BinaryIO, given: dict[str, Any]) -> None:
    """Answer every line that is typed, until the end of input; an error costs one line, not the conversation."""
    print("Type a sentence and press Enter; end with Ctrl-D.", file=sys.stderr)
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            return
        try:
            write(target, translator(line.rstrip("\r\n"), **given))
        except ValueError as error:
            print(error, file=sys.stderr)


if __name__ == "__main__":
    run(main)
