"""Probes that look into a model, and the pages that show what they see; nothing is trained here."""

from .prefixes import prefix_by_prefix

__all__ = ["prefix_by_prefix"]
