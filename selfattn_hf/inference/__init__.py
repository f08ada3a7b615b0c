"""Text in, text out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporting import ExportReport, export_folder
    from .sources import TextError
    from .translator import Translator

__all__ = ["ExportReport", "TextError", "Translator", "export_folder"]


def __getattr__(name: str) -> Any:
    """What reads texts comes when it is asked for: a model that writes by compiled code alone does not need it."""
    if name == "TextError":
        from .sources import TextError

        return TextError
    if name == "Translator":
        from .translator import Translator

        return Translator
    if name in ("ExportReport", "export_folder"):
        from . import exporting

        return getattr(exporting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
