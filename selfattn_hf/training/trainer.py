"""The Trainer of this project: transformers' own, with batches, loss, evaluation and checkpoints as promised."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PrinterCallback,
    Seq2SeqTrainer,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from selfattn_hf.data import LengthGroupedSampler, TokenBudgetBatchSampler, Tokenizers

from .checkpoints import STAGING, put_in_place, seal, step_of
from .evaluation import Evaluator, Prepared
from .progress import Bar, EarlyStopping, Lines, Meter
from .run_folder import write_text
from .settings import RunSettings


class SelfAttnTrainer(Seq2SeqTrainer):
    """`Seq2SeqTrainer` with these differences.

    - Label smoothing is the model's, so that it is exact under gradient accumulation.
    - Batches of a token budget, or of like length, which resume exactly.
    - Evaluation weighs every target token alike, and does not touch the model's generation config.
    - A loss that is no number stops the run before the weights are spoiled.
    - A checkpoint is whole or not there (see `checkpoints`), and holds the tokenizers but no pickled arguments.
    """

    control: TrainerControl

    def __init__(
        self,
        model: PreTrainedModel,
        args: Any,
        *,
        run: RunSettings,
        train: Prepared,
        validation: Prepared | None,
        collator: Any,
        evaluator: Evaluator,
        generation: GenerationConfig | None,
        tokenizers: Tokenizers,
    ) -> None:
        self._is_saving = False
        self.meter = Meter()
        self.run_settings = run
        self.validation = validation
        self.evaluator = evaluator
        self.generation = generation
        self.tokenizers = tokenizers
        callbacks: list[Any] = [self.meter, Lines(run.metric, self.meter)]
        if run.early_stopping is not None:
            callbacks.append(EarlyStopping(run.metric, run.early_stopping))
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train.rows,
            eval_dataset=None if validation is None else validation.rows,
            callbacks=callbacks,
        )
        self.label_smoother = None  # the model smooths, see compute_loss
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(Bar)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of a token budget where `batch_tokens` is set, else as transformers makes them."""
        if self.run_settings.batch_tokens is None:
            return super().get_train_dataloader()
        if self.args.world_size > 1:
            raise ValueError("batch_tokens is for one process. Set per_device_train_batch_size instead.")
        sampler = TokenBudgetBatchSampler(_lengths(self.train_dataset), self.run_settings.batch_tokens, self._data_seed)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        prepared: DataLoader = self.accelerator.prepare(loader)
        return prepared

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(_lengths(rows), batch, self._data_seed)

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """As transformers, and count the target tokens."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.meter.target_tokens += int(items) if items is not None else 0
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """As transformers; the model smooths the labels itself, knowing how many tokens the whole batch has."""
        if model.training and self.args.label_smoothing_factor:
            inputs = {**inputs, "label_smoothing": self.args.label_smoothing_factor}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One backward pass.

        Raises:
            FloatingPointError: naming the step, if the loss is no number; the weights are those of the step before.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, so the run stops; the last "
                "checkpoint is whole. Lower learning_rate, raise warmup_steps, or set max_grad_norm; then start again."
            )
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval", **gen_kwargs: Any
    ) -> dict[str, float]:
        """Figures of the validation split, logged under names that begin with `eval_`."""
        if self.validation is None:
            raise ValueError("evaluate needs a validation split, and the data set has none. Set validation_split.")
        figures = self.evaluator(self.model, self.validation, self.generation).figures
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log({**metrics, "seconds": self.meter.seconds, "target_tokens": self.meter.target_tokens})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

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

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write aside, seal, rename; delete old checkpoints only then.

        Raises:
            OSError: naming folder and free space, if it cannot be written; checkpoints written before stay whole.
        """
        run_folder = Path(self.args.output_dir)
        staging = run_folder / STAGING
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        best = self.state.best_global_step
        if best and (best == self.state.global_step or (run_folder / f"{PREFIX_CHECKPOINT_DIR}-{best}").is_dir()):
            self.state.best_model_checkpoint = str(run_folder / f"{PREFIX_CHECKPOINT_DIR}-{best}")
        kept = self.state.best_model_checkpoint
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self._is_saving = True
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                self.state.best_model_checkpoint = kept  # transformers saw the folder under its name of now
                self.state.save_to_json(str(staging / name / "trainer_state.json"))
                seal(staging / name)
                put_in_place(staging / name, run_folder / name)
                staging.rmdir()
        except (OSError, RuntimeError, SafetensorError) as error:
            free = shutil.disk_usage(run_folder).free
            shutil.rmtree(staging, ignore_errors=True)
            raise OSError(
                f"checkpoint {run_folder / name} cannot be written ({error}); {free / 2**20:,.0f} MiB are free there. "
                "The checkpoints before it are whole: make room and go on with --resume."
            ) from error
        finally:
            self._is_saving = False
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate_checkpoints(str(run_folder), save_total_limit=limit, best_model_checkpoint=kept)

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

    def save_curve(self, path: Path) -> None:
        """The history as CSV: a line per evaluation and per log entry."""
        names = ["step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss", "eval_token_accuracy", "eval_bleu",
                 "eval_chrf", "eval_exact_match", "seconds", "target_tokens"]  # fmt: skip
        lines = [",".join(names)]
        for entry in self.state.log_history:
            if "loss" in entry or "eval_loss" in entry:
                lines.append(",".join("" if entry.get(name) is None else f"{entry[name]:.10g}" for name in names))
        write_text(path, "\n".join(lines) + "\n")


def _lengths(rows: Any) -> list[tuple[int, int]]:
    return [(len(source), len(target)) for source, target in zip(rows["input_ids"], rows["labels"], strict=True)]
