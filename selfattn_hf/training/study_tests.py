"""The test sets of a study: which rows, told apart by length, and what a trained model is worth on each."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import DataSettings, load_splits, load_tokenizers
from selfattn_hf.model import near

from .building import check_lengths, make_generation_config
from .evaluation import Evaluator, Prepared
from .fields import check_value
from .preparing import prepare_splits
from .progress import quiet_libraries, say
from .run import decoder_of, make_collator
from .settings import DATA_TYPES, RUN_TYPES, Settings

_ROWS = ("dataset", "dataset_config", "dataset_revision", "source_column", "target_column", "test_split",
         "max_source_length", "max_target_length", "max_eval_rows", "syntax", "syntax_column")  # fmt: skip
_WRITING = ("num_beams", "max_new_tokens", "length_penalty")
_TYPES: dict[str, Any] = {name: DATA_TYPES[name] for name in _ROWS} | {name: RUN_TYPES[name] for name in _WRITING}
_OWN = ("lengths", "of", "length")
# Names of a data set's parts: another data set has its own.
_OF_A_DATASET = ("dataset_config", "dataset_revision", "validation_split", "test_split")


@dataclass(frozen=True)
class TestSet:
    """Rows that every model of a study is tried on.

    Attributes:
        name: as it stands in the study.
        changes: data settings and ways of writing that differ from those of the training.
        ranges: lengths by which the rows are told apart, both ends included; empty: all rows together.
        of: the side whose tokens are counted, without the end token.
        length: of all rows together, for the curve; None: they have no one length.
    """

    name: str
    changes: Mapping[str, Any]
    ranges: tuple[tuple[int, int], ...] = ()
    of: str = "source"
    length: float | None = None

    __test__ = False  # pytest would take it for tests

    @property
    def key(self) -> str:
        """The same for the same rows and the same way of writing, in whatever study they stand."""
        content = {**dataclasses.asdict(self), "name": None}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def data(self, trained_on: DataSettings) -> DataSettings:
        """Which rows, for a model that was trained on others."""
        kept = dataclasses.asdict(trained_on) | {"streaming": False, "streaming_buffer": DataSettings.streaming_buffer}
        changes = {name: value for name, value in self.changes.items() if name in DATA_TYPES}
        if "dataset" in changes:
            kept |= dict.fromkeys(_OF_A_DATASET)
        return DataSettings(**kept | changes)


def read_tests(given: Any) -> list[TestSet]:
    """Test sets as they stand in a study's file: name -> settings, `lengths`, `of` and `length`.

    A `{}` in a dataset or split is filled by each of the `lengths`, so that every length has a file or split of its
    own; without one the rows of one test set are told apart by their length.

    Raises:
        ValueError: naming the test set, the rule, what was given and what to do.
    """
    if given is None:
        return [TestSet("test", {})]
    if not isinstance(given, dict) or not given:
        raise ValueError(f"tests takes lines of the form `name: settings`, got {given!r:.80}.")
    return [test for name, one in given.items() for test in _read_test(name, {} if one is None else one)]


def _read_test(name: str, given: Any) -> list[TestSet]:
    where = f"tests: {name}"
    if not isinstance(given, dict):
        raise ValueError(f"{where} takes settings such as {{test_split: test}}, got {given!r:.80}.")
    changes = {}
    for setting, value in given.items():
        if setting in _OWN:
            continue
        if setting not in _TYPES:
            raise ValueError(f"{where}: there is no setting {setting:.80} of a test.{near(setting, [*_TYPES, *_OWN])}")
        changes[setting] = check_value(f"{where}: {setting}", value, _TYPES[setting])
    of = given.get("of", "source")
    if of not in ("source", "target"):
        raise ValueError(f"{where}: of is source or target, got {of!r:.80}.")
    length = check_value(f"{where}: length", given.get("length"), float | None)
    if "lengths" not in given:
        if "of" in given:
            raise ValueError(f"{where}: of={of} would do nothing without lengths. Give lengths, or leave it out.")
        return [TestSet(name, changes, length=length)]
    if length is not None:
        raise ValueError(f"{where}: length and lengths both say how long rows are. Give one of them.")
    ranges = _ranges(where, given["lengths"])
    if "{}" not in json.dumps(list(changes.values())):
        return [TestSet(name, changes, ranges, of)]
    if any(low != high for low, high in ranges) or "of" in given:
        raise ValueError(f"{where}: a {{}} is filled by single lengths such as [4, 8], without `of`.")
    return [TestSet(name, json.loads(json.dumps(changes).replace("{}", str(low))), length=low) for low, _ in ranges]


def _ranges(where: str, given: Any) -> tuple[tuple[int, int], ...]:
    rule = f"{where}: lengths takes numbers and pairs of numbers such as [4, 8, [9, 12]], in rising order"
    pairs = [pair if isinstance(pair, list) else [pair, pair] for pair in given] if isinstance(given, list) else []
    flat = [number for pair in pairs for number in pair]
    whole = all(type(number) is int and number >= 1 for number in flat) and all(len(pair) == 2 for pair in pairs)
    apart = whole and all(one[1] < other[0] for one, other in zip(pairs, pairs[1:], strict=False))
    if not pairs or not apart or any(low > high for low, high in pairs):
        raise ValueError(f"{rule}, got {given!r:.80}.")
    return tuple((low, high) for low, high in pairs)


def measure(folder: Path, settings: Settings, test: TestSet) -> list[dict[str, Any]]:
    """Figures of a trained model on a test set, one dictionary for each of its lengths.

    Outputs may get half as long again as the longest reference, unless `max_new_tokens` says otherwise. Where the model
    does not know as many places as a row has, it has no figures there, and `error` says so.

    Args:
        folder: of the run.
        settings: that it was trained with.
        test: the rows.

    Returns:
        `length`, `low` and `high`, `rows`, and the figures of `Evaluator`.

    Raises:
        ValueError: for data that cannot be used, or a length that no row has.
    """
    data = test.data(settings.data)
    with quiet_libraries():
        config = SelfAttnConfig.from_pretrained(folder)
        tokenizers = load_tokenizers(folder)
        model = SelfAttnForConditionalGeneration.load_trained(folder, config=config)
        model = model.to("cpu" if settings.training.get("use_cpu") or not torch.cuda.is_available() else "cuda")
        texts = load_splits(data, splits=("test",))
        if "test" not in texts:
            raise ValueError(f"tests: {test.name}: the data set has no test split. Set test_split to one that it has.")
        splits, _ = prepare_splits(texts, tokenizers, data)
        batch_size = settings.complete_training()["per_device_eval_batch_size"]
        evaluator = Evaluator(make_collator(model, tokenizers), decoder_of(tokenizers), batch_size, data.lowercase)
        found = []
        spans: tuple[tuple[int, int] | None, ...] = test.ranges or (None,)
        for span in spans:
            rows = splits["test"] if span is None else _between(splits["test"], test, *span)
            low, high = (test.length, test.length) if span is None else span
            length = None if low is None or high is None else (low + high) / 2
            figures: dict[str, Any] = {"length": length, "low": low, "high": high, "rows": len(rows)}
            try:
                check_lengths(config, {"test": rows})
            except ValueError as error:
                found.append({**figures, "error": str(error)})
                continue
            figures |= evaluator(model, rows, _writing(settings, test, config, rows)).figures
            found.append(figures)
    metric = settings.run.metric
    say(f"{test.name}, {metric}: " + ", ".join(f"{one.get(metric, math.nan):.1f}" for one in found))
    return found


def _between(split: Prepared, test: TestSet, low: int, high: int) -> Prepared:
    """The rows whose source or target has a length from `low` to `high`."""
    column = "input_ids" if test.of == "source" else "labels"
    chosen = [row for row, ids in enumerate(split.rows[column]) if low <= len(ids) - 1 <= high]
    if not chosen:
        lengths = sorted({len(ids) - 1 for ids in split.rows[column]})
        raise ValueError(
            f"tests: {test.name}: no row has a {test.of} of {low} to {high} tokens; they have {lengths[0]} to "
            f"{lengths[-1]}. Set lengths to some that there are."
        )
    sources, references = ([texts[row] for row in chosen] for texts in (split.sources, split.references))
    return Prepared(split.rows.select(chosen), sources, references)


def _writing(settings: Settings, test: TestSet, config: SelfAttnConfig, rows: Prepared) -> Any:
    if not settings.complete_training()["predict_with_generate"]:
        return None
    writing = {"max_new_tokens": None, **{name: test.changes[name] for name in _WRITING if name in test.changes}}
    asked = dataclasses.replace(settings, run=dataclasses.replace(settings.run, **writing))
    return make_generation_config(asked, config, max(len(labels) for labels in rows.rows["labels"]))
