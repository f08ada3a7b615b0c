"""Text in, text out."""

from .translator import TextError, Translator

__all__ = ["TextError", "Translator"]
