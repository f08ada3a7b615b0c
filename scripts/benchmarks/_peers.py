"""Who is compared: this package's model, and others of the same sizes, with tied embeddings and random weights.

A peer that is not installed is left out, by name. What a side is timed with is what its own users call: transformers'
models make their decoder's input and their loss themselves; torch's layers and x-transformers have no loss, and get
torch's.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

from ._batches import END, IGNORED, PAD, START, Batch
from ._measure import OURS, leave_out, seconds
from ._sizes import Sizes

PLACES = 512  # that models with learned places know: more than any batch has
IDS = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START}
RIVALS = ("Marian", "BART", "T5")  # the encoder-decoders of transformers, which goals are set against


class Side(nn.Module):
    """A model and its loss of a batch."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """The mean cross-entropy of the target's tokens; a scalar."""
        loss: Tensor = self.model(
            input_ids=batch.source, attention_mask=batch.source_mask, labels=batch.labels, **self.more(batch)
        ).loss
        return loss

    def more(self, batch: Batch) -> dict[str, Any]:
        """What a model of this kind is given besides."""
        return {}


class Ours(Side):
    """This package's model, as its collator and its trainer call it: told which target tokens are real, no logits."""

    def more(self, batch: Batch) -> dict[str, Any]:
        """The target's mask, and that the loss is all that is wanted."""
        return {"decoder_attention_mask": batch.target_mask, "loss_only": True}


class TorchLayers(Side):
    """torch.nn.Transformer between tied embeddings with sinusoids."""

    def __init__(self, sizes: Sizes) -> None:
        body = nn.Transformer(
            sizes.width, sizes.heads, sizes.layers, sizes.layers, sizes.inner, sizes.dropout, batch_first=True
        )
        super().__init__(body)
        self.table = nn.Embedding(sizes.vocabulary, sizes.width)
        nn.init.normal_(self.table.weight, std=sizes.width**-0.5)
        self.dropout = nn.Dropout(sizes.dropout)
        waves = torch.exp(torch.arange(0, sizes.width, 2) * (-math.log(10000.0) / sizes.width))
        angles = torch.arange(PLACES)[:, None] * waves
        self.register_buffer("places", torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1))

    def embed(self, ids: Tensor) -> Tensor:
        """[B, T] -> [B, T, D]."""
        assert isinstance(self.places, Tensor)
        return self.dropout(self.table(ids) * self.table.embedding_dim**0.5 + self.places[: ids.shape[1]])

    def forward(self, batch: Batch) -> Tensor:
        """See `Side`."""
        source, target = self.embed(batch.source), self.embed(batch.decoder_inputs)
        padding = batch.source_mask == 0
        future = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device)
        states = self.model(
            source, target, tgt_mask=future, tgt_is_causal=True, src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )  # fmt: skip
        return cross_entropy(nn.functional.linear(states, self.table.weight), batch)


class XTransformers(Side):
    """x-transformers' encoder-decoder with flash attention, in its version of torch's layers."""

    def __init__(self, sizes: Sizes) -> None:
        from x_transformers import XTransformer

        side = {
            "num_tokens": sizes.vocabulary, "depth": sizes.layers, "heads": sizes.heads, "max_seq_len": PLACES,
            "attn_dim_head": sizes.width // sizes.heads, "ff_mult": sizes.inner / sizes.width, "attn_flash": True,
            "emb_dropout": sizes.dropout, "attn_sublayer_dropout": sizes.dropout, "ff_sublayer_dropout": sizes.dropout,
        }  # fmt: skip
        both = {f"{prefix}_{name}": value for prefix in ("enc", "dec") for name, value in side.items()}
        super().__init__(XTransformer(dim=sizes.width, tie_token_emb=True, pad_value=PAD, **both))
        self.model.decoder.net.to_logits.weight = self.model.encoder.token_emb.emb.weight

    def forward(self, batch: Batch) -> Tensor:
        """See `Side`; the decoder is called without its wrapper, which would compute one place more."""
        mask = batch.source_mask.bool()
        states = self.model.encoder(batch.source, mask=mask, return_embeddings=True)
        return cross_entropy(self.model.decoder.net(batch.decoder_inputs, context=states, context_mask=mask), batch)


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """torch's, of logits [B, T, V], in float32."""
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


def ours(sizes: Sizes, **switches: Any) -> SelfAttnForConditionalGeneration:
    """This package's model."""
    config = SelfAttnConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.width, encoder_layers=sizes.layers, decoder_layers=sizes.layers,
        num_attention_heads=sizes.heads, intermediate_size=sizes.inner, dropout=sizes.dropout, **IDS, **switches,
    )  # fmt: skip
    return SelfAttnForConditionalGeneration(config)


def bart_like(family: str, sizes: Sizes, **switches: Any) -> Any:
    """Marian or BART, whose configs have the same names."""
    config = {
        "vocab_size": sizes.vocabulary, "d_model": sizes.width, "encoder_layers": sizes.layers,
        "decoder_layers": sizes.layers, "encoder_attention_heads": sizes.heads, "decoder_attention_heads": sizes.heads,
        "encoder_ffn_dim": sizes.inner, "decoder_ffn_dim": sizes.inner, "dropout": sizes.dropout,
        "max_position_embeddings": PLACES, "activation_function": "relu", "scale_embedding": True,
        "forced_eos_token_id": None, **IDS, **switches,
    }  # fmt: skip
    if family == "Marian":
        return transformers.MarianMTModel(transformers.MarianConfig(**config))
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**config, forced_bos_token_id=None))


def t5(sizes: Sizes) -> nn.Module:
    """T5 as it was first published: tied embeddings, ReLU."""
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=sizes.vocabulary,
            d_model=sizes.width,
            d_kv=sizes.width // sizes.heads,
            d_ff=sizes.inner,
            num_layers=sizes.layers,
            num_decoder_layers=sizes.layers,
            num_heads=sizes.heads,
            dropout_rate=sizes.dropout,
            **IDS,
        )  # fmt: skip
    )


SIDES: dict[str, Callable[[Sizes], Side]] = {
    OURS: lambda sizes: Ours(ours(sizes)),
    "Marian": lambda sizes: Side(bart_like("Marian", sizes)),
    "BART": lambda sizes: Side(bart_like("BART", sizes)),
    "T5": lambda sizes: Side(t5(sizes)),
    "torch.nn": TorchLayers,
    "x-transformers": XTransformers,
}


def build(sizes: Sizes, device: str, names: tuple[str, ...] = tuple(SIDES)) -> tuple[dict[str, Side], dict[str, str]]:
    """The sides with these names that can be built, and why each of the others is left out."""
    sides: dict[str, Side] = {}
    left_out: dict[str, str] = {}
    for name in names:
        torch.manual_seed(0)
        try:
            sides[name] = SIDES[name](sizes).to(device)
        except ImportError as error:
            leave_out(name, error, left_out)
    return sides, left_out


def choose_attention(name: str, side: Side, step: Callable[[], Any], device: str) -> str:
    """Give a model of transformers the faster of its attentions, tried on `step`; ours has chosen already.

    Returns:
        What it attends with.
    """
    config = getattr(side.model, "config", None)
    if name not in RIVALS or config is None:
        return getattr(config, "_attn_implementation", "its own")
    took = {}
    for implementation in ("sdpa", "eager"):
        side.model.set_attn_implementation(implementation)
        step()
        took[implementation] = min(seconds(step, device) for _ in range(2))
    best = min(took, key=lambda implementation: took[implementation])
    side.model.set_attn_implementation(best)
    return best
