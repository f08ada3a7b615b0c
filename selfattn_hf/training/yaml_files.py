"""YAML files as people mean them: YAML 1.2 scalars, safe, and every surprise refused.

PyYAML reads YAML 1.1, where `5e-4` is a text and `no` is False. Here `5e-4` is a number and `no` a text, as in YAML
1.2 (https://yaml.org/spec/1.2.2/#103-core-schema); repeated keys, anchors, aliases and tags are errors.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

# Of a settings file, which is written by hand; a short text can hold many values, and each takes its time.
MOST_BYTES = 2**20
MOST_VALUES = 20_000

# Control characters but tab and line break, and halves of a character: no terminal and no file takes them.
_UNSHOWN = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHOWN = 80

_NUMBER_STARTS = list("-+.0123456789")
_SCALARS = [
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), _NUMBER_STARTS),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        _NUMBER_STARTS,
    ),
]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, without aliases, tags and repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    values = 0

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> Any:
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError) as error:  # of `chr`
            line = self.line + 1
            raise yaml.YAMLError(f"line {line} has an escape that stands for no character. Take it out.") from error

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.values += 1
        if self.values > MOST_VALUES:
            raise _refuse(event, f"value number {self.values:,}", "Name a folder in place of many files")
        if isinstance(event, yaml.AliasEvent):
            raise _refuse(event, f"the alias *{shown(str(event.anchor))}", "Write the value out")
        if getattr(event, "anchor", None) is not None:
            raise _refuse(event, f"the anchor &{shown(event.anchor)}", "Leave it out")
        if getattr(event, "tag", None) is not None:
            raise _refuse(event, f"the tag {shown(event.tag)}", "Leave it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                name = "null" if key is None else shown(repr(key))
                raise _refuse(key_node, f"the key {name}, which is no text", "Use names as keys")
            if key in mapping:
                raise _refuse(key_node, f"the key {shown(key)} a second time", "Keep one of them")
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def construct_scalar(self, node: Any) -> str:
        text: str = super().construct_scalar(node)
        if wrong := _UNSHOWN.search(text):  # written as an escape, for a character of its own is no YAML
            raise _refuse(node, f"the character U+{ord(wrong[0]):04X} in a text", "Take it out")
        return text

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        try:
            number = int(text, 0) if text.startswith(("0o", "0x")) else int(text)
            str(number)
            return number
        except ValueError:  # Python reads and writes no more digits at once than it is allowed to
            raise _refuse(node, f"a number of {len(text)} digits", "Write a smaller one") from None

    def construct_yaml_float(self, node: Any) -> float:
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_yaml_map(self, node: Any) -> Any:
        yield self.construct_mapping(node)


class _Dumper(yaml.SafeDumper):
    """Writes texts so that the loader above reads texts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_yaml_map)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: if the file is missing, is no YAML, or holds something else than `name: value` lines; with the line.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(other.name for other in path.parent.glob("*.y*ml"))[:12] if path.parent.is_dir() else []
        hint = f" In {path.parent} there are: {', '.join(there)}." if there else ""
        raise ValueError(f"{path} is no file, and a YAML file with settings is needed.{hint}")
    try:
        raw = path.read_bytes()
        if len(raw) > MOST_BYTES:
            raise ValueError(f"settings have at most {MOST_BYTES:,} bytes, and this file has {len(raw):,}.")
        content = parse_yaml(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: line {line} is not UTF-8 ({error.reason}). Save the file as UTF-8.") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold lines of the form `name: value`, got a {type(content).__name__}.")
    return content


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        ValueError: if it is no YAML, or uses what is refused here.
    """
    try:
        if wrong := yaml.reader.Reader.NON_PRINTABLE.search(text):
            line = text.count("\n", 0, wrong.start()) + 1
            raise yaml.YAMLError(f"line {line} has the character U+{ord(wrong[0]):04X}. Take it out.")
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"this is no YAML that can be used: {_marked(error)}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"this is no YAML that can be used: {one_line(str(error))}") from error
    except RecursionError as error:
        raise ValueError("values are nested too deeply. Settings are flat: `name: value`.") from error


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML text that `parse_yaml` reads back as equal values.

    Raises:
        ValueError: if a value is no plain data.
    """
    try:
        text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    except yaml.YAMLError as error:
        raise ValueError(f"settings must be plain texts, numbers, lists and dictionaries: {error}") from error
    return text


def is_finite(value: Any) -> bool:
    """Whether a number is neither infinite, NaN nor beyond all floats; of a list or a dictionary, all in it."""
    if isinstance(value, list | dict):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        return False


def shown(text: str) -> str:
    """A text as it may stand in a message: at most 80 characters, what no terminal shows as an escape."""
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def one_line(text: str) -> str:
    """A message of several lines as one, without characters that no terminal shows."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def _marked(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's error in one sentence, with the place where it was found."""
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return one_line(f"{where}{', '.join(text for text in (error.context, error.problem) if text)}.")


def _refuse(where: Any, what: str, instead: str) -> yaml.YAMLError:
    mark = where.start_mark
    return yaml.YAMLError(f"line {mark.line + 1} has {what}, and that is not taken. {instead}.")
