"""How far numbers among the training arguments go: transformers takes any, and fails later or trains something else."""

from collections.abc import Callable, Mapping
from typing import Any

Rule = tuple[str, Callable[[float], bool]]

_COUNT: Rule = ("a number from 1 on", lambda number: number >= 1)
_FROM_ZERO: Rule = ("a number from 0 on", lambda number: number >= 0)
_SHARE: Rule = ("a share from 0 to below 1", lambda number: 0 <= number < 1)
_RHYTHM: Rule = ("a number of steps from 1 on, or a share of all of them", lambda number: number > 0)
_SEED: Rule = (f"a number from 0 to {2**32 - 1}", lambda number: 0 <= number < 2**32)

RANGES: dict[str, Rule] = {
    "max_steps": ("a number from 1 on, or -1 for whole epochs", lambda number: number == -1 or number >= 1),
    "num_train_epochs": ("a number above 0", lambda number: number > 0),
    "adam_epsilon": ("a number above 0", lambda number: number > 0),
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "save_total_limit",
         "generation_num_beams", "dataloader_prefetch_factor", "torch_empty_cache_steps", "ddp_bucket_cap_mb",
         "ddp_timeout"),
        _COUNT,
    ),
    **dict.fromkeys(
        ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "eval_delay", "dataloader_num_workers",
         "neftune_noise_alpha"),
        _FROM_ZERO,
    ),
    **dict.fromkeys(("label_smoothing_factor", "adam_beta1", "adam_beta2"), _SHARE),
    **dict.fromkeys(("save_steps", "eval_steps", "logging_steps"), _RHYTHM),
    **dict.fromkeys(("seed", "data_seed"), _SEED),
}  # fmt: skip


def check_ranges(fields: Mapping[str, Any]) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        ValueError: naming the field, the rule and what was given.
    """
    for name, (rule, holds) in RANGES.items():
        given = fields.get(name)
        if given is not None and not holds(given):
            raise ValueError(f"{name} is {rule}, got {given}.")
