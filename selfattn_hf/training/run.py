"""A whole run: data, model, training, the better of best and average, one folder with everything in it."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel, enable_full_determinism, set_seed

from selfattn_hf.data import Seq2SeqCollator, Tokenizers, load_splits

from .arguments import make_arguments
from .building import (
    check_lengths,
    make_generation_config,
    make_model,
    make_tokenizers,
    start_config,
    with_beams,
)
from .checkpoints import (
    WEIGHTS,
    average_weights,
    check_shapes,
    in_turn,
    load_weights,
    newest_whole,
    set_aside,
    step_of,
    what_is_broken,
)
from .disk import sole_use, writing
from .evaluation import Evaluation, Evaluator, Prepared
from .metrics import signatures
from .preparing import prepare_splits
from .progress import duration, quiet_libraries, say
from .report import show, versions, write_results
from .run_folder import (
    RESULTS_FILE,
    begin,
    check_data,
    check_folder,
    check_still_new,
    digest_of,
    finish,
    is_finished,
)
from .settings import Settings
from .trainer import SelfAttnTrainer


@dataclass(frozen=True)
class _Job:
    """What a run works with, once its data are read."""

    settings: Settings
    fields: dict[str, Any]
    arguments: Any
    splits: dict[str, Prepared]
    reports: dict[str, dict[str, Any]]
    tokenizers: Tokenizers
    model: PreTrainedModel
    generation: GenerationConfig
    evaluator: Evaluator
    collator: Seq2SeqCollator


def train(settings: Settings) -> dict[str, Any]:
    """Train as the settings say; leave the best model and all that belongs to it in the output folder.

    Where the folder holds this very run, it goes on from the newest whole checkpoint, to the same end as if it had
    never stopped; where that run is finished, its results are shown and nothing is done.

    Args:
        settings: from `read_settings` or `make_settings`.

    Returns:
        What stands in `results.json`; in a run of several processes only the first returns it.

    Raises:
        ValueError: for settings, data, folders or checkpoints that cannot be used; before the first step.
        OSError: if something cannot be read or written.
        FloatingPointError: if the loss becomes NaN or infinite, naming the step.
        Stopped: a `KeyboardInterrupt`, after SIGINT or SIGTERM, once the step is finished and saved.
    """
    check_folder(settings)
    folder = settings.output_dir
    with quiet_libraries(), contextlib.ExitStack() as stack:
        is_new = not folder.is_dir()
        if not is_new:
            stack.enter_context(sole_use(folder))
        finished = is_finished(settings)
        checkpoint, broken = (None, {}) if finished else newest_whole(folder)
        learned = checkpoint if checkpoint is not None else folder if (folder / WEIGHTS).is_file() else None
        job = _prepare(settings, learned)
        digest = digest_of(job.splits["train"].rows)
        if learned is not None:
            check_data(folder, digest)
        if finished:
            return _show_again(job)
        if checkpoint is not None:
            check_shapes(checkpoint / WEIGHTS, job.model)
        if job.arguments.should_save:
            if is_new:
                with writing(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(sole_use(folder))
                check_still_new(folder)
            set_aside(broken, say)
            begin(settings, settings.to_yaml(job.fields), digest)
            with writing(folder):
                job.tokenizers.save(folder)
        trainer = _make_trainer(job)
        _fit(trainer, checkpoint, settings)
        if not trainer.is_world_process_zero():  # one process evaluates and writes
            return {}
        kept, weights_step = _keep_the_better(trainer, job)
        results = _finish(trainer, job, kept, weights_step)
        finish(settings, digest)
        return results


def _prepare(settings: Settings, learned: Path | None = None) -> _Job:
    """Everything up to the first step; writes nothing.

    Args:
        settings: of the run.
        learned: a folder with the tokenizers that the run began with, where it goes on; a unigram tokenizer that is
            trained again may be another.
    """
    fields = settings.complete_training()
    seed = fields.get("seed", 42)
    enable_full_determinism(seed) if fields.get("full_determinism") else set_seed(seed)
    if settings.run.init_from is not None:
        start_config(settings, settings.run.init_from)  # what cannot be started from is refused before data are read
    texts = load_splits(settings.data)
    if "train" not in texts:
        raise ValueError("there is no training split. Set train_split to a split that the data set has.")
    tokenizers = make_tokenizers(settings, texts["train"], learned)
    splits, reports = prepare_splits(texts, tokenizers, settings.data)
    evaluates = "validation" in splits
    fields = settings.complete_training(has_validation=evaluates)
    if settings.run.early_stopping is not None and not evaluates:
        raise ValueError("early_stopping needs a validation split, and the data set has none. Set validation_split.")
    model = make_model(settings, tokenizers)
    check_lengths(model.config, splits)
    longest = max(len(labels) for labels in splits["train"].rows["labels"])
    generation = make_generation_config(settings, model.config, longest)
    model.generation_config = generation
    arguments = make_arguments(fields, settings.run.metric, model.config.use_cache)
    collator = make_collator(model, tokenizers)
    evaluator = Evaluator(
        collator, decoder_of(tokenizers), arguments.per_device_eval_batch_size, settings.data.lowercase
    )
    return _Job(settings, fields, arguments, splits, reports, tokenizers, model, generation, evaluator, collator)


def make_collator(model: PreTrainedModel, tokenizers: Tokenizers) -> Seq2SeqCollator:
    """Rows to batches, for this model."""
    return Seq2SeqCollator(tokenizers, model.config.decoder_start_token_id, model.config.vocab_size)


def decoder_of(tokenizers: Tokenizers) -> Any:
    """Ids of outputs -> texts."""
    return lambda ids: tokenizers.target.batch_decode(ids, skip_special_tokens=True)


def _make_trainer(job: _Job) -> SelfAttnTrainer:
    while_training = with_beams(job.generation, job.arguments.generation_num_beams)
    return SelfAttnTrainer(
        job.model,
        job.arguments,
        run=job.settings.run,
        train=job.splits["train"],
        validation=job.splits.get("validation"),
        collator=job.collator,
        evaluator=job.evaluator,
        generation=while_training if job.arguments.predict_with_generate else None,
        tokenizers=job.tokenizers,
    )


def _fit(trainer: SelfAttnTrainer, checkpoint: Path | None, settings: Settings) -> None:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    where = f"on {trainer.args.device}, into {settings.output_dir}"
    say(f"{parameters:,} parameters, {len(trainer.train_dataset):,} training rows, {where}")
    if checkpoint is None:
        trainer.train()
    elif trainer.is_over(checkpoint):
        say(f"{checkpoint} is where the training ends: nothing is left to train")
        load_weights(trainer.model, checkpoint / WEIGHTS)
        trainer.take_up(checkpoint)
    else:
        say(f"{settings.output_dir} holds this run, unfinished: resuming from {checkpoint}")
        trainer.train(resume_from_checkpoint=str(checkpoint))


def _keep_the_better(trainer: SelfAttnTrainer, job: _Job) -> tuple[str, int]:
    """Give the trainer's model the weights to keep; say which they are.

    Returns:
        "best", "average" or "last", and the step of the (last) checkpoint they come from.
    """
    run, state, folder = job.settings.run, trainer.state, job.settings.output_dir
    kept, step = "last", state.global_step
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    best = folder / f"checkpoint-{state.best_global_step}"
    if job.fields["load_best_model_at_end"] and state.best_global_step:
        broken = what_is_broken(best)
        if broken is None:
            load_weights(model, best / WEIGHTS)
            kept, step = "best", state.best_global_step
        else:
            say(f"the best checkpoint, {best}, is not whole: {broken}. Keeping the last weights, step {step}")
    if run.average_checkpoints:
        last = in_turn(folder, say)[-run.average_checkpoints :]
        if len(last) < 2:
            say(f"no average: only {len(last)} checkpoint is there")
            return kept, step
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        load_weights(model, average_weights(last))
        steps = ", ".join(str(step_of(path)) for path in last)
        if "validation" not in job.splits:
            say(f"keeping the average of the checkpoints {steps}: there is no validation split to compare on")
            return "average", step_of(last[-1])
        average = job.evaluator(model, job.splits["validation"], trainer.generation).figures[run.metric]
        rival = state.best_metric if kept == "best" else _last_metric(trainer, job, before)
        better = average > rival
        say(
            f"average of the checkpoints {steps}: {run.metric} {average:.2f}; {kept}, step {step}: {rival:.2f}; "
            f"keeping the {'average' if better else kept}"
        )
        if better:
            return "average", step_of(last[-1])
        load_weights(model, before)
    return kept, step


def _last_metric(trainer: SelfAttnTrainer, job: _Job, weights: dict[str, Any]) -> float:
    """The metric of the last weights, which were perhaps never evaluated; leaves the model's weights as they are."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    figure = job.evaluator(model, job.splits["validation"], trainer.generation).figures[job.settings.run.metric]
    model.load_state_dict(average)
    return figure


def _finish(trainer: SelfAttnTrainer, job: _Job, kept: str, step: int) -> dict[str, Any]:
    """Save; evaluate what was saved, as anyone will load it; write and print the results."""
    folder = job.settings.output_dir
    with writing(folder):
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).save_pretrained(folder)
    trainer.save_curve(folder / "training_curve.csv")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).to(trainer.args.device)
    generation = job.generation if job.arguments.predict_with_generate else None
    evaluations: dict[str, Evaluation] = {
        name: job.evaluator(model, job.splits[name], generation)
        for name in ("validation", "test")
        if name in job.splits
    }
    meter, state = trainer.meter, trainer.state
    results = {
        "kept": kept,
        "kept_step": step,
        "steps": state.global_step,
        "epochs": state.epoch,
        "metric": job.settings.run.metric,
        **{name: evaluation.figures for name, evaluation in evaluations.items()},
        "generation": {"num_beams": job.generation.num_beams, "max_new_tokens": job.generation.max_new_tokens},
        "signatures": signatures(lowercase=job.settings.data.lowercase),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": trainer.args.seed,
        "seconds": round(meter.seconds, 1),
        "target_tokens": meter.target_tokens,
        "target_tokens_per_second": round(meter.tokens_per_second, 1),
        "data": job.reports,
        "versions": versions(),
        "device": str(trainer.args.device),
    }
    examples = _examples(job, evaluations)
    write_results(folder / RESULTS_FILE, {**results, "examples": examples})
    show(results, examples)
    say(f"trained in {duration(meter.seconds)}; the model lies in {folder}")
    return {**results, "examples": examples}


def _show_again(job: _Job) -> dict[str, Any]:
    """The results of a run that is finished."""
    folder = job.settings.output_dir
    results: dict[str, Any] = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    say(f"{folder} holds this run, finished: nothing is left to do. To train again, set --output_dir")
    show(results, results["examples"])
    return results


def _examples(job: _Job, evaluations: dict[str, Evaluation]) -> list[dict[str, str]]:
    name = next((name for name in ("test", "validation") if name in evaluations), None)
    if name is None or not evaluations[name].outputs:
        return []
    split, outputs = job.splits[name], evaluations[name].outputs
    number = min(job.settings.run.examples, len(split))
    chosen = [index * len(split) // number for index in range(number)]  # spread over the split, which may be sorted
    return [{"source": split.sources[i], "output": outputs[i], "reference": split.references[i]} for i in chosen]
