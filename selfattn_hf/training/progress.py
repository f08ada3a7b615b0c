"""What a run says: one line per evaluation, a bar on a terminal, and nothing else."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import datasets
import transformers
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState, ProgressCallback

from .processes import is_first

# What a checkpoint keeps of a meter.
KEPT = ("target_tokens", "empty_batches", "seconds", "training_seconds")


class Meter(TrainerCallback, ExportableState):
    """Counts target tokens and seconds; goes on counting where a resumed run left off."""

    def __init__(self) -> None:
        self.target_tokens = 0
        self.empty_batches = 0
        self.seconds = 0.0
        self.training_seconds = 0.0
        self._clock = self._step_began = self._session = time.perf_counter()
        self._first_step = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        self._tick()
        kept = {name: getattr(self, name) for name in KEPT}
        return {"args": {}, "attributes": kept}

    @property
    def tokens_per_second(self) -> float:
        """Real target tokens a second while training, evaluations not counted."""
        return self.target_tokens / max(self.training_seconds, 1e-9)

    def seconds_left(self, state: TrainerState) -> float:
        """An estimate from the steps of this session, evaluations included."""
        done = state.global_step - self._first_step
        return (time.perf_counter() - self._session) / max(done, 1) * (state.max_steps - state.global_step)

    def restore(self, state: TrainerState) -> None:
        """Take up the counts that a checkpoint kept."""
        kept = state.stateful_callbacks.get(type(self).__name__, {})
        if isinstance(kept, dict):
            for name, value in kept.get("attributes", {}).items():
                setattr(self, name, value)
        self._clock = time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.restore(state)
        self._session = self._clock
        self._first_step = state.global_step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A training step begins."""
        self._step_began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A training step ends."""
        self.training_seconds += time.perf_counter() - self._step_began
        self._tick()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now


class Lines(TrainerCallback):
    """One line per evaluation: step, losses, metric, the best so far, tokens a second, time left."""

    def __init__(self, metric: str, meter: Meter) -> None:
        self.metric = metric
        self.meter = meter

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Print the line."""
        if not state.is_world_process_zero:
            return
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        best = max(evaluations(state, self.metric), key=lambda pair: pair[1], default=None)
        parts = [
            f"step {state.global_step}/{state.max_steps}",
            f"epoch {state.epoch or 0:.2f}",
            f"train loss {losses[-1]:.4f}" if losses else "",
            f"loss {metrics['eval_loss']:.4f}",
            f"{self.metric} {metrics[f'eval_{self.metric}']:.2f}",
            f"best {best[1]:.2f} at {best[0]}" if best else "",
            f"{self.meter.tokens_per_second:,.0f} tokens/s",
            f"{duration(self.meter.seconds_left(state))} left",
        ]
        say(" | ".join(part for part in parts if part))


class EarlyStopping(TrainerCallback):
    """Stops after `patience` evaluations in a row without a better metric.

    It looks at the history that every checkpoint keeps, so a resumed run stops where the first one would have.
    """

    def __init__(self, metric: str, patience: int) -> None:
        self.metric = metric
        self.patience = patience

    def is_over(self, state: TrainerState) -> bool:
        """Whether patience has run out."""
        values = [value for _, value in evaluations(state, self.metric)]
        return bool(values) and len(values) - 1 - values.index(max(values)) >= self.patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop the training where patience has run out."""
        if self.is_over(state):
            say(f"stopping early: no better {self.metric} in {self.patience} evaluations")
            control.should_training_stop = True


class Bar(ProgressCallback):
    """Transformers' bar without the raw logs it writes beside it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Nothing: `Lines` says what there is to say."""


def evaluations(state: TrainerState, metric: str) -> list[tuple[int, float]]:
    """Step and metric of every evaluation so far."""
    return [(entry["step"], entry[f"eval_{metric}"]) for entry in state.log_history if f"eval_{metric}" in entry]


def say(line: str) -> None:
    """Print a line at once, above the bar where there is one; of several processes the first speaks for all."""
    if not is_first():
        return
    tqdm.write(line)
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Seconds as people say it: 45s, 3m05s, 2h07m."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Errors of the libraries only, and bars of theirs only on a terminal, for as long as a run lasts."""
    verbosity = transformers.logging.get_verbosity(), datasets.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    transformers.logging.set_verbosity_error()
    datasets.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity[0])
        datasets.logging.set_verbosity(verbosity[1])
        if bars[0]:
            transformers.logging.enable_progress_bar()
        if not bars[1]:
            datasets.enable_progress_bars()
