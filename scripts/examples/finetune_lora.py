"""Fine-tune a few numbers beside the weights (LoRA, https://arxiv.org/abs/2106.09685), by PEFT: `pip install peft`.

finetune_lora.py FOLDER_OR_ID --data DATA --source en --target de --output runs/tuned

OUTPUT/adapter then holds the adapter alone, OUTPUT/merged a whole model with the adapter added to its weights.

Adapters are put on every linear layer, of whatever mixer; `--on q_proj v_proj` names others. Two things have none:
the cells of `rnn`, which are no linear layers, are trained whole with `--whole forwards backwards`; and the table of
embeddings is left alone, because with `tie_word_embeddings` it is input and output at once: an adapter on one of them
would, when merged, change the other.
"""

import argparse
from pathlib import Path
from typing import Any

import finetune


def check(config: Any, options: argparse.Namespace) -> None:
    """Say what gets no adapter; refuse what could not be merged.

    Raises:
        ValueError: for an adapter on a table that has another part in the model.
    """
    tables = {"lm_head", "embed_tokens", "shared"} & set(options.on)
    if tables and config.tie_word_embeddings:
        raise ValueError(
            f"--on {' '.join(sorted(tables))}: with tie_word_embeddings=True this table is input and output at once, "
            "and a merged adapter would change both. Leave it out, or use a model with tie_word_embeddings=False."
        )
    mixers = {*config.mixers_of("encoder"), *config.mixers_of("decoder")}
    if "rnn" in mixers and not options.whole:
        print("the cells of rnn stay as they are: they take no adapter. --whole forwards backwards trains them")


def main(arguments: list[str] | None = None) -> None:
    """Train an adapter, save it, load it anew, merge it: the same logits all along."""
    parser = finetune.parse(arguments, __doc__)
    parser.add_argument("--on", nargs="+", default=[], help="names of the layers that get an adapter (all linear ones)")
    parser.add_argument("--whole", nargs="+", default=[], help="names of parts that are trained whole (none)")
    parser.add_argument("--rank", type=int, default=8, help="of the adapters (8)")
    options = parser.parse_args(arguments)
    import torch
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    tokenizer, model = finetune.load(options)
    check(model.config, options)
    lora = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=options.rank,
        lora_alpha=2 * options.rank,
        target_modules=options.on or "all-linear",
        modules_to_save=options.whole or None,
    )
    model = get_peft_model(model, lora)
    trained, all_of_them = model.get_nb_trainable_parameters()
    print(f"{trained:,} of {all_of_them:,} parameters are trained")
    trainer = finetune.trainer_for(options, tokenizer, model)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    print(f"validation loss {before:.4f} before, {trainer.evaluate()['eval_loss']:.4f} after {options.steps} steps")

    adapter, merged = Path(options.output, "adapter"), Path(options.output, "merged")
    model.save_pretrained(str(adapter))
    again = PeftModel.from_pretrained(finetune.load(options)[1], adapter)
    row = {name: ids[:1] for name, ids in next(iter(trainer.get_eval_dataloader())).items()}
    whole = again.merge_and_unload()
    whole.save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    with torch.no_grad():
        row = {name: ids.to(model.device) for name, ids in row.items()}
        apart = (model.eval()(**row).logits - whole.to(model.device).eval()(**row).logits).abs().max()
    size = sum(path.stat().st_size for path in adapter.glob("*.safetensors"))
    print(f"the adapter, {size:,} bytes, lies in {adapter}; merged, {apart:.0e} from it in its logits, in {merged}")


if __name__ == "__main__":
    main()
