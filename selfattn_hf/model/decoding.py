"""Chapter 8 of 8, a side door: the same words, sooner. Before: stacks.py. Next: generation.py.

One token for every hypothesis, with as little around the products as can be. Keys and values lie in slots that the
hypotheses of one sentence share, and each of them knows which slots are its own past, so that beam search moves no
memory; slots that nobody calls its past any more are given up now and then. A source is kept once for all hypotheses
of its sentence.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import LongTensor, Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from .attend import Attend
from .attention import CrossAttention, SelfAttentionMixer
from .contracts import Learned, Places, PositionalEncoding
from .dropout import Dropout
from .feedforward import FeedForward, GatedFeedForward
from .layers import DecoderLayer, Residual
from .products import Int8Linear, Product, with_products
from .stacks import SelfAttnDecoder

# Tokens for which there are slots at first, and after which slots are given up.
SOME_TOKENS = 16


class DecodingState(Cache):
    """What a decoder of self-attention remembers while it writes, and the step that writes one token more.

    For transformers' generation loops it is a cache: they ask it to reorder, and hand it back to `forward`.

    Args:
        decoder: the decoder; see `serves`.
        head: its output layer.
        beams: hypotheses of one sentence, which stand in rows one after the other.
        tokens: about how many tokens will be written.
    """

    # A way of computing the steps that something beside the suitcase offers: from decoder, head, states of the source
    # [B, S, D], its padding and the number of beams to what writes and reorders as `_Slots` do, or to None.
    offered: ClassVar[Callable[[SelfAttnDecoder, nn.Module, Tensor, Tensor | None, int], Any] | None] = None

    def __init__(self, decoder: SelfAttnDecoder, head: nn.Module, beams: int, tokens: int) -> None:
        super().__init__(layers=[])
        self.decoder, self.head, self.beams, self.tokens = decoder, head, beams, tokens
        self.length = 0
        self.writer: Any = None

    @staticmethod
    def serves(decoder: SelfAttnDecoder, head: nn.Module) -> bool:
        """Whether this way of decoding knows the decoder's parts, and they are as they were built.

        Other parts, and layers that somebody wrapped, quantised or hooked, decode as they compute otherwise.
        """
        config = decoder.config
        plain = (
            config.is_encoder_decoder
            and set(decoder.mixers) == {"self_attention"}
            and config.attention_score == "scaled_dot"
            and config.attend_to == "layer"
            and config._attn_implementation in ("sdpa", "eager")
            and not decoder.training
        )
        return (
            plain
            and all(_is_as_built(module) for module in (*decoder.modules(), head))
            and all(_are_alike(layer) for _, layer in decoder.steps())
        )

    @property
    def is_compileable(self) -> bool:
        """Its shapes grow."""
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens written so far."""
        return self.length

    def reorder_cache(self, beam_idx: LongTensor) -> None:
        """Row r goes on from row `beam_idx[r]`, of the same sentence: [R]."""
        if self.beams > 1:
            self.writer.reorder(beam_idx)

    def keep(self, sentences: Tensor) -> None:
        """Go on with these sentences alone, in this order: [n]."""
        self.writer.keep(sentences)

    @torch.no_grad()
    def answer(
        self, input_ids: Tensor, encoder_outputs: BaseModelOutput | tuple[Tensor, ...], padding: Tensor | None = None
    ) -> Seq2SeqLMOutput:
        """Logits for what follows the ids, computed in the number format of the weights, under autocast too.

        Args:
            input_ids: [R, Q] new ids; R is a multiple of `beams`.
            encoder_outputs: states of the source, [R, S, D], alike in the rows of one sentence.
            padding: [R, S] 1 at real source tokens, or None.
        """
        fresh = self.writer is None
        if fresh:
            states = encoder_outputs[0][:: self.beams].to(self.decoder.embed_tokens.weight.dtype)
            with torch.autocast(states.device.type, enabled=False):
                self._begin(states, None if padding is None else padding[:: self.beams])
        with torch.autocast(input_ids.device.type, enabled=False):
            logits = [self._write(ids, look=fresh) for ids in input_ids.split(1, dim=1)]
        return Seq2SeqLMOutput(logits=torch.stack(logits, dim=1), past_key_values=self)

    @torch.no_grad()
    def next(self, ids: Tensor) -> Tensor:
        """Logits [R, V] for what follows one new id in every row, [R]; `answer` came before."""
        with torch.autocast(ids.device.type, enabled=False):
            return self._write(ids[:, None], look=False)

    def _begin(self, states: Tensor, padding: Tensor | None) -> None:
        offered = type(self).offered
        if offered is not None:
            self.writer = offered(self.decoder, self.head, states, padding, self.beams)
        if self.writer is None:
            self.writer = _Slots(self.decoder, self.head, states, padding, self.beams, self.tokens)

    def _write(self, ids: Tensor, look: bool) -> Tensor:
        """[R, 1] -> [R, V]."""
        now = torch.full((1, 1), self.length, device=ids.device)
        tokens = Places(now, torch.arange(self.length + 1, device=ids.device)[None], (len(ids), 1))
        x = self.decoder.order(self.decoder.embed(ids, None, look), tokens)[:, 0]
        logits: Tensor = self.writer.write(x, tokens)
        self.length += 1
        return logits


class _Slots:
    """Keys and values in slots that the hypotheses of a sentence share, and the steps of the layers over them.

    Args:
        decoder: the decoder.
        head: its output layer.
        states: of the source, [B, S, D].
        padding: [B, S] 1 at real source tokens, or None.
        beams: hypotheses of one sentence.
        tokens: about how many tokens will be written.
    """

    def __init__(
        self, decoder: SelfAttnDecoder, head: nn.Module, states: Tensor, padding: Tensor | None, beams: int, tokens: int
    ) -> None:
        self.decoder, self.beams, rows = decoder, beams, len(states) * beams
        blind = mask = None
        if padding is not None and not bool(padding.all()):
            mask = padding.bool()[:, None, None]  # [B, 1, 1, S]
            blind = ~mask.any(-1, keepdim=True)
            blind = blind if bool(blind.any()) else None
        self._steps = [_LayerStep(layer, states, mask, blind, beams, tokens) for _, layer in decoder.steps()]
        self._head = Product([head], rows, tokens)
        # [B, k, M]: whether slot m is of the past of a hypothesis, and [B, M]: its place.
        self.past = torch.zeros(len(states), beams, 0, dtype=torch.bool, device=states.device)
        self.places = torch.zeros(len(states), 0, dtype=torch.long, device=states.device)

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from row `rows[r]`, of the same sentence: [R]."""
        chosen = rows.view(-1, self.beams) % self.beams
        self.past = self.past.gather(1, chosen[..., None].expand(-1, -1, self.past.shape[2]))

    def keep(self, sentences: Tensor) -> None:
        """Go on with these sentences alone, in this order: [n]."""
        self.past, self.places = self.past[sentences], self.places[sentences]
        for step in self._steps:
            step.keep_sentences(sentences)

    def write(self, x: Tensor, tokens: Places) -> Tensor:
        """New tokens, embedded and ordered, [R, D], and where they stand, the same place in every row -> [R, V]."""
        sentences, beams, now, length = len(self.past), self.beams, tokens.queries, tokens.keys.shape[1] - 1
        if beams > 1 and length and length % SOME_TOKENS == 0:
            self._give_up_slots()
        own = torch.eye(beams, dtype=torch.bool, device=x.device).expand(sentences, -1, -1)
        self.past = torch.cat([self.past, own], dim=2)
        self.places = torch.cat([self.places, now.expand(sentences, beams)], dim=1)
        pairs = Places(now.expand(1, beams), self.places, (sentences, beams))
        mask = None
        if beams > 1:
            mask = torch.zeros(self.past.shape, dtype=x.dtype, device=x.device)
            mask = mask.masked_fill_(~self.past, float("-inf"))[:, None]  # [B, 1, k, M]
        for step in self._steps:
            x = step(x, self.decoder.position, tokens, pairs, mask)
        return self._head(x if self.decoder.norm is None else self.decoder.norm(x))

    def _give_up_slots(self) -> None:
        """Keep what is somebody's past, in every sentence as many slots as the one with most of them needs."""
        used = self.past.any(1)
        kept = used.sort(dim=1, descending=True, stable=True).indices[:, : int(used.sum(1).max())]  # [B, M]
        self.past = self.past.gather(2, kept[:, None].expand(-1, self.beams, -1))
        self.places = self.places.gather(1, kept)
        for step in self._steps:
            step.keep(kept)


class _LayerStep:
    """One decoder layer, for one token of every hypothesis."""

    def __init__(
        self, layer: Any, states: Tensor, mask: Tensor | None, blind: Tensor | None, beams: int, tokens: int
    ) -> None:
        self.layer, self.beams, self.source_mask, self.blind = layer, beams, mask, blind
        mix, read = layer.mix.sublayer, layer.read.sublayer
        self.heads, self.mix, self.read = mix.heads, mix, read
        each = {"rows": len(states) * beams, "uses": tokens}
        self.qkv = Product([mix.q_proj, mix.k_proj, mix.v_proj], **each)
        self.query, self.mixed, self.found = (
            Product([layer], **each) for layer in (read.q_proj, mix.out_proj, read.out_proj)
        )
        # [B, H, S, d]
        self.source_keys, self.source_values = (
            proj(states).unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()
            for proj in (read.k_proj, read.v_proj)
        )
        self.think = None if layer.think is None else with_products(layer.think.sublayer, **each)
        shape = (len(states), self.heads, 2 * SOME_TOKENS * beams, self.source_keys.shape[-1])
        self.keys, self.values = states.new_empty(shape), states.new_empty(shape)

    def __call__(self, x: Tensor, position: Any, tokens: Places, pairs: Places, mask: Tensor | None) -> Tensor:
        """[R, D] -> [R, D]; where the new tokens stand, and where queries and slots do."""
        layer = self.layer
        x = layer.mix.close(x, self._look_back(layer.mix.open(x), position, tokens, pairs, mask))
        x = layer.read.close(x, self._read_source(layer.read.open(x)))
        return x if self.think is None else layer.think.close(x, self.think(layer.think.open(x)))

    def keep(self, slots: Tensor) -> None:
        """Keep the slots named, [B, M], in this order."""
        index = slots[:, None, :, None].expand(-1, self.heads, -1, self.keys.shape[-1])
        for old in (self.keys, self.values):
            old[:, :, : slots.shape[1]] = old.gather(2, index)

    def keep_sentences(self, sentences: Tensor) -> None:
        """Keep the sentences named, [n], in this order."""
        self.keys, self.values = self.keys[sentences], self.values[sentences]
        self.source_keys, self.source_values = self.source_keys[sentences], self.source_values[sentences]
        if self.source_mask is not None:
            self.source_mask = self.source_mask[sentences]
        if self.blind is not None:
            self.blind = self.blind[sentences]

    def _look_back(self, x: Tensor, position: Any, tokens: Places, pairs: Places, mask: Tensor | None) -> Tensor:
        if self.mix.order_in_every_block:
            x = position.embed(x[:, None], tokens)[:, 0]
        query, key, value = (self._by_sentence(part) for part in self.qkv(x).chunk(3, dim=-1))
        query, key = position.rotate(query, pairs), position.rotate(key, pairs)
        end = pairs.keys.shape[1]
        if end > self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat([old, torch.empty_like(old)], dim=2) for old in (self.keys, self.values)
            )
        self.keys[:, :, end - self.beams : end] = key
        self.values[:, :, end - self.beams : end] = value
        keys, values = self.keys[:, :, :end], self.values[:, :, :end]
        bias = position.bias(query, keys, pairs)
        if bias is not None:
            bias = bias.to(query.dtype)
            mask = bias.expand(len(query), -1, -1, -1) if mask is None else mask + bias
        return self.mixed(self._attend(query, keys, values, mask, self.mix))

    def _read_source(self, x: Tensor) -> Tensor:
        query = self._by_sentence(self.query(x))
        context = self._attend(query, self.source_keys, self.source_values, self.source_mask, self.read, self.blind)
        return self.found(context)

    def _by_sentence(self, x: Tensor) -> Tensor:
        """[R, H * d] -> [B, H, k, d]: the hypotheses of a sentence are queries side by side."""
        return x.view(-1, self.beams, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, whose: Any, blind: Tensor | None = None
    ) -> Tensor:
        """[B, H, k, d] -> [R, H * d]."""
        scaling = whose.attend.scaling
        context = nn.functional.scaled_dot_product_attention(query, keys, values, mask, scale=scaling)
        if blind is not None:
            context = context.masked_fill(blind, 0)
        return context.transpose(1, 2).reshape(-1, self.heads * context.shape[-1])


# What this way of decoding takes apart, or calls as it is; an encoding of positions is known by its contract.
_KNOWN = {
    *(SelfAttnDecoder, DecoderLayer, Residual, SelfAttentionMixer, CrossAttention, Attend),
    *(FeedForward, GatedFeedForward, Learned),
    *(nn.ModuleList, nn.Embedding, nn.Linear, nn.LayerNorm, nn.RMSNorm, Dropout, Int8Linear),
}


def _are_alike(layer: Any) -> bool:
    """Whether queries, keys and values are made by layers of one kind, which can be one product."""
    mix = layer.mix.sublayer
    return type(mix.q_proj) is type(mix.k_proj) is type(mix.v_proj)


def _is_as_built(module: nn.Module) -> bool:
    is_known = type(module) in _KNOWN or isinstance(module, PositionalEncoding)
    # Weights that somebody quantised, or cut among devices, are tensors of another kind in a layer that looks the same.
    is_known = is_known and all(type(weight) is nn.Parameter for weight in module.parameters(recurse=False))
    return is_known and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
