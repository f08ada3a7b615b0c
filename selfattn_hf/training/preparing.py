"""Splits of text to splits of ids, each row still with its texts."""

from collections.abc import Mapping
from typing import Any

from selfattn_hf.data.preparing import prepare
from selfattn_hf.data.settings import DataSettings
from selfattn_hf.data.tokenization import Tokenizers

from .evaluation import Prepared
from .progress import say


def prepare_splits(
    texts: Mapping[str, Any], tokenizers: Tokenizers, settings: DataSettings
) -> tuple[dict[str, Prepared], dict[str, dict[str, Any]]]:
    """Every split ready for the model, and the counts of what was kept, cut and dropped."""
    splits, reports = {}, {}
    for name, rows in texts.items():
        ids, report = prepare(rows, tokenizers, settings, name)
        splits[name] = Prepared(ids, list(rows["source"]), list(rows["target"]))
        reports[name] = vars(report)
        say(str(report))
    return splits, reports
