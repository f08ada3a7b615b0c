"""A trained model small enough to live in a page: its weights, its switches and its tokenizer, as plain data.

page/tiny_model.js reads what `pack_model` makes, and answers in the reader's browser, without a server. What it cannot
compute is refused here, where a message can still be read.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import torch

from ..data import Tokenizers
from ..model import SelfAttnForConditionalGeneration
from .pairs import SPACE
from .passes import SIDES, stack_of

MOST_PARAMETERS = 100_000
"""Weights of 32 bits as text: about half a megabyte, a quarter of what a page may have."""
SERVED_POSITIONS = ("sinusoidal", "learned", "rope", "t5", "alibi", "kerple", "shaw")
# What the page reads of a config as it stands there.
_SWITCHES = (
    "hidden_size", "encoder_layers", "decoder_layers", "scale_embedding", "attention_score", "attend_to",
    "share_layers", "position_combine", "position_injection", "sinusoid_layout", "relative_max_distance", "rope_theta",
    "feedforward", "norm_type", "norm_eps", "residual", "future_mask",
)  # fmt: skip
_WORDS = r" ?\w+| ?[^\w\s]|\s"


def pack_model(model: Any, tokenizers: Tokenizers) -> dict[str, Any]:
    """All that a page needs to run a trained model: JSON-able, weights as base64 of 32-bit floats.

    Half of the bits would move the logits by more than 1e-4.

    Args:
        model: an encoder-decoder with its head, of self-attention in every layer.
        tokenizers: its own, of the type `bpe` or `word`, as `scripts/train.py` makes them.

    Returns:
        `config`: the switches that the page reads; `weights`: name -> shape and data; `same`: names of weights that
        are another one; `parameters`: how many numbers; `tokenizers`: of source and target, None where both are one.

    Raises:
        ValueError: for more than `MOST_PARAMETERS`, another class of model, a mixer, an encoding or a tokenizer that
            the page does not have.

    Examples:
        >>> probed = load_for_probing("runs/quickstart")
        >>> text = json.dumps(pack_model(probed.model, probed.tokenizers))
    """
    _check_model(model)
    tokenizers.check_fit(model.config.vocab_size)
    weights, same = _weights(model)
    return {
        "config": _switches(model),
        "parameters": model.num_parameters(),
        "weights": weights,
        "same": same,
        "tokenizers": {
            "source": _tokenizer(tokenizers.source),
            "target": None if tokenizers.shared else _tokenizer(tokenizers.target),
        },
    }


def _check_model(model: Any) -> None:
    if not isinstance(model, SelfAttnForConditionalGeneration):
        raise ValueError(
            f"a page runs an encoder-decoder that writes, SelfAttnForConditionalGeneration, got {type(model).__name__}."
            " Load the folder by AutoModelForSeq2SeqLM."
        )
    count = model.num_parameters()
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"a page holds a model of at most {MOST_PARAMETERS:,} parameters, and this one has {count:,}. Train one "
            "with a smaller hidden_size, intermediate_size or tokenizer_vocab_size, as in configs/quickstart.yaml."
        )
    for side in SIDES:
        others = sorted(set(model.config.mixers_of(side)) - {"self_attention"})
        if others:
            raise ValueError(
                f"a page computes self_attention in every layer, and {side}_mixer has {', '.join(others)}. Train with "
                f"{side}_mixer=self_attention, or leave this model out of the page."
            )
        unknown = [name for name in model.config.positions_of(side) if name not in SERVED_POSITIONS]
        if unknown:
            raise ValueError(
                f"a page computes the encodings none, {', '.join(SERVED_POSITIONS)}, and the {side}'s "
                f"position_encoding has {', '.join(unknown)}. Train with one of them, or leave this model out."
            )


def _switches(model: Any) -> dict[str, Any]:
    config = model.config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    switches = {name: getattr(config, name) for name in _SWITCHES}
    switches |= {
        "heads": config.num_attention_heads,
        "head_width": config.head_width,
        "positions": {side: config.positions_of(side) for side in SIDES},
        "places": {side: config.known_places(side) for side in SIDES},
        "start": config.decoder_start_token_id,
        "ends": ends,
    }
    for side in SIDES:
        names, position = config.positions_of(side), stack_of(model, side).position
        parts = dict(zip(names, position.parts if len(names) > 1 else [position], strict=False))
        if "t5" in parts:  # a table, since a logarithm of another library may fall on the other side of a border
            distances = torch.arange(-config.relative_max_distance, config.relative_max_distance + 1)
            buckets = parts["t5"].bucket(distances.to(model.device)).tolist()
            switches.setdefault("t5_buckets", {})[side] = buckets
        if "alibi" in parts:
            switches["alibi_slopes"] = list(parts["alibi"].slopes)
    return switches


def _weights(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Every weight once, and the other names of those that are tied."""
    weights: dict[str, Any] = {}
    same: dict[str, str] = {}
    kept: dict[int, str] = {}
    for name, values in model.state_dict(keep_vars=True).items():
        first = kept.setdefault(id(values), name)
        if first != name:
            same[name] = first
            continue
        numbers = values.detach().to("cpu", torch.float32).contiguous()
        data = base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode("ascii")
        weights[name] = {"shape": list(numbers.shape), "data": data}
    return weights, same


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Vocabulary and merges; the rest of the pipeline is written in the page's script, and has to be this one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {} if backend is None else json.loads(backend.to_str())
    kind, lowercase = _kind(parts)
    size = max(tokenizer.get_vocab().values()) + 1
    vocabulary = [tokenizer.convert_ids_to_tokens(number) for number in range(size)]
    merges = parts["model"].get("merges", [])
    return {
        "type": kind,
        "lowercase": lowercase,
        "vocabulary": vocabulary,
        "merges": [pair.split(" ") if isinstance(pair, str) else pair for pair in merges],
        "texts": [tokenizer.decode([number]) or SPACE for number in range(size)],
        "special": sorted(tokenizer.all_special_ids),
        "end": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
    }


def _kind(parts: Mapping[str, Any]) -> tuple[str, bool]:
    """Type of the tokenizer and whether it writes small letters, where every step is one of ours."""
    normal = [step["type"] for step in _steps(parts, "normalizer")]
    cut = _steps(parts, "pre_tokenizer")
    cuts = [step["type"] for step in cut]
    model = (parts.get("model") or {}).get("type")
    special = {token["id"] for token in parts.get("added_tokens", [])}
    single = [next(iter(step)) for step in (parts.get("post_processor") or {}).get("single", [])]
    known = {
        ("BPE", "ByteLevel"): "bpe",
        ("WordLevel", "Split"): "word",
    }
    kind = known.get((str(model), cuts[-1] if cuts else ""))
    ours = (
        normal in (["NFC", "Prepend"], ["NFC", "Lowercase", "Prepend"])
        and cuts[:-1] == ["Digits"]
        and cut[0].get("individual_digits") is True
        and (kind != "bpe" or not cut[1]["add_prefix_space"])
        and (kind != "word" or cut[1]["pattern"] == {"Regex": _WORDS})
        and single == ["Sequence", "SpecialToken"]
        and special == {0, 1, 2, 3}
    )
    if kind is None or not ours:
        raise ValueError(
            "a page tokenizes as tokenizer_type=bpe and word do, and this tokenizer is another one: "
            f"{', '.join(normal) or 'nothing'}; {', '.join(cuts) or 'nothing'}; {model or 'no fast tokenizer'}. "
            "Train with tokenizer_type bpe or word, or leave this model out of the page."
        )
    return kind, "Lowercase" in normal


def _steps(parts: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    step = parts.get(name) or {}
    inner = step.get("normalizers") or step.get("pretokenizers")
    return list(inner) if inner else [step] if step else []
