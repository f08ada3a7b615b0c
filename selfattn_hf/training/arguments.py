"""Seq2SeqTrainingArguments of a run: which fields are taken, and the defaults that differ from transformers'."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from transformers import Seq2SeqTrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from .ranges import check_ranges

# The one place for defaults of ours. `eval_strategy` and what hangs on it are worked out in `complete`.
TRAINING_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "inverse_sqrt",
    "warmup_steps": 500,
    "adam_beta2": 0.98,
    "train_sampling_strategy": "group_by_length",
    "logging_steps": 100,
    "save_total_limit": 2,
    "predict_with_generate": True,
    "generation_num_beams": 1,
}

# Fields that something of ours replaces or that would do nothing here: name -> what to do instead.
NOT_TAKEN: dict[str, str] = {
    "hub_token": "A token belongs neither in a file nor on a command line: run `hf auth login` or set HF_TOKEN",
    "hub_strategy": "A run is pushed once, when it ends: set push_to_hub and hub_model_id",
    "hub_always_push": "A run is pushed once, when it ends: set push_to_hub and hub_model_id",
    "resume_from_checkpoint": "The same command goes on from the newest whole checkpoint by itself",
    "generation_max_length": "Set max_new_tokens",
    "generation_config": "Set num_beams, max_new_tokens and length_penalty",
    "metric_for_best_model": "Set metric",
    "greater_is_better": "Set metric: all of them are better when greater",
    "prediction_loss_only": "Set predict_with_generate to false",
    "fp16_full_eval": "Evaluation computes as the weights are: it would do nothing",
    "bf16_full_eval": "Evaluation computes as the weights are: it would do nothing",
    "sortish_sampler": "Set train_sampling_strategy to group_by_length, or batch_tokens",
    "use_liger_kernel": "The model has its own loss, which such kernels do not know",
    "save_only_model": "Checkpoints must be whole, so that the run can be resumed",
    "ignore_data_skip": "A run that goes on reads on where it stopped, or it would end otherwise",
    "enable_jit_checkpoint": "SIGTERM, and Ctrl-C, finish the step, save and stop by themselves",
    **dict.fromkeys(("fsdp", "fsdp_config"), "A run needs whole weights: see scripts/examples/train_fsdp.py"),
    "auto_find_batch_size": "Set per_device_train_batch_size or batch_tokens to what fits",
    **dict.fromkeys(
        ("do_train", "do_eval", "do_predict", "label_names", "include_for_metrics", "batch_eval_metrics",
         "eval_do_concat_batches", "eval_accumulation_steps", "eval_use_gather_object", "remove_unused_columns",
         "length_column_name", "local_rank", "logging_nan_inf_filter", "restore_callback_states_from_checkpoint"),
        "It would do nothing here: leave it out",
    ),
}  # fmt: skip

# Fields that may change between a run and its continuation: they decide how long it runs and what is shown, not what
# is learned up to a given step.
MAY_CHANGE = frozenset({
    "output_dir", "max_steps", "num_train_epochs", "disable_tqdm", "report_to", "run_name", "project",
    "save_strategy", "save_steps", "save_total_limit", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start",
    "load_best_model_at_end", "per_device_eval_batch_size", "generation_num_beams", "log_level", "log_level_replica",
    "log_on_each_node", "logging_strategy", "logging_steps", "logging_first_step", "dataloader_num_workers",
    "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "include_num_input_tokens_seen", "skip_memory_metrics", "ddp_timeout", "use_cpu",
})  # fmt: skip

# Fields of transformers' that have a meaning of our own, in RunSettings: the Trainer must not push by itself.
_OURS = frozenset({"push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision"})
ARGUMENT_TYPES: dict[str, Any] = {
    name: annotation
    for name, annotation in get_type_hints(Seq2SeqTrainingArguments).items()
    if name in Seq2SeqTrainingArguments.__dataclass_fields__
    and Seq2SeqTrainingArguments.__dataclass_fields__[name].init
    and name not in NOT_TAKEN
    and name not in _OURS
    and name != "use_cache"  # a field of the config, and handed on from there
}


def complete(given: dict[str, Any], *, has_validation: bool = True, average_checkpoints: int = 0) -> dict[str, Any]:
    """The fields given, with our defaults where nothing was given.

    Args:
        given: fields by name; `output_dir` among them.
        has_validation: whether there are rows to evaluate on while training.
        average_checkpoints: how many of the last checkpoints will be averaged, and are therefore kept beside the best.

    Raises:
        ValueError: if a number is out of its range, or evaluations are asked for without rows to evaluate on.
    """
    check_ranges(given)
    fields = {**TRAINING_DEFAULTS, **given}
    if average_checkpoints and "save_total_limit" not in given:
        fields["save_total_limit"] = max(fields["save_total_limit"], average_checkpoints + 1)
    rhythm = "steps" if {"eval_steps", "save_steps"} & set(given) else "epoch"
    if not has_validation:
        asked = [name for name in ("eval_steps", "eval_strategy") if given.get(name, "no") not in ("no", None)]
        if asked:
            raise ValueError(
                f"{asked[0]}={given[asked[0]]} needs a validation split, and the data set has none. Set "
                "validation_split (`train[95%:]` takes a share of a split) or eval_strategy to 'no'."
            )
        fields["eval_strategy"] = "no"
    fields.setdefault("eval_strategy", rhythm)
    evaluates = fields["eval_strategy"] != "no"
    fields.setdefault(
        "save_strategy", "steps" if "save_steps" in given else fields["eval_strategy"] if evaluates else rhythm
    )
    for kind in ("eval", "save"):
        if fields.get(f"{kind}_steps") is not None and fields[f"{kind}_strategy"] != "steps":
            raise ValueError(
                f"{kind}_steps={fields[f'{kind}_steps']} does nothing with {kind}_strategy="
                f"{fields[f'{kind}_strategy']}. Set {kind}_strategy to steps, or leave {kind}_steps out."
            )
    if fields["eval_strategy"] == fields["save_strategy"] == "steps":
        steps = fields.get("eval_steps") or fields.get("save_steps")
        if steps is not None:
            fields["eval_steps"] = fields.get("eval_steps") or steps
            fields["save_steps"] = fields.get("save_steps") or steps
    fields.setdefault("load_best_model_at_end", evaluates and fields["save_strategy"] != "no")
    fields.setdefault("disable_tqdm", not sys.stderr.isatty())
    fields.setdefault("dataloader_pin_memory", torch.cuda.is_available())
    if fields.get("bf16") and not torch.accelerator.is_available():
        fields.setdefault("use_cpu", True)  # transformers asks for it in so many words before it takes bf16 on a CPU
    return fields


def make_arguments(fields: dict[str, Any], metric: str, use_cache: bool) -> Seq2SeqTrainingArguments:
    """Transformers' arguments from complete fields.

    Args:
        fields: what `complete` returned.
        metric: name of the metric that tells the best model.
        use_cache: as in the model's config, which the Trainer would overwrite otherwise.

    Raises:
        ValueError: if transformers refuses a value.
    """
    evaluates = fields["eval_strategy"] != "no"
    make = functools.partial(
        Seq2SeqTrainingArguments,
        metric_for_best_model=f"eval_{metric}" if evaluates else None,
        greater_is_better=True if evaluates else None,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        use_cache=use_cache,
        # Every weight has a part in every batch: where processes share them, none has to look for those that have not.
        ddp_find_unused_parameters=fields.get("ddp_find_unused_parameters", False),
    )
    fields = {name: value for name, value in fields.items() if name != "ddp_find_unused_parameters"}
    try:
        arguments = make(**fields)
    except Exception as error:  # of any type: some name a file, some a package
        blamed = ", ".join(name for name in fields if _fits(make, fields, name)) or "several of them"
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ValueError(f"the training arguments do not fit together ({blamed}): {reason}.") from error
    try:
        get_reporting_integration_callbacks(arguments.report_to)  # a name that there is not would fail much later
    except ValueError as error:
        raise ValueError(f"report_to={fields.get('report_to')!r} names no place to report to: {error}") from error
    return arguments


def _fits(make: Callable[..., Any], fields: Mapping[str, Any], left_out: str) -> bool:
    """Whether the arguments can be made without one of them, which is then the one to blame."""
    try:
        make(**{name: value for name, value in fields.items() if name != left_out})
    except Exception:
        return False
    return True


def default_output_dir(path: str | Path) -> str:
    """Where a run of the config file `path` goes when nothing else is said."""
    return str(Path("runs") / Path(path).stem)
