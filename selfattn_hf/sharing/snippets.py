"""Code of a card, to be copied: how the model is used with this package and without it. The tests run it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfattn_hf.data.tokenization import TARGET_FOLDER
from selfattn_hf.model import SelfAttnConfig

from .card_words import NOT_YET, OWNER_NAME

_PIN = (
    f"Put the commit that you looked at where `{NOT_YET}` stands (under *Files and versions*, *History*): what is "
    "pinned stays as it is, weights and code. Leave `revision` out for the newest."
)


def snippets(config: SelfAttnConfig, folder: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The section on use."""
    if not config.is_encoder_decoder:
        return ""
    text = next((each["source"] for each in results.get("examples", [])), "a text")
    heads = settings.get("syntax") in ("column", "conllu")
    said = f"## Use it\n\nWith the package selfattn_hf:\n\n{_with_package(text, heads)}\n\n"
    if config.reads_trees:
        said += (
            "The model reads trees over its input, which the package makes, or reads from you. Without the package, "
            "`generate` wants them as `syntax_heads`: for every token the place of its head.\n\n"
        )
    else:
        own = (folder / TARGET_FOLDER).is_dir()
        said += (
            "Without it, by the code beside the weights. It runs on your machine, so look at it before you trust it:"
            "\n\n"
            f"{_without(text, own)}\n\n"
        )
    return said + _PIN


def _with_package(text: str, heads: bool) -> str:
    words = text.split()
    call = repr([text])
    if heads:  # a parser's heads; here each word under the one before it
        call = f"{[words]!r}, heads={[list(range(len(words)))]!r}"
    return (
        "```python\n"
        "from selfattn_hf import Translator\n\n"
        f'translate = Translator.from_pretrained("{OWNER_NAME}", revision="{NOT_YET}")\n'
        f"print(translate({call}))\n"
        "```"
    )


def _without(text: str, own: bool) -> str:
    """Without the package, in at most ten lines."""
    writer = "tokenizer"
    more = ""
    if own:
        writer = "target"
        more = f'target = AutoTokenizer.from_pretrained(name, subfolder="{TARGET_FOLDER}", **pinned)\n'
    return (
        "```python\n"
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        f'name, pinned = "{OWNER_NAME}", {{"revision": "{NOT_YET}", "trust_remote_code": True}}\n'
        "tokenizer = AutoTokenizer.from_pretrained(name, **pinned)\n"
        f"{more}"
        "model = AutoModelForSeq2SeqLM.from_pretrained(name, **pinned)\n"
        f'batch = tokenizer([{text!r}], return_tensors="pt")\n'
        'output = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])\n'
        f"print({writer}.batch_decode(output, skip_special_tokens=True))\n"
        "```"
    )
