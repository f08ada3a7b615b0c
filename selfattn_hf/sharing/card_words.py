"""Words of a card: what a model is, what it was trained on, and where it ends, in sentences and tables."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from selfattn_hf.insight.architecture_words import title_of
from selfattn_hf.model import SelfAttnConfig

OWNER_NAME = "owner/name"
NOT_YET = "COMMIT"
NAMES = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact match", "token_accuracy": "token accuracy"}
# Figures that are shares of a whole; BLEU and chrF only look like it.
_SHARES = ("exact_match", "token_accuracy")
# Of the config, and no switch: ids, versions, what transformers adds.
_APART = {
    "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "vocab_size", "selfattn_version",
    "is_encoder_decoder", "use_cache", "num_labels",
}  # fmt: skip
_CELL = 300  # letters of a text in a table


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; nothing inside of a cell is taken for markup."""
    lines = [head, ["---"] * len(head), *([_cell(str(cell)) for cell in row] for row in rows)]  # `code` stays code
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= _CELL else text[: _CELL - 1] + "…"
    return text if re.fullmatch("`[^`|]*`", text) else re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", text)


def count(number: int, thing: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def figure(metric: str, value: float | None) -> str:
    """A figure as it is read: shares with their sign."""
    if value is None:
        return ""
    return f"{value:.4f}" if metric == "loss" else f"{value:.2f}{' %' if metric in _SHARES else ''}"


def is_hub_id(name: Any) -> TypeGuard[str]:
    """Whether a setting names something on the Hub: `owner/name`, and no folder here."""
    return isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists()


def data_words(dataset: Any) -> str:
    """A data set, or a model, by the name that means something to others: no paths of one machine."""
    if isinstance(dataset, Mapping):
        dataset = [name for value in dataset.values() for name in ([value] if isinstance(value, str) else value)]
    if isinstance(dataset, str):
        return dataset if is_hub_id(dataset) else f"the local files {Path(dataset).name}"
    names = [Path(name).name for name in dataset or ()]
    return f"the local files {', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"


def first_words(config: SelfAttnConfig, settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """What somebody who has never heard of the model wants to know first."""
    kind = title_of(config).removeprefix("Architecture: ")
    said = [f"Text in, text out: {kind}."] if config.is_encoder_decoder else [f"{kind.capitalize()}."]
    if settings.get("dataset"):
        how = (
            f"fine-tuned from {data_words(settings['init_from'])}"
            if settings.get("init_from")
            else "trained from scratch"
        )
        rows = results.get("data", {}).get("train", {}).get("kept")
        size = f" ({count(rows, 'row')})" if rows else ""
        said.append(
            f"It was {how} on {data_words(settings['dataset'])}{size} to write `{settings['target_column']}` where it "
            f"reads `{settings['source_column']}`."
        )
    split = next((split for split in ("test", "validation") if split in results), None)
    metric = str(results.get("metric"))
    if split and metric in results[split]:
        rows = results.get("data", {}).get(split, {}).get("kept")
        on = f"the {rows:,} rows of the {split} split" if rows else f"the {split} split"
        said.append(f"On {on} it has {NAMES[metric]} {figure(metric, results[split][metric])}.")
    said.append(
        "It is made with selfattn_hf, an encoder-decoder for transformers whose every building block is a switch of "
        "its config, and needs that package or the Python files beside the weights."
    )
    return " ".join(said)


def start_words(settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The model that a run started from, as exactly as it is known."""
    revision, commit = settings.get("init_from_revision"), results.get("init_from_commit")
    words = [data_words(settings["init_from"])]
    words += [f"revision {revision}"] if revision and revision != commit else []
    words += [f"commit {commit}"] if commit else []
    return ", ".join(words)


def switch_rows(config: SelfAttnConfig) -> list[tuple[str, str, str]]:
    """Field, value here, default: of every field of the config that is not at its default."""
    default = SelfAttnConfig()
    own = [field.name for field in dataclasses.fields(SelfAttnConfig) if field.name in SelfAttnConfig.__annotations__]
    return [
        (f"`{name}`", f"`{_value(getattr(config, name))}`", f"`{_value(getattr(default, name))}`")
        for name in own
        if name not in _APART and getattr(config, name) != getattr(default, name)
    ]


def limits(config: SelfAttnConfig, settings: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """What nobody should expect of the model: measured where it was, and what was not."""
    found = []
    if settings.get("dataset"):
        found.append(
            "It knows what its training data show and nothing else. Texts of another kind, language or form get an "
            "answer too, and nothing says that it is a guess."
        )
    wrong = results.get("test", results.get("validation", {})).get("exact_match")
    if wrong is not None and wrong < 100 and results.get("metric") == "exact_match":
        found.append(f"{100 - wrong:.1f} % of its answers, measured as above, are wrong in some letter.")
    length = settings.get("max_source_length")
    if length:
        found.append(f"Longer inputs than {count(length, 'token')} were not seen in training.")
    for side in ("encoder", "decoder"):
        places = config.known_places(side)
        if places is not None:
            found.append(f"The {side} knows {places:,} places; what is longer is refused.")
    most = results.get("generation", {}).get("max_new_tokens")
    if most:
        found.append(f"An output ends after {count(most, 'token')} at the latest, unless you say otherwise.")
    if not config.future_mask:
        found.append("It was trained seeing the future, to show what that does: what it writes is of no use.")
    found.append(
        "Nobody looked at what it says of people, nor at what data like these leave out. No safety was tested."
    )
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
