"""Fine-tune a saved folder, or a model on the Hub, as transformers shows it for any model: no Trainer of ours.

finetune.py FOLDER_OR_ID --data DATA --source en --target de --output runs/tuned

DATA is what `datasets.load_dataset` takes: a name on the Hub, or a folder with files named train and validation. With
`--trust_remote_code` the code that lies beside the weights is used, and this package need not be installed.
"""

import argparse
from typing import Any


def parse(arguments: list[str] | None, description: str | None = __doc__) -> argparse.ArgumentParser:
    """What both fine-tuning examples are asked."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a saved folder, or a name on the Hub")
    parser.add_argument("--data", required=True, help="a folder, or a name on the Hub")
    parser.add_argument("--source", default="source", help="column of the source (source)")
    parser.add_argument("--target", default="target", help="column of the target (target)")
    parser.add_argument("--output", required=True, help="folder for what is learned")
    parser.add_argument("--steps", type=int, default=500, help="of the optimiser (500)")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch (32)")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="at the start (1e-4)")
    parser.add_argument("--max_rows", type=int, help="of every split (all)")
    parser.add_argument("--use_cpu", action="store_true", help="even where there is an accelerator")
    parser.add_argument("--trust_remote_code", action="store_true", help="use the code beside the weights")
    return parser


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """Tokenizer and model; of this package nothing but its registration."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    if not options.trust_remote_code:
        import selfattn_hf  # noqa: F401 - makes the Auto classes know the model
    trust = options.trust_remote_code
    tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=trust)
    return tokenizer, AutoModelForSeq2SeqLM.from_pretrained(options.model, trust_remote_code=trust)


def ids_of(options: argparse.Namespace, tokenizer: Any) -> dict[str, Any]:
    """Every split as ids."""
    from datasets import load_dataset

    def encode(rows: dict[str, list[str]]) -> Any:
        return tokenizer(rows[options.source], text_target=rows[options.target], truncation=True, max_length=128)

    splits = load_dataset(options.data)
    if options.max_rows is not None:
        splits = {name: rows.select(range(min(options.max_rows, len(rows)))) for name, rows in splits.items()}
    return {name: rows.map(encode, batched=True, remove_columns=rows.column_names) for name, rows in splits.items()}


def trainer_for(options: argparse.Namespace, tokenizer: Any, model: Any) -> Any:
    """Transformers' Trainer over the data."""
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    ids = ids_of(options, tokenizer)
    return Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=options.output,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            learning_rate=options.learning_rate,
            logging_steps=max(1, options.steps // 5),
            save_strategy="no",
            use_cache=True,  # the Trainer would save a config that decodes without one
            use_cpu=options.use_cpu,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        ),
        train_dataset=ids["train"],
        eval_dataset=ids["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )


def main(arguments: list[str] | None = None) -> None:
    """Evaluate, train, evaluate, save."""
    options = parse(arguments).parse_args(arguments)
    tokenizer, model = load(options)
    trainer = trainer_for(options, tokenizer, model)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    print(f"validation loss {before:.4f} before, {trainer.evaluate()['eval_loss']:.4f} after {options.steps} steps")
    trainer.save_model(options.output)
    print(f"the model lies in {options.output}")


if __name__ == "__main__":
    main()
