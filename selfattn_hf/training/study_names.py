"""The name of a cell's folder: a few words to read and a hash of everything that decides what is learned."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping

from transformers import Seq2SeqTrainingArguments

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import DataSettings

from .settings import RunSettings, Settings
from .study_grid import in_words

# What is shown, and how the machine works: a model is the same without them.
_OF_NO_EFFECT = {"output_dir", "examples", "disable_tqdm", "dataloader_pin_memory", "use_cpu", "run_name", "report_to",
                 "logging_steps", "logging_strategy", "per_device_eval_batch_size"}  # fmt: skip


def cell_name(settings: Settings, encodings: Mapping[str, str]) -> str:
    """The name that runs with these settings have, in whatever study they stand: mixer-order-s1-0123456789ab.

    Defaults do not count, so that a release with one more setting finds the cells of the one before.

    Args:
        settings: of the run, its seed among them.
        encodings: the own encodings that it uses, each with the digest of its file.
    """
    values = {name: value for group in settings.portable().values() for name, value in group.items()}
    kept = {name: value for name, value in values.items() if name not in _OF_NO_EFFECT and not _is_default(name, value)}
    text = json.dumps({**kept, "encodings": dict(encodings)}, sort_keys=True)
    config = SelfAttnConfig(**settings.model)
    words = [*dict.fromkeys(config.mixers_of("encoder")), in_words(config.positions_of("encoder")) or "none"]
    readable = re.sub(r"[^\w+-]", "_", "-".join([*words, f"s{settings.training.get('seed')}"]))[:60]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _is_default(name: str, value: object) -> bool:
    for owner in (SelfAttnConfig, DataSettings, RunSettings, Seq2SeqTrainingArguments):
        field = {field.name: field for field in dataclasses.fields(owner)}.get(name)
        if field is not None:
            return value == field.default
    return False
