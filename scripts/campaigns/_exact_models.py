"""Models whose exactness is measured: ours in every combination that the config accepts, and transformers' own.

All are tiny, in evaluation mode, without dropout, and with every weight away from its special value.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    LEDConfig,
    M2M100Config,
    MarianConfig,
    PreTrainedModel,
    T5Config,
)

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

PAD, START, END, FIRST_WORD, VOCABULARY = 0, 1, 2, 3, 40
NOISE = 0.1  # added to every weight that is trained

_IDS = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START}
_OURS: dict[str, Any] = {
    "hidden_size": 16, "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 32, "dropout": 0.0,
}  # fmt: skip
_BART: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
    "dropout": 0.0,
}  # fmt: skip
_T5: dict[str, Any] = {
    "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8,
    "dropout_rate": 0.0,
}  # fmt: skip
_LED: dict[str, Any] = {
    **{name: value for name, value in _BART.items() if name != "max_position_embeddings"},
    "max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32, "attention_window": 4,
}  # fmt: skip
_PEERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bart": (BartConfig, _BART),
    "t5": (T5Config, _T5),
    "marian": (MarianConfig, _BART),
    "m2m100": (M2M100Config, {**_BART, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}),
    "led": (LEDConfig, _LED),
}
PEERS = tuple(_PEERS)


@dataclass(frozen=True)
class Subject:
    """Something whose exactness is measured.

    Attributes:
        name: of the combination, or of the peer.
        switches: fields of our config; None: a peer.
        seed: of its weights.
    """

    name: str
    switches: dict[str, str] | None
    seed: int = 1

    def make(self, dtype: torch.dtype = torch.float64, vocabulary: int = VOCABULARY) -> PreTrainedModel:
        """The same model every time, in a number format and with a number of tokens."""
        torch.manual_seed(self.seed)
        model: PreTrainedModel
        if self.switches is not None:
            config = SelfAttnConfig(vocab_size=vocabulary, **_OURS, **self.switches)
            model = SelfAttnForConditionalGeneration(config)
            if config.reads_trees:
                model.get_encoder().register_forward_pre_hook(_give_trees, with_kwargs=True)
        else:
            kind, fields = _PEERS[self.name]
            model = AutoModelForSeq2SeqLM.from_config(kind(vocab_size=vocabulary, **fields, **_IDS))
        # Drawn in the widest format, so that they are the same weights in all of them.
        model = model.double().eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:  # tables of sinusoids are left alone
                    weight.add_(torch.randn_like(weight) * NOISE)
        return model.to(dtype)


def combinations(seed: int = 1) -> Iterator[Subject]:
    """Every encoder mixer x decoder mixer x position that is legal.

    The encoding is on both sides where both can have it, else on each side that can, beside a plain one.
    """
    for encoder, decoder, position in itertools.product(MIXERS, MIXERS, POSITIONS):
        mixers = {"encoder_mixer": encoder, "decoder_mixer": decoder}
        name = f"{encoder}-{decoder}-{position}"
        if _is_legal(both := {**mixers, "position_encoding": position}):
            yield Subject(name, both, seed)
            continue
        for side in ("encoder", "decoder"):
            one = {**mixers, "position_encoding": "none", f"{side}_position_encoding": position}
            if _is_legal(one):
                yield Subject(f"{name} ({side})", one, seed)


def peers(seed: int = 1) -> list[Subject]:
    """Models of transformers."""
    return [Subject(name, None, seed) for name in PEERS]


def _is_legal(switches: dict[str, str]) -> bool:
    try:
        SelfAttnConfig(vocab_size=VOCABULARY, **_OURS, **switches)
    except ValueError:
        return False
    return True


def _give_trees(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Hook: heaps over the real tokens of each row, wherever a probe gives no trees; they depend on ranks alone."""
    ids: Tensor = args[0] if args else kwargs["input_ids"]
    mask = kwargs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    ranks = real.long().cumsum(1) - 1
    first = torch.arange(ids.shape[1]) - ranks
    heads = torch.where(ranks == 0, first, first + (ranks - 1).div(2, rounding_mode="floor"))
    kwargs["syntax_heads"] = heads.masked_fill(~real, -1)
    return args, kwargs
