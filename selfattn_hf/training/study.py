"""A study: a grid of runs that are compared, read from one YAML file and checked before anything is trained.

    base: configs/scan.yaml                  # settings of every run: a file, or lines here
    vary: {position_encoding: [rope, alibi]} # a cell for every combination
    cells: {no order: {position_encoding: none}}  # and cells one by one; of a file, its switches alone
    seeds: [1, 2, 3]
    match: parameters                        # or {what: parameters, reference: rope, tolerance: 0.02}
    tests: {long: {dataset_config: length}}  # rows that every model is tried on, see study_tests.py
    encodings: {mine: my_file.py:MyClass}    # see study_encodings.py

All runs have the same budget, and a cell's folder is named after its settings: one that stands in two studies, or twice
in one, is trained once where they share the output folder.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from selfattn_hf import SelfAttnConfig
from selfattn_hf.model import near

from .fields import check_value, near_name, read_typed
from .matching import count_parameters, match_parameters
from .settings import DATA_TYPES, MODEL_TYPES, RUN_TYPES, Settings, annotation_of, build_config, make_settings
from .study_encodings import join_encodings
from .study_grid import Cell, read_cells
from .study_names import cell_name
from .study_tests import TestSet, read_tests
from .yaml_files import read_yaml

# What decides how much a model is trained, and is therefore the same in all cells unless it is varied by name.
BUDGET = ("max_steps", "num_train_epochs", "batch_tokens", "per_device_train_batch_size", "gradient_accumulation_steps")
_KEYS: dict[str, Any] = {
    "name": str, "base": str | dict[str, Any], "vary": dict[str, Any], "cells": dict[str, Any] | list[str],
    "seeds": int | list[int], "match": str | dict[str, Any], "tests": dict[str, Any], "encodings": dict[str, Any],
    "trees": dict[str, Any], "illegal": Literal["refuse", "skip"], "curve": dict[str, Any], "output_dir": str,
}  # fmt: skip
_MATCH: dict[str, Any] = {"what": Literal["parameters"], "reference": str | int | None, "tolerance": float,
                          "vocab_size": int | None}  # fmt: skip
_CURVE: dict[str, Any] = {"metric": str, "trained_to": float | None, "axis": str}
_OWN = ("seed", "output_dir")
FIGURES = ("loss", "token_accuracy", "bleu", "chrf", "exact_match")


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        cell: what it is called in the study.
        seed: of its fresh weights and of the order of its rows.
        name: of its folder, made of its settings.
        settings: of the run.
        varies: what the cell sets, as it is written.
        parameters: of the model, for the vocabulary that was asked for.
        resized: what `match` changed, as name -> (before, after).
    """

    cell: str
    seed: int
    name: str
    settings: Settings
    varies: dict[str, Any]
    parameters: int
    resized: dict[str, tuple[int, int]]

    @property
    def folder(self) -> Path:
        """Where all that belongs to it lies; the run itself in `model`."""
        return self.settings.output_dir.parent


@dataclass(frozen=True)
class Study:
    """A study that can be run.

    Attributes:
        name: of the study.
        folder: where its runs and results go.
        runs: all of them: the first seed of every cell, then the next one.
        tests: what every model is tried on.
        metric: what the table and the pictures show.
        trained_to: the length that was trained, for the curve; None: there is no such length.
        axis: what the length counts, in words.
        left_out: cells that are illegal and were asked to be skipped, each with the reason.
    """

    name: str
    folder: Path
    runs: list[Run]
    tests: list[TestSet]
    metric: str
    trained_to: float | None = None
    axis: str = "length"
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def configs(self) -> dict[str, SelfAttnConfig]:
        """The switches of every cell; the vocabulary is not theirs."""
        return {run.cell: build_config(run.settings.model) for run in reversed(self.runs)}

    @property
    def unique(self) -> list[Run]:
        """The runs without those that stand there twice."""
        first: dict[str, Run] = {}
        for run in self.runs:
            first.setdefault(run.name, run)
        return list(first.values())

    def shard(self, number: int, of: int) -> list[Run]:
        """The `number`-th of `of` parts of the list, counted from 1; all parts together are the whole list."""
        runs = self.unique
        return runs[len(runs) * (number - 1) // of : len(runs) * number // of]


def read_study(path: str | Path, overrides: Mapping[str, str | bool] | None = None) -> Study:
    """A study from its file; every cell is checked and built without memory, nothing is trained or written.

    The file's `encodings` are executed, see study_encodings.py.

    Args:
        path: the YAML file.
        overrides: setting -> word as it was typed, for every run; `seeds` and `output_dir` are the study's.

    Raises:
        ValueError: naming the cell, the setting, the rule, what was given and what to do.
    """
    typed = dict(overrides or {})
    try:
        given = _checked_keys(read_yaml(path), _KEYS, "a study")
        if isinstance(words := typed.pop("seeds", None), str):  # as in 1,2
            given["seeds"] = read_typed("seeds", words if words.startswith("[") else f"[{words}]", list[int])
        if "output_dir" in typed:
            given["output_dir"] = read_typed("output_dir", typed.pop("output_dir"), str)
        if "seed" in typed:
            raise ValueError("seed would be one for all runs. Set seeds, as in --seeds 1,2.")
        last = {name: read_typed(name, word, annotation_of(name)) for name, word in typed.items()}
        digests = join_encodings(given.get("encodings", {}))
        seeds = _seeds(given.get("seeds", [1]))
        cells, left_out = _settings_of_cells(given, last)
        _check_budget(cells, given.get("vary", {}))
        tests = read_tests(given.get("tests"))
        for _, settings in cells.values():
            for test in tests:
                test.data(settings.data)
        name = given.get("name", Path(path).stem)
        folder = Path(given.get("output_dir", Path("runs") / "studies" / name))
        metric, curve = _curve(given.get("curve", {}), next(iter(cells.values()))[1])
        runs = list(_runs(cells, seeds, folder, given.get("match"), digests))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return Study(name, folder, runs, tests, metric, left_out=left_out, **curve)


def _checked_keys(given: Mapping[str, Any], keys: Mapping[str, Any], what: str) -> dict[str, Any]:
    checked = {}
    for name, value in given.items():
        if name not in keys:
            raise ValueError(f"there is no {name!r:.80} in {what}. {_near(name, keys)}")
        checked[name] = check_value(name, value, keys[name])
    return checked


def _near(name: str, keys: Mapping[str, Any]) -> str:
    if name in {**MODEL_TYPES, **DATA_TYPES, **RUN_TYPES}:
        return "It is a setting of runs: put it into base."
    return near(name, keys).strip() or f"Choose one of: {', '.join(keys)}."


def _seeds(given: int | list[int]) -> list[int]:
    given = [given] if isinstance(given, int) else given
    if not given or len(set(given)) < len(given) or min(given) < 0:
        raise ValueError(f"seeds takes different numbers from 0 on, such as [1, 2, 3], got {given}.")
    return given


def _settings_of_cells(
    given: Mapping[str, Any], last: Mapping[str, Any]
) -> tuple[dict[str, tuple[Cell, Settings]], dict[str, str]]:
    """The settings of every cell without seed and folder, and the cells that are left out, with the reason."""
    if "base" not in given:
        raise ValueError("base is missing: a settings file, or settings, that every run has.")
    base = given["base"]
    values = _checked(read_yaml(base), base) if isinstance(base, str) else _checked(base, "base", own=False)
    trees = _checked(given.get("trees", {}), "trees", own=False)
    cells, left_out, reading = {}, {}, 0
    for cell in read_cells(given.get("vary", {}), given.get("cells", {}), _checked):
        reads = _reads_trees({**values, **cell.values, **last})
        reading += reads
        merged = {**values, **(trees if reads else {}), **cell.values, **last}
        merged = {name: value for name, value in merged.items() if name not in _OWN}
        try:
            cells[cell.name] = (cell, make_settings({**merged, "output_dir": "."}))
        except ValueError as error:
            if given.get("illegal", "refuse") == "refuse":
                hint = "" if "vary" not in given else " Or set `illegal: skip` to leave such cells out."
                raise ValueError(f"cell {cell.name}: {error}{hint}") from error
            left_out[cell.name] = str(error)
            continue
        if cells[cell.name][1].run.init_from is not None:
            raise ValueError(f"cell {cell.name}: init_from brings its own sizes and switches. Leave it out of a study.")
        if cells[cell.name][1].run.push_to_hub:
            raise ValueError(
                f"cell {cell.name}: push_to_hub would push every run to one place. Leave it out of a study, and push "
                "the model you want with scripts/push_to_hub.py."
            )
        if cells[cell.name][1].run.license is not None:
            raise ValueError(
                f"cell {cell.name}: license is said where a model is published. Leave it out of a study, and give "
                "--license to scripts/push_to_hub.py."
            )
    if not cells:
        raise ValueError(f"no cell is left: {'; '.join(left_out.values()):.300}")
    if trees and not reading:
        raise ValueError("trees would do nothing: no cell has an encoding that reads trees. Leave it out.")
    return cells, left_out


def _checked(values: Mapping[str, Any], where: str, own: bool = True) -> dict[str, Any]:
    """Settings by name, each as its field wants it.

    Args:
        values: as they stand in a file.
        where: they stand, for messages.
        own: whether what the study decides may stand there, as it does in a file for one run.
    """
    checked = {}
    for name, value in values.items():
        if name in _OWN and not own:
            instead = "seeds" if name == "seed" else "the study's output_dir"
            raise ValueError(f"{where}: every run has its own {name}. Set {instead}.")
        try:
            checked[name] = check_value(name, value, annotation_of(name))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return checked


def _reads_trees(values: Mapping[str, Any]) -> bool:
    own = values.get("encoder_position_encoding")
    words = values.get("position_encoding", SelfAttnConfig.position_encoding) if own is None else own
    try:
        return build_config({"position_encoding": "none", "encoder_position_encoding": words}).reads_trees
    except ValueError:  # it is refused with all the rest, and with a better message
        return False


def _check_budget(cells: Mapping[str, tuple[Cell, Settings]], vary: Mapping[str, Any]) -> None:
    """Refuse cells that are trained more or less than others.

    Raises:
        ValueError: naming the setting and two cells.
    """
    (first, (_, reference)), *others = cells.items()
    budgets = {name: {**vars(reference.run), **reference.complete_training()}.get(name) for name in BUDGET}
    for name, (_, settings) in others:
        values = {**vars(settings.run), **settings.complete_training()}
        for setting, value in budgets.items():
            if values.get(setting) != value and setting not in vary:
                raise ValueError(
                    f"all cells have the same budget, and {setting} is {value} in {first} and {values.get(setting)} in "
                    f"{name}. Set it in base, or vary it by name."
                )


def _curve(given: Mapping[str, Any], settings: Settings) -> tuple[str, dict[str, Any]]:
    checked = _checked_keys(given, _CURVE, "curve")
    metric = checked.pop("metric", settings.run.metric)
    if metric not in FIGURES:
        hint = near_name(metric, FIGURES)
        raise ValueError(f"curve: metric is one of {', '.join(FIGURES)}, got {metric!r:.80}. {hint}")
    return metric, checked


def _runs(
    cells: Mapping[str, tuple[Cell, Settings]],
    seeds: list[int],
    folder: Path,
    match: str | dict[str, Any] | None,
    digests: Mapping[str, str],
) -> Iterator[Run]:
    asked = _checked_keys({"what": match} if isinstance(match, str) else match or {}, _MATCH, "match")
    if match is not None and "what" not in asked:
        raise ValueError(f"match takes what: parameters, got {match}.")
    configs = {name: _config(settings, asked.get("vocab_size")) for name, (_, settings) in cells.items()}
    resized: dict[str, dict[str, tuple[int, int]]] = dict.fromkeys(cells, {})
    if match is not None:
        options = {name: value for name, value in asked.items() if name in ("tolerance", "reference")}
        found = match_parameters(configs, **options)
        parameters = {name: one.after for name, one in found.items()}
        resized = {name: one.changed for name, one in found.items()}
    else:
        parameters = {name: count_parameters(config) for name, config in configs.items()}
    for seed in seeds:
        for name, (cell, settings) in cells.items():
            sizes = {size: after for size, (_, after) in resized[name].items() if size != "head_width"}
            model, training = {**settings.model, **sizes}, {**settings.training, "seed": seed}
            own = {word: digests[word] for word in digests if word in _words_of(model)}
            here = cell_name(dataclasses.replace(settings, model=model, training=training), own)
            training["output_dir"] = str(folder / "cells" / here / "model")
            final = make_settings({**model, **vars(settings.data), **vars(settings.run), **training})
            yield Run(name, seed, here, final, cell.varies, parameters[name], resized[name])


def _config(settings: Settings, vocab_size: int | None) -> SelfAttnConfig:
    if vocab_size is None and settings.data.tokenizer is not None:
        raise ValueError(
            f"tokenizer={settings.data.tokenizer} is loaded as it is, and how many tokens it has is not looked up "
            "here. Set match: {vocab_size: NUMBER}, or leave tokenizer out."
        )
    return build_config(settings.model, vocab_size=vocab_size or settings.data.tokenizer_vocab_size)


def _words_of(model: Mapping[str, Any]) -> set[str]:
    given = [
        model.get(name) for name in ("position_encoding", "encoder_position_encoding", "decoder_position_encoding")
    ]
    return {word for value in given for word in (value if isinstance(value, list) else [value]) if word is not None}
