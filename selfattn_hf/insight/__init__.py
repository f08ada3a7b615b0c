"""Probes that look into a model, and the pages that show what they see; nothing is trained here."""

from .loading import Probed, load_for_probing
from .pairs import Pair, pair_of
from .position_page import fill_position_page
from .position_pictures import draw_all_positions, draw_position
from .positions import Encoding, encoding_of
from .prefixes import prefix_by_prefix
from .reach import PathLength, Reach, path_length, reach
from .steps import Steps, StepTimes, sequential_steps, time_per_step

__all__ = [
    "Encoding",
    "Pair",
    "PathLength",
    "Probed",
    "Reach",
    "StepTimes",
    "Steps",
    "draw_all_positions",
    "draw_position",
    "encoding_of",
    "fill_position_page",
    "load_for_probing",
    "pair_of",
    "path_length",
    "prefix_by_prefix",
    "reach",
    "sequential_steps",
    "time_per_step",
]
