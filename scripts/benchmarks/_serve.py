"""The service: requests per second and waiting times with several clients at once, beside plain `generate` one by one.

The service is a process of its own, as in use; its clients are threads of this one, each of which asks again as soon as
it has its answer. Nothing is timed before every answer of a first round is what a `Translator` answers offline.
"""

import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from selfattn_hf import Translator

from ._measure import ROOT, MismatchError, leave_out, spread, surroundings

PLAIN, SERVED = "generate, one by one", "service"


def run(options: Any) -> dict[str, Any]:
    """Check, measure one by one, then every number of clients."""
    torch.set_num_threads(options.threads)
    sentences = read_sentences(options.text, options.requests)
    settings = {name: getattr(options, name) for name in ("clients", "requests", "repeats", "max_wait_ms")}
    result: dict[str, Any] = {
        "benchmark": "serve", "surroundings": surroundings(options),
        "settings": {"model": options.model.name, "text": options.text.name, **settings},
        "checks": [], "goals": [], "rows": [], "left_out": {},
    }  # fmt: skip
    translator = Translator.from_pretrained(options.model, device=options.device)
    expected = [translator(text) for text in sentences]
    rounds = [timed(translator, sentences, 1) for _ in range(options.repeats)]
    rate = spread([len(sentences) / seconds for seconds, _ in rounds]).median
    result["rows"].append(row(PLAIN, 1, rounds, len(sentences), rate))
    try:
        import httpx
    except ImportError as error:
        leave_out(SERVED, error, result["left_out"])
        return result
    with served(options) as address, httpx.Client(base_url=address, timeout=600, limits=httpx.Limits()) as client:

        def ask(text: str) -> str:
            answer = client.post("/translate", json={"text": text})
            answer.raise_for_status()
            translation: str = answer.json()["translation"]
            return translation

        check(sentences, expected, ask, max(options.clients))
        result["checks"].append({"what": "answers of the service", "difference": 0.0, "tolerance": 0.0})
        for clients in options.clients:
            rounds = [timed(ask, sentences, clients) for _ in range(options.repeats)]
            measured = row(SERVED, clients, rounds, len(sentences), rate)
            result["rows"].append(measured)
            print(f"{clients} clients: {measured['requests_per_second'][0]} requests/s", flush=True)
    return result


def read_sentences(path: Path, count: int) -> list[str]:
    """Lines of a file, again and again where it has too few.

    Raises:
        ValueError: for a file without one.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no line. Name a file with a sentence a line.")
    return list(itertools.islice(itertools.cycle(lines), count))


@contextlib.contextmanager
def served(options: Any) -> Iterator[str]:
    """The address of a service that runs until the end."""
    words = ["--port", "0", "--threads", str(options.threads), "--device", options.device]
    words += ["--max_wait_ms", str(options.max_wait_ms), "--max_batch", str(options.max_batch)]
    command = [sys.executable, str(ROOT / "scripts" / "serve.py"), str(options.model), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://\S+", said)
        if found is None:
            raise RuntimeError(f"the service did not start: it said {said!r} and ended with {process.wait()}.")
        yield found.group()
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def check(sentences: Sequence[str], expected: Sequence[str], ask: Callable[[str], str], clients: int) -> None:
    """Ask everything once, many at a time.

    Raises:
        MismatchError: where an answer is not that of the `Translator`.
    """
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(ask, sentences))
    wrong = sum(one != other for one, other in zip(found, expected, strict=True))
    if wrong:
        raise MismatchError(f"{wrong} of {len(found)} answers of the service are not those of the Translator.")
    print(f"checked: {len(found)} answers of the service are those of the Translator", flush=True)


def timed(ask: Callable[[str], Any], sentences: Sequence[str], clients: int) -> tuple[float, list[float]]:
    """Seconds for all sentences, and of each from its asking to its answer."""

    def one(text: str) -> float:
        start = time.perf_counter()
        ask(text)
        return time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        waits = list(pool.map(one, sentences))
    return time.perf_counter() - start, waits


def row(side: str, clients: int, rounds: Sequence[tuple[float, list[float]]], requests: int, rate: float) -> Any:
    """Figures of some rounds; rates as median and quartiles over them, waits over all requests."""
    rates = spread([requests / seconds for seconds, _ in rounds])
    waits = sorted(wait for _, some in rounds for wait in some)
    return {
        "side": side, "clients": clients, "requests_per_second": rates.rounded(3),
        "over_one_by_one": round(rates.median / rate, 2),
        "p50_ms": round(1000 * waits[len(waits) // 2], 1),
        "p95_ms": round(1000 * waits[min(len(waits) - 1, int(0.95 * len(waits)))], 1),
    }  # fmt: skip
