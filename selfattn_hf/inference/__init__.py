"""Text in, text out."""

from .translator import Translator

__all__ = ["Translator"]
