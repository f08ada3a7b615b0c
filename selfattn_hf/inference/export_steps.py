"""What is exported: a model as two functions of plain tensors, one that reads a source and one that writes a token.

Engines outside PyTorch know no cache objects, so that what a decoder remembers goes in and comes out as tensors: for
every layer what its mixer keeps, and the keys and values of the source, which the first function makes once.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration, make_cache

# Places for which a graph is traced; any other numbers would do, as long as they differ from each other.
ROWS, SOURCE, PAST = 3, 7, 5
# Without a bound of the model's own, a graph is promised to be right for as many tokens.
MOST_TOKENS = 4096


class ExportError(ValueError):
    """A model that a target cannot hold."""


class SourceStep(nn.Module):
    """Reads a source: ids and mask [B, S] -> for every decoder layer its keys and values, [B, H, S, d] each."""

    def __init__(self, model: SelfAttnForConditionalGeneration) -> None:
        super().__init__()
        self.encoder, self.decoder = model.get_encoder(), model.get_decoder()
        self.heads = model.config.num_attention_heads

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Keys and values in turn, layer after layer."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        found = []
        for _, layer in self.decoder.steps():
            read = layer.read.sublayer
            for proj in (read.k_proj, read.v_proj):
                made = states if proj is None else proj(states)
                found.append(made.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        return found


class TokenStep(nn.Module):
    """Writes a token: the last ones [B, 1] and what is remembered -> logits [B, V], and what is remembered now."""

    def __init__(self, model: SelfAttnForConditionalGeneration) -> None:
        super().__init__()
        self.decoder, self.head, self.config = model.get_decoder(), model.get_output_embeddings(), model.config

    def forward(
        self, token_ids: Tensor, attention_mask: Tensor, source: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """One step of every row.

        Args:
            token_ids: [B, 1] what was written last; at first the start token.
            attention_mask: [B, S] of the source.
            source: what `SourceStep` returned.
            past: keys and values in turn, [B, H, P, d] each, layer after layer; at first P is 0.
        """
        own = make_cache(self.config).self_attention_cache
        read = DynamicCache()
        for number in range(len(own.layers)):
            own.update(past[2 * number], past[2 * number + 1], number)
            read.update(source[2 * number], source[2 * number + 1], number)
        cache = EncoderDecoderCache(own, read)
        cache.is_updated = dict.fromkeys(range(len(own.layers)), True)
        rows, length = attention_mask.shape
        # Keys and values are made of the source's states already: only their shape is read.
        states = source[0].new_zeros(rows, length, self.config.hidden_size)
        decoded = self.decoder(
            input_ids=token_ids, encoder_hidden_states=states, encoder_attention_mask=attention_mask,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        logits = self.head(decoded.last_hidden_state[:, -1])
        return logits, [part for layer in own.layers for part in (layer.keys, layer.values)]


def check_exportable(config: SelfAttnConfig, target: str) -> None:
    """Refuse a model whose graph would not be right for rows of every length.

    Raises:
        ExportError: naming the switch, the reason and what to do.
    """
    reasons = {
        "local_attention": "cuts a row into as many blocks as it is long, and a graph has one number of them",
        "rnn": "reads word by word, and a graph for rows of every length has no loop over them",
        "window": "remembers a state without a length, and the places of what is written are counted from one",
    }
    for side in ("encoder", "decoder"):
        for mixer in config.mixers_of(side):
            if mixer in reasons:
                refuse(target, f"{side}_mixer={mixer!r} {reasons[mixer]}", "Choose self_attention or dense")
    if config.reads_trees:
        trees = ", ".join(config.positions_of("encoder"))
        refuse(target, f"encoder_position_encoding={trees} reads a tree, and a text alone has none", "Use a Translator")
    if not config.future_mask:
        refuse(target, "future_mask=False has no cache, and a step needs one", "Train with the mask")


def refuse(target: str, reason: str, advice: str = "Use a Translator") -> None:
    """Say why a model is not exported.

    Raises:
        ExportError: always.
    """
    raise ExportError(f"{target} cannot hold this model: {reason}. {advice}.")


def examples(model: SelfAttnForConditionalGeneration) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments that `SourceStep` and `TokenStep` are traced with; the last source token of a row is padding."""
    config = model.config
    ids = torch.ones(ROWS, SOURCE, dtype=torch.long)
    mask = torch.ones(ROWS, SOURCE, dtype=torch.long)
    mask[0, -1] = 0
    with torch.no_grad():
        source = SourceStep(model)(ids, mask)
    past = [torch.zeros(ROWS, config.num_attention_heads, PAST, part.shape[-1]) for part in remembered(model)]
    return (ids, mask), (ids[:, :1], mask, source, past)


def remembered(model: SelfAttnForConditionalGeneration) -> list[Tensor]:
    """What the decoder remembers after one token of one row, keys and values in turn."""
    cache = make_cache(model.config)
    states = torch.zeros(1, 1, model.config.hidden_size)
    with torch.no_grad():
        ids = torch.ones(1, 1, dtype=torch.long)
        model.get_decoder()(input_ids=ids, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
    return [part for layer in cache.self_attention_cache.layers for part in (layer.keys, layer.values)]
