"""Train a head on a small task with transformers' own Trainer, save it, and ask it in a process without this package.

    train_head.py tokens   --data FOLDER   the part of speech of every word
    train_head.py sequence --data FOLDER   the time of the main clause: past, present, an order, ...
    train_head.py question --data FOLDER   the words that are the subject, or the object, of a verb
    train_head.py language --data FOLDER   the next token

The first three read English EWT of Universal Dependencies: a clone of
https://github.com/UniversalDependencies/UD_English-EWT, or a folder with its columns. The last reads any data set with
a column of text, such as bentrevett/multi30k of the Hub. Every switch of the model is an option too:

    train_head.py tokens --data UD_English-EWT --encoder_mixer rnn --encoder_position_encoding none
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

TASKS = ("tokens", "sequence", "question", "language")
SWITCHES = {"hidden_size": 192, "encoder_layers": 3, "decoder_layers": 3, "num_attention_heads": 4,
            "intermediate_size": 384, "dropout": 0.3}  # fmt: skip


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options of this file, and switches of the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", required=True, help="local folder, or Hub id")
    parser.add_argument("--column", default="en", help="language: the column with the texts (default: en)")
    parser.add_argument("--trees", action="store_true", help="tokens: give the encoder the gold trees too")
    parser.add_argument("--output", type=Path, help="folder for the model (default: runs/heads/TASK)")
    parser.add_argument("--steps", type=int, default=3000, help="updates (default: 3000)")
    parser.add_argument(
        "--evaluations", type=int, default=6, help="on the validation split, evenly spread (default: 6)"
    )
    parser.add_argument("--batch", type=int, default=32, help="rows of an update (default: 32)")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="highest (default: 2e-3)")
    parser.add_argument("--vocabulary", type=int, default=8000, help="tokens of the tokenizer (default: 8000)")
    parser.add_argument("--max_rows", type=int, help="use only the first so many rows of every split")
    parser.add_argument("--seed", type=int, default=1)
    options, rest = parser.parse_known_args(arguments)
    if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        parser.error(f"switches of the model come as --name value, got {' '.join(rest)}")
    return options, {name[2:]: value for name, value in zip(rest[::2], rest[1::2], strict=True)}


def main(arguments: list[str]) -> None:
    """Train, evaluate, save, ask."""
    options, switches = parse(arguments)
    import torch
    import yaml
    from datasets import disable_progress_bars
    from head_tasks import MAKERS, Task, collate, nearest
    from transformers import (
        AutoConfig,
        AutoModelForTextEncoding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )
    from transformers.utils.logging import disable_progress_bar

    import selfattn_hf  # noqa: F401 - registers the model with the Auto classes

    disable_progress_bar()
    disable_progress_bars()
    output = options.output or Path("runs/heads") / options.task
    set_seed(options.seed)
    task: Task = MAKERS[options.task](options)
    typed = {name: yaml.safe_load(value) for name, value in switches.items()}
    config = AutoConfig.for_model("selfattn", vocab_size=len(task.tokenizer), **SWITCHES | task.switches | typed)
    model = task.auto.from_config(config)
    print(
        f"{type(model).__name__}: {model.num_parameters():,} parameters, {len(task.rows['train']):,} rows to train on"
    )

    def line(split: str, metrics: dict[str, float]) -> str:
        figures = {name.partition("_")[2]: value for name, value in metrics.items()}
        found = [f"{name} {figures[name]:.2f}" for name in ("loss", *task.figures)]
        return f"{split} {', '.join(found)} (counting {task.counted}: {task.counting[split]:.2f})"

    class Lines(TrainerCallback):
        """One line for each evaluation."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            print(f"step {state.global_step}: {line('validation', metrics)}", flush=True)

    settings = TrainingArguments(
        output_dir=str(output),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=64,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        eval_strategy="steps",
        eval_steps=max(1, options.steps // options.evaluations),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=options.seed,
    )
    trainer = Trainer(
        model=model,
        args=settings,
        data_collator=collate,
        train_dataset=task.rows["train"],
        eval_dataset=task.rows["validation"],
        compute_metrics=task.score,
        preprocess_logits_for_metrics=task.keep,
        callbacks=[Lines],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    print(line("test", trainer.predict(task.rows["test"]).metrics))
    model.save_pretrained(output)
    task.tokenizer.save_pretrained(output)
    if options.task == "sequence":
        encoder = AutoModelForTextEncoding.from_pretrained(output)
        print(f"test sentences whose nearest training sentence has the same label: {nearest(encoder, task):.2f}")
    if not options.trees:
        ask = [sys.executable, "-I", str(Path(__file__).with_name("ask_head.py")), str(output), *task.example]
        subprocess.run(ask, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
