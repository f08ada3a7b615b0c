"""What a service counts of itself, as the text that Prometheus reads."""

import bisect
import threading
from collections import Counter

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """How many values were at most as large as each of some bounds; Prometheus counts a value in all bounds above it.

    Args:
        bounds: rising.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """Name, bounds and counts."""
        lines, total = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """Counters of a service; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._tokens = self._dropped = 0
        self._rows, self._seconds = Histogram(ROWS), Histogram(SECONDS)

    def answered(self, path: str, code: int, seconds: float) -> None:
        """A request was answered."""
        with self._lock:
            self._requests[path, code] += 1
            self._seconds.add(seconds)

    def computed(self, rows: int, tokens: int) -> None:
        """A batch was computed: texts, and tokens of their answers."""
        with self._lock:
            self._rows.add(rows)
            self._tokens += tokens

    def dropped(self, rows: int) -> None:
        """Texts were not computed, since nobody waited for them any more."""
        with self._lock:
            self._dropped += rows

    def text(self, waiting: int) -> str:
        """All of it; `waiting` texts are in the queue."""
        with self._lock:
            lines = ["# HELP selfattn_requests_total Requests that were answered.", _kind("requests_total", "counter")]
            for (path, code), count in sorted(self._requests.items()):
                lines.append(f'selfattn_requests_total{{path="{path}",code="{code}"}} {count}')
            for name, help_text, kind, value in (
                ("tokens_total", "Tokens of answers, as the tokenizer counts them.", "counter", self._tokens),
                ("dropped_texts_total", "Texts that nobody waited for any more.", "counter", self._dropped),
                ("queue_texts", "Texts that wait.", "gauge", waiting),
            ):
                lines += [f"# HELP selfattn_{name} {help_text}", _kind(name, kind), f"selfattn_{name} {value}"]
            for name, help_text, histogram in (
                ("batch_texts", "Texts of a batch.", self._rows),
                ("request_seconds", "From a request to its answer.", self._seconds),
            ):
                lines += [f"# HELP selfattn_{name} {help_text}", _kind(name, "histogram")]
                lines += histogram.lines(f"selfattn_{name}")
        return "\n".join(lines) + "\n"


def _kind(name: str, kind: str) -> str:
    return f"# TYPE selfattn_{name} {kind}"
