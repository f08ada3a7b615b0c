"""Pictures of position encodings, drawn from the modules of fresh models; matplotlib is the extra `viz`.

An encoding is drawn by the doors that it opens, so a new one has its picture at once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..model import SelfAttnEncoderModel, Tree
from .positions import Encoding, encoder_config, sized

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ValueError(
        "pictures are drawn by matplotlib, which is not installed: pip install 'selfattn_hf[viz]'."
    ) from error

# The models that are drawn: small, so that what happens beyond the furthest distance is in the picture.
SIZES = {"hidden_size": 64, "num_attention_heads": 8, "head_dim": 16, "max_position_embeddings": 48,
         "relative_max_distance": 16, "relative_num_buckets": 16}  # fmt: skip
PLACES = 48
WORDS = ("the", "old", "dog", "chased", "a", "cat")
HEADS = (2, 2, 3, 3, 5, 3)  # the word that each word depends on; "chased" is the root
SIGNED = "RdBu_r"  # white is 0
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
Panel = Callable[[Axes], None]


def draw(name: str, path: Path) -> None:
    """Draw an encoding into a PNG file.

    Args:
        name: a word of `position_encoding`.
        path: of the file to write.
    """
    encoding = sized(name, SIZES)
    doors = encoding.doors()
    panels: list[Panel] = [_draw_tree] if encoding.config.reads_trees else []
    if "embed" in doors:
        panels += _of_vectors(encoding)
    if "rotate" in doors:
        panels += _of_turns(encoding)
    if "bias" in doors:
        panels += _of_bias(encoding)
    if not doors:
        panels += [_difference_of("none"), _difference_of("sinusoidal")]
    figure = Figure(figsize=(4.1 * len(panels) + 0.4, 3.7), layout="constrained", facecolor="white")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
    figure.savefig(path, dpi=90)


def _of_vectors(encoding: Encoding) -> list[Panel]:
    """What joins the embeddings: the vectors, and how alike they are."""
    tree = _tree() if encoding.config.reads_trees else None
    vectors = encoding.vectors(encoding.places(len(WORDS) if tree else PLACES, tree=tree))
    place = "word" if tree else "place"
    return [
        lambda axes: _map(axes, vectors, "The vector p that joins each word" if tree else "The vector p of each place",
                          xlabel="dimension", ylabel=place, rows=tree is not None),
        lambda axes: _map(axes, vectors @ vectors.T, "How alike two of them are: p(i) . p(j)",
                          xlabel=place, ylabel=place, rows=tree is not None, columns=tree is not None),
    ]  # fmt: skip


def _of_turns(encoding: Encoding) -> list[Panel]:
    """Affinities of equal vectors that are turned by their places: all of ones, and drawn."""
    heads = encoding.draw(PLACES)[:3].clone()
    heads[0] = 1.0
    heads = heads / heads.norm(dim=-1, keepdim=True)
    turned = encoding.turned(heads, encoding.places(PLACES))
    affinities = turned @ turned.transpose(1, 2)

    def lines(axes: Axes) -> None:
        for label, colour, affinity in zip(("all ones", "drawn", "drawn"), COLOURS, affinities, strict=False):
            axes.plot(affinity[0], color=colour, label=label)
        _label(axes, "It depends on the distance alone", "distance j - i", "affinity q(i) . k(j)")
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.legend(frameon=False, fontsize=8)

    def components(axes: Axes) -> None:
        pairs = turned.shape[-1] // 2
        for pair, colour in zip((0, 1, 2, pairs // 2, pairs - 1), COLOURS, strict=False):
            axes.plot(turned[0, :, pair] / turned[0, 0, pair], color=colour, label=f"pair {pair + 1}")
        _label(axes, "Each pair of dimensions turns at its own pace", "place i", "first number of the pair in q(i)")
        axes.legend(frameon=False, fontsize=8)

    return [
        components,
        lambda axes: _map(axes, affinities[0], "Equal words, q = k: q(i) . k(j)", "place j of the key", "place i"),
        lines,
    ]


def _of_bias(encoding: Encoding) -> list[Panel]:
    """What is added to the affinities of words that are all equal."""
    if encoding.config.reads_trees:
        return _of_tree_bias(encoding)
    heads = encoding.draw(PLACES)
    bias = encoding.bias(heads, heads, encoding.places(PLACES))
    assert bias is not None
    middle = PLACES // 2
    away = torch.arange(PLACES) - middle

    def every_head(axes: Axes) -> None:
        for head, colour in enumerate(COLOURS[: len(bias)]):
            axes.plot(away, bias[head, middle], color=colour, label=f"{head + 1}")
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        _label(axes, f"Every head, asked by place {middle}", "distance j - i", "added to the affinity")
        axes.legend(title="head", ncols=2, frameon=False, fontsize=7, title_fontsize=7)

    def every_query(axes: Axes) -> None:
        for query, colour in zip((0, 8, 16, 24, 47), COLOURS, strict=False):
            axes.plot(torch.arange(PLACES) - query, bias[0, query], color=colour, label=f"{query}")
        _label(axes, "Head 1, asked by several places", "distance j - i", "added to the affinity")
        axes.legend(title="place i", frameon=False, fontsize=7, title_fontsize=7)

    panels: list[Panel] = [
        lambda axes: _map(axes, bias[0], "Added to the affinities of head 1", "place j of the key", "place i"),
        every_head,
    ]
    return [*panels, every_query] if "place" in encoding.depends_on() else panels


def _of_tree_bias(encoding: Encoding) -> list[Panel]:
    tree = _tree()
    heads = encoding.draw(len(WORDS))
    bias = encoding.bias(heads, heads, encoding.places(len(WORDS), tree=tree))
    assert bias is not None

    def steps(axes: Axes) -> None:
        _map(axes, tree.distance[0], "Steps from word i to word j", "word j", "word i", rows=True, columns=True)
        for i, row in enumerate(tree.distance[0].tolist()):
            for j, number in enumerate(row):
                axes.text(j, i, str(number), ha="center", va="center", color="white" if abs(number) > 2 else "black")

    return [
        steps,
        lambda axes: _map(axes, bias[0], "Added to the affinities of head 1", "word j", "word i", True, True),
    ]


def _draw_tree(axes: Axes) -> None:
    """The words in their order, each below the word that it depends on."""
    depth = _tree().depth[0].tolist()
    for word, (text, head) in enumerate(zip(WORDS, HEADS, strict=True)):
        axes.text(word, -depth[word], text, ha="center", va="center", fontsize=10, zorder=3,
                  bbox={"boxstyle": "round,pad=0.25", "facecolor": "#EAF2F8", "edgecolor": "#0072B2"})  # fmt: skip
        axes.plot([word, head], [-depth[word], -depth[head]], color="#0072B2", zorder=1)
    axes.set_title("The sentence and its tree", fontsize=10)
    axes.set_xlim(-0.6, len(WORDS) - 0.4)
    axes.set_ylim(-max(depth) - 0.4, 0.4)
    axes.set_yticks([-level for level in range(max(depth) + 1)], [str(level) for level in range(max(depth) + 1)])
    axes.set_xticks(range(len(WORDS)), [str(word) for word in range(len(WORDS))])
    axes.set_xlabel("place", fontsize=9)
    axes.set_ylabel("depth: steps to the root", fontsize=9)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)


def _difference_of(name: str) -> Panel:
    """How far apart the states of the same words are in two orders of a sentence."""
    torch.manual_seed(0)
    config = encoder_config(name, vocab_size=16, encoder_layers=2, hidden_size=64)
    model = SelfAttnEncoderModel(config).eval()
    order = (4, 5, 3, 0, 1, 2)  # a cat chased the old dog
    ids = torch.arange(3, 3 + len(WORDS))
    with torch.no_grad():
        one, other = (model(input_ids=row[None]).last_hidden_state[0] for row in (ids, ids[list(order)]))
    apart = torch.cdist(one, other)

    def panel(axes: Axes) -> None:
        _map(axes, apart, f"Distance of states, {name}", "word of the second sentence", "word of the first",
             rows=True, columns=[WORDS[word] for word in order], colours="viridis", least=0)  # fmt: skip
        for column, word in enumerate(order):
            same = float(apart[word, column])
            axes.text(column, word, "0" if same < 1e-4 else f"{same:.1f}", ha="center", va="center", color="white")

    return panel


def _map(
    axes: Axes,
    values: Tensor,
    title: str,
    xlabel: str,
    ylabel: str,
    rows: bool = False,
    columns: bool | Sequence[str] = False,
    colours: str = SIGNED,
    least: float | None = None,
) -> None:
    """Numbers as colours, white where they are 0; rows and columns can be words."""
    largest = float(values.abs().max())
    shown = axes.imshow(values.tolist(), cmap=colours, vmin=-largest if least is None else least, vmax=largest,
                        aspect="auto", interpolation="nearest")  # fmt: skip
    assert axes.figure is not None
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.9)
    bar.ax.tick_params(labelsize=8)
    _label(axes, title, xlabel, ylabel)
    if rows:
        axes.set_yticks(range(len(WORDS)), WORDS)
    if columns:
        axes.set_xticks(range(len(WORDS)), WORDS if columns is True else columns, rotation=45)


def _label(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)


def _tree() -> Tree:
    return Tree(torch.tensor([HEADS]))
