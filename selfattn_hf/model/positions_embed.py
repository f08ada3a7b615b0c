"""Chapter 4 of 8: order, added to the embeddings. Before: attention.py. Next: positions_affinity.py.

Self-attention sees a set: shuffle the words and the states are shuffled with them. The first door for order: a vector
for every place, or for every place in a tree, joins the embedding.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .contracts import Learned, Places, PositionalEncoding
from .trees import Tree


class PlaceVectors(PositionalEncoding):
    """A vector p for every place, that joins the embedding x: x + p, or Linear([x; p])."""

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.width = config.hidden_size
        self.combine = nn.Linear(2 * self.width, self.width) if config.position_combine == "concat" else None

    def vectors(self, places: Places) -> Tensor:
        """Places of Q tokens -> [B or 1, Q, D]."""
        raise TypeError("PlaceVectors is abstract: a subclass says in vectors what a place looks like")

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape."""
        p = places.take_back(self.vectors(places)).to(x.dtype)
        return x + p if self.combine is None else self.combine(torch.cat([x, p.expand_as(x)], dim=-1))


class SinusoidalPositions(PlaceVectors):
    """p(t, 2i) = sin(t / 10000^(2i/D)), p(t, 2i+1) = cos(t / 10000^(2i/D)). No parameters, no last place.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5. In the layout "halves" all sines come first,
    as in the code that came with the paper.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.layout = config.sinusoid_layout

    def vectors(self, places: Places) -> Tensor:
        """Places of Q tokens -> [B or 1, Q, D]."""
        return sinusoids(counted(places), self.width, self.layout)


class LearnedPositions(PlaceVectors):
    """p(t) is row t of a learned T x D table. It knows T = `max_position_embeddings` places and no more.

    Gehring et al. (2017), https://arxiv.org/abs/1705.03122.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.table = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.largest_shift = config.position_shift

    def vectors(self, places: Places) -> Tensor:
        """Places of Q tokens -> [B or 1, Q, D]; raises beyond the table, it never clamps."""
        known, index = self.table.num_embeddings, counted(places)
        # Only a batch wider than the table can leave it, so that a device is asked for a value just then.
        if places.keys.shape[1] + self.largest_shift > known and (last := int(index.max())) >= known:
            raise ValueError(
                f"position_encoding='learned' knows {known} places, and the longest row has at least {last + 1} tokens"
                f"{' (position_shift included)' if self.largest_shift else ''}. Cut the input, train with a larger "
                "max_position_embeddings, or choose an encoding without a table."
            )
        return self.table(index)


class TreeDepthPositions(SinusoidalPositions):
    """p(x, 2i) = sin(t / 10000^(2i/D)), p(x, 2i+1) = cos(t / 10000^(2i/D)), t the depth of word x in its tree.

    Wang et al. (2019), https://arxiv.org/abs/1909.00383, absolute structural positions. On a chain, where every word
    depends on the one before, it is the sinusoidal encoding. Nothing is added outside the tree.
    """

    def vectors(self, places: Places) -> Tensor:
        """Places of Q tokens -> [B, Q, D]."""
        tree = needed(places, "tree_depth")
        return sinusoids(tree.depth, self.width, self.layout) * tree.inside[..., None]


class TreePathPositions(PlaceVectors):
    """p(x) = sum over k of g^k * w(branch of the k-th node above x): the way from a word up to the root.

    After Shiv & Quirk (2019),
    https://papers.nips.cc/paper/2019/hash/6e0917469214d8fbd8c517dcdc6b8dcf-Abstract.html, who stack the branches of
    the way, weighted by powers of a learned decay. Here a branch, which child of its head a word is, has no largest
    number, so w is its sinusoid, and each dimension has a decay g from 0 to 1 of its own, which keeps the steps of a
    way apart. Nothing is added outside the tree.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.layout = config.sinusoid_layout
        self.decay = Learned(config.hidden_size, std=1.0)  # before the sigmoid: decays on both sides of one half

    def vectors(self, places: Places) -> Tensor:
        """Places of Q tokens -> [B, Q, D]."""
        tree = needed(places, "tree_path")
        decay = torch.sigmoid(self.decay())
        branches = sinusoids(tree.branch, self.width, self.layout).to(decay.dtype)
        return tree.sum_upwards(branches, decay) * tree.inside[..., None]


def sinusoids(numbers: Tensor, width: int, layout: str = "interleaved") -> Tensor:
    """Sine and cosine of numbers [..] at `width` / 2 wavelengths -> [.., width], computed in float32."""
    waves = torch.arange(0, width, 2, device=numbers.device, dtype=torch.float32)
    angles = numbers[..., None] * torch.exp(waves * (-math.log(10000.0) / width))
    if layout == "halves":
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def counted(places: Places) -> Tensor:
    """The place of each new token, [B or 1, Q], from where its row starts.

    In training rows may start at a random place: Kiyono et al. (2021), https://arxiv.org/abs/2109.05644.
    """
    return places.queries if places.shift is None else places.queries + places.shift


def needed(places: Places, name: str) -> Tree:
    """The trees of the rows, or an error that says where to get them."""
    if places.tree is None:
        raise ValueError(
            f"position_encoding={name!r} reads a tree over the source's tokens, and none was given. Give syntax_heads "
            "with the ids: [B, S], the index of each token's head, the root's own index at the root, -1 outside."
        )
    return places.tree
