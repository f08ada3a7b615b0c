"""Ask a head that train_head.py saved. transformers is enough: the code of the model travels in its folder.

ask_head.py FOLDER "American forces killed him ."                         tags, or a label
ask_head.py FOLDER "American forces killed him ." "subject of killed"     the answer to a question
ask_head.py FOLDER "A man"                                                how the text goes on
"""

import argparse
from collections.abc import Callable
from typing import Any

Answer = Callable[[Any, Any, list[str], list[str]], str]


def tags(model: Any, tokenizer: Any, words: list[str], question: list[str]) -> str:
    """Every word with its label, which its first token knows."""
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    labels = model(**encoded).logits[0].argmax(-1).tolist()
    word_of = encoded.word_ids()
    first = [word_of.index(word) for word in range(len(words))]
    return " ".join(f"{word}/{model.config.id2label[labels[place]]}" for word, place in zip(words, first, strict=True))


def label(model: Any, tokenizer: Any, words: list[str], question: list[str]) -> str:
    """The likeliest label, and how likely it is."""
    shares = model(**tokenizer(" ".join(words), return_tensors="pt")).logits[0].softmax(-1)
    return f"{model.config.id2label[int(shares.argmax())]} ({shares.max():.0%})"


def span(model: Any, tokenizer: Any, words: list[str], question: list[str]) -> str:
    """The words from the likeliest first token to the likeliest last one behind it."""
    encoded = tokenizer(question, words, is_split_into_words=True, return_tensors="pt")
    out = model(**encoded)
    first = int(out.start_logits[0].argmax())
    last = first + int(out.end_logits[0, first:].argmax())
    found = [word for word in encoded.word_ids()[first : last + 1] if word is not None]
    return " ".join(words[min(found, default=0) : max(found, default=-1) + 1])


def goes_on(model: Any, tokenizer: Any, words: list[str], question: list[str]) -> str:
    """The text, and what is likeliest to follow."""
    written = model.generate(**tokenizer(" ".join(words), return_tensors="pt"), max_new_tokens=30, num_beams=4)
    return tokenizer.decode(written[0], skip_special_tokens=True)


# Class -> its Auto class, and how it answers.
HEADS: dict[str, tuple[str, Answer]] = {
    "SelfAttnForTokenClassification": ("AutoModelForTokenClassification", tags),
    "SelfAttnForSequenceClassification": ("AutoModelForSequenceClassification", label),
    "SelfAttnForQuestionAnswering": ("AutoModelForQuestionAnswering", span),
    "SelfAttnForCausalLM": ("AutoModelForCausalLM", goes_on),
}


def main() -> None:
    """Load by the Auto class, and answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what train_head.py saved")
    parser.add_argument("text", help="words with spaces between them")
    parser.add_argument("question", nargs="?", default="")
    options = parser.parse_args()
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(options.folder, trust_remote_code=True)
    auto, answer = HEADS[config.architectures[0]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.folder, trust_remote_code=True)
    model = getattr(transformers, auto).from_pretrained(options.folder, trust_remote_code=True)
    where = type(model).__module__.split(".")[0]
    print(f"{auto} made {type(model).__name__} from {where}: {options.question or options.text}")
    print(f"  -> {answer(model, tokenizer, options.text.split(), options.question.split())}")


if __name__ == "__main__":
    main()
