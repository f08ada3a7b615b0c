"""Chapter 0 of 8: what a field of the config takes. Next: sizes.py.

A config comes from a call, from a file or from the Hub, and wherever it comes from a value of a wrong type and a
misspelt word are refused in one sentence: what the field takes, what was given, what was probably meant.
"""

import difflib
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

# Formats of weights that a model computes in.
DTYPES = ("float32", "bfloat16", "float16", "float64")
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
MOST_LABELS = 10**6
# How transformers spreads a model over devices.
PLANS = ("base_model_tp_plan", "base_model_ep_plan", "base_model_pp_plan", "base_model_fsdp_plan")

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


class FieldError(StrictDataclassFieldValidationError, ValueError):
    """A value that a field does not take. Both what transformers' configs raise and a ValueError, as all refusals."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


def in_one_sentence(cls: type) -> type:
    """A strict dataclass whose fields refuse a value by `FieldError`, whenever it is set."""
    strictly: Any = cls.__setattr__

    def set_checked(self: Any, name: str, value: Any) -> None:
        try:
            strictly(self, name, value)
        except StrictDataclassFieldValidationError as error:
            annotation = cls.__dataclass_fields__[name].type  # type: ignore[attr-defined]
            wrong = [part for part in value if part not in named(annotation)] if isinstance(value, list) else [value]
            hint = near(str(wrong[0]), named(annotation)) if wrong else ""
            raise FieldError(f"{name} takes {describe(annotation)}, got {value!r:.200}.{hint}") from error

    cls.__setattr__ = set_checked  # type: ignore[assignment, method-assign]
    return cls


def refuse_unless(holds: bool, message: str) -> None:
    """Raise a ValueError with `message` and a full stop, unless the rule holds."""
    if not holds:
        raise ValueError(f"{message}.")


def near(word: str, known: Iterable[str]) -> str:
    """A question that names the known word nearest to an unknown one, behind a space; empty where none is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""


def named(annotation: Any) -> list[str]:
    """The words that an annotation names one by one, those inside of lists included."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return list(dict.fromkeys(word for part in get_args(annotation) for word in named(part)))


def describe(annotation: Any) -> str:
    """What a field takes, in words."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    words: list[str] = []
    for part in parts:
        if get_origin(part) is Literal:
            words += named(part)
        elif get_origin(part) is list:
            words.append("a list of them" if named(part) else "a list of whole numbers")
        elif part is not int or float not in parts:  # a field for numbers takes whole ones too
            words.append(_WORDS.get(part, str(part)))
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def check_common(given: dict[str, Any]) -> None:
    """Check what every config of transformers takes, and takes without a look.

    Args:
        given: fields by name, those of them that were given.

    Raises:
        ValueError: naming the field, the rule, what was given and what to do.
    """
    dtype, labels, number = given.get("dtype"), given.get("id2label"), given.get("num_labels", 1)
    dtype = given.get("torch_dtype") if dtype is None else dtype
    if not (dtype is None or dtype in DTYPES or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, got {dtype!r:.80}.{near(str(dtype), DTYPES)}")
    if not (type(number) is int and 1 <= number <= MOST_LABELS):
        raise ValueError(f"num_labels is a whole number from 1 to {MOST_LABELS}, got {number!r:.80}.")
    if labels is not None and not (isinstance(labels, dict) and all(str(key).isdecimal() for key in labels)):
        raise ValueError(
            f"id2label is a dictionary from the numbers of the labels to their names, got {labels!r:.80}. Leave it "
            "out, or give one such as {0: 'no', 1: 'yes'}."
        )
    for name in PLANS:
        plan = given.get(name)
        if not (plan is None or isinstance(plan, dict)):
            raise ValueError(f"{name} is a dictionary from names of modules, got {plan!r:.80}. Leave it out.")
    _check_quantization(given.get("quantization_config"))
    architectures, problem = given.get("architectures"), given.get("problem_type")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        raise ValueError(f"architectures is a list of names of classes, got {architectures!r:.80}. Leave it out.")
    if problem is not None and problem not in PROBLEMS:
        raise ValueError(
            f"problem_type is one of {', '.join(PROBLEMS)}, or null, got {problem!r:.80}.{near(str(problem), PROBLEMS)}"
        )


def _check_quantization(given: Any) -> None:
    """Refuse a method that there is not: transformers passes over it, and takes numbers for what they are not."""
    if given is None or hasattr(given, "quant_method"):
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as METHODS  # takes seconds

    method = given.get("quant_method") if isinstance(given, dict) else None
    if method not in METHODS and not (isinstance(given, dict) and {"load_in_8bit", "load_in_4bit"} & given.keys()):
        hint = near(str(method), METHODS)
        raise ValueError(
            f"quantization_config is a dictionary with a quant_method of transformers, got {given!r:.80}.{hint} Leave "
            "it out for weights that are not quantised."
        )
