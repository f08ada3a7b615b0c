"""Probes that look into a model, and the pages that show what they see; nothing is trained here."""

from .attention_maps import Alignment, AttentionMaps, alignment, attention_maps
from .loading import Probed, load_for_probing
from .lookup import Lookup, lookup
from .masks import LeakTest, MaskEffect, leak_test, mask_effect
from .pairs import Pair, pair_of
from .position_page import fill_position_page
from .position_pictures import draw_all_positions, draw_position
from .positions import Encoding, encoding_of
from .prefixes import prefix_by_prefix
from .reach import PathLength, Reach, path_length, reach
from .steps import Steps, StepTimes, sequential_steps, time_per_step
from .weights import MixingWeights, mixing_weights

__all__ = [
    "Alignment",
    "AttentionMaps",
    "Encoding",
    "LeakTest",
    "Lookup",
    "MaskEffect",
    "MixingWeights",
    "Pair",
    "PathLength",
    "Probed",
    "Reach",
    "StepTimes",
    "Steps",
    "alignment",
    "attention_maps",
    "draw_all_positions",
    "draw_position",
    "encoding_of",
    "fill_position_page",
    "leak_test",
    "load_for_probing",
    "lookup",
    "mask_effect",
    "mixing_weights",
    "pair_of",
    "path_length",
    "prefix_by_prefix",
    "reach",
    "sequential_steps",
    "time_per_step",
]
