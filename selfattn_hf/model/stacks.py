"""Chapter 7 of 8, continued: layers become stacks. Before: pretrained.py. Next: modeling_selfattn.py.

A stack embeds its tokens, gives them order, sends them through its layers, and returns their states.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils import logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attend import Attend
from .configuration_selfattn import SelfAttnConfig
from .contracts import Places
from .dropout import Dropout
from .layers import MIXERS, DecoderLayer, EncoderLayer, make_cache, make_norm
from .loss import IGNORED
from .masking import check_padding, cross_mask, looks, pack
from .positions import make_position
from .pretrained import SelfAttnPreTrainedModel
from .trees import Tree, check_tree

logger = logging.get_logger(__name__)

# What transformers' decorators read on the way, and what they leave among the keywords of a stack.
RECORDED = ("output_hidden_states", "output_attentions", "output_cross_attentions")
PASSED_ALONG = ("return_dict", "use_cache", "logits_to_keep")  # the last by assisted decoding, to the encoder too


class Stack(SelfAttnPreTrainedModel):
    """What encoder and decoder share: embeddings in, order, layers, states out."""

    side: str

    def __init__(self, config: SelfAttnConfig, layer: type[nn.Module], causal: bool) -> None:
        super().__init__(config)
        self.causal = causal
        self.mixers = config.mixers_of(self.side)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = make_position(config.positions_of(self.side), config, causal)
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.dropout = Dropout(config.dropout)
        own = self.mixers[:1] if config.share_layers else self.mixers
        self.layers = nn.ModuleList([layer(config, mixer) for mixer in own])
        self.norm = make_norm(config) if config.norm == "pre" else None
        self.gradient_checkpointing = False
        self.post_init()

    def embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None, look: bool) -> Tensor:
        """Embeddings [B, T, D], scaled where `scale_embedding` says so; `look` at the ids first."""
        prefix = "decoder_" if self.side == "decoder" else ""
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"the {self.side} reads either ids or embeddings, got {'neither' if given is None else 'both'}. Give "
                f"{prefix}input_ids or {prefix}inputs_embeds."
            )
        are_ids, width = inputs_embeds is None, self.config.hidden_size
        if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_floating_point() == are_ids:
            wanted, kind = "ids" if are_ids else "floating numbers", getattr(given, "dtype", type(given).__name__)
            raise ValueError(f"the {self.side} reads a tensor of {wanted}, got {kind}. Convert it.")
        if not are_ids and given.shape[-1] != width:
            raise ValueError(f"{prefix}inputs_embeds have hidden_size={width} numbers each, got {given.shape[-1]}.")
        if given.ndim != (2 if are_ids else 3) or 0 in given.shape:
            raise ValueError(
                f"the {self.side} needs rows of at least one token each, got a batch of shape {tuple(given.shape)}. "
                "Leave empty rows out, or end every row with the end-of-sequence token; one row alone is a batch too."
            )
        if are_ids:
            if look:
                check_ids(given, self.embed_tokens.weight.shape[0], f"{prefix}input_ids")
            given = self.embed_tokens(given)
        return given * self.config.hidden_size**0.5 if self.config.scale_embedding else given

    def order(self, x: Tensor, places: Places) -> Tensor:
        """Order at the input, where it is not given to every block; norm, and dropout."""
        x = self.position.embed(x, places) if self.config.position_injection == "input" else x
        return self.dropout(x if self.embedding_norm is None else self.embedding_norm(x))

    def masks(self, x: Tensor, padding: Tensor | None, cache: Cache | None) -> dict[str, Any]:
        """Who may see whom, for every kind of mixer that the stack holds."""
        return {name: MIXERS[name].make_mask(self.config, x, padding, cache, self.causal) for name in set(self.mixers)}

    def steps(self) -> Iterator[tuple[str, nn.Module]]:
        """Mixer and layer of every step, in order; a shared layer comes again and again."""
        layers = list(self.layers) * len(self.mixers) if self.config.share_layers else self.layers
        return iter(zip(self.mixers, layers, strict=False))

    def inputs(self, x: Tensor) -> Tensor | None:
        """What keys and values of every layer are made of, where that is not the layer below."""
        return x if self.config.attend_to == "embeddings" else None

    def shifted(self, places: Places) -> Places:
        """In training, rows that start at a random place up to `position_shift`."""
        if not (self.training and self.config.position_shift):
            return places
        starts = torch.randint(self.config.position_shift + 1, (places.shape[0], 1), device=places.queries.device)
        return dataclasses.replace(places, shift=starts)

    def finish(self, x: Tensor, places: Places, padding: Tensor | None) -> Tensor:
        """Final norm, back to the rectangle, zeros at padding: the same states whether the batch was packed or not."""
        x = places.lay_out(x if self.norm is None else self.norm(x))
        return x if padding is None else x.masked_fill(~padding[:, -x.shape[1] :, None], 0)

    def may_pack(self, kwargs: dict[str, Any]) -> bool:
        """Packed states have no rows; what is recorded for a reader keeps its rows.

        Raises:
            TypeError: for a keyword that nothing here reads.
        """
        if unknown := set(kwargs) - {*RECORDED, *PASSED_ALONG}:
            raise TypeError(
                f"the {self.side} does not read {', '.join(sorted(unknown))}. Leave it out, or look for a misspelling "
                f"of an argument of forward() or of: {', '.join(RECORDED)}."
            )
        asked = [flag for flag in RECORDED if kwargs.get(flag) or getattr(self.config, flag, False)]
        if "output_attentions" in asked and self.config._attn_implementation != "eager":
            logger.warning_once(
                "output_attentions needs attention weights, which only the eager implementation has: the maps will be "
                "empty. Call model.set_attn_implementation('eager')."
            )
        return not asked


class SelfAttnEncoder(Stack):
    """Reads the source: ids [B, S] -> states [B, S, D]."""

    side = "encoder"
    _can_record_outputs = {
        "hidden_states": EncoderLayer,
        "attentions": OutputRecorder(Attend, index=1, layer_name="mix"),
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, EncoderLayer, causal=False)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        syntax_heads: LongTensor | None = None,
        syntax_nodes: LongTensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """States of the source, zeros at padding.

        Args:
            input_ids: [B, S] ids below the vocabulary's size.
            attention_mask: [B, S] 1 at real tokens, 0 at padding; None: all are real.
            inputs_embeds: [B, S, D] instead of ids: rows of the embedding table, scaled here as those are.
            syntax_heads: [B, S] index of each token's head, the root's own index at the root, -1 outside the tree; for
                encodings that read trees.
            syntax_nodes: [B, S] index of the token that stands for the word each token is a part of; None: each for
                itself.
            **kwargs: output_hidden_states, output_attentions (eager attention only; mixers without affinities have
                no map).
        """
        look = looks(self, input_ids if inputs_embeds is None else inputs_embeds)
        x = self.embed(input_ids, inputs_embeds, look)
        shape = (x.shape[0], x.shape[1])
        padding = check_padding(attention_mask, *shape, name="attention_mask")
        masks = self.masks(x, padding, None)
        packed = pack(padding) if self.may_pack(kwargs) else None
        places = self.shifted(Places.count(shape, x.device, padding, packed=packed))
        places = dataclasses.replace(places, tree=self.tree(syntax_heads, syntax_nodes, shape, look))
        x = self.order(places.take_back(x), places)
        inputs = self.inputs(x)
        for mixer, layer in self.steps():
            x = layer(x, inputs, mask=masks[mixer], position=self.position, places=places)
        return BaseModelOutput(last_hidden_state=self.finish(x, places, padding))

    def tree(self, heads: Tensor | None, nodes: Tensor | None, shape: tuple[int, int], look: bool) -> Tree | None:
        """The trees of the rows, after a `look` at them; None where nothing reads them."""
        if heads is None and nodes is None:
            return None  # an encoding that needs them says so
        if heads is None or not self.config.reads_trees:
            names = ", ".join(self.config.positions_of("encoder")) or "none"
            raise ValueError(
                "syntax_nodes says which tokens are parts of one word of syntax_heads, and that was not given."
                if heads is None
                else f"syntax_heads would do nothing: the encoder's position_encoding is {names}. Leave it out, or "
                "choose a tree_ encoding."
            )
        check_tree(heads, nodes, shape, look)
        return Tree(heads, nodes)


class SelfAttnDecoder(Stack):
    """Writes the target: ids [B, T] and the source's states [B, S, D] -> states [B, T, D].

    Where `is_encoder_decoder` is False there is no source, and the decoder reads what it has written alone.
    """

    side = "decoder"
    _can_record_outputs = {
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(Attend, index=1, layer_name="mix"),
        "cross_attentions": OutputRecorder(Attend, index=1, layer_name="read"),
    }

    def __init__(self, config: SelfAttnConfig) -> None:
        super().__init__(config, DecoderLayer, causal=config.future_mask)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """States of the target, zeros at padding.

        Args:
            input_ids: [B, Q] new ids.
            attention_mask: [B, past + Q] 1 at real tokens, those in the cache included; None: all are real.
            encoder_hidden_states: [B, S, D]; None in a decoder alone.
            encoder_attention_mask: [B, S].
            past_key_values: what earlier passes left.
            inputs_embeds: [B, Q, D] instead of ids.
            use_cache: return a cache; None: as the config says.
            **kwargs: output_hidden_states, output_attentions (eager attention only; mixers without affinities have
                no map).
        """
        cache = self._cache(past_key_values, use_cache)
        past = 0 if cache is None else cache.get_seq_length()
        fresh = not isinstance(past, Tensor) and past == 0
        x = self.embed(input_ids, inputs_embeds, looks(self, input_ids, fresh))
        shape = (x.shape[0], x.shape[1])
        if isinstance(past, Tensor):
            past, seen = past.clone(), None  # a static cache counts in place, on its device
        else:
            seen = past + shape[1]
        padding = check_padding(attention_mask, shape[0], seen, name="decoder_attention_mask")
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        masks = self.masks(x, padding, own)
        may_pack = self.may_pack(kwargs) and cache is None
        visible = None
        if own is not None:  # a static cache shows more than was seen, a layer that forgets shows less
            visible = max([seen or 0, *(own.get_mask_sizes(shape[1], idx)[0] for idx in range(len(own.layers)))])
        packed = pack(padding) if may_pack else None
        places = self.shifted(Places.count(shape, x.device, padding, past, visible, packed))
        source = self._source(x, encoder_hidden_states, encoder_attention_mask, may_pack)

        x = self.order(places.take_back(x), places)
        inputs = self.inputs(x)
        for layer_idx, (mixer, layer) in enumerate(self.steps()):
            x = layer(
                x, inputs, source["source"], mask=masks[mixer], position=self.position, places=places,
                source_mask=source["mask"], source_places=source["places"], cache=cache, layer_idx=layer_idx,
            )  # fmt: skip
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(x, places, padding), past_key_values=cache
        )

    def _source(self, x: Tensor, states: Tensor | None, mask: Tensor | None, may_pack: bool) -> dict[str, Any]:
        """States of the source as the layers read them, who may read what, and where its tokens stand."""
        if not self.config.is_encoder_decoder:
            if states is not None:
                raise ValueError("a decoder alone reads no source, got encoder_hidden_states. Leave it out.")
            return {"source": None, "mask": None, "places": None}
        if states is None:
            raise ValueError("the decoder reads the encoder's states, got none. Give encoder_hidden_states.")
        rows, width = x.shape[0], self.config.hidden_size
        if states.ndim != 3 or states.shape[0] not in (1, rows) or states.shape[2] != width:
            raise ValueError(
                f"the decoder has {rows} rows and a width of {width}, and reads states of shape ({rows}, any, "
                f"{width}), got {tuple(states.shape)}. Give as many sources as targets."
            )
        shape = (states.shape[0], states.shape[1])
        padding = check_padding(mask, *shape, name="attention_mask")
        places = Places.count(shape, x.device, padding, packed=pack(padding) if may_pack else None)
        return {
            "source": places.take_back(states),
            "mask": cross_mask(self.config, x, states, padding),
            "places": places,
        }

    def _cache(self, given: Cache | None, use_cache: bool | None) -> Cache | None:
        """The cache to use: the one given, a new one, or none."""
        if given is None:
            return make_cache(self.config) if use_cache and self.causal else None
        if not self.causal:
            raise ValueError(
                "past_key_values needs future_mask=True: what a token that sees the future computed is wrong one step "
                "later. Leave past_key_values out."
            )
        both = self.config.is_encoder_decoder
        if not isinstance(given, Cache) or isinstance(given, EncoderDecoderCache) != both:
            holds = "the decoder and the cross-attention remember" if both else "the decoder remembers"
            kind = "an EncoderDecoderCache" if both else "a cache for one stack"
            raise TypeError(
                f"past_key_values holds what {holds}, so it is {kind}, got {type(given).__name__}. Leave it out, or "
                "build it with make_cache(config)."
            )
        return given


def check_ids(ids: Tensor, size: int, name: str) -> None:
    """Refuse ids that have no row in the embedding table.

    Raises:
        ValueError: naming the id and the limit.
    """
    low, high = torch.stack(ids.aminmax()).tolist()  # one question to a device
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} must be from 0 to {size - 1}, the rows of the embedding table, got {low if low < 0 else high}. "
            "Use the tokenizer that was saved with the model, or call resize_token_embeddings()."
        )


def check_labels(labels: Tensor, size: int, look: bool) -> None:
    """Refuse labels that are no rows, or after a `look` at them neither an id of the vocabulary nor -100."""
    if labels.ndim != 2 or 0 in labels.shape or labels.is_floating_point():
        raise ValueError(
            f"labels are rows of at least one token each, got a batch of shape {tuple(labels.shape)} of {labels.dtype}."
        )
    if look:
        check_ids(labels.masked_fill(labels == IGNORED, 0), size, "labels")
