"""Load a saved model in this fresh process by `AutoModelForSeq2SeqLM`, and show what it answers.

    scripts/show_answer.py MODEL                      with `import selfattn_hf`
    scripts/show_answer.py MODEL --without_package    by the code in the folder, as on a machine without this package

The texts are the examples that training wrote into MODEL/results.json.
"""

import argparse
import json
import sys
from pathlib import Path

from _cli import run


def main(arguments: list[str]) -> None:
    """Parse, load, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="folder that scripts/train.py left")
    parser.add_argument("--without_package", action="store_true", help="forbid `import selfattn_hf` in this process")
    options = parser.parse_args(arguments)
    results = options.model / "results.json"
    if not results.is_file():
        raise ValueError(f"{results} is missing: training writes it when it ends. Train, or name a finished model.")
    measured = json.loads(results.read_text(encoding="utf-8"))
    examples = measured["examples"]
    if not examples:
        raise ValueError(f"{results} holds no examples. Train with `examples: 5` and a validation or test split.")

    if options.without_package:
        sys.modules["selfattn_hf"] = None  # type: ignore[assignment] # from now on importing it raises ImportError
    else:
        import selfattn_hf  # noqa: F401 - registers the model with the Auto classes
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # The tokenizer is no code of ours, but transformers looks into the config beside it and would ask.
    trust = {"trust_remote_code": options.without_package}
    source = target = AutoTokenizer.from_pretrained(options.model, **trust)
    if (options.model / "target_tokenizer").is_dir():
        target = AutoTokenizer.from_pretrained(options.model / "target_tokenizer")
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model, **trust)
    batch = source([example["source"] for example in examples], return_tensors="pt", padding=True)
    answers = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])

    where = "the code in its folder, without the package" if options.without_package else "the package"
    print(f"\n{options.model} loaded by AutoModelForSeq2SeqLM as {type(model).__name__}, with {where}:")
    for example, answer in zip(examples, target.batch_decode(answers, skip_special_tokens=True), strict=True):
        print(f"  {example['source']}  ->  {answer}")
    split = "test" if "test" in measured else "validation"
    print(f"  {measured['metric']} when trained: {measured[split][measured['metric']]:.2f} on the {split} split")


if __name__ == "__main__":
    run(main)
