"""Chapter 0 of 8: what the parts promise each other. Before: configuration_selfattn.py. Next: masking.py.

Letters used for shapes in all files: B rows, Q new tokens, K visible tokens (those in the cache included), H heads,
d width of a head, D width of a token, N real tokens of a packed batch, S source tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import initialization as init
from transformers.cache_utils import Cache, CacheLayerMixin

from .trees import Tree


@dataclass(frozen=True)
class Places:
    """Where the tokens of one forward pass stand.

    Tensors, not lengths: an offset by the cache, left padding and packing are all one.

    A padded batch may travel packed, as one long row [1, N, ...] of its real tokens. What works on single tokens does
    not notice. What moves information between tokens asks for rectangles with `lay_out` and returns with `take_back`.

    Attributes:
        queries: [B or 1, Q] place of each new token.
        keys: [B or 1, K] place of each visible token.
        shape: (B, Q), the rectangle.
        packed: [N] index of each real token in the flattened rectangle [B * Q]; None where nothing is packed.
        shift: [B, 1] place at which each row starts, for encodings of places that are not relative; None: 0.
        tree: the trees over the tokens of each row, where an encoding reads them.
    """

    queries: Tensor
    keys: Tensor
    shape: tuple[int, int]
    packed: Tensor | None = None
    shift: Tensor | None = None
    tree: Tree | None = None

    @classmethod
    def count(
        cls,
        shape: tuple[int, int],
        device: torch.device,
        padding: Tensor | None = None,
        past: int | Tensor = 0,
        visible: int | None = None,
        packed: Tensor | None = None,
    ) -> "Places":
        """Count the places of Q new tokens behind `past` ones.

        Args:
            shape: (B, Q) of the new tokens.
            device: where the places live.
            padding: [B, past + Q], True at real tokens; padding takes no place, on whichever side it stands.
            past: number of tokens in the cache.
            visible: K, where the cache is longer than what it holds so far; None: past + Q.
            packed: see the class.
        """
        steps = torch.arange(shape[1], device=device) + past
        if padding is None:
            keys = torch.arange(visible or int(past) + shape[1], device=device)
            return cls(steps[None], keys[None], shape, packed)
        keys = (padding.long().cumsum(-1) - 1).clamp(min=0)  # [B, past + Q]
        queries = keys.index_select(1, steps)
        if visible is not None and visible > keys.shape[1]:
            keys = nn.functional.pad(keys, (0, visible - keys.shape[1]))
        return cls(queries, keys, shape, packed)

    def are_plain(self) -> bool:
        """Whether all rows are alike, each token stands one behind the last, and all are visible; looks at values."""
        return (
            len(self.queries) == 1
            and torch.equal(self.queries, self.keys)
            and bool((self.queries[:, 1:] - self.queries[:, :-1] == 1).all())
        )

    def lay_out(self, x: Tensor) -> Tensor:
        """[1, N, ...] -> [B, Q, ...], zeros at padding; unpacked tokens stay as they are."""
        if self.packed is None:
            return x
        rows = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[2:])
        return rows.index_copy(0, self.packed, x[0]).unflatten(0, self.shape)

    def take_back(self, x: Tensor) -> Tensor:
        """[B, Q, ...] -> [1, N, ...]; the inverse of `lay_out`."""
        return x if self.packed is None else x.flatten(0, 1).index_select(0, self.packed)[None]

    def blocks(self, queries: Tensor, keys: Tensor) -> "Places":
        """The places of blocks of tokens, each block a row of its own.

        Args:
            queries: [n, q] index of the new tokens of each of n blocks.
            keys: [n, k] index of the visible tokens that each block looks at.

        Returns:
            Places with queries [B * n, q] and keys [B * n, k], the blocks of a row one after the other.
        """
        asking, asked = (
            of.expand(self.shape[0], -1)[:, index].flatten(0, 1)
            for of, index in ((self.queries, queries), (self.keys, keys))
        )
        tree = None if self.tree is None else self.tree.blocks(queries, keys)
        return Places(asking, asked, (self.shape[0] * len(queries), queries.shape[1]), tree=tree)


class PositionalEncoding(nn.Module):
    """How order enters. Three doors, each closed unless a subclass opens it. `none` is this class itself.

    Args:
        config: the switches.
        causal: True where no token sees a later one.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__()

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """Act on embeddings: tokens [B, Q, D] or packed [1, N, D] -> the same shape."""
        return x

    def rotate(self, heads: Tensor, places: Places) -> Tensor:
        """Act on queries and on new keys, before they enter the cache: [B, H, Q, d] -> [B, H, Q, d]."""
        return heads

    def bias(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor | None:
        """Add to affinities, after the cache: [B, H, Q, d], [B, H, K, d] -> [B or 1, H, Q, K] or None."""
        return None

    def diagonals(self, places: Places) -> Tensor | None:
        """The same bias where it depends on j - i alone and T places are plain ones, else None.

        Returns:
            [H, 2T - 1] for the distances j - i from -(T - 1) to T - 1; places on a CPU are looked at.
        """
        return None


class Learned(nn.Module):
    """Numbers that are learned, read by a call: where weights wait on a disk, a call is when they are brought.

    Args:
        shape: of the numbers.
        mean: of their fresh values.
        std: standard deviation of their fresh values; None: that of the matrices.
    """

    def __init__(self, *shape: int, mean: float = 0.0, std: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.mean, self.std = mean, std

    def draw(self, std: float) -> None:
        """Fresh values."""
        init.normal_(self.weight, mean=self.mean, std=std if self.std is None else self.std)

    def forward(self) -> Tensor:
        """The numbers."""
        return self.weight


class TokenMixer(nn.Module):
    """Moves information between tokens. What happens inside one token is the feed-forward's work.

    Args:
        config: the switches.
        causal: True where no token may see a later one.
    """

    def __init__(self, config: Any, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.order_in_every_block = config.position_injection == "block"

    @staticmethod
    def cache_layer(config: Any) -> CacheLayerMixin:
        """An empty memory of what one layer needs while decoding."""
        return StateCacheLayer()

    @staticmethod
    def make_mask(config: Any, x: Tensor, padding: Tensor | None, cache: Cache | None, causal: bool) -> Any:
        """What may see what; made once per pass, not once per layer, and handed to every layer.

        A mixer that reads rows needs no more than which new tokens are real, [B, Q], or None where all are; a mixer
        with affinities says more.

        Args:
            config: the switches.
            x: [B, Q, D] the new tokens.
            padding: [B, K] True at real tokens, or None where all are real.
            cache: what earlier passes left.
            causal: True where no token may see a later one.
        """
        return None if padding is None else padding[:, -x.shape[1] :]

    def forward(
        self,
        x: Tensor,
        *,
        mask: Any,
        position: PositionalEncoding,
        places: Places,
        cache: Cache | None = None,
        layer_idx: int = 0,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Mix tokens.

        Args:
            x: [B, Q, D] or packed [1, N, D].
            mask: what `make_mask` made.
            position: how order enters.
            places: where the tokens stand.
            cache: what earlier passes left.
            layer_idx: where this layer's memory lies in the cache.
            inputs: what the stack was given, in the shape of x, where keys and values are made of it
                (`attend_to="embeddings"`); a mixer without affinities has no use for it.

        Returns:
            A plain tensor of the shape of x.
        """
        raise TypeError("a TokenMixer mixes tokens in forward")

    def ordered(self, x: Tensor, position: PositionalEncoding, places: Places) -> Tensor:
        """The block's input, with its order where `position_injection="block"` gives it to every block."""
        return position.embed(x, places) if self.order_in_every_block else x


class StateCacheLayer(CacheLayerMixin):
    """What a mixer without keys and values remembers while decoding: a state of fixed size, as a pair of tensors.

    `keys` and `values` hold the state, rows first. While the past is recorded (assisted decoding) it also keeps the
    state after each token, so that `crop` can go back.
    """

    is_sliding = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.cumulative_length = 0
        self.record_past = False
        self._past: list[tuple[Tensor | None, Tensor | None]] = []

    @staticmethod
    def of(cache: Cache, layer_idx: int) -> "StateCacheLayer":
        """The state of layer `layer_idx`; refuses caches that were made for keys and values."""
        layer = cache.layers[layer_idx] if layer_idx < len(cache.layers) else None
        if not isinstance(layer, StateCacheLayer):
            raise TypeError(
                f"decoder layer {layer_idx} remembers a state, not keys and values, and the cache given holds "
                f"{type(layer).__name__} there. Leave past_key_values out, or build it with make_cache(config)."
            )
        return layer

    @property
    def state(self) -> tuple[Tensor, Tensor] | None:
        """The pair of tensors, or None before the first token."""
        return None if self.keys is None else (self.keys, self.values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Note dtype and device."""
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,
        tokens: int = 1,
        history: list[tuple[Tensor, Tensor]] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Remember the state after `tokens` more tokens; `history` is the state after each of them."""
        if self.record_past:
            if history is None or len(history) != tokens:
                raise ValueError("a recorded past needs the state after every token: give `history`")
            self._past.extend(history)
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        self.cumulative_length += tokens
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Number of tokens read so far."""
        return self.cumulative_length

    def get_max_length(self) -> int:
        """-1: there is no limit."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(visible tokens, offset), for masks."""
        return self.cumulative_length + query_length, 0

    def activate_past_recording(self) -> None:
        """From here on keep the state after each token, for `crop`."""
        if not self.record_past:
            self.record_past = True
            self._past = [(self.keys, self.values)]

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last `-tokens_to_remove` tokens."""
        gone = -tokens_to_remove
        if not self.record_past:
            if gone == 0:
                return
            raise RuntimeError("a state cannot be rolled back unless activate_past_recording() was called before")
        if not 0 <= gone < len(self._past):
            raise RuntimeError(f"cannot forget {gone} tokens: {len(self._past) - 1} are recorded")
        self._past = [self._past[len(self._past) - 1 - gone]]
        self._restore(*self._past[0])
        self.cumulative_length -= gone

    def reset(self) -> None:
        """Forget everything."""
        self._restore(None, None)
        self.is_initialized = False
        self.cumulative_length = 0
        self._past = [(None, None)] if self.record_past else []

    def reorder_cache(self, beam_idx: LongTensor) -> None:
        """Keep the rows that beam search continues."""
        self._each(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._each(lambda state: state.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows named."""
        self._each(lambda state: state[indices])

    def _restore(self, keys: Tensor | None, values: Tensor | None) -> None:
        self.keys, self.values = keys, values  # type: ignore[assignment]  # the base class forgets its own None

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.keys is not None:
            self.keys, self.values = change(self.keys), change(self.values)
        self._past = [(k, v) if k is None or v is None else (change(k), change(v)) for k, v in self._past]
