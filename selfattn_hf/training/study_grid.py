"""The cells of a study: every combination of what varies, and cells that are named one by one."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from .settings import MODEL_TYPES, annotation_of
from .yaml_files import read_yaml

ALL = "all"
Check = Callable[[Mapping[str, Any], str, bool], dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        name: in the study.
        values: settings that differ from the base.
        varies: the same as they are written in tables, one text each.
    """

    name: str
    values: dict[str, Any]
    varies: dict[str, Any]


def read_cells(vary: Mapping[str, Any], cells: Mapping[str, Any] | list[str], check: Check) -> Iterator[Cell]:
    """The cells in order, those of the grid first.

    In a list of `vary`, the word `all` stands for every word that the setting takes: every position encoding of the
    registry, own ones included. A cell that is a file has the switches of that file's model, and nothing else of it.

    Args:
        vary: setting -> values.
        cells: name -> settings or file; or files, which are called by their names without ending.
        check: settings as they stand in a file, where they stand, whether seed and folder may -> checked settings.

    Raises:
        ValueError: naming the cell or setting, the rule, what was given and what to do.
    """
    found: dict[str, Cell] = {}
    for cell in (*_grid(vary, check), *_named(cells, check)):
        if cell.name in found:
            raise ValueError(f"two cells are called {cell.name}, and a study tells its cells by name. Rename one.")
        found[cell.name] = cell
    if not found:
        raise ValueError("there is nothing to compare: give `vary`, `cells` or both.")
    yield from found.values()


def in_words(value: Any) -> str:
    """A value as it stands in a name or table: `rope+tree_relative`."""
    if isinstance(value, list):
        return "+".join(map(in_words, value))
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _grid(vary: Mapping[str, Any], check: Check) -> Iterator[Cell]:
    if not vary:
        return
    choices = {}
    for name, given in vary.items():
        values = _choices(name, given)
        choices[name] = [check({name: value}, "vary", False)[name] for value in values]
    for combination in itertools.product(*choices.values()):
        one = dict(zip(choices, combination, strict=True))
        yield Cell(" / ".join(map(in_words, combination)), one, _written(one))


def _choices(name: str, given: Any) -> list[Any]:
    given = [given] if given == ALL else given
    if not isinstance(given, list) or not given:
        raise ValueError(f"vary: {name} takes a list of values, got {given!r:.80}.")
    annotation = annotation_of(name)
    words = [word for part in get_args(annotation) or [annotation] for word in _literals(part)]
    if ALL in given and not words:
        raise ValueError(f"vary: {name} has no words that `all` could stand for. Write its values out.")
    expanded = [value for one in given for value in (words if one == ALL else [one])]
    return [value for place, value in enumerate(expanded) if value not in expanded[:place]]


def _literals(annotation: Any) -> list[str]:
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def _named(cells: Mapping[str, Any] | list[str], check: Check) -> Iterator[Cell]:
    named = {Path(file).stem: file for file in cells} if isinstance(cells, list) else cells
    for name, given in named.items():
        if isinstance(given, str):
            read = check(read_yaml(given), given, True)
            values = {setting: value for setting, value in read.items() if setting in MODEL_TYPES}
        elif isinstance(given, dict):
            values = check(given, f"cells: {name}", False)
        else:
            raise ValueError(f"cells: {name} takes settings or a settings file, got {given!r:.80}.")
        yield Cell(name, values, _written(values))


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: in_words(value) for name, value in values.items()}
