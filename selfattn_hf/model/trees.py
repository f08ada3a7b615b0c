"""Chapter 4 of 8, continued: order by syntax. Before: masking.py. Next: contracts.py.

A tree over the tokens of a row, given by the head of each. Everything else is worked out where the tokens live, in
O(log S) doublings: each step lets every node look twice as far up as before.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

OUTSIDE = -1  # head and node of a token that stands in no tree: special tokens and padding


class Tree:
    """One tree for each of B rows of S tokens.

    Args:
        heads: [B, S] index of the token that each token depends on, in the same row; the root points to itself; -1 at
            tokens that stand in no tree.
        nodes: [B, S] index of the token that stands for the word that each token is a part of, so that the parts of a
            word share its place in the tree; -1 where `heads` is -1. None: every token is its own node.
    """

    def __init__(self, heads: Tensor, nodes: Tensor | None = None) -> None:
        self.inside = heads != OUTSIDE
        own = torch.arange(heads.shape[1], device=heads.device).expand_as(heads)
        self.nodes = torch.where(self.inside, own if nodes is None else nodes, own)
        # A token outside points to itself, so that every step up leads somewhere.
        self.heads = torch.where(self.inside, heads, own)
        self.doublings = max(1, math.ceil(math.log2(heads.shape[1] + 1)))
        self.longest = heads.shape[1] - 1  # steps between two tokens that there can be

    @cached_property
    def depth(self) -> Tensor:
        """[B, S] number of steps from a token's node to the root; 0 outside the tree."""
        return self.of_nodes(self._steps)

    @cached_property
    def _steps(self) -> Tensor:
        """[B, S] number of steps from each token itself to the root."""
        own = torch.arange(self.heads.shape[1], device=self.heads.device)
        steps, above = (self.heads != own).long(), self.heads
        for _ in range(self.doublings):
            steps = steps + steps.gather(1, above)
            above = above.gather(1, above)
        return steps

    @cached_property
    def branch(self) -> Tensor:
        """[B, S] which child of its head a token's node is, from 1 on in the order of the words; 0: the root."""
        places = torch.arange(self.heads.shape[1], device=self.heads.device)
        stands = self.inside & (self.nodes == places) & (self.heads != places)
        same = (self.heads[:, :, None] == self.heads[:, None, :]) & stands[:, None, :]  # [B, S, S]
        return self.of_nodes((same & (places <= places[:, None])).sum(-1) * stands)

    @cached_property
    def distance(self) -> Tensor:
        """[B, S, S] steps on the way from the node of token i to the node of token j.

        Downwards it counts positive, upwards negative; where the way goes up and down, it has the sign of j - i. It is
        0 between tokens of one node, and wherever a token stands outside the tree.
        """
        size = self.heads.shape[1]
        above = self.heads
        is_above = torch.eye(size, dtype=torch.bool, device=above.device).expand(len(above), -1, -1)
        is_above = is_above.scatter(2, above[..., None], True)  # [b, i, a]: a is i or its head
        for _ in range(self.doublings):
            is_above = is_above | is_above.gather(1, above[..., None].expand(-1, -1, size))
            above = above.gather(1, above)
        common = (is_above.float() @ is_above.float().transpose(1, 2)).long()  # nodes above both, they included
        depth = is_above.sum(-1)
        way = depth[:, :, None] + depth[:, None, :] - 2 * common
        down, up = is_above.transpose(1, 2), is_above
        order = torch.arange(size, device=above.device)
        sideways = (order - order[:, None]).sign()
        sign = torch.where(down, 1, torch.where(up, -1, sideways))
        between = self.of_nodes((sign * way).gather(2, self.nodes[:, None, :].expand(-1, size, -1)))
        return between * (self.inside[:, :, None] & self.inside[:, None, :])

    def sum_upwards(self, x: Tensor, decay: Tensor) -> Tensor:
        """Sum of x [B, S, D] over a token's node and all nodes above it, weighted by powers of `decay` [D]."""
        total, above, reached = x, self.heads, 1
        for _ in range(self.doublings):
            further = total.gather(1, above[..., None].expand_as(total))
            total = total + (self._steps >= reached)[..., None] * decay**reached * further
            above, reached = above.gather(1, above), 2 * reached
        return self.of_nodes(total)

    def of_nodes(self, x: Tensor) -> Tensor:
        """What is known of every node [B, S, ..] -> what every token takes from its node, [B, S, ..]."""
        index = self.nodes.reshape(*self.nodes.shape, *[1] * (x.ndim - 2)).expand_as(x)
        return x.gather(1, index)

    def blocks(self, queries: Tensor, keys: Tensor) -> "Blocks":
        """Distances alone, from tokens [n, q] to tokens [n, k] of each row; see `Places.blocks`."""
        return Blocks(self.distance[:, queries[:, :, None], keys[:, None, :]].flatten(0, 1), self.longest)


class Blocks(Tree):
    """Parts of trees, of which only distances [B * n, q, k] are known."""

    def __init__(self, distance: Tensor, longest: int) -> None:
        self.distance, self.longest = distance, longest  # known, where a tree works them out


def check_tree(heads: Tensor, nodes: Tensor | None, shape: tuple[int, int], look: bool = True) -> None:
    """Refuse tensors of another shape, and after a `look` at them what is no tree.

    Raises:
        ValueError: naming the row and the token.
    """
    for name, given in (("syntax_heads", heads), ("syntax_nodes", nodes)):
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(
                f"{name} has one entry for each source token: expected shape {shape}, got {tuple(given.shape)}. Pad it "
                f"with {OUTSIDE}, as the ids are padded."
            )
    if not look:
        return
    size = shape[1]
    for name, given in (("syntax_heads", heads), ("syntax_nodes", nodes)):
        if given is not None:
            _refuse((given < OUTSIDE) | (given >= size), given, f"{name} must be from {OUTSIDE} to {size - 1}")
    inside, own = heads != OUTSIDE, torch.arange(size, device=heads.device).expand(shape)
    nodes = torch.where(inside, own, OUTSIDE) if nodes is None else nodes
    _refuse((nodes == OUTSIDE) == inside, nodes, f"syntax_nodes is {OUTSIDE} exactly where syntax_heads is")
    safe_nodes = nodes.clamp(min=0)
    _refuse(inside & (safe_nodes.gather(1, safe_nodes) != nodes), nodes, "a node stands for itself in syntax_nodes")
    stands = inside & (nodes == own)
    above = torch.where(stands, heads, own)
    _refuse(~stands.gather(1, above) & stands, heads, "the head of a word is the token that stands for another word")
    is_root = stands & (heads == own)
    roots = is_root.sum(1)
    wrong = (roots > 1) | ((roots == 0) & stands.any(1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        first = is_root[row].nonzero().flatten().tolist()
        raise ValueError(
            f"a tree has one root, which points to itself, and row {row} of syntax_heads has {len(first)}"
            f"{f' (tokens {first[:5]})' if first else ''}. Keep one of them."
        )
    for _ in range(max(1, math.ceil(math.log2(size + 1)))):
        above = above.gather(1, above)
    _refuse(stands & ~is_root.gather(1, above), heads, "every way up must end at the root, and here is a cycle")


def _refuse(wrong: Tensor, values: Tensor, rule: str) -> None:
    if wrong.any():
        row, token = wrong.nonzero()[0].tolist()
        raise ValueError(f"{rule}, got {int(values[row, token])} at token {token} of row {row}. Repair the tree.")
