"""Folders of transformers' own models, spoiled as ours are: the fields of a config under the names that they have."""

import json
from pathlib import Path
from typing import Any

import torch
from _folders import Case
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

# Our name of a field -> the peer's.
NAMES = {
    "bart": {
        "hidden_size": "d_model", "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim", "initializer_range": "init_std", "feedforward": "activation_function",
    },
    "t5": {
        "hidden_size": "d_model", "num_attention_heads": "num_heads", "intermediate_size": "d_ff",
        "encoder_layers": "num_layers", "decoder_layers": "num_decoder_layers", "dropout": "dropout_rate",
        "norm_eps": "layer_norm_epsilon", "relative_num_buckets": "relative_attention_num_buckets",
        "relative_max_distance": "relative_attention_max_distance", "head_dim": "d_kv",
        "feedforward": "feed_forward_proj",
    },
}  # fmt: skip


def make_peer(kind: str, folder: Path) -> None:
    """A tiny model, saved."""
    torch.manual_seed(1)
    if kind == "bart":
        sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 16}
        sides: dict[str, Any] = {f"{side}_{name}": sizes[name] for side in ("encoder", "decoder") for name in sizes}
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        BartForConditionalGeneration(BartConfig(vocab_size=18, d_model=16, **sides, **ids)).save_pretrained(folder)
        return
    config = T5Config(vocab_size=18, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def spoil_peer(kind: str, case: Case, folder: Path) -> bool:
    """Spoil a folder; False where the case is about something that the peer does not have."""
    theirs = NAMES[kind]
    own = set(_edit(folder, {name: ours for ours, name in theirs.items()}))
    try:
        case.spoil(folder)
    except (KeyError, StopIteration):
        return False
    path = folder / "config.json"
    try:
        now = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    if isinstance(now, dict):
        if set(now) - own - {"exec", "num_beams", "num_labels", "id2label", "problem_type", "quantization_config",
                             "attn_implementation", "transformers_weights", "configuration_files"}:  # fmt: skip
            return False  # a switch of ours
        _edit(folder, theirs)
    return True


def words_of_peer(kind: str, case: Case) -> tuple[str, ...]:
    """The names that its refusal must hold: of its own fields, and of files."""
    return tuple(NAMES[kind].get(word, word) for word in case.words)


def _edit(folder: Path, names: dict[str, str]) -> dict[str, Any]:
    path = folder / "config.json"
    fields = {names.get(name, name): value for name, value in json.loads(path.read_text()).items()}
    path.write_text(json.dumps(fields))
    return fields
