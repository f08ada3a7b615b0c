"""Probes that look into a model, and the pages that show what they see; nothing is trained here.

A probe takes a loaded model, most of them a `Pair` of a source and a target, and returns plain data: theory beside
measurement. `PROBES` names them all.
"""

from collections.abc import Callable
from typing import Any

from .attention_maps import Alignment, AttentionMaps, alignment, attention_maps
from .depth import Depth, Ranks, rank_over_depth
from .loading import Probed, load_for_probing
from .lookup import Lookup, lookup
from .masks import LeakTest, MaskEffect, leak_test, mask_effect
from .order import Shuffled, shuffle_words
from .pairs import Pair, pair_of
from .position_page import fill_position_page
from .position_pictures import draw_all_positions, draw_position
from .position_values import PositionValues, position_values
from .positions import Encoding, encoding_of
from .prefixes import prefix_by_prefix
from .reach import PathLength, Reach, path_length, reach
from .steps import Steps, StepTimes, sequential_steps, time_per_step
from .study_pictures import draw_study
from .study_theory import theory_columns
from .weights import MixingWeights, mixing_weights

PROBES: dict[str, Callable[..., Any]] = {
    "steps": sequential_steps,
    "step_times": time_per_step,
    "reach": reach,
    "path_length": path_length,
    "attention_maps": attention_maps,
    "lookup": lookup,
    "weights": mixing_weights,
    "positions": position_values,
    "order": shuffle_words,
    "depth": rank_over_depth,
    "mask": mask_effect,
    "leak": leak_test,
}
"""Every probe of a model, by a short name; in the order of the lecture."""

__all__ = [
    "PROBES",
    "Alignment",
    "AttentionMaps",
    "Depth",
    "Encoding",
    "LeakTest",
    "Lookup",
    "MaskEffect",
    "MixingWeights",
    "Pair",
    "PathLength",
    "PositionValues",
    "Probed",
    "Ranks",
    "Reach",
    "Shuffled",
    "StepTimes",
    "Steps",
    "alignment",
    "attention_maps",
    "draw_all_positions",
    "draw_position",
    "draw_study",
    "encoding_of",
    "fill_position_page",
    "leak_test",
    "load_for_probing",
    "lookup",
    "mask_effect",
    "mixing_weights",
    "pair_of",
    "path_length",
    "position_values",
    "prefix_by_prefix",
    "rank_over_depth",
    "reach",
    "sequential_steps",
    "shuffle_words",
    "theory_columns",
    "time_per_step",
]
