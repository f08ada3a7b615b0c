"""Training: settings, the Trainer's glue, checkpoints, metrics, and whole runs."""

from .metrics import score_texts
from .run import train
from .saved_model import evaluate
from .settings import RunSettings, Settings, make_settings, read_settings
from .trainer import SelfAttnTrainer

__all__ = [
    "RunSettings",
    "SelfAttnTrainer",
    "Settings",
    "evaluate",
    "make_settings",
    "read_settings",
    "score_texts",
    "train",
]
