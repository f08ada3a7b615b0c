"""Text in, text out."""

from .sources import TextError
from .translator import Translator

__all__ = ["TextError", "Translator"]
