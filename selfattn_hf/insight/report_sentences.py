"""The sentences of a page: a few of those that a finished run has tried, the shortest first."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .loading import Probed
from .pairs import Pair
from .passes import sides_of_model

MOST_SENTENCES = 4
MOST_TOKENS = 24  # of a sentence or an answer: more words than a picture has room for
RESULTS_FILE = "results.json"  # which scripts/train.py leaves


class Sentence(NamedTuple):
    """A text with what the model makes of it.

    Attributes:
        text: as it was given, or as much of it as a picture has room for.
        pair: what the model reads and writes; the answer is the model's own.
        reference: what it should write; None where nobody says.
    """

    text: str
    pair: Pair
    reference: str | None


def sentences_of(probed: Probed, folder: Path, texts: Sequence[str] = ()) -> list[Sentence]:
    """The given texts in their order; without any, examples of the folder's results, the shortest first.

    A folder without results has a few tokens of its own vocabulary for a sentence.

    Raises:
        ValueError: for a text that the model cannot read.
    """
    examples = [{"source": text} for text in texts] or examples_of(folder) or [{"source": _any_text(probed)}]
    found: list[Sentence] = []
    for example in examples:
        sentence = _sentence(probed, str(example["source"]), example.get("reference"))
        if sentence.text not in [other.text for other in found]:
            found.append(sentence)
    if not texts:
        found.sort(key=lambda sentence: len(sentence.pair.source) + len(sentence.pair.target))
    return found[:MOST_SENTENCES]


def examples_of(folder: Path) -> list[dict[str, Any]]:
    """What training wrote of a few rows that it had not seen: source, output, reference."""
    file = folder / RESULTS_FILE
    if not file.is_file():
        return []
    examples = json.loads(file.read_text(encoding="utf-8")).get("examples") or []
    return [example for example in examples if str(example.get("source") or "").strip()]


def _sentence(probed: Probed, text: str, reference: Any) -> Sentence:
    words = text.split()
    while True:
        pair = read(probed, " ".join(words))
        if len(words) < 2 or max(len(pair.source), 0) <= MOST_TOKENS:
            break
        words = words[: max(1, len(words) * MOST_TOKENS // len(pair.source))] if len(words) > 2 else words[:1]
    return Sentence(" ".join(words), shortened(pair), None if reference is None else str(reference))


def read(probed: Probed, text: str) -> Pair:
    """The pair of a text, for a model of any kind; where trees are given, each word depends on the one before."""
    if "encoder" not in sides_of_model(probed.model):
        return probed.read(target=text)
    syntax = probed.tokenizers.syntax
    if probed.model.config.reads_trees and syntax is not None and syntax.reads_heads:
        return probed.read(text.split(), heads=list(range(len(text.split()))))
    return probed.read(text)


def shortened(pair: Pair) -> Pair:
    """The pair with as much of its target as a picture has room for: a model that learned nothing never stops."""
    return dataclasses.replace(
        pair,
        target=pair.target[:MOST_TOKENS],
        target_tokens=pair.target_tokens[:MOST_TOKENS],
        written_tokens=pair.written_tokens[:MOST_TOKENS],
    )


def _any_text(probed: Probed) -> str:
    tokenizer = probed.tokenizers.source
    special = set(tokenizer.all_special_ids)
    tokens = [tokenizer.decode([number]).strip() for number in range(len(tokenizer)) if number not in special]
    words = [token for token in tokens if len(token) > 1 and token.isalpha()] or [token for token in tokens if token]
    return " ".join(words[:8]) or "a b c"
