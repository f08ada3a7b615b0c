"""Training: settings, the Trainer's glue, checkpoints, metrics, and whole runs."""

from .family import read_family, write_family
from .matching import Matched, count_parameters, match_parameters
from .metrics import score_texts
from .run import train
from .saved_model import evaluate
from .settings import RunSettings, Settings, make_settings, read_settings
from .trainer import SelfAttnTrainer

__all__ = [
    "Matched",
    "RunSettings",
    "SelfAttnTrainer",
    "Settings",
    "count_parameters",
    "evaluate",
    "make_settings",
    "match_parameters",
    "read_family",
    "read_settings",
    "score_texts",
    "train",
    "write_family",
]
