"""What every export shares: the files beside the weights, and the rows by which it is compared with the model."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.data import Tokenizers, encode_texts

Write = Callable[[list[list[int]], int], list[list[int]]]
"""Ids of sources, and the most tokens of an answer -> ids of the answers, written greedily."""

DEFAULT_MAX_NEW_TOKENS = 256
# Fields of a generation config that a plain greedy search passes over.
PASSED_OVER = (
    "num_beams", "do_sample", "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "min_length", "min_new_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "sequence_bias",
    "exponential_decay_length_penalty",
)  # fmt: skip
SETTINGS, TOKENIZER, TARGET_TOKENIZER = "export.json", "tokenizer.json", "target_tokenizer.json"


def start_and_ends(model: SelfAttnForConditionalGeneration) -> tuple[int, set[int]]:
    """The token that an answer starts with, and those that end it.

    Raises:
        ValueError: where there is no start token.
    """
    how = model.generation_config
    start = how.decoder_start_token_id if how.decoder_start_token_id is not None else how.bos_token_id
    if start is None:
        raise ValueError("decoder_start_token_id is needed to write, got None. Set it in generation_config.json.")
    ends = [] if how.eos_token_id is None else how.eos_token_id
    return int(start), {ends} if isinstance(ends, int) else set(ends)


def longest_answer(model: SelfAttnForConditionalGeneration) -> int:
    """Tokens of an answer, at most: as saved with the model, else 256 or the places that its decoder knows."""
    how = model.generation_config
    saved = how.max_new_tokens or (how.max_length and how.max_length - 1)
    return saved or min(DEFAULT_MAX_NEW_TOKENS, model.config.known_places("decoder") or DEFAULT_MAX_NEW_TOKENS)


def save_settings(model: SelfAttnForConditionalGeneration, folder: Path, target: str, **more: Any) -> None:
    """Write what a runner must know beside the graphs."""
    start, ends = start_and_ends(model)
    content = {
        "format": target, "start": start, "ends": sorted(ends), "pad": model.config.pad_token_id or 0,
        "max_new_tokens": longest_answer(model), "known_places": model.config.known_places("encoder"), **more,
    }  # fmt: skip
    (folder / SETTINGS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def save_tokenizers(tokenizers: Tokenizers, folder: Path) -> None:
    """Write the tokenizers as the package `tokenizers` reads them, which needs neither torch nor transformers.

    Raises:
        ValueError: for a tokenizer that is not of that package, such as Marian's.
    """
    pairs = [(tokenizers.source, TOKENIZER)]
    pairs += [] if tokenizers.shared else [(tokenizers.target, TARGET_TOKENIZER)]
    for tokenizer, name in pairs:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no tokenizer.json, which the exported folder needs. Save the model "
                "with a tokenizer of the package tokenizers."
            )
        backend.save(str(folder / name))


def left_out(how: GenerationConfig) -> list[str]:
    """Settings saved with a model that a greedy search does not read, as `name=value`."""
    plain = GenerationConfig()
    neutral = {name: (getattr(plain, name), None, 0, 1, 1.0, False) for name in PASSED_OVER}
    return [f"{name}={value}" for name in PASSED_OVER if (value := getattr(how, name)) not in neutral[name]]


def rows_of(
    model: SelfAttnForConditionalGeneration, tokenizers: Tokenizers, texts: Sequence[str], drawn: int, seed: int
) -> list[list[int]]:
    """Ids of texts; without any, rows of drawn tokens, which say the same of two ways to compute."""
    if texts:
        return encode_texts(tokenizers.source, list(texts))
    known = model.config.known_places("encoder") or 24
    random = torch.Generator().manual_seed(seed)
    low, high = 1, max(2, min(24, known))
    size = min(model.config.vocab_size, tokenizers.source.backend_tokenizer.get_vocab_size())
    end = [tokenizers.source.eos_token_id]
    lengths = torch.randint(low, high, (drawn,), generator=random).tolist()
    return [torch.randint(4, size, (length - 1,), generator=random).tolist() + end for length in lengths]


@torch.inference_mode()
def reference(model: SelfAttnForConditionalGeneration, ids: list[list[int]], most: int) -> list[list[int]]:
    """What `model.generate` writes greedily, without the start token, up to the first end token."""
    start, ends = start_and_ends(model)
    pad = model.config.pad_token_id or 0
    how = GenerationConfig(
        max_new_tokens=most, decoder_start_token_id=start, eos_token_id=sorted(ends) or None, pad_token_id=pad,
        do_sample=False, num_beams=1,
    )  # fmt: skip
    saved, model.generation_config = model.generation_config, how
    width = max(map(len, ids))
    try:
        answers = model.generate(
            input_ids=torch.tensor([row + [pad] * (width - len(row)) for row in ids]),
            attention_mask=torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
        )
    finally:
        model.generation_config = saved
    return [until_end(row[1:].tolist(), ends) for row in answers]


def until_end(row: Iterable[int], ends: set[int]) -> list[int]:
    """The tokens before the first end token."""
    kept = []
    for one in row:
        if one in ends:
            break
        kept.append(one)
    return kept
