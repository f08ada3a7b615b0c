"""Builds what a run trains: tokenizers, model and generation config, from settings and data."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import Syntax, Tokenizers, load_tokenizers, train_tokenizers

from .evaluation import Prepared
from .settings import MODEL_TYPES, Settings, build_config, check_trees

_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_TOKENIZER_SETTINGS = ("tokenizer", "tokenizer_type", "tokenizer_vocab_size", "tokenizer_shared", "lowercase")


def make_tokenizers(settings: Settings, train_rows: Any, learned: Path | None) -> Tokenizers:
    """The tokenizers of the run that goes on, of the model to start from, of `tokenizer`, or newly trained ones.

    How trees are made is what this run's settings say, wherever the tokenizers come from.

    Args:
        settings: of the run.
        train_rows: rows to train tokenizers on.
        learned: where those of the run lie, if it goes on.

    Raises:
        ValueError: if `init_from` is set together with settings for another tokenizer.
    """
    made = _tokenizers(settings, train_rows) if learned is None else load_tokenizers(learned)
    return dataclasses.replace(made, syntax=Syntax.of(settings.data))


def _tokenizers(settings: Settings, train_rows: Any) -> Tokenizers:
    if settings.run.init_from is not None:
        defaults = type(settings.data).__dataclass_fields__
        asked = [name for name in _TOKENIZER_SETTINGS if getattr(settings.data, name) != defaults[name].default]
        if asked:
            raise ValueError(
                f"{', '.join(asked)} would do nothing: init_from={settings.run.init_from} brings its own tokenizer. "
                "Leave it out."
            )
        return load_tokenizers(settings.run.init_from, revision=settings.run.init_from_revision)
    if settings.data.tokenizer is not None:
        return load_tokenizers(settings.data.tokenizer)
    return train_tokenizers(settings.data, train_rows)


def make_model(settings: Settings, tokenizers: Tokenizers) -> PreTrainedModel:
    """A model with fresh weights, or with those of `init_from`.

    Raises:
        ValueError: if the config is refused, or `init_from` holds a model of another kind or shape.
    """
    source = settings.run.init_from
    if source is None:
        config = build_config(settings.model, vocab_size=tokenizers.vocab_size, **tokenizers.special_ids())
        return SelfAttnForConditionalGeneration(config)
    config = start_config(settings, source)
    tokenizers.check_fit(config.vocab_size)
    return SelfAttnForConditionalGeneration.load_trained(
        source, revision=settings.run.init_from_revision, config=config, dtype=torch.float32
    )


def start_config(settings: Settings, source: str) -> SelfAttnConfig:
    """The config saved at `source`, with what the settings change.

    Raises:
        ValueError: if the config is refused, `source` holds a model of another kind, or it needs trees and `syntax`
            makes none, or the other way round.
    """
    saved = SelfAttnConfig.from_pretrained(source, revision=settings.run.init_from_revision)
    if not saved.is_encoder_decoder:
        raise ValueError(
            f"init_from={source} holds a decoder alone (is_encoder_decoder=False), and a run trains encoder and "
            "decoder. Name the folder of a whole model."
        )
    switched = saved.with_switches(**settings.model)
    fields = {name: getattr(switched, name) for name in MODEL_TYPES}
    kept = {name: getattr(saved, name) for name in ("vocab_size", *_SPECIAL_IDS)}
    config = build_config(fields, **kept)
    check_trees(config, settings.data.syntax)
    return config


def make_generation_config(settings: Settings, config: SelfAttnConfig, longest_target: int) -> GenerationConfig:
    """How the model writes: special ids, beams and the longest output. Nothing else, so that nothing else is saved.

    The ids are those of the config, because a model to start from may start its texts otherwise than its tokenizer.
    """
    run = settings.run
    longest = run.max_new_tokens
    places = config.known_places("decoder")
    if longest is None:
        longest = longest_target + longest_target // 2
        longest = longest if places is None else min(longest, places)
    elif places is not None and longest > places:
        raise ValueError(
            f"max_new_tokens={longest} is more than the {places} places that the decoder knows. Lower it, or raise "
            "max_position_embeddings."
        )
    beams = {"length_penalty": run.length_penalty} if run.num_beams > 1 else {}
    return GenerationConfig(
        max_new_tokens=longest,
        num_beams=run.num_beams,
        do_sample=False,
        **beams,
        **{name: getattr(config, name) for name in _SPECIAL_IDS},
    )


def with_beams(generation: GenerationConfig, num_beams: int | None) -> GenerationConfig:
    """A copy with another number of beams; None: the same number."""
    if num_beams is None or num_beams == generation.num_beams:
        return generation
    fields = generation.to_diff_dict() | {"num_beams": num_beams}
    if num_beams == 1:
        fields.pop("length_penalty", None)
    return GenerationConfig(**fields)


def check_lengths(config: SelfAttnConfig, splits: Mapping[str, Prepared]) -> None:
    """Refuse rows that are longer than the places that a side of the model knows, before the first step.

    Raises:
        ValueError: naming split, row, length and limit.
    """
    for side, column in (("encoder", "input_ids"), ("decoder", "labels")):
        places = config.known_places(side)
        if places is None:
            continue
        for name, split in splits.items():
            for number, ids in enumerate(split.rows[column]):
                if len(ids) > places:
                    word = "source" if side == "encoder" else "target"
                    raise ValueError(
                        f"row {number} of the {name} split has a {word} of {len(ids)} tokens, and the {side} "
                        f"knows {places} places. Raise max_position_embeddings, or set max_{word}_length."
                    )
