"""Chapter 6 of 8: what may be seen. Before: feedforward.py. Next: layers.py.

Padding is nobody's neighbour; the future is masked with affinities of -inf instead of recomputing every prefix; and a
padded batch can be packed, so that work inside single tokens is done for real tokens only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask


def check_padding(mask: Tensor | None, rows: int, length: int | None, name: str) -> Tensor | None:
    """A padding mask as booleans [B, K], or None where every token is real.

    Args:
        mask: [B, K] 1 at real tokens, 0 at padding.
        rows: B.
        length: K, or None where only the device knows how many tokens the cache holds.
        name: the argument, for the error.

    Raises:
        ValueError: where the mask does not have the shape of the tokens, or holds something else.
    """
    if mask is None:
        return None
    if mask.ndim != 2 or mask.shape[0] != rows or (length is not None and mask.shape[1] != length):
        raise ValueError(
            f"{name} has one entry for each token, 1 for real and 0 for padding: expected shape "
            f"({rows}, {'any' if length is None else length}), got {tuple(mask.shape)}. Give the mask that the "
            "tokenizer returned with the ids."
        )
    real = mask.bool()
    if mask.device.type == "cpu" and not is_traced() and not bool((mask == real).all()):
        raise ValueError(
            f"{name} holds 1 for real tokens and 0 for padding, got {mask[mask != real][0].item()}. Give the "
            "mask that the tokenizer returned with the ids; masks to be added to affinities are made of it here."
        )
    return None if not is_traced() and bool(real.all()) else real


def attention_mask(config: Any, x: Tensor, padding: Tensor | None, cache: Cache | None, causal: bool) -> Any:
    """Who sees whom in self-attention, in the form that the attention implementation of the config reads.

    Args:
        config: the switches.
        x: [B, Q, D] the new tokens.
        padding: [B, K] True at real tokens, or None.
        cache: keys and values of earlier tokens.
        causal: True masks the future.
    """
    if causal:
        return create_causal_mask(config=config, inputs_embeds=x, attention_mask=padding, past_key_values=cache)
    return create_bidirectional_mask(config=config, inputs_embeds=x, attention_mask=padding)


def cross_mask(config: Any, x: Tensor, source: Tensor, padding: Tensor | None) -> Any:
    """Which source tokens [B, S, D] the target tokens `x` [B, Q, D] may read: all but padding [B, S]."""
    return create_bidirectional_mask(
        config=config, inputs_embeds=x, attention_mask=padding, encoder_hidden_states=source
    )


def pack(padding: Tensor | None) -> Tensor | None:
    """Index [N] of the real tokens in the flattened batch, or None where nothing is to be gained or it must stay whole.

    A graph that is traced or exported would freeze the number of real tokens, so there nothing is packed.
    """
    if padding is None or is_traced():
        return None
    return padding.flatten().nonzero().flatten()


def looks(module: nn.Module, values: Tensor | None, fresh: bool = True) -> bool:
    """Whether `module` looks at the values of a batch before it uses them.

    On the CPU always. A GPU has to be waited for, so there while evaluating and in the first batch alone; what comes
    later has been looked at by the collator.

    Args:
        module: remembers that it has looked.
        values: a tensor of the batch; in what is none there is nothing to look at.
        fresh: False where a cache goes on, with ids that the model itself has chosen.
    """
    if not isinstance(values, Tensor) or values.is_meta or is_traced():
        return False
    if values.device.type == "cpu":
        return True
    if values.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return False
    is_first = "_has_looked" not in vars(module)
    vars(module)["_has_looked"] = True
    return fresh and (is_first or not module.training)


def is_traced() -> bool:
    """Whether this code is being compiled, traced or exported, so that no value of a tensor may be looked at."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
