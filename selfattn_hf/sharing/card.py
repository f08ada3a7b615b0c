"""The card of a model: a README.md that a stranger can read, filled from what a run has left in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

import selfattn_hf
from selfattn_hf.insight.architecture_words import describe
from selfattn_hf.model import SelfAttnConfig

from .card_words import (
    NAMES,
    NOT_YET,
    OWNER_NAME,
    count,
    data_words,
    figure,
    first_words,
    is_hub_id,
    limits,
    start_words,
    switch_rows,
    table,
)
from .curve import curve_section
from .json_files import read_object
from .licence import weights_words
from .snippets import snippets

__all__ = ["NOT_YET", "OWNER_NAME", "card_of"]

TASK = "text2text-generation"


def card_of(folder: str | Path, settings: Mapping[str, Any] | None = None) -> str:
    """The card as text, with a head that the Hub reads: tags, data set, and figures as a `model-index`.

    What is not known is left out. `OWNER_NAME` stands where the name on the Hub belongs, until a push puts it in, and
    `NOT_YET` where a commit belongs, which nobody knows before it is made.

    Args:
        folder: a saved model; `results.json` and `training_curve.csv` are read where they are there.
        settings: of the run that made it, by name.

    Raises:
        ValueError: for files that cannot be read.
    """
    folder, settings = Path(folder), dict(settings or {})
    config = SelfAttnConfig.from_pretrained(folder)
    results = {"signatures": {}, **read_object(folder / "results.json", "Delete it, or train again")}
    name = folder.resolve().name
    parts = [
        f"# {name}",
        first_words(config, settings, results),
        _examples(results),
        snippets(config, folder, settings, results),
        _what_it_is(config, results),
        _data(settings, results),
        _training(folder, settings, results),
        _figures(settings, results),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits(config, settings, results)),
        _licence(settings),
        _versions(results),
    ]
    card = ModelCard(
        f"---\n{_head(name, settings, results).to_yaml()}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"
    )
    return str(card)


def _head(name: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> ModelCardData:
    """What the Hub reads of a card."""
    dataset, base = settings.get("dataset"), settings.get("init_from")
    found = [
        EvalResult(
            task_type=TASK,
            task_name="Sequence to sequence",
            dataset_type=dataset if is_hub_id(dataset) else "text",
            dataset_name=data_words(dataset),
            dataset_config=settings.get("dataset_config"),
            dataset_split=settings.get(f"{split}_split") or split,
            dataset_revision=settings.get("dataset_revision"),
            metric_type=metric,
            metric_name=NAMES[metric],
            metric_value=round(value, 2),
            metric_args={"signature": results["signatures"][metric]} if metric in results["signatures"] else None,
        )
        for split in ("validation", "test")
        for metric, value in results.get(split, {}).items()
        if metric in NAMES
    ]
    return ModelCardData(
        license=settings.get("license"),
        library_name="transformers",
        tags=["selfattn", "encoder-decoder", "seq2seq", "custom_code"],
        datasets=[dataset] if is_hub_id(dataset) else None,
        base_model=base if is_hub_id(base) else None,
        metrics=sorted({each.metric_type for each in found} & {"bleu", "chrf", "exact_match"}) or None,
        model_name=name,
        eval_results=found or None,
    )


def _examples(results: Mapping[str, Any]) -> str:
    rows = [(each["source"], each["output"], each["reference"]) for each in results.get("examples", [])]
    if not rows:
        return ""
    split = next(split for split in ("test", "validation") if split in results)
    return (
        f"## What it does\n\nRows of the {split} split, chosen by their place and not by how well they came out:\n\n"
        + table(("input", "output", "reference"), rows)
    )


def _what_it_is(config: SelfAttnConfig, results: Mapping[str, Any]) -> str:
    said = f"## What it is\n\n{describe(config)}"
    if "parameters" in results:
        said += f"\n\n{count(results['parameters'], 'parameter')}, a vocabulary of {count(config.vocab_size, 'token')}."
    rows = switch_rows(config)
    if not rows:
        return f"{said} Every switch is at its default."
    shown = table(("field of the config", "here", "default"), rows)
    return f"{said}\n\nSwitches and sizes that differ from the default:\n\n{shown}"


def _data(settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    if not settings.get("dataset"):
        return ""
    where = data_words(settings["dataset"])
    if is_hub_id(settings["dataset"]):
        where = f"[{where}](https://huggingface.co/datasets/{where})"
        where += f", configuration {settings['dataset_config']}" if settings.get("dataset_config") else ""
        where += f", revision {settings['dataset_revision']}" if settings.get("dataset_revision") else ""
    else:
        where += ", which are not in this repository"
    columns = f"input from the column `{settings['source_column']}`, output from `{settings['target_column']}`"
    said = f"## Data\n\nTrained on {where}; {columns}. {_tokenizer(settings)}"
    rows = [
        (split, f"{report['kept']:,} of {report['rows']:,}", f"{report['cut']:,}", f"{report['source_tokens']:,}",
         f"{report['target_tokens']:,}")
        for split, report in results.get("data", {}).items()
    ]  # fmt: skip
    if rows:
        said += "\n\n" + table(("split", "rows used", "cut to length", "source tokens", "target tokens"), rows)
    return said


def _tokenizer(settings: Mapping[str, Any]) -> str:
    if settings.get("init_from"):
        return f"The tokenizer is that of {data_words(settings['init_from'])}."
    if settings.get("tokenizer"):
        return f"The tokenizer is {data_words(settings['tokenizer'])}."
    kind = {"bpe": "byte-level BPE", "unigram": "byte-level unigram", "word": "whole words"}
    shared = "one vocabulary for both sides" if settings.get("tokenizer_shared", True) else "a vocabulary for each side"
    lower = ", all in lower case" if settings.get("lowercase") else ""
    which = kind[settings.get("tokenizer_type", "bpe")]
    return f"The tokenizer ({which}, {shared}{lower}) was trained on the training split."


def _training(folder: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    if "steps" not in results:
        return ""
    batch = settings.get("per_device_train_batch_size")
    group = settings.get("gradient_accumulation_steps") or 1
    size = f"batches of {batch} rows" if batch else f"batches of {settings.get('batch_tokens')} tokens, padding counted"
    facts = [
        f"{count(results['steps'], 'step')} ({results['epochs']:.4g} epochs), {size}"
        + (f", {group} of them in a step" if group > 1 else ""),
        _rate(settings),
        f"label smoothing {settings['label_smoothing_factor']}" if settings.get("label_smoothing_factor") else "",
        f"started from {start_words(settings, results)}" if settings.get("init_from") else "started from fresh weights",
        f"one run, seed {results['seed']}; other seeds give other figures",
        f"{results['seconds']:,.0f} seconds on {results['device']}",
        f"kept: the {results['kept']} weights, step {results['kept_step']}",
    ]
    smoothed = ", that of training with its label smoothing" if settings.get("label_smoothing_factor") else ""
    said = "## Training\n\n" + "\n".join(f"- {fact}" for fact in facts if fact)
    curve = curve_section(folder, str(results["metric"]), smoothed)
    said += f"\n\n{curve}" if curve else ""
    return (
        f"{said}\n\nTo repeat it, with the data where `settings.yaml` says and `scripts/train.py` of selfattn_hf "
        f"{results['versions']['selfattn_hf']}:\n\n```bash\n"
        "python scripts/train.py settings.yaml --output_dir runs/again\n```"
    )


def _rate(settings: Mapping[str, Any]) -> str:
    if not {"learning_rate", "lr_scheduler_type", "warmup_steps"} <= settings.keys():
        return ""
    schedule = f"{settings['lr_scheduler_type']}, {settings['warmup_steps']} steps to warm up"
    return f"learning rate {settings['learning_rate']}, {schedule}"


def _figures(settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    splits = [split for split in ("validation", "test") if split in results]
    if not splits:
        return ""
    metrics = [metric for metric in ("loss", *NAMES) if any(metric in results[split] for split in splits)]
    rows = [(split, *(figure(metric, results[split].get(metric)) for metric in metrics)) for split in splits]
    how = results.get("generation", {})
    beams = "greedy search" if how.get("num_beams", 1) == 1 else f"{how['num_beams']} beams"
    said = (
        f"## Figures\n\nOf the saved model, as `from_pretrained` loads it, with {beams}. The metric that chose the "
        f"weights is {NAMES[results['metric']]}"
        + (", on the validation split.\n\n" if "validation" in splits else ".\n\n")
        + table(("split", *(NAMES.get(metric, metric) for metric in metrics)), rows)
    )
    signed = [f"{NAMES[name]}: `{signature}`" for name, signature in results["signatures"].items()]
    return f"{said}\n\nsacreBLEU's signatures: {'; '.join(signed)}."


def _licence(settings: Mapping[str, Any]) -> str:
    data = ""
    if settings.get("dataset"):
        data = (
            f" The data ({data_words(settings['dataset'])}) have a licence of their own, which this card does not know."
        )
    return (
        "## Licence\n\nThe Python files beside the weights are those of selfattn_hf, Apache-2.0. "
        f"{weights_words(settings.get('license'))}{data}"
    )


def _versions(results: Mapping[str, Any]) -> str:
    made = results.get("versions") or {"selfattn_hf": selfattn_hf.__version__}
    return (
        "## Versions\n\nMade with " + ", ".join(f"{name} {version}" for name, version in made.items()) + ". The Python "
        "files here are tested with transformers 5.23; they read no pickles, open no connection and write no "
        "file."
    )
