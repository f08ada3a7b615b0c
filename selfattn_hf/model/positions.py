"""Chapter 4 of 8, its end: all the ways of order. Before: positions_affinity.py. Next: feedforward.py.

Order enters by one of three doors: added to the embeddings, turned into queries and keys, or added to the affinities.
Several encodings can act together.
"""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from .contracts import Places, PositionalEncoding
from .positions_affinity import (
    AlibiPositions,
    FirePositions,
    KerplePositions,
    RotaryPositions,
    ShawPositions,
    T5Positions,
    TransformerXLPositions,
    TreeRelativePositions,
)
from .positions_embed import LearnedPositions, SinusoidalPositions, TreeDepthPositions, TreePathPositions
from .switches import AffinityPosition, EmbeddingPosition, Position, TreePosition

POSITIONS: dict[str, type[PositionalEncoding]] = {
    "none": PositionalEncoding,
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
    "rope": RotaryPositions,
    "shaw": ShawPositions,
    "t5": T5Positions,
    "alibi": AlibiPositions,
    "transformer_xl": TransformerXLPositions,
    "kerple": KerplePositions,
    "fire": FirePositions,
    "tree_depth": TreeDepthPositions,
    "tree_path": TreePathPositions,
    "tree_relative": TreeRelativePositions,
}


class CombinedPositions(PositionalEncoding):
    """Several encodings, each through its own doors, in the order of the list; biases are added up."""

    def __init__(self, config: Any, causal: bool, names: Sequence[str]) -> None:
        super().__init__(config, causal)
        self.parts = nn.ModuleList([POSITIONS[name](config, causal) for name in names])

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape."""
        for part in self._encodings():
            x = part.embed(x, places)
        return x

    def rotate(self, heads: Tensor, places: Places) -> Tensor:
        """[B, H, Q, d] -> [B, H, Q, d]."""
        for part in self._encodings():
            heads = part.rotate(heads, places)
        return heads

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor | None:
        """[B, H, Q, d], [B, H, K, d] and places -> [B or 1, H, Q, K], or None where no part has one."""
        biases = [part.bias(queries, keys, places) for part in self._encodings()]
        given = [bias for bias in biases if bias is not None]
        return sum(given[1:], given[0]) if given else None

    def diagonals(self, places: Places) -> Tensor | None:
        """Plain places of T tokens -> [H, 2T - 1] where all that is added depends on the distance alone, else None."""
        adding = [part for part in self._encodings() if type(part).bias is not PositionalEncoding.bias]
        given = [values for part in adding if (values := part.diagonals(places)) is not None]
        return sum(given[1:], given[0]) if given and len(given) == len(adding) else None

    def _encodings(self) -> list[PositionalEncoding]:
        return cast("list[PositionalEncoding]", list(self.parts))


def make_position(names: Sequence[str], config: Any, causal: bool) -> PositionalEncoding:
    """The encoding of a side: none, one, or several together."""
    if len(names) > 1:
        return CombinedPositions(config, causal, names)
    return POSITIONS[names[0] if names else "none"](config, causal)


def join_position(name: str, encoding: type[PositionalEncoding], *, reads_trees: bool = False) -> None:
    """Let a word of `position_encoding` stand for a class of the caller's, in this process.

    The doors that the class opens say which mixers it goes with. Nothing of it is saved with a model: where the folder
    is opened again, the word has to be joined first.

    Args:
        name: the word; one that stands for this class already stays.
        encoding: built as `encoding(config, causal)`, and again for each side.
        reads_trees: whether it reads `places.tree`, which an encoder alone has.

    Raises:
        ValueError: if it is no encoding, opens no door, or the word stands for another class.
    """
    if not (isinstance(encoding, type) and issubclass(encoding, PositionalEncoding)):
        raise ValueError(f"{name} must be a subclass of PositionalEncoding, got {encoding!r:.80}.")
    if name in POSITIONS:
        if POSITIONS[name] is not encoding:
            raise ValueError(f"position_encoding={name!r} is {POSITIONS[name].__name__} already. Choose another word.")
        return
    opened = [door for door in ("embed", "rotate", "bias") if getattr(encoding, door) is not _CLOSED[door]]
    if not opened:
        raise ValueError(
            f"{encoding.__name__} opens none of the three doors, so it would do nothing. Write embed, rotate or bias."
        )
    POSITIONS[name] = encoding
    # The annotations of the config hold these very groups, and its checks read them whenever a value is set.
    groups: list[Any] = [Position, AffinityPosition if opened != ["embed"] else EmbeddingPosition]
    for group in [*groups, TreePosition] if reads_trees else groups:
        group.__args__ = (*group.__args__, name)


_CLOSED = {door: getattr(PositionalEncoding, door) for door in ("embed", "rotate", "bias")}
