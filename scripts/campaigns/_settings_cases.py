"""Bad settings: every key of a shipped config spoiled in turn, and YAML that nobody means well with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from selfattn_hf.training.settings import DATA_TYPES, MODEL_TYPES, RUN_TYPES
from selfattn_hf.training.yaml_files import dump_yaml, parse_yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("accelerate", "studies")
)
SMALLEST = "dataset: configs/quickstart_data\nsource_column: text\ntarget_column: iso\n"


@dataclass(frozen=True)
class Case:
    """One bad settings file: its content, and what the refusal must name."""

    name: str
    content: bytes
    words: tuple[str, ...]


def spoiled(path: Path) -> Iterator[Case]:
    """Every key of a config misspelt, of a wrong type, given twice, and where it takes words, with a misspelt one."""
    text = path.read_text(encoding="utf-8")
    values = parse_yaml(text)
    for key, value in values.items():
        near = misspelt(key)
        without = {name: other for name, other in values.items() if name != key}
        where = f"{path.stem}: {key}"
        yield Case(f"{where} misspelt", written({near: value} | without), (near, f"Did you mean {key}?"))
        for wrong in wrong_values(key):
            yield Case(f"{where} is {wrong!r}", written(without | {key: wrong}), (key, repr(wrong)))
        yield Case(f"{where} twice", f"{text}\n{dump_yaml({key: value})}".encode(), (key, "second time", "line"))
        if isinstance(value, str) and words_of(key):
            typo = misspelt(value)
            yield Case(f"{where} is {typo}", written(without | {key: typo}), (key, typo, f"Did you mean {value}?"))
        if key in ("source_column", "target_column", "train_split") and "quickstart_data" in str(values["dataset"]):
            typo = misspelt(value)
            yield Case(f"{where} is {typo}", written(without | {key: typo}), (key, typo, f"Did you mean {value}?"))


def misspelt(word: str) -> str:
    """A word with two neighbours in it exchanged, or with one letter twice where that changes nothing."""
    for place in range(len(word) // 2, len(word) - 1):
        if word[place] != word[place + 1]:
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word + word[-1]


def wrong_values(key: str) -> list[Any]:
    """Values of types that a setting does not take."""
    return [5, [[5]]] if key in ("dataset", "output_dir", "source_column", "target_column") else [[[5]], {"a": 5}]


def words_of(key: str) -> list[str]:
    """The words that a setting takes, where it takes named ones."""
    words: list[str] = []
    waiting = [{**DATA_TYPES, **RUN_TYPES, **MODEL_TYPES}.get(key)]
    while waiting:
        hint = waiting.pop()
        if get_origin(hint) is Literal:
            words += get_args(hint)
        else:
            waiting += get_args(hint)
    return words


def written(values: dict[str, Any]) -> bytes:
    """Settings as a file."""
    return dump_yaml(values).encode()


def lines(*more: str) -> bytes:
    """A whole settings file, and lines after it."""
    return (SMALLEST + "\n".join(more) + "\n").encode()


BILLION_LAUGHS = "\n".join(["a0: &a0 [lol, lol, lol]"] + [
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])  # fmt: skip

HOSTILE = [
    Case("a tag that runs a command", lines("seed: !!python/object/apply:os.system [touch pwned]"),
         ("line 4", "python/object")),
    Case("a tag that makes an object", lines("seed: !!python/object/new:os.system [touch pwned]"), ("line 4", "tag")),
    Case("a tag of a name", lines("metric: !!python/name:os.system"), ("line 4", "tag")),
    Case("a tag of one's own", lines("seed: !mine 5"), ("line 4", "!mine")),
    Case("a tag of YAML's own", lines("seed: !!str 5"), ("line 4", "tag")),
    Case("a binary tag", lines("metric: !!binary R0lGODlh"), ("line 4", "tag")),
    Case("a set", lines("metric: !!set {bleu}"), ("line 4", "tag")),
    Case("an anchor", lines("seed: &a 5"), ("line 4", "&a")),
    Case("an alias", lines("seed: &a 5", "data_seed: *a"), ("line 4", "&a")),
    Case("an alias without an anchor", lines("seed: *a"), ("line 4", "*a")),
    Case("a billion laughs", BILLION_LAUGHS.encode(), ("line 1", "&a0")),
    Case("an alias of itself", b"&a [*a]", ("&a",)),
    Case("a merge key", lines("<<: {seed: 5}"), ("<<",)),
    Case("a key twice", lines("seed: 1", "metric: bleu", "seed: 2"), ("line 6", "seed", "second time")),
    Case("a key twice inside", b"dataset: {train: a, train: b}\n", ("train", "second time")),
    Case("a key in two spellings", lines("learning-rate: 1"), ("learning-rate", "Did you mean learning_rate?")),
    Case("a list", b"- dataset\n- seed\n", ("settings.yaml", "name: value", "list")),
    Case("a text", b"just a sentence", ("settings.yaml", "name: value")),
    Case("a number", b"42", ("settings.yaml", "name: value")),
    Case("nothing", b"", ("dataset",)),
    Case("comments alone", b"# dataset: x\n", ("dataset",)),
    Case("two documents", lines("---", "seed: 5"), ("settings.yaml", "line")),
    Case("binary", bytes(range(256)) * 20, ("settings.yaml", "UTF-8")),
    Case("UTF-16", SMALLEST.encode("utf-16"), ("settings.yaml", "UTF-8")),
    Case("Latin-1", lines("# Käse").decode().encode("latin-1"), ("settings.yaml", "UTF-8")),
    Case("a zero byte", lines("metric: bl\x00eu"), ("settings.yaml",)),
    Case("an escape of a terminal", lines("metric: \x1b[2Jbleu"), ("settings.yaml",)),
    Case("a tab", lines("\tseed: 5"), ("settings.yaml", "line 4")),
    Case("a bracket that stays open", lines("dataset_config: [a"), ("settings.yaml", "line")),
    Case("a quotation that stays open", lines('metric: "bleu'), ("settings.yaml", "line")),
    Case("two colons", lines("metric: bleu: 3"), ("settings.yaml", "line 4")),
    Case("brackets without end", b"seed: " + b"[" * 100_000, ("settings.yaml", "nested")),
    Case("braces without end", b"seed: " + b"{a: " * 20_000, ("settings.yaml", "nested")),
    Case("nesting by dashes", b"seed: \n" + b"- " * 20_000 + b"5", ("settings.yaml", "nested")),
    Case("a file of megabytes", lines("# " + "x" * 80, *[f"key_{n}: {n}" for n in range(120_000)]),
         ("settings.yaml", "1,048,576 bytes")),
    Case("a value of megabytes", lines(f"metric: {'x' * 5_000_000}"), ("settings.yaml", "1,048,576 bytes")),
    Case("a number of 5000 digits", lines(f"seed: {'9' * 5000}"), ("settings.yaml", "line 4")),
    Case("a number of 400 digits", lines(f"hidden_size: {'9' * 400}"), ("hidden_size",)),
    Case("an infinite number", lines("learning_rate: .inf"), ("learning_rate", "finite")),
    Case("a number that overflows", lines("learning_rate: 1e999"), ("learning_rate", "finite")),
    Case("no number", lines("dropout: .nan"), ("dropout", "finite")),
    Case("a number as key", lines("5: seed"), ("line 4", "5")),
    Case("null as key", lines("~: seed"), ("line 4", "null")),
    Case("a list as key", lines("? [a, b]", ": 5"), ("line 4",)),
    Case("a dictionary as key", lines("{a: b}: 5"), ("line 4",)),
    Case("nested groups", lines("model:", "  hidden_size: 64"), ("model",)),
    Case("letters of another alphabet", lines("sееd: 5"), ("sееd", "--help")),
    Case("a name that nothing is near to", lines("zzz: 5"), ("zzz", "--help")),
    Case("a word of the old YAML", lines("fp16: yes"), ("fp16", "'yes'", "true or false")),
    Case("sixty seconds", lines("seed: 1:30"), ("seed", "1:30")),
    Case("null for what must be", lines("seed: ~"), ("seed", "null")),
    Case("no data set", b"source_column: a\n", ("dataset", "must be set")),
    Case("a token", lines("hub_token: hf_abc"), ("hub_token", "HF_TOKEN")),
    Case("what something else decides", lines("vocab_size: 100"), ("vocab_size", "tokenizer_vocab_size")),
    Case("what is not taken", lines("hub_strategy: every_save"), ("hub_strategy", "push_to_hub", "hub_model_id")),
    Case("a push to nowhere", lines("push_to_hub: true"), ("push_to_hub", "hub_model_id", "owner/name")),
    Case("a place that nothing is pushed to", lines("hub_model_id: anna/model"), ("hub_model_id", "push_to_hub")),
    Case("a place that there cannot be", lines("push_to_hub: true", "hub_model_id: anna/../model"), ("anna/../model",)),
    Case("a place without an owner", lines("push_to_hub: true", "hub_model_id: model"), ("model", "owner/name")),
    Case("two that exclude each other", lines("batch_tokens: 100", "per_device_train_batch_size: 5"),
         ("batch_tokens", "per_device_train_batch_size")),
    Case("a switch that does nothing", lines("rope_theta: 500"), ("rope_theta",)),
    Case("switches that do not fit", lines("encoder_mixer: rnn", "position_encoding: rope"), ("rnn", "rope")),
    Case("heads that do not divide", lines("hidden_size: 96", "num_attention_heads: 7"),
         ("num_attention_heads", "hidden_size")),
    Case("a size without end", lines(f"hidden_size: {10**12}"), ("hidden_size", str(10**12))),
    Case("layers without end", lines("encoder_layers: 1000000"), ("encoder_layers", "1000000")),
    Case("a negative size", lines("intermediate_size: -1"), ("intermediate_size", "-1")),
    Case("a negative batch", lines("per_device_train_batch_size: -1"), ("per_device_train_batch_size", "-1")),
    Case("no batch", lines("per_device_eval_batch_size: 0"), ("per_device_eval_batch_size", "0")),
    Case("no accumulation", lines("gradient_accumulation_steps: 0"), ("gradient_accumulation_steps", "0")),
    Case("a negative rate", lines("learning_rate: -0.1"), ("learning_rate", "-0.1")),
    Case("a negative number of epochs", lines("num_train_epochs: -3"), ("num_train_epochs", "-3")),
    Case("a negative clip", lines("max_grad_norm: -1"), ("max_grad_norm", "-1")),
    Case("a smoothing above one", lines("label_smoothing_factor: 1.5"), ("label_smoothing_factor", "1.5")),
    Case("a decay below zero", lines("weight_decay: -1"), ("weight_decay", "-1")),
    Case("a beta above one", lines("adam_beta2: 1.2"), ("adam_beta2", "1.2")),
    Case("an epsilon below zero", lines("adam_epsilon: -1"), ("adam_epsilon", "-1")),
    Case("a negative warmup", lines("warmup_steps: -5"), ("warmup_steps", "-5")),
    Case("a negative seed", lines("seed: -1"), ("seed", "-1")),
    Case("workers below zero", lines("dataloader_num_workers: -1"), ("dataloader_num_workers", "-1")),
    Case("steps below zero between saves", lines("save_steps: -5"), ("save_steps", "-5")),
    Case("no steps between evaluations", lines("eval_steps: 0"), ("eval_steps", "0")),
    Case("no steps between log entries", lines("logging_steps: 0"), ("logging_steps", "0")),
    Case("a scheduler that there is not", lines("lr_scheduler_type: cosin"), ("lr_scheduler_type", "cosine")),
    Case("an optimizer that there is not", lines("optim: adam_w"), ("optim", "adam_w")),
    Case("where to report that there is not", lines("report_to: tensorbord"), ("report_to", "tensorbord")),
]  # fmt: skip

SHIPPED = [case for path in CONFIGS for case in spoiled(path)]
CASES = [*SHIPPED, *HOSTILE]
