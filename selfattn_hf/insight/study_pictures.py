"""Pictures of a study's results."""

from pathlib import Path
from typing import Any


def draw_study(results: Any, folder: Path) -> list[Path]:
    """Nothing yet."""
    return []
