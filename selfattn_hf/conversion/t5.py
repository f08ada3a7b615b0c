"""T5, its version 1.1 and mT5.

T5: Raffel et al. (2020), https://arxiv.org/abs/1910.10683. mT5: Xue et al. (2021), https://arxiv.org/abs/2010.11934.
Attention is not scaled there, so the scale goes into the queries' weights. Where input and output share a table, the
logits are scaled by D^-0.5 and the embeddings are not; here that is a table scaled by D^-0.5 and `scale_embedding`.
"""

from typing import Any

from torch import Tensor

from .family import INNER_DROPOUT, Family, multiplied, one_of

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "d_ff",
    "relative_num_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
    "dropout": "dropout_rate",
    "attention_dropout": "dropout_rate",
    "norm_eps": "layer_norm_epsilon",
    "use_cache": "use_cache",
}
# `gated-gelu` in a config means the approximation by tanh, which transformers calls gelu_new.
ACTIVATIONS = {
    "relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu",
    "gated-gelu_new": "geglu", "gated-gelu_pytorch_tanh": "geglu", "gated-silu": "swiglu", "gated-swish": "swiglu",
}  # fmt: skip
NAMES = (
    (r"^(encoder|decoder|shared)\.", r"model.\1."),
    (r"\.block\.", ".layers."),
    (r"\.layer\.0\.SelfAttention\.relative_attention_bias\.", ".relative_attention_bias."),
    (r"\.layers\.0\.relative_attention_bias\.", ".position.table."),
    (r"\.layer\.0\.SelfAttention\.", ".mix.sublayer."),
    (r"\.layer\.0\.layer_norm\.", ".mix.before."),
    (r"\.layer\.1\.EncDecAttention\.", ".read.sublayer."),
    (r"(\.decoder\..*)\.layer\.1\.layer_norm\.", r"\1.read.before."),
    (r"\.layer\.[12]\.DenseReluDense\.", ".think.sublayer."),
    (r"\.layer\.[12]\.layer_norm\.", ".think.before."),
    (r"\.([qkv])\.weight$", r".\1_proj.weight"),
    (r"\.o\.weight$", ".out_proj.weight"),
    (r"\.wi_0\.", ".gate_proj."),
    (r"\.wi(_1)?\.", ".up_proj."),
    (r"\.wo\.", ".down_proj."),
    (r"\.final_layer_norm\.", ".norm."),
)


def scales_logits(config: Any) -> bool:
    """Whether logits are scaled by D^-0.5; mT5 and version 1.1 do not."""
    return bool(getattr(config, "scale_decoder_outputs", False))


def derived(config: Any) -> dict[str, Any]:
    """Feed-forward, width of a head, scale of embeddings."""
    kind = f"{'gated-' if config.is_gated_act else ''}{config.dense_act_fn}"
    return {
        "feedforward": one_of("feed_forward_proj", kind, ACTIVATIONS),
        "head_dim": None if config.d_kv * config.num_heads == config.d_model else config.d_kv,
        "scale_embedding": scales_logits(config),
    }


def scaled_table(table: Tensor, config: Any) -> Tensor:
    """A table of embeddings or of the output, [V, D]."""
    return multiplied(table, config.d_model**-0.5) if scales_logits(config) else table


def scaled_queries(weight: Tensor, config: Any) -> Tensor:
    """The factor sqrt(d) that attention here takes away again."""
    return multiplied(weight, config.d_kv**0.5)


T5 = Family(
    fields=FIELDS,
    constants={"position_encoding": "t5", "norm": "pre", "norm_type": "rms_norm", "bias": False},
    derived=derived,
    equal=(),
    names=NAMES,
    changes=((r"(shared|embed_tokens|lm_head)\.weight$", scaled_table), (r"\.q_proj\.", scaled_queries)),
    training_only={"dropout_rate": f"{INNER_DROPOUT} and after the last norm"},
)
