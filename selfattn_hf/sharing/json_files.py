"""Reads what a run has written as JSON."""

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """What a file of JSON holds, by name; nothing where there is no file.

    Args:
        path: the file.
        remedy: what to do about one that cannot be read, as an order without a full stop.

    Raises:
        ValueError: naming the file, for one that is no JSON, or of another shape.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON that can be read ({error}). {remedy}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} where names and values should be. {remedy}.")
    return content
