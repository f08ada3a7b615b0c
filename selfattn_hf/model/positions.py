"""Chapter 4 of 8: order. Before: attention.py. Next: feedforward.py.

Self-attention sees a set: shuffle the words and the states are shuffled with them. Order enters by one of three doors:
added to the embeddings, turned into queries and keys, or added to the affinities.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .contracts import Places, PositionalEncoding


class PlaceVectors(PositionalEncoding):
    """A vector p for every place, that joins the embedding x: x + p, or Linear([x; p])."""

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.width = config.hidden_size
        self.combine = nn.Linear(2 * self.width, self.width) if config.position_combine == "concat" else None

    def vectors(self, places: Tensor) -> Tensor:
        """[B or 1, Q] -> [B or 1, Q, D]."""
        raise TypeError("PlaceVectors is abstract: a subclass says in vectors what a place looks like")

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape."""
        p = places.take_back(self.vectors(places.queries)).to(x.dtype)
        return x + p if self.combine is None else self.combine(torch.cat([x, p.expand_as(x)], dim=-1))


class SinusoidalPositions(PlaceVectors):
    """p(t, 2i) = sin(t / 10000^(2i/D)), p(t, 2i+1) = cos(t / 10000^(2i/D)). No parameters, no last place.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5.
    """

    def vectors(self, places: Tensor) -> Tensor:
        """[B or 1, Q] -> [B or 1, Q, D]."""
        waves = torch.arange(0, self.width, 2, device=places.device, dtype=torch.float32)
        angles = places[..., None] * torch.exp(waves * (-math.log(10000.0) / self.width))
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class LearnedPositions(PlaceVectors):
    """p(t) is row t of a learned table D x T. It knows T = `max_position_embeddings` places and no more.

    Gehring et al. (2017), https://arxiv.org/abs/1705.03122.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.table = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def vectors(self, places: Tensor) -> Tensor:
        """[B or 1, Q] -> [B or 1, Q, D]."""
        return self.table(places)

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """[B, Q, D] or packed [1, N, D] -> the same shape; raises beyond the table, it never clamps."""
        known = self.table.num_embeddings
        # Only a batch wider than the table can leave it, so that a device is asked for a value just then.
        if places.keys.shape[1] > known and (last := int(places.queries.max())) >= known:
            raise ValueError(
                f"position_encoding='learned' knows {known} places, and the longest row has at least {last + 1} tokens."
                " Cut the input, train with a larger max_position_embeddings, or choose an encoding without a table."
            )
        return super().embed(x, places)


class RotaryPositions(PositionalEncoding):
    """Queries and keys are turned by angles that grow with their place, so that q . k depends on the distance alone.

    Su et al. (2021), https://arxiv.org/abs/2104.09864, with the two halves of a head as the pairs that turn.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.theta = config.rope_theta

    def rotate(self, heads: Tensor, places: Places) -> Tensor:
        """[B, H, Q, d] -> [B, H, Q, d]."""
        width = heads.shape[-1]
        waves = torch.arange(0, width, 2, device=heads.device, dtype=torch.float32)
        angles = places.queries[:, None, :, None] * self.theta ** (-waves / width)  # [B or 1, 1, Q, d/2]
        cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
        first, second = heads.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class ShawPositions(PositionalEncoding):
    """Affinity q . (k + a(j - i)) / sqrt(d), with one learned vector a for each distance up to a largest one.

    Shaw et al. (2018), https://arxiv.org/abs/1803.02155; vectors are shared by all heads and layers. The paper's
    vectors on the value side, which it found to add nothing, would need the attention weights and are left out.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.furthest = config.relative_max_distance
        self.table = nn.Embedding(2 * self.furthest + 1, config.hidden_size // config.num_attention_heads)

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """[B, H, Q, d] and places -> [B, H, Q, K]."""
        index = distance(places).clamp(-self.furthest, self.furthest) + self.furthest  # [B or 1, Q, K]
        # Every query meets every distance once, [B, H, Q, 2k+1]; the pairs then pick theirs.
        distances = self.table(torch.arange(2 * self.furthest + 1, device=queries.device)).to(queries.dtype)
        met = queries @ distances.T * queries.shape[-1] ** -0.5
        return met.gather(-1, index[:, None].expand(queries.shape[0], queries.shape[1], -1, -1))


class T5Positions(PositionalEncoding):
    """Affinity q . k / sqrt(d) + b(h, bucket(j - i)): near distances have a bucket each, far ones share theirs.

    Raffel et al. (2020), https://arxiv.org/abs/1910.10683, section 2.1. One table for all layers, as there.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.causal = causal
        self.buckets = config.relative_num_buckets
        self.furthest = config.relative_max_distance
        self.table = nn.Embedding(self.buckets, config.num_attention_heads)

    def bucket(self, distances: Tensor) -> Tensor:
        """Distances j - i -> buckets of the same shape."""
        buckets, offset = self.buckets, 0
        if self.causal:
            far = (-distances).clamp(min=0)
        else:
            buckets //= 2
            offset = (distances > 0).long() * buckets
            far = distances.abs()
        exact = buckets // 2
        ratio = torch.log(far.float().clamp(min=1) / exact) / math.log(self.furthest / exact)
        shared = exact + (ratio * (buckets - exact)).long()
        return offset + torch.where(far < exact, far, shared.clamp(max=buckets - 1))

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """Places -> [B or 1, H, Q, K]."""
        return self.table(self.bucket(distance(places))).permute(0, 3, 1, 2)


class AlibiPositions(PositionalEncoding):
    """Affinity q . k / sqrt(d) - m(h) abs(j - i), with a fixed slope m for each head. No parameters, no last place.

    Press et al. (2022), https://arxiv.org/abs/2108.12409; in an encoder the distance counts on both sides.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.slopes = alibi_slopes(config.num_attention_heads)

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """Places -> [B or 1, H, Q, K]."""
        slopes = torch.tensor(self.slopes, device=queries.device, dtype=torch.float32)
        return -slopes[:, None, None] * distance(places)[:, None].abs()


def distance(places: Places) -> Tensor:
    """J - i for every query place i and key place j: [B or 1, Q, K]."""
    return places.keys[:, None, :] - places.queries[:, :, None]


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/H), 2^(-16/H), ...; where H is no power of two, the rest come from the next power's odd terms."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4.0 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


POSITIONS: dict[str, type[PositionalEncoding]] = {
    "none": PositionalEncoding,
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
    "shaw": ShawPositions,
    "t5": T5Positions,
    "alibi": AlibiPositions,
    "rope": RotaryPositions,
}
