"""The Trainer of this project: transformers' own, with batches, loss, evaluation and checkpoints as promised."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, get_worker_info
from transformers import GenerationConfig, PreTrainedModel, PrinterCallback, TrainerControl
from transformers.trainer_callback import ProgressCallback

from selfattn_hf.data import LengthGroupedSampler, StreamedBatches, TokenBudgetBatchSampler, Tokenizers

from .checkpoints import list_checkpoints, step_of
from .disk import write_text
from .evaluation import IGNORED, Evaluator, Prepared
from .processes import InTurn, nothing
from .progress import Bar, EarlyStopping, Lines, Meter
from .saving import SavingTrainer
from .settings import RunSettings
from .stopping import leave_signals_to_the_run

PLACE = "stream.json"  # file of a checkpoint: where the stream goes on
logger = logging.getLogger(__name__)

ROWS = "rows"  # numbers of a batch's rows in the training split, beside what the model reads


class SelfAttnTrainer(SavingTrainer):
    """`Seq2SeqTrainer` with these differences.

    - Label smoothing is the model's, so that it is exact under gradient accumulation.
    - Batches of a token budget, of like length, and of a stream, which resume exactly; several processes share them
      so that every row comes once.
    - Evaluation weighs every target token alike, and does not touch the model's generation config.
    - A loss or a gradient that is no number stops the run before the weights are spoiled, and the rows are named.
    - Checkpoints are whole or not there, and a signal stops the run after a step (see `saving`).
    """

    control: TrainerControl

    def __init__(
        self,
        model: PreTrainedModel,
        args: Any,
        *,
        run: RunSettings,
        train: Any,
        validation: Prepared | None,
        collator: Any,
        evaluator: Evaluator,
        generation: GenerationConfig | None,
        tokenizers: Tokenizers,
    ) -> None:
        self._rows: list[int] = []
        self._grouped: LengthGroupedSampler | None = None
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
            data_collator=_Numbered(collator, None if isinstance(train, StreamedBatches) else train[0]),
            train_dataset=train,
            eval_dataset=None if validation is None else validation.rows,
            callbacks=callbacks,
        )
        self.label_smoother = None  # the model smooths, see compute_loss
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(Bar)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of a stream, or of a token budget where `batch_tokens` is set, or as transformers makes them."""
        stream, budget, count = self.stream, self.run_settings.batch_tokens, self.args.world_size
        if stream is not None:
            stream.take_turns(self.args.process_index, count)
            pin = self.args.dataloader_pin_memory
            return DataLoader(stream, batch_size=None, collate_fn=self.data_collator, pin_memory=pin)
        if budget is None and (count == 1 or self.args.train_sampling_strategy == "batch_rebalance"):
            return super().get_train_dataloader()
        drop_last = self.args.dataloader_drop_last
        if budget is not None:
            batches: Any = TokenBudgetBatchSampler(_lengths(self.train_dataset), budget, self._data_seed)
        else:
            rows: Any = self._get_train_sampler()
            if isinstance(rows, RandomSampler):  # which would draw other rows in every process
                rows = SeedableRandomSampler(rows.data_source, data_seed=self._data_seed)
            batches = BatchSampler(rows, self.args.train_batch_size, drop_last)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches if count == 1 else InTurn(batches, self.args.process_index, count, drop_last),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        # What is shared already is not shared again.
        prepared: DataLoader = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        batch = self._batches_of_a_step * self.args.train_batch_size
        self._grouped = LengthGroupedSampler(_lengths(rows), batch, self._data_seed)
        return self._grouped

    def _run_epoch(self, *, epoch: int, **named: Any) -> None:
        # Where several processes share the batches of a run that goes on, accelerate's wrappers hide the sampler.
        if self._grouped is not None:
            self._grouped.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **named)

    @property
    def stream(self) -> StreamedBatches | None:
        """The training split, where it is streamed."""
        return self.train_dataset if isinstance(self.train_dataset, StreamedBatches) else None

    def _save_place(self, folder: Path) -> None:
        if self.stream is not None:
            place = self.stream.place(self.state.global_step * self._batches_of_a_step)
            (folder / PLACE).write_text(json.dumps(place), encoding="utf-8")

    def _load_place(self, checkpoint: Path) -> None:
        if self.stream is not None:
            place = json.loads((checkpoint / PLACE).read_text(encoding="utf-8"))
            self.stream.go_on(place, step_of(checkpoint) * self._batches_of_a_step)

    @property
    def _batches_of_a_step(self) -> int:
        return self.args.gradient_accumulation_steps * self.args.world_size

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """As transformers, and count the target tokens, and the batches that have none: they teach nothing."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.meter.target_tokens += int(items) if items is not None else 0
        for batch in batches:
            if batch and len(batch[ROWS]) and bool((batch["labels"] == IGNORED).all()):
                self.meter.empty_batches += 1
                rows = ", ".join(map(str, batch[ROWS].tolist()))
                logger.warning(
                    f"no label counts in a batch of step {self.state.global_step + 1} (rows {rows} of the training "
                    "split): its loss and its gradient are 0. So far there were "
                    f"{self.meter.empty_batches} such batches."
                )
        self._rows = []
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
        if not return_outputs:
            inputs = {**inputs, "loss_only": True}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One backward pass.

        Raises:
            FloatingPointError: naming step and rows, if the loss is no number; the weights stay as they were.
        """
        inputs = dict(inputs)
        rows = inputs.pop(ROWS).tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(self._no_number("loss", loss.item(), rows))
        self._rows += rows
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As transformers.

        Raises:
            FloatingPointError: as `training_step`, for the gradient of all batches of the step.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        # In float16 a gradient too large is nothing unusual: its scaler leaves the step out and scales less.
        if self.accelerator.scaler is None and not torch.isfinite(torch.as_tensor(norm)):
            raise FloatingPointError(self._no_number("norm of the gradient", float(norm), self._rows))
        return norm

    def _no_number(self, what: str, value: float, rows: list[int]) -> str:
        saved = list_checkpoints(Path(self.args.output_dir))
        kept = f"{saved[-1]} is whole" if saved else "No checkpoint was due before"
        others = ", or from those of another process" if self.args.world_size > 1 and what != "loss" else ""
        return (
            f"the {what} is {value} at step {self.state.global_step + 1}, so the run stops before it changes the "
            f"weights. It comes from the rows {', '.join(map(str, rows))} of the training split, counted from 0"
            f"{others}. {kept}. Look at these rows; or lower learning_rate, raise warmup_steps or set max_grad_norm, "
            "in another output_dir."
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval", **gen_kwargs: Any
    ) -> dict[str, float]:
        """Figures of the validation split, logged under names that begin with `eval_`."""
        if self.validation is None:
            raise ValueError("evaluate needs a validation split, and the data set has none. Set validation_split.")
        shared = self.args.world_size > 1
        figures = self.evaluator(self.model, self.validation, self.generation, shared=shared).figures
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log({**metrics, "seconds": self.meter.seconds, "target_tokens": self.meter.target_tokens})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def save_curve(self, path: Path) -> None:
        """The history as CSV: a line per evaluation and per log entry."""
        names = ["step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss", "eval_token_accuracy", "eval_bleu",
                 "eval_chrf", "eval_exact_match", "seconds", "target_tokens"]  # fmt: skip
        lines = [",".join(names)]
        for entry in self.state.log_history:
            if "loss" in entry or "eval_loss" in entry:
                lines.append(",".join("" if entry.get(name) is None else f"{entry[name]:.10g}" for name in names))
        write_text(path, "\n".join(lines) + "\n")


class _Numbered:
    """A collator that also tells which rows a batch is made of."""

    def __init__(self, collate: Any, any_row: dict[str, Any] | None) -> None:
        self.collate = collate
        self.any_row = any_row

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        if get_worker_info() is not None:
            leave_signals_to_the_run()
        if not rows and self.any_row is not None:  # nothing is left for this process
            return {**nothing(self.collate([self.any_row]), IGNORED), ROWS: torch.tensor([], dtype=torch.long)}
        if not rows:  # a batch of a stream that was trained on before
            return {}
        return {**self.collate(rows), ROWS: torch.tensor([row["row"] for row in rows])}


def _lengths(rows: Any) -> list[tuple[int, int]]:
    return [(len(source), len(target)) for source, target in zip(rows["input_ids"], rows["labels"], strict=True)]
