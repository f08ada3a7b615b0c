"""The end of a run: which weights are kept, what the folder then holds, what is said."""

import dataclasses
import json
from typing import Any

from transformers import AutoModelForSeq2SeqLM

from selfattn_hf.sharing import CARD, card_of
from selfattn_hf.sharing.curve import CURVE, PICTURE, curve_picture

from .checkpoints import WEIGHTS, average_weights, in_turn, load_weights, step_of, what_is_broken
from .disk import write_text, writing
from .evaluation import Evaluation
from .job import Job
from .metrics import signatures
from .progress import duration, say
from .report import show, versions, write_results
from .run_folder import RESULTS_FILE
from .trainer import SelfAttnTrainer


def keep_the_better(trainer: SelfAttnTrainer, job: Job) -> tuple[str, int]:
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


def _last_metric(trainer: SelfAttnTrainer, job: Job, weights: dict[str, Any]) -> float:
    """The metric of the last weights, which were perhaps never evaluated; leaves the model's weights as they are."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    figure = job.evaluator(model, job.splits["validation"], trainer.generation).figures[job.settings.run.metric]
    model.load_state_dict(average)
    return figure


def save_and_evaluate(trainer: SelfAttnTrainer, job: Job, kept: str, step: int) -> dict[str, Any]:
    """Save; evaluate what was saved, as anyone will load it; write and print the results."""
    folder = job.settings.output_dir
    with writing(folder):
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).save_pretrained(folder)
    trainer.save_curve(folder / CURVE)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).to(trainer.args.device)
    generation = job.generation if job.arguments.predict_with_generate else None
    evaluations: dict[str, Evaluation] = {
        name: job.evaluator(model, job.splits[name], generation)
        for name in ("validation", "test")
        if name in job.splits
    }
    meter, state = trainer.meter, trainer.state
    reports = dict(job.reports)
    if job.stream is not None:
        reports["train"] = dataclasses.asdict(job.stream.report())
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
        **({} if job.start_commit is None else {"init_from_commit": job.start_commit}),
        "seed": trainer.args.seed,
        "seconds": round(meter.seconds, 1),
        "target_tokens": meter.target_tokens,
        "target_tokens_per_second": round(meter.tokens_per_second, 1),
        "data": reports,
        "versions": versions(),
        "device": str(trainer.args.device),
    }
    examples = _examples(job, evaluations)
    write_results(folder / RESULTS_FILE, {**results, "examples": examples})
    if (picture := curve_picture(folder, job.settings.run.metric)) is not None:
        write_text(folder / PICTURE, picture)
    write_text(folder / CARD, card_of(folder, job.settings.flat(job.fields)))
    show(results, examples)
    say(f"trained in {duration(meter.seconds)}; the model lies in {folder}")
    return {**results, "examples": examples}


def show_again(job: Job) -> dict[str, Any]:
    """The results of a run that is finished."""
    folder = job.settings.output_dir
    results: dict[str, Any] = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    say(f"{folder} holds this run, finished: nothing is left to do. To train again, set --output_dir")
    show(results, results["examples"])
    return results


def _examples(job: Job, evaluations: dict[str, Evaluation]) -> list[dict[str, str]]:
    name = next((name for name in ("test", "validation") if name in evaluations), None)
    if name is None or not evaluations[name].outputs:
        return []
    split, outputs = job.splits[name], evaluations[name].outputs
    number = min(job.settings.run.examples, len(split))
    chosen = [index * len(split) // number for index in range(number)]  # spread over the split, which may be sorted
    return [{"source": split.sources[i], "output": outputs[i], "reference": split.references[i]} for i in chosen]
