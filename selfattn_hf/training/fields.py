"""Checks a setting against the annotation of its field, and reads values typed on a command line.

What annotations mean here: `int` takes 3 and 3.0 but neither true nor "3"; `float` takes any finite number; `Literal`
and enumerations take their members; a list takes lists of what its members are; a union takes what one of its parts
takes.
"""

import enum
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from selfattn_hf.model import near

from .yaml_files import is_finite, parse_yaml, shown


def check_value(name: str, value: Any, annotation: Any) -> Any:
    """The value as the field wants it.

    Raises:
        ValueError: naming the setting, what it takes and what was given.
    """
    if not is_finite(value):
        raise ValueError(f"{name} must be a finite number, got {_show(value)}.")
    fits, converted = _fit(value, annotation)
    if not fits:
        wrong = _wrong_members(value, annotation)
        given = f"{_show(wrong[0])} in the list {shown(repr(value))}" if wrong else _show(value)
        hint = _hint(wrong[0] if wrong else value, annotation)
        raise ValueError(f"{name} takes {describe(annotation)}, got {given}.{hint}")
    return converted


def read_typed(name: str, text: str | bool, annotation: Any) -> Any:
    """The value of a word from the command line: a text where the field takes texts, else what it means in YAML.

    A list is written as in YAML, `[rnn,dense]`; where the field takes lists of named words, `rnn,dense` is one too.

    Raises:
        ValueError: if the word is no value that the field takes.
    """
    if isinstance(text, bool):
        if bool not in _parts(annotation):
            raise ValueError(f"--{name} needs a value: it takes {describe(annotation)}.")
        return text
    structured = text.startswith(("[", "{")) and any(get_origin(part) in (list, dict) for part in _parts(annotation))
    is_text = any(part is str or _is_enum(part) for part in _parts(annotation))
    if is_text and not structured:
        meaning = _scalar(text)
        others = [part for part in _parts(annotation) if part is not str]
        if not isinstance(meaning, str) and any(_fit(meaning, part)[0] for part in others):
            return check_value(name, meaning, annotation)
        return check_value(name, text, annotation)
    words = _words(text, annotation)
    if words:
        return check_value(name, words, annotation)
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"--{name} takes {describe(annotation)}, got {text!r}: {error}") from error
    return check_value(name, value, annotation)


def near_name(name: str, known: Iterable[str]) -> str:
    """A sentence that names the known setting nearest to an unknown one."""
    return near(name, sorted(known)).strip() or "See --help for the settings there are."


def describe(annotation: Any) -> str:
    """What a field takes, in words."""
    words: list[str] = []
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            words.extend(str(member) for member in get_args(part))
        elif _is_enum(part):
            words.extend(str(member.value) for member in part)
        elif _inners(part):
            inner = describe(_inners(part)[0])
            many = "them" if _members(part) and set(_members(part)) <= set(words) else _MANY.get(inner, inner)
            words.append(f"a list of {many}")
        else:
            words.append(_ONE.get(get_origin(part) or part, "a text"))
    if any(_is_enum(part) for part in _parts(annotation)):
        words = [word for word in words if word != "a text"]
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


_ONE: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null",
    dict: "a dictionary", list: "a list", Path: "a path",
}  # fmt: skip
_MANY = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts", "a path": "paths"}


def _parts(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _parts(member)]
    return [annotation]


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _members(annotation: Any) -> list[Any]:
    """The values that an annotation names one by one, those inside of lists included."""
    parts = _parts(annotation) + [part for inner in _inners(annotation) for part in _parts(inner)]
    members = [member for part in parts if get_origin(part) is Literal for member in get_args(part)]
    return members + [member.value for part in parts if _is_enum(part) for member in part]


def _inners(annotation: Any) -> list[Any]:
    """What the members of a list may be, where the annotation takes a list."""
    return [get_args(part)[0] for part in _parts(annotation) if get_origin(part) is list and get_args(part)]


def _wrong_members(value: Any, annotation: Any) -> list[Any]:
    """The members of a list that do not fit, where lists are taken at all."""
    inners = _inners(annotation)
    if not (isinstance(value, list) and inners):
        return []
    return [member for member in value if not any(_fit(member, inner)[0] for inner in inners)]


def _words(text: str, annotation: Any) -> list[str]:
    """`a,b` as a list, where the field takes a list of named words, which hold no comma; else an empty list."""
    named = any(get_origin(part) is Literal for inner in _inners(annotation) for part in _parts(inner))
    if "," not in text or text.startswith("[") or not named:
        return []
    return [word.strip() for word in text.split(",")]


def _hint(value: Any, annotation: Any) -> str:
    """The value that was probably meant, as a question; nothing where there is none."""
    words = _words(value, annotation) if isinstance(value, str) else []
    if words and not _wrong_members(words, annotation):
        return f" Did you mean [{', '.join(words)}]?"
    return near(str(value), [str(member) for member in _members(annotation)])


def _fit(value: Any, annotation: Any) -> tuple[bool, Any]:
    """Whether the annotation takes the value, and the value it becomes."""
    parts = _parts(annotation)
    enums = [part for part in parts if _is_enum(part)]
    if enums:  # transformers writes `SchedulerType | str`, where only the members are legal texts
        parts = [part for part in parts if part is not str]
    for part in parts:
        fits, converted = _fit_one(value, part)
        if fits:
            return True, converted
    return False, value


def _fit_one(value: Any, part: Any) -> tuple[bool, Any]:
    origin = get_origin(part)
    if part is Any:
        return True, value
    if part is type(None):
        return value is None, value
    if origin is Literal:
        return any(type(value) is type(member) and value == member for member in get_args(part)), value
    if _is_enum(part):
        return value in [member.value for member in part], value
    if part is bool:
        return isinstance(value, bool), value
    if part is int:
        whole = isinstance(value, float) and value.is_integer()
        return (isinstance(value, int) and not isinstance(value, bool)) or whole, int(value) if whole else value
    if part is float:
        return isinstance(value, int | float) and not isinstance(value, bool), value
    if part in (str, Path):
        return isinstance(value, str), value
    if part is list or origin is list:
        inner = get_args(part)[0] if get_args(part) else Any
        return isinstance(value, list) and all(_fit(item, inner)[0] for item in value), value
    if part is dict or origin is dict:
        inner = get_args(part)[1] if get_args(part) else Any
        return isinstance(value, dict) and all(_fit(item, inner)[0] for item in value.values()), value
    return False, value


def _scalar(text: str) -> Any:
    try:
        return parse_yaml(text) if text else text
    except ValueError:
        return text


def _show(value: Any) -> str:
    kinds = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a dictionary",
    }
    shown = (
        {True: "true", False: "false", None: "null"}.get(value, repr(value))
        if isinstance(value, bool | None)
        else repr(value)
    )
    return f"{shown[:80]} ({kinds[type(value)]})" if type(value) in kinds and not isinstance(value, bool) else shown
