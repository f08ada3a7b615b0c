"""A notebook that asks the probes of the page, with a cell for each question, for whoever wants to go on from there.

The cells are the functions of this file: what is checked and tested as code is what the notebook holds.
"""

import inspect
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def write_notebook(folder: str | Path, output: str | Path, texts: Sequence[str] = ()) -> Path:
    """Write a notebook that looks into one model.

    Args:
        folder: of a saved model, or its name on the Hub.
        output: the file, *.ipynb.
        texts: the first one is looked at; without any, the first example of the folder's results.

    Returns:
        The file.
    """
    about = "Each cell asks a probe of `selfattn_hf.insight`; `PROBES` names all. Needs matplotlib (the extra `viz`)."
    cells = [_text(f"# {Path(folder).name}, from the inside\n\n{about}")]
    cells.append(_code(_opening(str(folder), list(texts))))
    cells.append(_code(inspect.getsource(draw_matrix).strip()))
    for cell in CELLS:
        heading, _, rest = (inspect.getdoc(cell) or "").partition("\n")
        heading = heading.removesuffix(".")
        cells += [_text(f"## {heading}\n{rest}".rstrip()), _code(_body(cell))]
    for number, one in enumerate(cells):
        one["id"] = f"cell-{number}"
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": cells,
    }
    Path(output).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(output)


def _opening(folder: str, texts: list[str]) -> str:
    return textwrap.dedent(f"""\
        from pathlib import Path

        import matplotlib.pyplot as plt

        from selfattn_hf.insight import *
        from selfattn_hf.insight.report_sentences import sentences_of

        folder = {folder!r}
        probed = load_for_probing(folder)
        model = probed.model
        sentence = sentences_of(probed, Path(folder), {texts!r})[0]
        pair, side = sentence.pair, ("encoder" if sentence.pair.source else "decoder")
        print(sentence.text)""")


def draw_matrix(values, rows, columns, title):  # type: ignore[no-untyped-def]
    """Weights as shades, with the words at the sides."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(0.35 * len(columns) + 1.5, 0.3 * len(rows) + 1.2))
    axes.imshow(values, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=60)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title)
    plt.show()


def _steps(model: Any, side: str) -> None:
    """Steps one after the other.

    O(T) for a recurrent network, O(1) for each layer of anything else.
    """
    from selfattn_hf.insight import sequential_steps

    for length in (8, 16, 32, 64):
        print(length, sequential_steps(model, length, side).total)


def _reach(model: Any, pair: Any, side: str) -> None:
    """Reach: which words move which states, theory beside measurement."""
    from selfattn_hf.insight import reach

    reached = reach(model, pair, side, dimensions=4)
    draw_matrix(reached.gradients[-1], reached.tokens, reached.tokens, "derivatives of the last layer's states")
    print("theory and measurement agree:", reached.agrees, "- words seen after each layer:", reached.widths)


def _maps(model: Any, pair: Any) -> None:
    """Attention maps, and the alignment that they show.

    A model without a single map says so.
    """
    from selfattn_hf.insight import alignment, attention_maps

    try:
        maps = attention_maps(model, pair)
        if any(maps.cross):
            aligned = alignment(maps)
            draw_matrix(aligned.weights, aligned.written_tokens, aligned.source_tokens, "alignment")
        for name, tokens in (("encoder", maps.source_tokens), ("decoder", maps.target_tokens)):
            layers = [layer for layer in getattr(maps, name) if layer]
            if layers:
                draw_matrix(layers[0][0], tokens, tokens, f"{name}, first head")
    except ValueError as reason:
        print(reason)


def _lookup(model: Any, pair: Any, side: str) -> None:
    """One head from the inside: queries, keys, affinities, weights, a mix of values."""
    from selfattn_hf.insight import lookup

    try:
        head = lookup(model, pair, side)
        draw_matrix(head.products, head.asking_tokens, head.asked_tokens, "queries times keys")
        draw_matrix(head.weights, head.asking_tokens, head.asked_tokens, "after softmax")
    except ValueError as reason:
        print(reason)


def _order(model: Any, pair: Any) -> None:
    """Set or sequence? Shuffle the words."""
    from selfattn_hf.insight import shuffle_words

    try:
        shuffled = shuffle_words(model, pair)
        print(*shuffled.shuffled_tokens)
        print("a set, by theory:", shuffled.is_set, "- change of the states after each layer:", shuffled.mean_change)
    except ValueError as reason:
        print(reason)


def _positions(model: Any, side: str) -> None:
    """What the model's positions do."""
    import matplotlib.pyplot as plt

    from selfattn_hf.insight import position_values

    places = position_values(model, side)
    print(places.names or "none", places.doors, "beyond the known places:", places.beyond)
    if places.cosine:
        plt.imshow(places.cosine, cmap="Blues")
        plt.title("cosine of the vectors of two places")
        plt.show()
    for head in places.bias or []:
        plt.plot(places.distances, head)
    if places.bias:
        plt.title("bias of each head by distance")
        plt.show()


def _depth(model: Any, pair: Any, side: str) -> None:
    """Averages of averages: how different the words' states are, layer by layer."""
    import matplotlib.pyplot as plt

    from selfattn_hf.insight import rank_over_depth

    for name, ranks in rank_over_depth(model, pair, side).variants.items():
        plt.plot(ranks.effective_rank, marker="o", label=name)
    plt.xlabel("layers")
    plt.ylabel("effective rank")
    plt.legend()
    plt.show()


def _mask(model: Any, pair: Any) -> None:
    """The mask: does the future leak?"""
    from selfattn_hf.insight import leak_test

    try:
        leak = leak_test(model, pair, dimensions=4)
        draw_matrix(leak.gradients, leak.tokens, leak.tokens, "derivatives of outputs by inputs")
        print("largest derivative by a later word:", leak.largest, "- as theory says:", leak.agrees)
    except ValueError as reason:
        print(reason)


CELLS: list[Callable[..., None]] = [_steps, _reach, _maps, _lookup, _order, _positions, _depth, _mask]


def _body(cell: Callable[..., None]) -> str:
    """The lines inside a function, without its docstring and its imports, which the first cell has done."""
    source = inspect.getsource(cell)
    document = cell.__doc__ or ""
    _, _, body = source.partition(f'"""{document}"""')
    lines = [line for line in textwrap.dedent(body).strip().splitlines() if not line.startswith(("from ", "import "))]
    return "\n".join(lines).strip()


def _text(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(code: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [],
            "source": code.splitlines(keepends=True)}  # fmt: skip
