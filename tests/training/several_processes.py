"""Run by torchrun in tests: the runs of a JSON file, one after the other, in every process.

Of a process that is not the first, what it writes below the folder of the runs is noted beside the JSON file.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
WRITING = {"open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree"}


def watch(folder, written):
    """Note what this process writes below a folder."""

    def hook(event, args):
        if event not in WRITING or not isinstance(args[0], str | Path) or not str(args[0]).startswith(folder):
            return
        reads = event == "open" and not (isinstance(args[1], str) and set(args[1]) & set("wax+"))
        if not reads:
            written.append([event, str(args[0])])

    sys.addaudithook(hook)


def main(arguments):
    """Train what the file says; a run that is refused is told, and the next one follows."""
    import torch

    from selfattn_hf.training import SelfAttnTrainer, make_settings, train

    torch.set_num_threads(1)
    jobs, rank, written = Path(arguments[0]), int(os.environ["RANK"]), []
    if rank:
        watch(str(jobs.parent), written)
    compute_loss = SelfAttnTrainer.compute_loss

    def spoiled(self, *args, **kwargs):
        loss = compute_loss(self, *args, **kwargs)
        return loss * float("nan") if rank == 1 and self.state.global_step == 2 else loss

    for job in json.loads(jobs.read_text()):
        if job.pop("fails"):
            jobs.with_name(f"written_{rank}.json").write_text(json.dumps(written))
            SelfAttnTrainer.compute_loss = spoiled
            train(make_settings(job))
        try:
            train(make_settings(job))
        except (ValueError, ConnectionError) as error:
            print(f"process {rank} refused: {error}", flush=True)


if __name__ == "__main__":
    import _cli

    _cli.run(main)
