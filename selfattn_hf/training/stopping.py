"""Ctrl-C, and SIGTERM as schedulers send it: finish the step, save, say how to go on. A second one ends at once."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .processes import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEAT = 5.0  # seconds in which torchrun hands on to its processes a signal that they may have got already


def leave_signals_to_the_run() -> None:
    """In a worker that loads data: a signal to all processes must not end it before the run has saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop and did so; its message says how to go on.

    Attributes:
        exit_code: what a shell expects of a process that a signal has ended: 128 + the signal's number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopOnSignal(TrainerCallback):
    """Listens to signals inside a `with`, and knows where a training may stop.

    It may after a step, but not between the last step of an epoch, or of the training, and what belongs to its end (an
    evaluation, a checkpoint): a run that goes on there would never do it.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that a process of this run has got
        self.may_stop = False
        self._heard = 0  # the same, of this process
        self._since = 0.0
        self._process = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():  # the only one that Python gives signals to
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` and `&` have them ignored
                    self._before[number] = signal.signal(number, self._listen)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _listen(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that has not loaded anything yet
            return
        if self._heard:
            if processes() > 1 and time.monotonic() - self._since < REPEAT:
                return
            raise Stopped("ended at once. The same command goes on from the last checkpoint.", number)
        self.number = self._heard = number
        self._since = time.monotonic()
        # The signal may have come in the middle of a print, and a print inside a print is an error.
        os.write(2, b"\nstopping: this step is finished and saved. The same signal once more ends at once.\n")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Here, unless more belongs to this step."""
        ends_epoch = state.epoch is not None and state.epoch == int(state.epoch)
        self.may_stop = not ends_epoch and not control.should_training_stop

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Here."""
        self.may_stop = True

    def must_stop(self, args: TrainingArguments) -> bool:
        """Whether to stop here; in a run of several processes all of them say the same."""
        if not self.may_stop:
            return False
        if args.world_size > 1:
            number = torch.tensor(self._heard, device=args.device)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
            self.number = int(number)
        return bool(self.number)
