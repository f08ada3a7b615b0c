"""Pictures of position encodings, drawn from the modules that a model has; matplotlib is the extra `viz`.

An encoding is drawn by the doors that it opens, so a new one has its picture at once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..model import Tree
from .positions import Encoding, encoder_config, fresh_model, names, sized

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The models that are drawn: small, so that what happens beyond the furthest distance is in the picture.
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "relative_max_distance": 16, "relative_num_buckets": 16}
PLACES = 48
WORDS = ("the", "old", "dog", "chased", "a", "cat")
HEADS = (2, 2, 3, 3, 5, 3)  # the word that each word depends on; "chased" is the root
TURNED_ROUND = (4, 5, 3, 0, 1, 2)  # a cat chased the old dog
SIGNED, FROM_LEAST = "RdBu_r", "viridis"  # in the first, white is 0
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
Panel = Callable[["Axes"], None]


def draw_position(encoding: Encoding, path: Path) -> None:
    """Draw what an encoding does into a PNG file, a panel or more for each door that it opens.

    Raises:
        ValueError: if matplotlib is missing.
    """
    doors = encoding.doors()
    panels: list[Panel] = [_draw_tree] if encoding.config.reads_trees else []
    if "embed" in doors:
        panels += _of_vectors(encoding)
    if "rotate" in doors:
        panels += _of_turns(encoding)
    if "bias" in doors:
        panels += _of_tree_bias(encoding) if encoding.config.reads_trees else _of_bias(encoding)
    if not doors:
        panels += [_states_of("none"), _states_of("sinusoidal")]
    figure = _figure(3.5 * len(panels))
    figure.set_layout_engine("constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
    figure.savefig(path, dpi=100)


def draw_thumbnail(encoding: Encoding, path: Path) -> None:
    """Draw `Encoding.added` into a small PNG file: pairs that gain more than the mean of all pairs red, others blue.

    The mean is no loss: a softmax does not see what all pairs gain alike.
    """
    tree = _tree() if encoding.config.reads_trees else None
    added = encoding.added(encoding.places(len(WORDS) if tree else PLACES, tree=tree))
    added = added - added.mean()
    largest = max(float(added.abs().max()), 1e-6)  # above 0 where nothing is added
    figure = _figure(0.96, 0.96)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(added.tolist(), cmap=SIGNED, vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    figure.savefig(path, dpi=100)


def draw_all_positions(folder: Path) -> None:
    """Draw NAME.png and NAME_small.png for every word of `position_encoding`, as fresh models have it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names():
        encoding = sized(name, **SIZES)
        draw_position(encoding, folder / f"{name}.png")
        draw_thumbnail(encoding, folder / f"{name}_small.png")


def _figure(width: float, height: float = 3.3) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "pictures are drawn by matplotlib, which is not installed: pip install 'selfattn_hf[viz]'."
        ) from error
    return Figure(figsize=(width, height), facecolor="white")


def _of_vectors(encoding: Encoding) -> list[Panel]:
    """What joins the embeddings: the vectors, and how alike they are."""
    tree = _tree() if encoding.config.reads_trees else None
    vectors = encoding.vectors(encoding.places(len(WORDS) if tree else PLACES, tree=tree))
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    alike, title = unit @ unit.T, "Cosine of p(i) and p(j)"
    if tree is None:
        return [
            lambda axes: _map(axes, vectors, "The vector p(i) of each place", "place i", "dimension"),
            lambda axes: _map(axes, alike, title, "place i", "place j", FROM_LEAST),
        ]
    return [
        lambda axes: _map(axes, vectors, "The vector p(i) of each word", WORDS, "dimension"),
        lambda axes: _map(axes, alike, title, WORDS, WORDS, FROM_LEAST, "{:.2f}"),
    ]


def _of_turns(encoding: Encoding) -> list[Panel]:
    """How queries and keys turn, and the affinities of equal words."""
    start = torch.zeros_like(encoding.equal_words(PLACES))
    half = start.shape[-1] // 2
    start[..., :half] = 1.0  # every pair starts as (1, 0)
    turned = encoding.turned(start, encoding.places(PLACES))[0]
    words = [encoding.equal_words(PLACES, seed) for seed in range(3)]
    affinities = []
    for word in words:
        unit = encoding.turned(word / word.norm(dim=-1, keepdim=True), encoding.places(PLACES))[0]
        affinities.append(unit @ unit.T)

    def components(axes: "Axes") -> None:
        for pair, colour in zip((0, 1, 2, half - 1), COLOURS, strict=False):
            axes.plot(turned[:, pair], color=colour, label=f"{pair + 1}")
        axes.set_ylim(-1.1, 1.6)  # with room for the legend
        _label(axes, "Pairs of dimensions that start as (1, 0)", "first of the pair", "place i")
        _legend(axes, "pair")

    def by_distance(axes: "Axes") -> None:
        for number, (affinity, colour) in enumerate(zip(affinities, COLOURS, strict=False)):
            axes.plot(affinity[0], color=colour, label=f"{number + 1}")
        _label(axes, "The same by distance, three words", "q(i) . k(j)", "distance j - i")
        _legend(axes, "word")

    return [
        components,
        lambda axes: _map(axes, affinities[0], "Equal words: q(i) . k(j)", "place i", "place j"),
        by_distance,
    ]


def _of_bias(encoding: Encoding) -> list[Panel]:
    """What is added to the affinities of words that are all equal."""
    heads = encoding.equal_words(PLACES)
    bias = encoding.bias(heads, heads, encoding.places(PLACES))
    assert bias is not None
    middle = PLACES // 2

    def every_head(axes: "Axes") -> None:
        for head, colour in zip(range(len(bias)), COLOURS, strict=False):
            axes.plot(torch.arange(PLACES) - middle, bias[head, middle], color=colour, label=f"{head + 1}")
        _label(axes, f"Every head, asked by place {middle}", "added", "distance j - i")
        _legend(axes, "head")

    def every_query(axes: "Axes") -> None:
        for query, colour in zip((0, middle // 2, middle, PLACES - 1), COLOURS, strict=False):
            axes.plot(torch.arange(PLACES) - query, bias[0, query], color=colour, label=f"{query}")
        _label(axes, "Head 1, asked by several places", "added", "distance j - i")
        _legend(axes, "place i")

    panels: list[Panel] = [
        lambda axes: _map(axes, bias[0], "Added to the affinities, head 1", "place i", "place j"),
        every_head,
    ]
    reads_distance_alone = torch.allclose(bias[:, 1:, 1:], bias[:, :-1, :-1], atol=1e-4)
    return panels if reads_distance_alone else [*panels, every_query]


def _of_tree_bias(encoding: Encoding) -> list[Panel]:
    """Steps in the tree, and what is added for them."""
    tree, heads = _tree(), encoding.equal_words(len(WORDS))
    bias = encoding.bias(heads, heads, encoding.places(len(WORDS), tree=tree))
    assert bias is not None
    return [
        lambda axes: _map(axes, tree.distance[0], "Steps from word i to word j", WORDS, WORDS, SIGNED, "{:.0f}"),
        lambda axes: _map(axes, bias[0], "Added to the affinities, head 1", WORDS, WORDS, SIGNED, "{:.2f}"),
    ]


def _draw_tree(axes: "Axes") -> None:
    """The words in their order, each below the word that it depends on."""
    depth = _tree().depth[0].tolist()
    for word, (text, head) in enumerate(zip(WORDS, HEADS, strict=True)):
        axes.text(word, -depth[word], text, ha="center", va="center", fontsize=10, zorder=3,
                  bbox={"boxstyle": "round,pad=0.25", "facecolor": "#EAF2F8", "edgecolor": "#0072B2"})  # fmt: skip
        axes.plot([word, head], [-depth[word], -depth[head]], color="#0072B2", zorder=1)
    _label(axes, "The sentence and its tree", "depth: steps to the root", "place")
    axes.set_xlim(-0.6, len(WORDS) - 0.4)
    axes.set_ylim(-max(depth) - 0.4, 0.4)
    axes.set_xticks(range(len(WORDS)))
    axes.set_yticks([-level for level in range(max(depth) + 1)], [str(level) for level in range(max(depth) + 1)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _states_of(name: str) -> Panel:
    """How far apart the states of the same words are in two orders of a sentence."""
    model = fresh_model(encoder_config(name, vocab_size=16, encoder_layers=2, hidden_size=64))
    ids = torch.arange(3, 3 + len(WORDS))
    with torch.no_grad():
        one, other = (model(input_ids=row[None]).last_hidden_state[0] for row in (ids, ids[list(TURNED_ROUND)]))
    apart = torch.cdist(one, other)
    words = [WORDS[word] for word in TURNED_ROUND]
    return lambda axes: _map(axes, apart, f"{name}: distance of states", WORDS, words, FROM_LEAST, "{:.1f}")


def _map(
    axes: "Axes",
    values: Tensor,
    title: str,
    rows: str | Sequence[str],
    columns: str | Sequence[str],
    colours: str = SIGNED,
    written: str | None = None,
) -> None:
    """Numbers as colours, and written in `written`, a format. Rows and columns have one name, or a word each."""
    low, high = float(values.min()), float(values.max())
    if colours == SIGNED:
        low, high = -max(-low, high), max(-low, high)
    shown = axes.imshow(values.tolist(), cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    _label(axes, title, rows if isinstance(rows, str) else "", columns if isinstance(columns, str) else "")
    if not isinstance(rows, str):
        axes.set_yticks(range(len(rows)), rows)
    if not isinstance(columns, str):
        axes.set_xticks(range(len(columns)), columns, rotation=45)
    if written is None:
        assert axes.figure is not None
        axes.figure.colorbar(shown, ax=axes, shrink=0.9).ax.tick_params(labelsize=8)
        return
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            red, green, blue, _ = shown.to_rgba(value)
            colour = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            axes.text(j, i, written.format(value), ha="center", va="center", fontsize=8, color=colour)


def _label(axes: "Axes", title: str, ylabel: str, xlabel: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)


def _legend(axes: "Axes", title: str) -> None:
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.legend(title=title, ncols=2, fontsize=7, title_fontsize=7)


def _tree() -> Tree:
    return Tree(torch.tensor([HEADS]))
