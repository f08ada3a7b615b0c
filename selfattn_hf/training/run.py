"""A whole run: data, model, training, the better of best and average, one folder with everything in it."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, enable_full_determinism, set_seed

from selfattn_hf.data import (
    Cut,
    Seq2SeqCollator,
    StreamedBatches,
    Tokenizers,
    cut_by,
    cut_by_tokens,
    load_splits,
    open_streams,
)

from .arguments import make_arguments
from .building import (
    check_lengths,
    make_generation_config,
    make_model,
    make_tokenizers,
    start_config,
    with_beams,
)
from .checkpoints import WEIGHTS, check_shapes, load_weights, newest_whole, set_aside
from .disk import sole_use, writing
from .evaluation import Evaluator
from .finishing import keep_the_better, save_and_evaluate, show_again
from .job import Job
from .preparing import prepare_splits
from .processes import check_launch, first_alone, is_first, processes, together
from .progress import quiet_libraries, say
from .publishing import check_push, publish
from .run_folder import (
    begin,
    check_data,
    check_folder,
    check_still_new,
    digest_of,
    finish,
    is_finished,
    say_other_processes,
)
from .settings import Settings
from .starting import commit_of
from .streams import check_places
from .trainer import SelfAttnTrainer


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
        OSError: if something cannot be read or written; ConnectionError where another process of the run has ended.
        FloatingPointError: if the loss becomes NaN or infinite, naming the step.
        Stopped: a `KeyboardInterrupt`, after SIGINT or SIGTERM, once the step is finished and saved.
    """
    check_launch()
    with together(), quiet_libraries(), contextlib.ExitStack() as stack:
        with first_alone(lambda: _bring_together(settings)):
            finished = is_finished(settings)
            job, checkpoint, digest = _begin(settings, finished, stack)
        if finished:
            if not is_first():
                return {}
            results = show_again(job)
            publish(settings)
            return results
        trainer = _make_trainer(job)
        _fit(trainer, checkpoint, settings)
        if not trainer.is_world_process_zero():  # one process evaluates and writes
            return {}
        kept, weights_step = keep_the_better(trainer, job)
        results = save_and_evaluate(trainer, job, kept, weights_step)
        finish(settings, digest)
        publish(settings)
        return results


def _bring_together(settings: Settings) -> torch.device:
    """Several processes find each other when transformers looks for the device of its arguments."""
    device: torch.device = make_arguments(settings.complete_training(), settings.run.metric, use_cache=True).device
    return device


def _begin(settings: Settings, finished: bool, stack: contextlib.ExitStack) -> tuple[Job, Path | None, str]:
    """Look at the folder, make everything ready, and make the folder the run's own.

    Where several processes share the run, the first does so before the others, which find what it wrote, and take the
    tokenizers from there.

    Args:
        settings: of the run.
        finished: whether nothing is left to do.
        stack: closed when the run ends.

    Returns:
        The job, the checkpoint to go on from, and the digest of the training rows.
    """
    folder = settings.output_dir
    if is_first():
        check_folder(settings)
        check_push(settings)
    is_new = not folder.is_dir()
    if not is_new:
        stack.enter_context(sole_use(folder))
    checkpoint, broken = (None, {}) if finished else newest_whole(folder)
    is_known = (folder / WEIGHTS).is_file() or not is_first()
    learned = checkpoint if checkpoint is not None else folder if is_known else None
    job = _prepare(settings, learned)
    digest = digest_of(job.splits["train"].rows)
    if learned is not None:
        check_data(folder, digest)
    if finished:
        return job, None, digest
    if checkpoint is not None:
        check_shapes(checkpoint / WEIGHTS, job.model)
    if job.arguments.should_save:
        if is_new:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_use(folder))
            check_still_new(folder)
        if checkpoint is not None:
            say_other_processes(settings, say)
        set_aside(broken, say)
        begin(settings, settings.to_yaml(job.fields), digest)
        with writing(folder):
            job.tokenizers.save(folder)
    return job, checkpoint, digest


def _prepare(settings: Settings, learned: Path | None = None) -> Job:
    """Everything up to the first step; writes nothing.

    Args:
        settings: of the run.
        learned: a folder with the tokenizers that the run began with, where it goes on; a unigram tokenizer that is
            trained again may be another.
    """
    fields = settings.complete_training()
    seed = fields.get("seed", 42)
    enable_full_determinism(seed) if fields.get("full_determinism") else set_seed(seed)
    start, commit = settings.run.init_from, None
    if start is not None:
        start_config(settings, start)  # what cannot be started from is refused before data are read
        # of a run that goes on it is no longer known, for a branch may have moved
        commit = commit_of(start, settings.run.init_from_revision) if learned is None else None
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
    if settings.data.streaming:
        check_places(model.config, settings.data)
    longest = max(len(labels) for labels in splits["train"].rows["labels"])
    generation = make_generation_config(settings, model.config, longest)
    model.generation_config = generation
    arguments = make_arguments(fields, settings.run.metric, model.config.use_cache)
    stream = None
    if settings.data.streaming:
        rows = open_streams(settings.data, ["train"])["train"]
        stream = StreamedBatches(rows, tokenizers, settings.data, _cut(settings, arguments))
    collator = make_collator(model, tokenizers)
    evaluator = Evaluator(
        collator, decoder_of(tokenizers), arguments.per_device_eval_batch_size, settings.data.lowercase
    )
    return Job(
        settings, fields, arguments, splits, stream, reports, tokenizers, model, generation, evaluator, collator, commit
    )


def _cut(settings: Settings, arguments: Any) -> Cut:
    """How a stream becomes batches: as the same settings make them of rows that are all there."""
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    if settings.run.batch_tokens is not None:
        return cut_by_tokens(settings.run.batch_tokens, seed=seed)
    size, group = arguments.train_batch_size, arguments.gradient_accumulation_steps * processes()
    return cut_by(arguments.train_sampling_strategy, size, group=group, seed=seed)


def make_collator(model: PreTrainedModel, tokenizers: Tokenizers) -> Seq2SeqCollator:
    """Rows to batches, for this model."""
    return Seq2SeqCollator(tokenizers, model.config.decoder_start_token_id, model.config.vocab_size)


def decoder_of(tokenizers: Tokenizers) -> Any:
    """Ids of outputs -> texts."""
    return lambda ids: tokenizers.target.batch_decode(ids, skip_special_tokens=True)


def _make_trainer(job: Job) -> SelfAttnTrainer:
    while_training = with_beams(job.generation, job.arguments.generation_num_beams)
    return SelfAttnTrainer(
        job.model,
        job.arguments,
        run=job.settings.run,
        train=job.splits["train"].rows if job.stream is None else job.stream,
        validation=job.splits.get("validation"),
        collator=job.collator,
        evaluator=job.evaluator,
        generation=while_training if job.arguments.predict_with_generate else None,
        tokenizers=job.tokenizers,
    )


def _fit(trainer: SelfAttnTrainer, checkpoint: Path | None, settings: Settings) -> None:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    if trainer.stream is None:
        rows = f"{len(trainer.train_dataset):,} training rows"
    else:
        rows = f"training rows as they come, {trainer.stream.buffer:,} at a time"
    say(f"{parameters:,} parameters, {rows}, on {trainer.args.device}, into {settings.output_dir}")
    if processes() > 1:  # or all of them would drop the same numbers of their rows
        set_seed(trainer.args.seed + trainer.args.process_index)
    if checkpoint is None:
        trainer.train()
    elif trainer.is_over(checkpoint):
        say(f"{checkpoint} is where the training ends: nothing is left to train")
        load_weights(trainer.model, checkpoint / WEIGHTS)
        trainer.take_up(checkpoint)
    else:
        say(f"{settings.output_dir} holds this run, unfinished: resuming from {checkpoint}")
        trainer.train(resume_from_checkpoint=str(checkpoint))
