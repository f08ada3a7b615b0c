"""Numbers as a page shows them: rounded once, here, so that the page and its file of data say the same."""

import json
import math
from typing import Any

DIGITS = 3


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Every float in plain data with `digits` significant digits; what is whole becomes an integer.

    What is no number (a loss that ran away) becomes None, for JSON has no word for it.
    """
    if isinstance(value, dict):
        return {key: rounded(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one, digits) for one in value]
    if isinstance(value, float):
        return _short(float(f"{value:.{digits}g}")) if math.isfinite(value) else None
    return value


def shares(value: Any) -> Any:
    """Weights, which lie between 0 and 1, with three digits behind the point: less is not seen, and not looked at."""
    if isinstance(value, list | tuple):
        return [shares(one) for one in value]
    return _short(round(value, 3)) if isinstance(value, float) else value


def one_line(data: Any) -> str:
    """Data as JSON without a space."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e6 else value
