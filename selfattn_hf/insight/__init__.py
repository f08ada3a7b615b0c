"""Probes that look into a model, and the pages that show what they see; nothing is trained here."""

from .position_page import fill_position_page
from .position_pictures import draw_all_positions, draw_position
from .positions import Encoding, encoding_of
from .prefixes import prefix_by_prefix

__all__ = [
    "Encoding",
    "draw_all_positions",
    "draw_position",
    "encoding_of",
    "fill_position_page",
    "prefix_by_prefix",
]
