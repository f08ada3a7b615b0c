"""Training: settings, the Trainer's glue, checkpoints, metrics, and whole runs."""

from .family import read_family, write_family
from .matching import Matched, count_parameters, match_parameters
from .metrics import score_texts
from .run import train
from .saved_model import evaluate
from .settings import RunSettings, Settings, make_settings, read_settings
from .study import Run, Study, read_study
from .study_page import write_study_page
from .study_plan import show_plan, show_study
from .study_results import gather, study_table, write_study
from .study_runs import Outcome, run_study, state_of_run
from .trainer import SelfAttnTrainer

__all__ = [
    "Matched",
    "Outcome",
    "Run",
    "RunSettings",
    "SelfAttnTrainer",
    "Settings",
    "Study",
    "count_parameters",
    "evaluate",
    "gather",
    "make_settings",
    "match_parameters",
    "read_family",
    "read_settings",
    "read_study",
    "run_study",
    "score_texts",
    "show_plan",
    "show_study",
    "state_of_run",
    "study_table",
    "train",
    "write_family",
    "write_study",
    "write_study_page",
]
