"""How the Trainer saves: checkpoints that are whole or not there, in turn or when a signal asks the run to stop."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import Seq2SeqTrainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from selfattn_hf.data import Tokenizers

from .checkpoints import OUT_OF_TURN, STAGING, put_in_place, seal, step_of, thin_out
from .disk import writing
from .progress import EarlyStopping, Meter
from .settings import RunSettings
from .stopping import StopOnSignal, Stopped


class SavingTrainer(Seq2SeqTrainer):
    """`Seq2SeqTrainer` whose checkpoints are sealed (see `checkpoints`), and which a signal stops after a step.

    A checkpoint holds the tokenizers, and no pickled arguments.
    """

    run_settings: RunSettings
    tokenizers: Tokenizers
    meter: Meter

    def __init__(self, **arguments: Any) -> None:
        self._is_saving = False
        self._saved_step = 0
        self.stop = StopOnSignal()
        super().__init__(**arguments)
        self.add_callback(self.stop)
        # Transformers deletes old checkpoints before the new one is in its place, and even the last one in the end.
        self._limit, self.args.save_total_limit = self.args.save_total_limit, None

    def train(self, *arguments: Any, **named: Any) -> Any:
        """As transformers.

        Raises:
            Stopped: after SIGINT or SIGTERM, once the step is finished and saved; naming the checkpoint.
        """
        with self.stop:
            return super().train(*arguments, **named)

    def _maybe_log_save_evaluate(
        self, tr_loss: Tensor, grad_norm: Any, model: nn.Module, trial: Any, *rest: Any, **named: Any
    ) -> None:
        """As transformers, after a step and at the end of an epoch; then stop, where a signal asks for it."""
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *rest, **named)
        if not self.stop.must_stop(self.args):
            return
        if self._saved_step != self.state.global_step:
            self._save_checkpoint(model, trial, out_of_turn=True)
        step = self.state.global_step
        raise Stopped(
            f"stopped after step {step} of {self.state.max_steps}, and all of it is in {self._checkpoint(step)}. "
            "The same command goes on from there.",
            self.stop.number,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The model and its tokenizers; no pickled training arguments."""
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=state_dict)
        self.tokenizers.save(folder)

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(super()._get_output_dir(trial))
        return str(folder / STAGING if self._is_saving else folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any, *, out_of_turn: bool = False) -> None:
        """Write aside, seal, rename; delete old checkpoints only when the new one reads back as it was written.

        Raises:
            OSError: naming folder and free space, if it cannot be written; checkpoints written before stay whole.
        """
        run_folder = Path(self.args.output_dir)
        staging, target = run_folder / STAGING, self._checkpoint(self.state.global_step)
        best = self._checkpoint(self.state.best_global_step) if self.state.best_global_step else None
        if best is not None and (best.is_dir() or (best == target and not out_of_turn)):
            self.state.best_model_checkpoint = str(best)
        kept = self.state.best_model_checkpoint
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()  # other processes write their random state beside the first one's files
        self._is_saving = True
        try:
            with writing(target):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self.state.best_model_checkpoint = kept  # transformers saw the folder under its name of now
                    self.state.save_to_json(str(staging / target.name / "trainer_state.json"))
                    self._save_place(staging / target.name)
                    if out_of_turn:
                        (staging / target.name / OUT_OF_TURN).touch()
                    seal(staging / target.name)
                    put_in_place(staging / target.name, target)
                    staging.rmdir()
                    thin_out(run_folder, self._limit, None if kept is None else Path(kept))
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        finally:
            self._is_saving = False
        self.accelerator.wait_for_everyone()  # nobody leaves before the first process is done
        self._saved_step = self.state.global_step

    def _save_place(self, folder: Path) -> None:
        """Write down where the training data go on, if only the run knows."""

    def _load_place(self, checkpoint: Path) -> None:
        """Go there."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_place(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Nothing: the run decides what it keeps, and verifies it before it is loaded."""

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"

    def is_over(self, checkpoint: Path) -> bool:
        """Whether nothing is left to train after a checkpoint: all steps done, or patience run out."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        planned = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        patience = self.run_settings.early_stopping
        stopped = patience is not None and EarlyStopping(self.run_settings.metric, patience).is_over(state)
        return step_of(checkpoint) >= planned or stopped

    def take_up(self, checkpoint: Path) -> None:
        """Take up the history of a checkpoint without training on."""
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self.meter.restore(self.state)
        self._load_place(checkpoint)
