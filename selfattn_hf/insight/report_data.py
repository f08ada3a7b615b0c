"""All that a report page shows, as plain data: every number on the page is one of these."""

import csv
import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..model import SelfAttnConfig
from . import report_sections as sections
from .loading import Probed
from .pairs import Pair
from .report_numbers import rounded
from .report_sentences import MOST_SENTENCES, RESULTS_FILE, Sentence, examples_of, sentences_of
from .tiny_model import pack_model

CURVE_FILE = "training_curve.csv"  # which scripts/train.py leaves
_RESULTS = ("metric", "validation", "test", "parameters", "seed", "steps", "epochs", "seconds", "kept", "kept_step",
            "target_tokens_per_second", "examples", "versions", "device", "data")  # fmt: skip
_NO_SWITCHES = {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id",
                "is_encoder_decoder", "selfattn_version", "use_cache"}  # fmt: skip


def report_data(
    models: Sequence[tuple[str, Probed, Path]],
    texts: Sequence[str] = (),
    tiny: tuple[Probed, Path] | None = None,
    timed: bool = True,
) -> dict[str, Any]:
    """Everything that the page of these models shows.

    Args:
        models: name, loaded model and folder of each; the folder is looked into for results, and need not exist.
        texts: sentences to look at; without them examples of each folder's results.
        tiny: a model that answers inside the page, and its folder; None: the first of the models that is small enough,
            if one is.
        timed: also measure the time of a gradient step.

    Raises:
        ValueError: for no model, a text that a model cannot read, or a tiny model that no page can run.
    """
    if not models:
        raise ValueError("a report is of one model or more, and none was given. Name the folder of one.")
    found = [model_data(*one, texts=texts, timed=timed, share=len(models)) for one in models]
    for before, after in zip(found, found[1:], strict=False):
        after["changed"] = _changed(before["config"], after["config"])
    layers = max(len(side.get("mixers", [])) for model in found for side in model["steps"].values())
    return {
        "models": found,
        "positions": sections.registry_positions(),
        "mixers": {"layers": layers, "steps": sections.mixer_steps(layers)},
        "tiny": _tiny([one for _, one, _ in models]) if tiny is None else pack_model(tiny[0].model, tiny[0].tokenizers),
        "tiny_examples": _examples(tiny[1] if tiny else None, found[0]),
    }


def model_data(
    name: str, probed: Probed, folder: Path, texts: Sequence[str] = (), timed: bool = True, share: int = 1
) -> dict[str, Any]:
    """What the page shows of one model; `share` is among how many models the room for lookups is divided."""
    model, sentences = probed.model, sentences_of(probed, folder, texts)
    longest = max(max(len(one.pair.source), len(one.pair.target)) for one in sentences)
    lookups = [sections.lookups_of(model, one.pair) for one in sentences]
    return {
        "name": name,
        "class": type(model).__name__,
        "parameters": model.num_parameters(),
        "config": switches_of(model.config),
        "heads": model.config.num_attention_heads,
        "radius": model.config.window_radius,
        "causal": bool(model.config.future_mask),
        "changed": {},
        "sides": sections.sides_of_model(model),
        "parts": sections.parts_of(model),
        "steps": sections.steps_of(model, timed),
        "positions": sections.positions_of(model, longest),
        "weights": sections.or_reason(_two_sentences, model, sentences),
        "sentences": [
            _sentence_data(model, one, kept)
            for one, kept in zip(sentences, sections.within(lookups, sections.LOOKUP_BYTES // share), strict=True)
        ],
        "results": results_of(folder),
        "curve": curve_of(folder),
    }


def _sentence_data(model: Any, sentence: Sentence, lookups: dict[str, Any] | None) -> dict[str, Any]:
    pair = sentence.pair
    return {
        "text": sentence.text,
        "reference": sentence.reference,
        "source_tokens": pair.source_tokens,
        "target_tokens": pair.target_tokens,
        "written_tokens": pair.written_tokens,
        "reach": sections.or_reason(sections.reach_of, model, pair),
        "maps": sections.or_reason(sections.maps_of, model, pair),
        "lookups": lookups,
        "order": sections.or_reason(sections.order_of, model, pair),
        "depth": sections.or_reason(sections.depth_of, model, pair),
        "mask": sections.or_reason(sections.mask_of, model, pair),
    }


def _two_sentences(model: Any, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """Two sentences of one length; where there are none, one of them and the same with its words in another order."""
    side = sections.sides_of_model(model)[0]
    for number, one in enumerate(sentences):
        for other in sentences[number + 1 :]:
            if len(sections.ids_of(one.pair, side)) == len(sections.ids_of(other.pair, side)):
                return sections.weights_of_two(model, one.pair, other.pair) | {"shuffled": False}
    first = sentences[0].pair
    return sections.weights_of_two(model, first, _turned_round(first, side)) | {"shuffled": True}


def _turned_round(pair: Pair, side: str) -> Pair:
    """The tokens in the opposite order, the last where it is."""
    name = "source" if side == "encoder" else "target"

    def turned(items: list[Any]) -> list[Any]:
        return [*items[-2::-1], *items[-1:]]

    changed: dict[str, Any] = {field: turned(getattr(pair, field)) for field in (name, f"{name}_tokens")}
    last = len(pair.source) - 1
    if side == "encoder" and pair.heads is not None:
        to = {-1: -1} | {old: last - 1 - old if old < last else old for old in range(last + 1)}
        for field in ("heads", "nodes"):
            values = getattr(pair, field)
            changed[field] = None if values is None else [to[value] for value in turned(values)]
    return dataclasses.replace(pair, **changed)


def switches_of(config: SelfAttnConfig) -> dict[str, Any]:
    """Every switch and size of a config with its value and its default."""
    default = SelfAttnConfig()
    return {
        name: {"value": getattr(config, name), "default": getattr(default, name)}
        for name in inspect.get_annotations(SelfAttnConfig)
        if name not in _NO_SWITCHES and name in vars(config)
    }


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Switch -> value of the model before and of this one, where they differ."""
    return {
        name: [before[name]["value"], one["value"]]
        for name, one in after.items()
        if before[name]["value"] != one["value"]
    }


def results_of(folder: Path) -> dict[str, Any] | None:
    """The figures that training left, with six digits; None without them."""
    file = folder / RESULTS_FILE
    if not file.is_file():
        return None
    results = json.loads(file.read_text(encoding="utf-8"))
    return {name: rounded(results[name], 6) for name in _RESULTS if name in results}


def curve_of(folder: Path) -> dict[str, list[Any]] | None:
    """The training curve, column -> numbers, None in an empty cell; None without one."""
    file = folder / CURVE_FILE
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}
    return {name: rounded(column, 4) for name, column in columns.items() if any(one is not None for one in column)}


def _number(cell: str | None) -> float | None:
    return float(cell) if cell else None


def _examples(folder: Path | None, model: dict[str, Any]) -> list[str]:
    """What a reader may try: examples of the tiny model's folder, or the sentences of the page."""
    own = [] if folder is None else [str(example["source"]) for example in examples_of(folder)]
    return own[:MOST_SENTENCES] or [sentence["text"] for sentence in model["sentences"]]


def _tiny(models: Sequence[Probed]) -> dict[str, Any] | None:
    """The first model that a page can run."""
    for one in models:
        try:
            return pack_model(one.model, one.tokenizers)
        except ValueError:
            continue  # it is too large, or has a part that the page does not compute
    return None
