"""Chapter 4 of 8, continued: order in the affinities. Before: positions_embed.py. Next: positions.py.

Two more doors for order. What turns queries and keys by their places makes their product depend on the distance; what
is added to the affinities says how near or far, before or behind, a pair of tokens stands.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .contracts import Learned, Places, PositionalEncoding
from .positions_embed import needed, sinusoids


class RotaryPositions(PositionalEncoding):
    """At place t, q and k turn by t / theta^(2i/d) in dimensions i and i + d/2: q . k depends on the distance alone.

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
        self.table = nn.Embedding(2 * self.furthest + 1, config.head_width)

    def distance(self, places: Places) -> Tensor:
        """What is far from what: [B or 1, Q, K]."""
        return distance(places)

    def longest(self, keys: Tensor, places: Places) -> int:
        """A distance that no pair exceeds; places are counted, so that K tokens are at most K - 1 apart."""
        return keys.shape[2] - 1

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """[B, H, Q, d] and places -> [B, H, Q, K]."""
        reach = torch.sym_min(self.furthest, self.longest(keys, places))  # a short row has no far pairs
        index = self.distance(places).clamp(-reach, reach) + reach  # [B or 1, Q, K]
        # Every query meets every distance once, [B, H, Q, 2 * reach + 1]; the pairs then pick theirs.
        rows = torch.arange(2 * reach + 1, device=queries.device) + (self.furthest - reach)
        return pick(queries @ self.table(rows).to(queries.dtype).T * queries.shape[-1] ** -0.5, index)


class TreeRelativePositions(ShawPositions):
    """Affinity q . (k + a(steps(i, j))) / sqrt(d): Shaw's vectors for the steps in a tree from word i to word j.

    After Wang et al. (2019), https://arxiv.org/abs/1909.00383, relative structural positions: downwards is positive,
    upwards negative, and a way that goes up and down has the sign of the order of the words. They measure such a way
    by the sum of both depths, here it is its length. On a chain it is `shaw`. Between tokens outside the tree the
    distance is 0.
    """

    def distance(self, places: Places) -> Tensor:
        """[B, Q, K] steps in the tree."""
        return needed(places, "tree_relative").distance

    def longest(self, keys: Tensor, places: Places) -> int:
        """The way through a whole row; words near each other may be far apart in a tree."""
        return needed(places, "tree_relative").longest


class TransformerXLPositions(PositionalEncoding):
    """Affinity ((q + u) . k + (q + v) . W r(i - j)) / sqrt(d), r the sinusoids of a distance, u and v learned.

    Dai et al. (2019), https://arxiv.org/abs/1901.02860, section 3.3. u, v and W are shared by all layers of a side; a
    negative distance, in an encoder, has its own sinusoids.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.width, self.heads = config.hidden_size, config.num_attention_heads
        self.content_bias = Learned(self.heads, config.head_width)
        self.place_bias = Learned(self.heads, config.head_width)
        self.proj = nn.Linear(self.width, self.heads * config.head_width, bias=False)

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """[B, H, Q, d], [B, H, K, d] and places -> [B, H, Q, K]."""
        last = keys.shape[2] - 1
        distances = torch.arange(-last, last + 1, device=queries.device)
        table = self.proj(sinusoids(distances, self.width).to(queries.dtype)).unflatten(-1, (self.heads, -1))
        met = torch.einsum("bhqd,rhd->bhqr", queries + self.place_bias()[:, None], table)
        content = torch.einsum("hd,bhkd->bhk", self.content_bias(), keys)
        return (pick(met, last - distance(places)) + content[:, :, None]) * queries.shape[-1] ** -0.5


class DistancePositions(PositionalEncoding):
    """What is added to an affinity depends on the distance j - i alone; a subclass says how."""

    def by_distance(self, distances: Tensor) -> Tensor:
        """Distances j - i, [B or 1, Q, K] -> [B or 1, H, Q, K]."""
        raise TypeError("an encoding of distances says in by_distance what it adds")

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """Places -> [B or 1, H, Q, K]."""
        return self.by_distance(distance(places))

    def diagonals(self, places: Places) -> Tensor | None:
        """Plain places of T tokens -> [H, 2T - 1]; others: None."""
        if not places.are_plain():
            return None
        last = places.queries.shape[1] - 1
        return self.by_distance(torch.arange(-last, last + 1, device=places.queries.device)[None, None])[0, :, 0]


class T5Positions(DistancePositions):
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

    def by_distance(self, distances: Tensor) -> Tensor:
        """[B or 1, Q, K] -> [B or 1, H, Q, K]."""
        return self.table(self.bucket(distances)).permute(0, 3, 1, 2)


class AlibiPositions(DistancePositions):
    """Affinity q . k / sqrt(d) - m(h) abs(j - i), with a fixed slope m for each head. No parameters, no last place.

    Press et al. (2022), https://arxiv.org/abs/2108.12409; in an encoder the distance counts on both sides.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.slopes = alibi_slopes(config.num_attention_heads)

    def by_distance(self, distances: Tensor) -> Tensor:
        """[B or 1, Q, K] -> [B or 1, H, Q, K]."""
        slopes = torch.tensor(self.slopes, device=distances.device, dtype=torch.float32)
        return -slopes[:, None, None] * distances[:, None].abs()


class KerplePositions(DistancePositions):
    """Affinity q . k / sqrt(d) - a(h) log(1 + b(h) abs(j - i)), with a and b learned and above 0, for each head.

    Chi et al. (2022), https://arxiv.org/abs/2205.09921, the logarithmic kernel. No last place.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        # The logarithms of a and b; fresh ones are numbers near 1, which differ from head to head.
        self.log_scale = Learned(config.num_attention_heads, std=1.0)
        self.log_rate = Learned(config.num_attention_heads, std=1.0)

    def by_distance(self, distances: Tensor) -> Tensor:
        """[B or 1, Q, K] -> [B or 1, H, Q, K]."""
        scale, rate = self.log_scale().exp()[:, None, None], self.log_rate().exp()[:, None, None]
        return -scale * torch.log1p(rate * distances[:, None].abs())


class FirePositions(PositionalEncoding):
    """Affinity q . k / sqrt(d) + f(psi(i - j) / psi(max(L, i)))(h), psi(x) = log(c x + 1), f a small network.

    Li et al. (2024), https://arxiv.org/abs/2310.04418; c and L are learned, f has 32 hidden units. The paper has
    decoders only. Here i is the later one of the two places, which in a decoder is the query's, and a key that
    stands behind its query has the negative ratio, so that all ratios lie from -1 to 1.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__(config, causal)
        self.log_rate = Learned(1, mean=math.log(0.1), std=0.0)  # log c, which starts as in the paper
        self.log_threshold = Learned(1, mean=math.log(config.relative_max_distance), std=0.0)  # log L
        self.hidden = nn.Linear(1, 32)
        self.out = nn.Linear(32, config.num_attention_heads)

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        """Places -> [B or 1, H, Q, K]."""
        rate, threshold = self.log_rate().exp(), self.log_threshold().exp()
        back = -distance(places).to(rate.dtype)  # [B or 1, Q, K]
        later = torch.maximum(places.queries[:, :, None], places.keys[:, None, :]).to(back.dtype)
        ratio = back.sign() * torch.log1p(rate * back.abs()) / torch.log1p(rate * torch.maximum(later, threshold))
        return self.out(nn.functional.relu(self.hidden(ratio[..., None]))).permute(0, 3, 1, 2)


def pick(met: Tensor, index: Tensor) -> Tensor:
    """What every query has met at R distances [B, H, Q, R], and which of them each pair has [B or 1, Q, K] -> pairs."""
    return met.gather(-1, index[:, None].expand(met.shape[0], met.shape[1], -1, -1))


def distance(places: Places) -> Tensor:
    """J - i for every query place i and key place j: [B or 1, Q, K]."""
    return places.keys[:, None, :] - places.queries[:, :, None]


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/H), 2^(-16/H), ...; where H is no power of two, the rest come from the next power's odd terms."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4.0 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
