"""Splits of text to splits of ids, each row still with its texts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from selfattn_hf.data import SYNTAX_COLUMNS, DataSettings, Tokenizers, prepare

from .evaluation import Prepared
from .progress import say


def prepare_splits(
    texts: Mapping[str, Any], tokenizers: Tokenizers, settings: DataSettings
) -> tuple[dict[str, Prepared], dict[str, dict[str, Any]]]:
    """Every split ready for the model, and the counts of what was kept, cut and dropped.

    Args:
        texts: rows as `load_splits` returns them, by split.
        tokenizers: of source and target.
        settings: lengths, and what happens to rows that cannot be used.
    """
    splits, reports = {}, {}
    for name, rows in texts.items():
        ready, report = prepare(rows, tokenizers, settings, name)
        ids = [column for column in ("row", "input_ids", *SYNTAX_COLUMNS, "labels") if column in ready.column_names]
        splits[name] = Prepared(ready.select_columns(ids), ready["source"][:], ready["target"][:])
        reports[name] = dataclasses.asdict(report)
        say(str(report))
    return splits, reports
