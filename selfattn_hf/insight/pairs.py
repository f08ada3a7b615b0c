"""What the probes look at: one source with one target, as a model reads them."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import Tokenizers
from .passes import sides_of_model, stack_of, still
from .results import Plain

MOST_WRITTEN = 256  # tokens of an answer where nothing else limits it
SPACE = "\u2423"  # shown for a token that is nothing but a space
SPACES = (" ", "\u0120", "\u2581")  # as tokenizers write the space before a word


@dataclasses.dataclass(frozen=True)
class Pair(Plain):
    """One source and one target, token by token.

    Attributes:
        source: ids that the encoder reads; empty for a decoder alone.
        target: ids that the decoder reads, the start token first; empty for an encoder alone.
        source_tokens: their text.
        target_tokens: their text.
        written_tokens: text of the token that the decoder writes at each place, the next; empty where it is unknown.
        source_words: number of the word that each source token is a part of.
        heads: head of each source token, and
        nodes: token that stands for its word, both for an encoder that reads trees, else None.
    """

    source: list[int]
    target: list[int]
    source_tokens: list[str]
    target_tokens: list[str]
    written_tokens: list[str]
    source_words: list[int]
    heads: list[int] | None = None
    nodes: list[int] | None = None


def pair_of(
    model: Any,
    source: Sequence[int] = (),
    target: Sequence[int] | None = None,
    *,
    heads: Sequence[int] | None = None,
    nodes: Sequence[int] | None = None,
    tokenizers: Tokenizers | None = None,
) -> Pair:
    """A pair of ids for a model; `Probed.read` makes one of texts.

    Args:
        model: any model of ours.
        source: ids of the source, the end token included.
        target: ids of the target without the start token, the end token included; None: what the model itself writes
            (greedy). For a decoder alone the ids that it reads.
        heads: of each source token, for an encoder that reads trees; see `SelfAttnEncoder`.
        nodes: of each source token; None: each stands for itself.
        tokenizers: give the tokens their text; without them the text of a token is its id.

    Raises:
        ValueError: for a side that the model does not have, or has and is given nothing for.
    """
    sides = sides_of_model(model)
    if bool(source) != ("encoder" in sides):
        has = "reads a source, and none was" if "encoder" in sides else "has no encoder, and a source was"
        raise ValueError(f"{type(model).__name__} {has} given. Give source ids to a model with an encoder alone.")
    if target and "decoder" not in sides:
        raise ValueError(f"{type(model).__name__} has no decoder, and a target was given. Leave it out.")
    if "decoder" not in sides:
        read, written = [], []
    elif "encoder" not in sides:
        if not target:
            raise ValueError("a decoder alone reads what was written so far, and nothing was given. Give target ids.")
        read, written = list(target), list(target[1:])
    else:
        if target is None:
            target = _answer(model, source, heads, nodes)
        start = model.config.decoder_start_token_id
        if start is None:
            raise ValueError(
                "a decoder starts with config.decoder_start_token_id, got None. Set it to the tokenizer's."
            )
        read, written = [start, *target[:-1]], list(target)
        if not target:
            raise ValueError(
                "a target has at least one token, its end; got none. Give it, or None for the model's own."
            )
    of_source, of_target = (None, None) if tokenizers is None else (tokenizers.source, tokenizers.target)
    return Pair(
        source=list(source),
        target=read,
        source_tokens=_texts(source, of_source),
        target_tokens=_texts(read, of_target),
        written_tokens=[*_texts(written, of_target), *[""] * (len(read) - len(written))],
        source_words=_words(source, of_source),
        heads=None if heads is None else list(heads),
        nodes=None if nodes is None else list(nodes),
    )


def row(model: Any, ids: Sequence[int]) -> Tensor:
    """Ids as a batch of one row, [1, T], where the model lives."""
    return torch.tensor([list(ids)], device=model.device)


def trees_of(model: Any, pair: Pair) -> dict[str, Tensor]:
    """The keywords by which an encoder gets the tree of a source; none where the pair has no tree."""
    given = {"syntax_heads": pair.heads, "syntax_nodes": pair.nodes}
    return {name: row(model, values) for name, values in given.items() if values is not None}


def arguments(model: Any, pair: Pair, side: str) -> dict[str, Any]:
    """What a stack is given beside its own tokens: trees, or the encoder's states.

    Raises:
        ValueError: for a side that the model does not have.
    """
    stack_of(model, side)
    if side == "encoder":
        return trees_of(model, pair)
    if not model.config.is_encoder_decoder:
        return {"use_cache": False}
    with still(model):
        encoder = stack_of(model, "encoder")
        states = encoder(row(model, pair.source), **trees_of(model, pair)).last_hidden_state
    return {"encoder_hidden_states": states, "use_cache": False}


def ids_of(pair: Pair, side: str) -> list[int]:
    """What the side reads."""
    return pair.source if side == "encoder" else pair.target


def _answer(model: Any, source: Sequence[int], heads: Any, nodes: Any) -> list[int]:
    """What the model writes, greedily, its end token included."""
    if not model.can_generate():
        raise ValueError(f"{type(model).__name__} has no head that writes a target. Give the ids of one.")
    given = {"syntax_heads": heads, "syntax_nodes": nodes}
    trees = {name: row(model, values) for name, values in given.items() if values is not None}
    known = model.config.known_places("decoder")
    limit = MOST_WRITTEN if known is None else min(MOST_WRITTEN, known)
    ids = row(model, source)
    with still(model):
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=1, do_sample=False, max_new_tokens=limit, **trees
        )
    return list(written[0, 1:].tolist())


def _texts(ids: Sequence[int], tokenizer: Any) -> list[str]:
    return [str(i) if tokenizer is None else tokenizer.decode([i]) or SPACE for i in ids]


def _words(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Without a tokenizer every token is a word; else one starts at a token that has a space first, or is special."""
    if tokenizer is None:
        return list(range(len(ids)))
    raw = tokenizer.convert_ids_to_tokens(list(ids))
    special = set(tokenizer.all_special_ids)
    starts = [
        place == 0 or number in special or token.startswith(SPACES)
        for place, (number, token) in enumerate(zip(ids, raw, strict=True))
    ]
    return [count - 1 for count in itertools.accumulate(map(int, starts))]
