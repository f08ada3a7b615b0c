"""BART and those built like it: mBART, Pegasus, Marian. They differ in norms, places and biases.

BART: Lewis et al. (2020), https://arxiv.org/abs/1910.13461. mBART: Liu et al. (2020), https://arxiv.org/abs/2001.08210.
Pegasus: Zhang et al. (2020), https://arxiv.org/abs/1912.08777. Marian: Junczys-Dowmunt et al. (2018),
https://arxiv.org/abs/1804.00344.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .family import INNER_DROPOUT, Change, Family, one_of

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
    "max_position_embeddings": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "initializer_range": "init_std",
    "scale_embedding": "scale_embedding",
    "use_cache": "use_cache",
}
EQUAL = (("encoder_attention_heads", "decoder_attention_heads"), ("encoder_ffn_dim", "decoder_ffn_dim"))
TRAINING_ONLY = {
    "activation_dropout": INNER_DROPOUT,
    "encoder_layerdrop": "encoder layers left out at random",
    "decoder_layerdrop": "decoder layers left out at random",
}
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}

# The first two rows of a table of places are those of padding and of nothing.
OFFSET = 2
PLACES = r"\.position\.table\."


def activation(config: Any) -> dict[str, Any]:
    """The nonlinearity."""
    return {"feedforward": one_of("activation_function", config.activation_function, ACTIVATIONS)}


def names(norm: str) -> tuple[tuple[str, str], ...]:
    """How weights are named where the norm of a sublayer is called `norm`."""
    return (
        (r"\.self_attn\.", ".mix.sublayer."),
        (r"\.self_attn_layer_norm\.", f".mix.{norm}."),
        (r"\.encoder_attn\.", ".read.sublayer."),
        (r"\.encoder_attn_layer_norm\.", f".read.{norm}."),
        (r"\.fc1\.", ".think.sublayer.up_proj."),
        (r"\.fc2\.", ".think.sublayer.down_proj."),
        (r"\.final_layer_norm\.", f".think.{norm}."),
        (r"\.layernorm_embedding\.", ".embedding_norm."),
        (r"\.layer_norm\.", ".norm."),
        (r"\.embed_positions\.", ".position.table."),
        (r"^final_logits_bias$", "lm_head.bias"),
    )


def without_offset(table: Tensor, config: Any) -> Tensor:
    """[2 + T, D] -> [T, D]."""
    return table[OFFSET:]


def checked_sinusoids(table: Tensor, config: Any) -> None:
    """Refuse a table of places that holds anything but sinusoids, sines before cosines, which are computed here.

    Raises:
        ValueError: if it holds something else.
    """
    width = table.shape[1]
    waves = torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width)
    angles = torch.arange(len(table), dtype=torch.float64)[:, None] * waves.exp()
    away = (table.double() - torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]).abs().max().item()
    if not away <= max(1e-3, torch.finfo(table.dtype).eps):
        raise ValueError(
            f"embed_positions must hold sinusoids, as all models of this family do, and is up to {away:.3g} away from "
            "them. A model whose places were changed cannot be converted."
        )


def flat(bias: Tensor, config: Any) -> Tensor:
    """[1, V] -> [V]."""
    return bias.flatten()


def like_bart(
    norm: str, places: Change, constants: dict[str, Any], equal: tuple[tuple[str, str], ...] = EQUAL
) -> Family:
    """A family built like BART, with what is its own."""
    return Family(
        fields=FIELDS,
        constants={"norm": norm, **constants},
        derived=activation,
        equal=equal,
        names=names({"pre": "before", "post": "after"}[norm]),
        changes=((PLACES, places), (r"^lm_head\.bias$", flat)),
        training_only=TRAINING_ONLY,
    )


LEARNED = {"position_encoding": "learned", "embedding_norm": True}
SINUSOIDAL = {"position_encoding": "sinusoidal", "sinusoid_layout": "halves"}

BART = like_bart("post", without_offset, LEARNED)
MBART = like_bart("pre", without_offset, LEARNED)
PEGASUS = like_bart("pre", checked_sinusoids, SINUSOIDAL)
MARIAN = like_bart("post", checked_sinusoids, SINUSOIDAL, (*EQUAL, ("vocab_size", "decoder_vocab_size")))
