"""Evaluates a model that is trained already: a folder of ours or a model on the Hub."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import cached_file

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import DataSettings, load_splits, load_tokenizers

from .arguments import TRAINING_DEFAULTS
from .building import check_lengths
from .evaluation import Evaluator
from .fields import check_value, near_name, read_typed
from .metrics import signatures
from .preparing import prepare_splits
from .progress import quiet_libraries, say
from .report import show, versions, write_results
from .run import decoder_of, make_collator
from .run_folder import SETTINGS_FILE
from .settings import DATA_TYPES, RUN_TYPES, RunSettings, check_trees
from .yaml_files import read_yaml

_DATA = (
    "dataset", "dataset_config", "dataset_revision", "source_column", "target_column", "test_split",
    "max_source_length", "max_target_length", "too_long", "bad_rows", "max_eval_rows",
    "syntax", "syntax_column", "syntax_language",
)  # fmt: skip
_RUN = ("num_beams", "max_new_tokens", "length_penalty", "metric", "examples")
_TYPES: dict[str, Any] = {
    **{name: DATA_TYPES[name] for name in _DATA if name in DATA_TYPES},
    **{name: RUN_TYPES[name] for name in _RUN},
    "per_device_eval_batch_size": int,
    "output": str | None,
}


def evaluate(model: str, overrides: Mapping[str, str | bool] | None = None) -> dict[str, Any]:
    """Figures of a saved model on the test split, or on the validation split where there is no test split.

    Args:
        model: a folder or a Hub id.
        overrides: settings by name, as typed on a command line: data settings that choose rows, `num_beams`,
            `max_new_tokens`, `length_penalty`, `metric`, `examples`, `per_device_eval_batch_size`, `output`. What is
            left out comes from the `settings.yaml` beside the model.

    Returns:
        Figures, signatures and examples, as they are written to the file `output` if one is named.

    Raises:
        ValueError: for a setting, data set or model that cannot be used.
        OSError: if there is no such model.
    """
    given: dict[str, Any] = {}
    for name, word in (overrides or {}).items():
        if name not in _TYPES:
            raise ValueError(f"there is no setting {name} for an evaluation. {near_name(name, _TYPES)}")
        given[name] = read_typed(name, word, _TYPES[name])
    batch_size = given.get("per_device_eval_batch_size", TRAINING_DEFAULTS["per_device_eval_batch_size"])
    if batch_size < 1:
        raise ValueError(f"per_device_eval_batch_size starts at 1, got {batch_size}.")
    output = Path(given["output"]) if given.get("output") else None
    if output is not None and not output.absolute().parent.is_dir():
        raise ValueError(f"output={output}: {output.absolute().parent} is no folder. Make it first.")
    with quiet_libraries():
        config = SelfAttnConfig.from_pretrained(model)
        saved = _saved_settings(model)
        data = _data_settings(model, saved, given)
        run = RunSettings(**{name: given[name] for name in _RUN if name in given and name != "length_penalty"})
        tokenizers = load_tokenizers(model)
        tokenizers.check_fit(config.vocab_size)
        network = SelfAttnForConditionalGeneration.load_trained(model, config=config)
        check_trees(config, data.syntax)
        network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        generation = _generation(network, given)
        wanted = ("test",) if data.test_split is not None else ("test", "validation")
        texts = load_splits(data, splits=wanted)
        found = [name for name in wanted if name in texts]
        if not found:
            raise ValueError(
                "the data set has neither a test nor a validation split. Set test_split to one that it has."
            )
        name = found[0]
        splits, reports = prepare_splits({name: texts[name]}, tokenizers, data)
        check_lengths(network.config, splits)
        collator = make_collator(network, tokenizers)
        evaluator = Evaluator(collator, decoder_of(tokenizers), batch_size, data.lowercase)
        evaluation = evaluator(network, splits[name], generation)
        split = splits[name]
        number = min(run.examples, len(split))
        examples = [
            {"source": split.sources[i], "output": evaluation.outputs[i], "reference": split.references[i]}
            for i in (index * len(split) // number for index in range(number))
        ]
        results = {
            "model": model,
            "split": name,
            "metric": given.get("metric", saved.get("metric", run.metric)),
            name: evaluation.figures,
            "generation": {"num_beams": generation.num_beams, "max_new_tokens": generation.max_new_tokens},
            "signatures": signatures(lowercase=data.lowercase),
            "data": reports,
            "versions": versions(),
        }
        show(results, examples)
        say(f"{results['metric']}: {evaluation.figures[results['metric']]:.2f}")
        if output is not None:
            write_results(output, {**results, "examples": examples})
            say(f"written to {output}")
        return {**results, "examples": examples}


def _saved_settings(model: str) -> dict[str, Any]:
    """The `settings.yaml` beside the model, of which the data settings and `metric` matter; empty where there is none.

    Raises:
        ValueError: naming file and setting, for a value of a wrong type.
    """
    path = cached_file(model, SETTINGS_FILE, _raise_exceptions_for_missing_entries=False)
    saved = {} if path is None else read_yaml(path)
    types = {**DATA_TYPES, "metric": RUN_TYPES["metric"]}
    try:
        return {name: check_value(name, saved[name], types[name]) for name in types if name in saved}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _data_settings(model: str, saved: Mapping[str, Any], given: Mapping[str, Any]) -> DataSettings:
    """The data settings of the training, with what is given now in place of it."""
    names = {field.name for field in dataclasses.fields(DataSettings)}
    values = {name: value for name, value in saved.items() if name in names}
    if "dataset" in given:  # another data set has its own configs, revisions and splits
        for name in ("dataset_config", "dataset_revision", "validation_split", "test_split"):
            values.pop(name, None)
    if "syntax" in given:  # another source of trees has its own column or language
        for name in ("syntax_column", "syntax_language"):
            values.pop(name, None)
    values |= {name: value for name, value in given.items() if name in names}
    if "dataset" not in values:
        raise ValueError(f"{model} has no {SETTINGS_FILE} that names its data. Set --dataset.")
    return DataSettings(**values)


def _generation(network: PreTrainedModel, given: Mapping[str, Any]) -> GenerationConfig:
    """The saved way of writing, with what is given now in place of it."""
    changed = {name: given[name] for name in ("num_beams", "max_new_tokens", "length_penalty") if name in given}
    fields = {**network.generation_config.to_diff_dict(), **changed}
    if fields.get("num_beams", 1) == 1:
        if "length_penalty" in given:
            raise ValueError("length_penalty does nothing with one beam. Set num_beams, or leave it out.")
        fields.pop("length_penalty", None)
    if fields.get("max_new_tokens") is None and fields.get("max_length") is None:
        raise ValueError("the model does not say how long its outputs may get. Set --max_new_tokens.")
    fields["num_beams"] = fields.get("num_beams", 1)
    return GenerationConfig.from_dict(json.loads(json.dumps(fields)))
