"""Requests that come at the same time are computed together: a queue, and one thread that runs the model.

Texts of one request may be spread over batches, and a batch holds texts of many requests; each gets its own answer,
the same as a `Translator` gives alone.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from .service_metrics import Metrics
from .service_streaming import GoneError
from .sources import TextError
from .translator import Translator

logger = logging.getLogger(__name__)


class BusyError(RuntimeError):
    """The queue is full, or closed: nothing was accepted."""


@dataclasses.dataclass(eq=False)
class Job:
    """What one request waits for.

    Attributes:
        options: settings of the generation; texts with the same ones are computed together.
        texts: to be translated.
        call: instead of texts, something that the worker runs alone.
        came: when it was accepted.
        future: the answers, or what the call returned.
    """

    options: tuple[tuple[str, Any], ...] = ()
    texts: Sequence[str] = ()
    call: Callable[[], Any] | None = None
    came: float = dataclasses.field(default_factory=time.monotonic)
    future: "Future[Any]" = dataclasses.field(default_factory=Future)
    answers: dict[int, str] = dataclasses.field(default_factory=dict)

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """Tell who waits; nobody may."""
        with contextlib.suppress(InvalidStateError):
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)


Row = tuple[Job, int]  # a text of a job; a call is the text 0 of its own


class Batcher:
    """A bounded queue before a model, and the thread that empties it.

    Args:
        translator: that answers.
        max_batch: texts that are computed at once.
        max_wait_s: how long a text may wait for others to join it.
        max_queue: texts that may wait; more are refused.
        metrics: that count.
    """

    def __init__(
        self, translator: Translator, *, max_batch: int, max_wait_s: float, max_queue: int, metrics: Metrics
    ) -> None:
        self.translator, self.metrics = translator, metrics
        self.max_batch, self.max_wait_s, self.max_queue = max_batch, max_wait_s, max_queue
        self._rows: deque[Row] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="translator", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more, answer what was accepted, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def closing(self) -> bool:
        """Whether nothing more is accepted."""
        return self._closing

    def waiting(self) -> int:
        """Texts that wait."""
        with self._changed:
            return len(self._rows)

    def submit(self, texts: Sequence[str], **options: Any) -> Job:
        """Accept texts of one request.

        Raises:
            BusyError: where they have no room in the queue.
        """
        return self._accept(Job(tuple(sorted(options.items())), texts=tuple(texts)))

    def run(self, call: Callable[[], Any]) -> Job:
        """Accept something that the worker does between batches.

        Raises:
            BusyError: where it has no room in the queue.
        """
        return self._accept(Job(call=call))

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more: what has not begun is not computed."""
        job.future.cancel()
        with self._changed:
            self._forget()

    def _accept(self, job: Job) -> Job:
        with self._changed:
            if self._closing:
                raise BusyError("the service is shutting down and accepts nothing more; ask another one")
            new = [(job, number) for number in range(len(job.texts) or 1)]
            if len(self._rows) + len(new) > self.max_queue:
                raise BusyError(
                    f"{len(self._rows)} texts wait and {self.max_queue} may, so that {len(new)} more have no room; "
                    "try again later"
                )
            self._rows.extend(new)
            self._changed.notify_all()
        return job

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            job = batch[0][0]
            if job.call is None:
                self._translate(batch)
                continue
            try:
                job.finish(job.call())
            except Exception as error:  # of one request; the service lives on
                self._note(error)
                job.finish(error=error)

    def _next(self) -> list[Row] | None:
        """The next batch, as soon as it is full or its first text has waited long enough; None: the end."""
        with self._changed:
            while True:
                self._forget()
                if not self._rows:
                    if self._closing:
                        return None
                    self._changed.wait()
                    continue
                first = self._rows[0][0]
                batch = self._alike(first)
                left = first.came + self.max_wait_s - time.monotonic()
                if first.call is None and len(batch) < self.max_batch and left > 0 and not self._closing:
                    self._changed.wait(left)
                    continue
                taken = set(map(id, batch))
                self._rows = deque(row for row in self._rows if id(row) not in taken)
                return batch

    def _alike(self, first: Job) -> list[Row]:
        """The texts that wait and can be computed with the first one, in their order."""
        if first.call is not None:
            return [self._rows[0]]
        alike = (row for row in self._rows if row[0].call is None and row[0].options == first.options)
        return [row for row, _ in zip(alike, range(self.max_batch), strict=False)]

    def _forget(self) -> None:
        """Take out what nobody waits for, be it dropped or failed."""
        kept = deque(row for row in self._rows if not row[0].future.done())
        if gone := len(self._rows) - len(kept):
            self._rows = kept
            self.metrics.dropped(gone)

    def _translate(self, batch: list[Row]) -> None:
        while batch:
            texts = [job.texts[number] for job, number in batch]
            try:
                answers = self.translator(texts, batch_size=len(texts), **dict(batch[0][0].options))
            except TextError as error:  # one request's text; the others are answered without it
                wrong, number = batch[error.index]
                wrong.finish(error=TextError(number, error.reason))
                batch = [row for row in batch if row[0] is not wrong]
                continue
            except Exception as error:  # of these settings, or of the machine; the service lives on
                self._note(error)
                for job, _ in batch:
                    job.finish(error=error)
                return
            self.metrics.computed(len(batch), self._tokens(answers))
            for (job, number), answer in zip(batch, answers, strict=True):
                job.answers[number] = answer
                if len(job.answers) == len(job.texts):
                    job.finish([job.answers[place] for place in range(len(job.texts))])
            return

    def _note(self, error: Exception) -> None:
        """Log what is no fault of the one who asked."""
        if not isinstance(error, ValueError | GoneError):
            logger.error("the model failed", exc_info=error)

    def _tokens(self, answers: Sequence[str]) -> int:
        tokenizer = self.translator.tokenizers.target
        return sum(map(len, tokenizer(list(answers), return_attention_mask=False, verbose=False)["input_ids"]))
