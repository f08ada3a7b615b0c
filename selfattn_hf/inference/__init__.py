"""Text in, text out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sources import TextError
    from .translator import Translator

__all__ = ["TextError", "Translator"]


def __getattr__(name: str) -> Any:
    """What reads texts comes when it is asked for: a model that writes by compiled code alone does not need it."""
    if name == "TextError":
        from .sources import TextError

        return TextError
    if name == "Translator":
        from .translator import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
