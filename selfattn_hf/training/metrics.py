"""How good outputs are: sacreBLEU, chrF, sequence accuracy. All in percent."""

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics import BLEU, CHRF


def score_texts(outputs: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> dict[str, float]:
    """Figures of a set of outputs against one reference each.

    Args:
        outputs: what the model wrote.
        references: what it should have written, as it stands in the data.
        lowercase: compare without regard to case, for a tokenizer that writes lower case only.

    Returns:
        `bleu` (sacreBLEU, https://aclanthology.org/W18-6319), `chrf` (https://aclanthology.org/W15-3049) and
        `exact_match`: the share of outputs that equal their reference, up to the amount of white space.

    Raises:
        ValueError: if there are no outputs, or not as many as references.
    """
    if not outputs or len(outputs) != len(references):
        raise ValueError(f"metrics need one reference for each output, got {len(outputs)} and {len(references)}.")
    bleu, chrf = _metrics(lowercase)
    same = sum(_plain(output, lowercase) == _plain(reference, lowercase)
               for output, reference in zip(outputs, references, strict=True))  # fmt: skip
    return {
        "bleu": float(bleu.corpus_score(outputs, [references]).score),
        "chrf": float(chrf.corpus_score(outputs, [references]).score),
        "exact_match": 100.0 * same / len(outputs),
    }


def signatures(*, lowercase: bool = False) -> dict[str, str]:
    """What the figures of `score_texts` mean, as sacreBLEU writes it, so that others can compute the same."""
    bleu, chrf = _metrics(lowercase)
    for metric in (bleu, chrf):
        metric.corpus_score(["a"], [["a"]])  # a signature knows the number of references only afterwards
    return {"bleu": bleu.get_signature().format(), "chrf": chrf.get_signature().format()}


def _metrics(lowercase: bool) -> tuple[Any, Any]:
    return BLEU(lowercase=lowercase), CHRF(lowercase=lowercase)


def _plain(text: str, lowercase: bool) -> str:
    text = " ".join(text.split())
    return text.lower() if lowercase else text
