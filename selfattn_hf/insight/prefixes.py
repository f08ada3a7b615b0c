"""The slow way: keys and values recomputed for every prefix, instead of one pass with the future masked.

A decoder must not see the words that it is about to write. Without a mask, the only way is to hand each layer one
prefix after the other, and to keep what it says about the last word of each. The outputs are the same; the work of a
layer grows from T to 1 + 2 + ... + T words.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def prefix_by_prefix(model: nn.Module) -> Iterator[None]:
    """In here no decoder layer masks the future; each recomputes every prefix.

    Args:
        model: a model of ours with a decoder whose mixers have affinities (self_attention, dense).

    Raises:
        ValueError: for a mixer that reads from left to right by itself, and so has no mask to do without; for a padded
            target or a cache, when the model is called.

    Examples:
        >>> masked = model(input_ids=ids, decoder_input_ids=ids).logits
        >>> with prefix_by_prefix(model):
        ...     slow = model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits
    """
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    unmasked = {"self_attention", "dense"}
    if others := [name for name in decoder.mixers if name not in unmasked]:
        raise ValueError(
            f"only {' and '.join(sorted(unmasked))} mask the future, got decoder_mixer {others[0]!r}, which cannot see "
            "it in the first place. Choose a model whose decoder has one of them."
        )
    mixers = [layer.mix.sublayer for layer in decoder.layers]
    for mixer in mixers:
        mixer.attend.is_causal = False
        mixer.forward = _Slow(mixer.forward)
    try:
        yield
    finally:
        for mixer in mixers:
            mixer.attend.is_causal = mixer.causal
            del mixer.forward


class _Slow:
    """A mixer's forward, once for every prefix and without a mask."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward

    def __call__(
        self, x: Tensor, *, places: Any, cache: Any = None, inputs: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        if cache is not None or places.packed is not None or places.keys.shape[0] > 1:
            raise ValueError(
                "prefix by prefix takes whole targets: got a cache or padding. Give rows of one length, and "
                "use_cache=False."
            )
        last = []
        for length in range(1, x.shape[1] + 1):
            prefix = dataclasses.replace(
                places,
                queries=places.queries[:, :length],
                keys=places.keys[:, :length],
                shape=(places.shape[0], length),
            )
            of_prefix = None if inputs is None else inputs[:, :length]
            states = self.forward(x[:, :length], **{**kwargs, "mask": None}, places=prefix, inputs=of_prefix)
            last.append(states[:, -1:])
        return torch.cat(last, dim=1)
