"""What the campaigns on checkpoints share: runs of `scripts/train.py` that end at a chosen point, and how they compare.

Every run is a process of its own. As importing torch takes seconds, it is born of a process that has imported all there
is to import and done nothing else (multiprocessing's fork server).
"""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRAIN = HERE.parent / "train.py"

# A small model on the shipped data: it is stopped in the middle of its second epoch, and a run takes a second or two.
SMALL: dict[str, Any] = {
    "dataset": str(ROOT / "configs/quickstart_data"), "source_column": "text", "target_column": "iso",
    "output_dir": "out", "max_train_rows": 96, "max_eval_rows": 8, "tokenizer_type": "word", "hidden_size": 16,
    "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "dropout": 0.1,
    "learning_rate": 0.01, "warmup_steps": 2, "max_steps": 12, "eval_steps": 4, "save_steps": 4, "logging_steps": 4,
    "metric": "token_accuracy", "predict_with_generate": False, "max_new_tokens": 8, "use_cpu": True,
}  # fmt: skip
LAST = "checkpoint-12"
_STREAM = {"streaming": True, "streaming_buffer": 56, "max_train_rows": None}
BATCHES: dict[str, dict[str, Any]] = {  # how rows become batches
    "length groups": {"per_device_train_batch_size": 16},
    "token budget": {"batch_tokens": 640},
    "random, accumulated": {
        "train_sampling_strategy": "random", "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
    },
    "stream": {**_STREAM, "per_device_train_batch_size": 16},
    "stream, token budget": {**_STREAM, "batch_tokens": 640},
    "stream, accumulated": {**_STREAM, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
}  # fmt: skip
_STATE = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
_TOUCHES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")  # Python says so before it does any of them


@dataclass(frozen=True)
class End:
    """Where a run gets a signal.

    Attributes:
        at: for `file`, before which touch of a file in its folder, counted from 0; for `step`, in which step, counted
            from 1; for `moment`, how many seconds after the data are read.
        kind: file, step or moment.
        signal: which.
    """

    kind: str
    at: float
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Outcome:
    """How a run ended: exit code, minus the signal's number where one killed it, and what it printed."""

    code: int
    text: str
    seconds: float
    touches: list[str] = field(default_factory=list)

    @property
    def began(self) -> str:
        """What it did about the folder, in the words of the table."""
        found = re.search(r"resuming from out/(checkpoint-\d+)|(nothing is left)", self.text)
        return "from the start" if found is None else found[1] or "nothing left to train"


def run(
    place: Path,
    settings: Mapping[str, Any],
    *,
    end: End | None = None,
    most_bytes: int | None = None,
    blind: bool = False,
) -> Outcome:
    """Call `train.py small.yaml` in a folder.

    Args:
        place: where the process works; the run is in `out`, beside it are its log and its touches of files.
        settings: what differs from `SMALL`.
        end: where it gets a signal.
        most_bytes: size that no file may exceed, as a disk that is full.
        blind: never verify a checkpoint; for controls that show that a campaign can fail.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["selfattn_hf.training"])
    place.mkdir(parents=True, exist_ok=True)
    log = place / "log.txt"
    log.write_text("")
    yaml = "".join(f"{name}: {json.dumps(value)}\n" for name, value in {**SMALL, **settings}.items())
    (place / "small.yaml").write_text(yaml)
    began = time.perf_counter()
    process = context.Process(target=_be_the_run, args=(place, end, most_bytes, blind))
    process.start()
    if end is not None and end.kind == "moment":
        while process.is_alive() and " parameters, " not in log.read_text():
            time.sleep(0.005)
        process.join(end.at)
        if process.is_alive():
            os.kill(process.pid or 0, end.signal)
    process.join()
    seconds = time.perf_counter() - began
    touches = place / "touches.txt"
    lines = touches.read_text().splitlines() if touches.exists() else []
    return Outcome(process.exitcode or 0, log.read_text(), seconds, lines)


def _be_the_run(place: Path, end: End | None, most_bytes: int | None, blind: bool) -> None:
    """In the child: arrange for its end, and become the script."""
    import resource
    import runpy
    import threading

    import torch
    from tqdm import tqdm

    os.chdir(place)
    printed = os.open("log.txt", os.O_WRONLY | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed leaves behind
    if blind:
        from selfattn_hf.training import checkpoints, finishing

        checkpoints.what_is_broken = finishing.what_is_broken = lambda checkpoint: None
    if end is not None and end.kind == "step":
        _end_in_a_step(end)
    if most_bytes is None:
        _count_touches(end)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sys.path.insert(0, str(TRAIN.parent))
    sys.argv = [TRAIN.name, "small.yaml"]
    runpy.run_path(str(TRAIN), run_name="__main__")


def _count_touches(end: End | None) -> None:
    """Write down whenever Python is about to touch a file of the run, and end the run at the chosen one."""
    folder = str(Path("out").absolute())
    written = os.open("touches.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = 0

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _TOUCHES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(arguments[0]))
        if path == folder or path.startswith(folder + os.sep):
            os.write(written, f"{event.removeprefix('os.')} {os.path.relpath(path)}\n".encode())
            if end is not None and end.kind == "file" and count == end.at:
                os.kill(os.getpid(), end.signal)
            count += 1

    sys.addaudithook(hear)


def _end_in_a_step(end: End) -> None:
    from selfattn_hf.training.stopping import StopOnSignal

    def begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == end.at:
            os.kill(os.getpid(), end.signal)

    StopOnSignal.on_step_begin = begin


def ending_of(place: Path) -> dict[str, str]:
    """What must be equal of two runs: sha256 of the model and of all state in the last checkpoint, and the results."""
    files = [Path("out/model.safetensors"), *(Path("out") / LAST / name for name in _STATE)]
    sums = {str(file): hashlib.sha256((place / file).read_bytes()).hexdigest() for file in files}
    results = json.loads((place / "out/results.json").read_text())
    return sums | {name: str(results[name]) for name in ("kept", "kept_step", "steps", "validation", "test")}


def difference(place: Path, expected: Mapping[str, str]) -> str:
    """The first thing in which a run ended otherwise; empty where it ended the same."""
    try:
        found = ending_of(place)
    except OSError as error:
        return str(error)
    return next((f"{name} differs" for name in expected if found[name] != expected[name]), "")


def newest_checkpoint(place: Path) -> str:
    """Name of the newest checkpoint in the run's folder."""
    steps = [int(path.name.split("-")[1]) for path in (place / "out").glob("checkpoint-*")]
    return f"checkpoint-{max(steps)}" if steps else "none"


class Table:
    """Rows shown as they come, above a bar; kept for a JSON file."""

    def __init__(self, total: int, **widths: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, disable=not sys.stderr.isatty(), leave=False)
        self.widths = widths
        self.rows: list[dict[str, Any]] = []
        self._show({name: name for name in widths})

    def add(self, **row: Any) -> None:
        """One row more."""
        self.rows.append(row)
        self._show(row)
        self.bar.update()

    def _show(self, row: Mapping[str, Any]) -> None:
        self.bar.write("  ".join(str(row[name]).ljust(width) for name, width in self.widths.items()).rstrip())
        sys.stdout.flush()

    def end(self, summary: str, path: str | None, **figures: Any) -> None:
        """Show the summary; write everything to a file if one is named."""
        self.bar.close()
        print(f"\n{summary}")
        if path is not None:
            Path(path).write_text(json.dumps({"summary": summary, **figures, "rows": self.rows}, indent=1) + "\n")
