"""Measure what this package costs beside its peers, on this machine, and write docs/performance.md from the figures.

Every benchmark first checks that the fast path computes what the plain one does, and stops if it does not. Its sides
then take turns in one process; ratios are those of the same batch, given as median and quartiles. Timings are of this
machine and this moment; ratios travel better.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _cli
from benchmarks._page import fill_page, read, tables, where
from benchmarks._sizes import MIXING, SIZES

PAGE = _cli.ROOT / "docs" / "performance.md"
WORKLOADS = ("uniform", "random", "grouped", "tail_random", "tail_grouped")
LENGTHS = {"scaling": (256, 512, 1024, 2048, 4096), "mask": (16, 32, 64, 128, 256)}


def main(arguments: list[str]) -> None:
    """Parse, measure, print, write."""
    options = parser().parse_args(arguments)
    if options.what == "page":
        write_page(options.page, options.files)
        return
    if options.repeats < 1:
        raise ValueError(f"--repeats is a number of measurements and starts at 1, got {options.repeats}.")
    result: dict[str, Any] = RUN[options.what](options)
    print("", where(result), *tables(result), sep="\n\n")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.plot is not None:
        from benchmarks._plot import picture

        options.plot.write_text(picture(result), encoding="utf-8")


# Each imports what it measures, which takes seconds, when it is asked for.
def _train(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._train import run

    return run(options)


def _generate(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._generate import run

    return run(options)


def _scaling(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._scaling import run

    return run(options)


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._memory import run

    return run(options)


def _mask(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._mask import run

    return run(options)


def _serve(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._serve import run

    return run(options)


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks._export import run

    return run(options)


RUN = {
    "train": _train, "generate": _generate, "scaling": _scaling, "memory": _memory, "mask": _mask, "serve": _serve,
    "export": _export,
}  # fmt: skip


def write_page(page: Path, files: Sequence[Path]) -> None:
    """Tables of all files, each with the SVG that lies beside its file, if there is one."""
    results = []
    for path in files:
        drawn = path.with_suffix(".svg")
        picture = os.path.relpath(drawn, page.parent).replace(os.sep, "/") if drawn.is_file() else None
        results.append((read(path), picture))
    page.write_text(fill_page(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(f"wrote {page} from {len(files)} {'file' if len(files) == 1 else 'files'}")


def parser() -> argparse.ArgumentParser:
    """The command line; nothing that takes time is imported for it."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doors = top.add_subparsers(dest="what", required=True, metavar="what")

    def door(name: str, text: str, repeats: int) -> argparse.ArgumentParser:
        made = doors.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        made.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
        made.add_argument("--threads", type=int, default=1, help="threads of torch and CTranslate2")
        made.add_argument("--repeats", type=int, default=repeats, help="times that each side is measured")
        made.add_argument("--seed", type=int, default=1, help="of weights and batches")
        made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
        made.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, as SVG")
        return made

    def sized(made: argparse.ArgumentParser, size: str) -> None:
        made.add_argument("--size", choices=sorted(SIZES), default=size, help="of all models alike")

    train = door("train", "real tokens per second of a training step, beside peers", 7)
    sized(train, "small")
    train.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="the second by autocast")
    train.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="kinds of batches")
    train.add_argument("--batch_size", type=int, default=64, help="rows")
    train.add_argument(
        "--dataset", help="folder or Hub id whose lengths random and grouped have; else a distribution's"
    )
    train.add_argument("--source_column", default="source", help="of the data set")
    train.add_argument("--target_column", default="target", help="of the data set")
    train.add_argument("--tokenizer", help="folder or Hub id; else one is trained")

    generate = door("generate", "tokens per second of greedy and beam search, beside peers", 7)
    sized(generate, "small")
    generate.add_argument("--new_tokens", type=int, default=64, help="that every side writes for each row")
    generate.add_argument("--rows", type=int, nargs="+", default=[1, 32], help="sentences at once")
    generate.add_argument("--beams", type=int, nargs="+", default=[1, 5], help="1 is greedy")

    scaling = door("scaling", "time and memory of one mixing layer over the length of rows", 3)
    sized(scaling, "base")
    scaling.add_argument("--lengths", type=int, nargs="+", default=LENGTHS["scaling"], help="tokens of a row")
    scaling.add_argument("--tokens", type=int, default=8192, help="of a batch")
    scaling.add_argument("--layers", nargs="+", choices=MIXING, help="which beside self_attention; else all")
    scaling.add_argument("--radius", type=int, default=32, help="of local_attention")

    memory = door("memory", "peak memory of a training step, beside peers", 1)
    sized(memory, "small")
    memory.add_argument("--vocabulary", type=int, default=32_000, help="tokens")
    memory.add_argument("--batch_size", type=int, default=64, help="rows")

    mask = door("mask", "the future masked in one pass, against every prefix recomputed", 5)
    mask.add_argument("--lengths", type=int, nargs="+", default=LENGTHS["mask"], help="target tokens")
    mask.add_argument("--hidden_size", type=int, default=128, help="width of the model")
    mask.add_argument("--layers", type=int, default=2, help="of the decoder")

    serve = door("serve", "requests per second and waiting times of scripts/serve.py, beside generate one by one", 3)
    serve.add_argument("--model", type=Path, metavar="FOLDER", required=True, help="that scripts/train.py left")
    serve.add_argument("--text", type=Path, metavar="FILE", required=True, help="a sentence a line, to be translated")
    serve.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once")
    serve.add_argument("--requests", type=int, default=200, help="of each round, a sentence each")
    serve.add_argument("--max_wait_ms", type=float, default=2.0, help="of the service")
    serve.add_argument("--max_batch", type=int, default=32, help="of the service")

    export = door("export", "sentences per second, size and equal answers of exports, beside the model itself", 1)
    export.add_argument("--model", type=Path, metavar="FOLDER", required=True, help="that scripts/train.py left")
    export.add_argument("--text", type=Path, metavar="FILE", required=True, help="a sentence a line, to be translated")
    export.add_argument("--sentences", type=int, default=200, help="of it")
    export.add_argument("--rows", type=int, nargs="+", default=[1, 32], help="sentences at once")

    page = doors.add_parser("page", help="write the tables of docs/performance.md from what --json wrote")
    page.add_argument("files", type=Path, nargs="+", help="what --json wrote")
    page.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are written")
    return top


if __name__ == "__main__":
    _cli.run(main)
