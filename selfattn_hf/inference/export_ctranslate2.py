"""Export for CTranslate2: weights laid out by its own specifications, for the stacks that it can hold.

Its encoders and decoders are of self-attention with one of a few orders; what it has no place for is refused by name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers
from selfattn_hf.model import Places

from .export_rows import Write, longest_answer, save_settings, save_tokenizers, start_and_ends
from .export_steps import refuse

# What of a side's order CTranslate2 computes: added vectors as a table, the others by themselves.
TABLES = ("none", "sinusoidal", "learned")
ORDERS = {"encoder": (*TABLES, "rope", "shaw", "t5"), "decoder": (*TABLES, "rope", "shaw", "t5", "alibi")}
TARGET = "CTranslate2"


def export_ctranslate2(
    model: SelfAttnForConditionalGeneration, tokenizers: Tokenizers, folder: Path, int8: bool
) -> Callable[[], Write]:
    """Leave model.bin, config.json, vocabularies and tokenizer in a folder.

    Args:
        model: in evaluation mode, with weights in float32.
        tokenizers: of its source and target.
        folder: where the files go.
        int8: round weights to 8 bits.

    Returns:
        What opens the folder and writes ids greedily.

    Raises:
        ExportError: for a model that CTranslate2 has no place for.
    """
    check_ctranslate2(model.config)
    from ctranslate2.specs import TransformerSpec

    with torch.no_grad():
        spec = TransformerSpec(_stack(model, "encoder"), _stack(model, "decoder"))
    words = {side: _words(getattr(tokenizers, side), model.config.vocab_size) for side in ("source", "target")}
    spec.register_source_vocabulary(words["source"])
    spec.register_target_vocabulary(words["target"])
    start, ends = start_and_ends(model)
    if len(ends) != 1:
        refuse(TARGET, f"it ends an answer at one token, and this model has {len(ends)}", "Set eos_token_id to one")
    target = tokenizers.target
    unknown = target.unk_token_id if target.unk_token_id is not None else model.config.pad_token_id or 0
    spec.config.bos_token = spec.config.decoder_start_token = words["target"][start]
    spec.config.eos_token, spec.config.unk_token = words["target"][next(iter(ends))], words["target"][unknown]
    spec.config.layer_norm_epsilon = float(model.config.norm_eps)
    spec.validate()
    spec.optimize(quantization="int8" if int8 else None)
    spec.save(str(folder))
    save_tokenizers(tokenizers, folder)
    save_settings(model, folder, "ctranslate2")
    return lambda: open_ctranslate2(folder, words["source"], words["target"])


def check_ctranslate2(config: SelfAttnConfig) -> None:
    """Refuse what CTranslate2 has no place for.

    Raises:
        ExportError: naming the switch, the reason and what to do.
    """
    no_place = {
        "attend_to": ("layer", "it makes keys and values of the layer below"),
        "attention_score": ("scaled_dot", "its attention compares by scaled products"),
        "residual": (True, "its layers have residual connections"),
        "future_mask": (True, "its decoder masks the future"),
        "position_combine": ("add", "it adds places to embeddings"),
        "position_injection": ("input", "it adds places once, at the input"),
    }
    for name, (held, reason) in no_place.items():
        if getattr(config, name) != held:
            refuse(TARGET, f"{name}={getattr(config, name)!r}, and {reason}", "Choose onnx or a Translator")
    for name in ("norm", "feedforward"):
        if getattr(config, name) == "none":
            refuse(TARGET, f"{name}='none', and its layers have one", "Choose onnx or a Translator")
    for side in ("encoder", "decoder"):
        if mixers := [mixer for mixer in config.mixers_of(side) if mixer != "self_attention"]:
            refuse(TARGET, f"{side}_mixer={mixers[0]!r}, and its layers are of self_attention", "Use a Translator")
        orders = config.positions_of(side) or ["none"]
        if len(orders) > 1 or orders[0] not in ORDERS[side]:
            refuse(
                TARGET, f"the {side}'s position_encoding is {', '.join(orders)}, and it has one of: "
                f"{', '.join(ORDERS[side])}", "Choose onnx or a Translator",
            )  # fmt: skip


def open_ctranslate2(folder: Path, source: list[str], target: list[str]) -> Write:
    """What the model in a folder writes; tokens travel as words of its vocabularies."""
    import ctranslate2

    translator = ctranslate2.Translator(
        str(folder), device="cpu", inter_threads=1, intra_threads=torch.get_num_threads()
    )
    ids = {word: number for number, word in enumerate(target)}

    def write(rows: list[list[int]], most: int) -> list[list[int]]:
        texts = [[source[one] for one in row] for row in rows]
        answers = translator.translate_batch(
            texts, beam_size=1, min_decoding_length=0, max_decoding_length=most, max_input_length=0
        )
        return [[ids[word] for word in answer.hypotheses[0]] for answer in answers]

    return write


def _stack(model: SelfAttnForConditionalGeneration, side: str) -> Any:
    """The specification of a side, filled."""
    from ctranslate2.specs import common_spec, transformer_spec

    config, stack = model.config, model.get_encoder() if side == "encoder" else model.get_decoder()
    kinds = common_spec.Activation
    activations = {
        "relu": kinds.RELU, "gelu": kinds.GELU, "silu": kinds.SWISH, "swiglu": kinds.SWISH, "geglu": kinds.GELUTanh,
    }  # fmt: skip
    order = (config.positions_of(side) or ["none"])[0]
    gated = config.feedforward in ("swiglu", "geglu")
    switches: dict[str, Any] = {
        "pre_norm": config.norm == "pre", "activation": activations[config.feedforward], "ffn_glu": gated,
        "layernorm_embedding": config.embedding_norm, "rms_norm": config.norm_type == "rms_norm",
        "relative_position": order == "shaw", "relative_attention_bias": order == "t5", "head_dim": config.head_width,
    }  # fmt: skip
    if order == "rope":  # all of a head turns, its halves being the pairs
        switches |= {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": float(config.rope_theta)}
    if order == "alibi":
        switches["alibi"] = True
    make = transformer_spec.TransformerEncoderSpec if side == "encoder" else transformer_spec.TransformerDecoderSpec
    spec = make(len(stack.mixers), config.num_attention_heads, **switches)
    table = spec.embeddings[0] if side == "encoder" else spec.embeddings
    table.weight = stack.embed_tokens.weight.clone()
    spec.scale_embeddings = config.scale_embedding
    if order in TABLES:
        spec.position_encodings.encodings = _places(model, side)
    if config.embedding_norm:
        _norm(spec.layernorm_embedding, stack.embedding_norm)
    if stack.norm is not None:
        _norm(spec.layer_norm, stack.norm)
    for held, (_, layer) in zip(spec.layer, stack.steps(), strict=True):
        _layer(held, layer, stack.position, order, gated)
    if side == "decoder":
        _linear(spec.projection, [model.get_output_embeddings()])
    return spec


def _layer(spec: Any, layer: Any, position: Any, order: str, gated: bool) -> None:
    mix, heads = layer.mix.sublayer, spec.self_attention
    _norm(heads.layer_norm, layer.mix.before or layer.mix.after)
    _linear(heads.linear[0], [mix.q_proj, mix.k_proj, mix.v_proj])
    _linear(heads.linear[1], [mix.out_proj])
    if order == "t5":
        heads.relative_attention_bias = position.table.weight.clone()
        heads.relative_attention_max_distance = np.dtype("int32").type(position.furthest)
    if order == "shaw":
        heads.relative_position_keys = position.table.weight.clone()
        heads.relative_position_values = torch.zeros_like(position.table.weight)  # the paper's, which ours leaves out
    if hasattr(layer, "read"):
        read = layer.read.sublayer
        _norm(spec.attention.layer_norm, layer.read.before or layer.read.after)
        _linear(spec.attention.linear[0], [read.q_proj])
        _linear(spec.attention.linear[1], [read.k_proj, read.v_proj])
        _linear(spec.attention.linear[2], [read.out_proj])
    think = layer.think.sublayer
    _norm(spec.ffn.layer_norm, layer.think.before or layer.think.after)
    _linear(spec.ffn.linear_0, [think.gate_proj if gated else think.up_proj])
    if gated:
        _linear(spec.ffn.linear_0_noact, [think.up_proj])
    _linear(spec.ffn.linear_1, [think.down_proj])


def _linear(spec: Any, parts: list[Any]) -> None:
    """Linear layers that read the same, as one."""
    spec.weight = torch.cat([part.weight for part in parts])  # a copy: rounding to 8 bits works in place
    if parts[0].bias is not None:
        spec.bias = torch.cat([part.bias for part in parts])


def _norm(spec: Any, norm: Any) -> None:
    spec.gamma = norm.weight
    if getattr(norm, "bias", None) is not None:
        spec.beta = norm.bias


def _places(model: SelfAttnForConditionalGeneration, side: str) -> Tensor:
    """What joins the embedding at each place, [T, D]: T as the config says, or as many as an answer may have."""
    config, stack = model.config, model.get_encoder() if side == "encoder" else model.get_decoder()
    count = config.known_places(side) or max(config.max_position_embeddings, longest_answer(model) + 1)
    nothing = torch.zeros(1, count, config.hidden_size)
    table: Tensor = stack.position.embed(nothing, Places.count((1, count), nothing.device))[0]
    return table


def _words(tokenizer: Any, size: int) -> list[str]:
    """A word for every row of the embedding table."""
    words = [f"<unused_{number}>" for number in range(size)]
    for word, number in tokenizer.get_vocab().items():
        if number < size:
            words[number] = word
    return words
