"""Every choice of every switch, and what is needed to try it: read off the config, so that a new word is tried too."""

import itertools
import json
import random
import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from selfattn_hf import MODELS, SelfAttnConfig, SelfAttnForConditionalGeneration, SelfAttnModel
from selfattn_hf.conversion.converting import FAMILIES
from selfattn_hf.data.settings import SyntaxName
from selfattn_hf.model.switches import TreePosition

STAGES = ("train", "evaluate", "save", "load", "generate")
VERBS, DIRECTIONS = ["walk", "run", "jump"], ["left", "right"]

# What a choice needs beside it; a choice of a field stands before the field as a whole.
NEEDS: dict[Any, dict[str, Any]] = {
    "rnn_type": {"encoder_mixer": "rnn", "decoder_mixer": "rnn"},
    "window_radius": {"encoder_mixer": "window", "decoder_mixer": "local_attention"},
    "relative_num_buckets": {"position_encoding": "t5"},
    "relative_max_distance": {"position_encoding": "shaw"},
    "rope_theta": {"position_encoding": "rope"},
    "max_position_embeddings": {"position_encoding": "learned", "decoder_mixer": "dense"},
}
# Choices of fields that have no list of words; a size or a rate that every run sets is none.
NUMBERS = {
    "window_radius": [1, 3],
    "position_shift": [4],
    "relative_max_distance": [5],
    "relative_num_buckets": [8],
    "rope_theta": [100],
    "max_position_embeddings": [40],
    "head_dim": [5],
    "initializer_range": [0.02],
    "attention_dropout": [0.1],
    "norm_eps": [1e-6],
}
LISTS = {
    "encoder_mixer": [["rnn", "self_attention"], ["local_attention", "dense"]],
    "decoder_mixer": [["rnn", "self_attention"], ["window", "local_attention"]],
    "position_encoding": [["sinusoidal", "rope"], ["learned", "alibi"]],
    "encoder_position_encoding": [["rope", "tree_relative"]],
}
NO_SWITCH = {
    "use_cache", "is_encoder_decoder", "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "num_labels",
    "decoder_start_token_id", "selfattn_version", "hidden_size", "encoder_layers", "decoder_layers",
    "num_attention_heads", "intermediate_size", "dropout",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Choice:
    """One thing to try: a value of a switch, a source of trees, a head, or a family of pretrained models."""

    row: str
    value: Any

    @property
    def name(self) -> str:
        return f"{self.row}-{self.value if isinstance(self.value, str) else json.dumps(self.value)}"

    @property
    def switches(self) -> dict[str, Any]:
        """Settings of a run in which the value acts."""
        if self.row == "syntax":
            return {"syntax": self.value, "encoder_position_encoding": "tree_relative"}
        given = {**NEEDS.get(self.row, {}), self.row: self.value}
        if "tree_" in str(self.value) and self.row == "position_encoding":
            given = {"encoder_position_encoding": self.value}
        return given | ({"syntax": "grammar"} if "tree_" in str(self.value) else {})


def words_of(annotation):
    """The values that an annotation spells out: words of a Literal, True and False."""
    if annotation is bool:
        return [True, False]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return [value for part in get_args(annotation) for value in words_of(part)]
    return []


def switches():
    """Every choice of every switch of the config."""
    for field in SelfAttnConfig.__dataclass_fields__.values():
        if field.name in NO_SWITCH or field.name not in SelfAttnConfig.__annotations__:
            continue
        values = [*words_of(field.type), *NUMBERS.get(field.name, []), *LISTS.get(field.name, [])]
        if field.name == "decoder_position_encoding":  # a decoder has no tree to read
            values = [value for value in values if value not in get_args(TreePosition)]
        assert values, f"{field.name} is a new field of the config: say in NUMBERS what to try, or in NO_SWITCH why not"
        yield from (Choice(field.name, value) for value in values)


SWITCHES = list(switches())
SYNTAX = [Choice("syntax", name) for name in get_args(SyntaxName) if name != "parser"]  # it needs a model of its own
HEADS = [
    Choice("heads", model._auto_class)
    for model in MODELS
    if model not in (SelfAttnForConditionalGeneration, SelfAttnModel)
]
PRETRAINED = [Choice("convert", family) for family in FAMILIES]
CHOICES = [*SWITCHES, *SYNTAX, *HEADS, *PRETRAINED]


def commands(count, seed):
    """Commands in SCAN's grammar, with words, tree, and their own reversal as the target."""
    draw = random.Random(seed)
    for _ in range(count):
        words, heads = [draw.choice(VERBS), draw.choice(DIRECTIONS)], ["2", "0"]
        if draw.random() < 0.5:
            words, heads = [*words, "twice"], ["2", "3", "0"]
        yield {"command": " ".join(words), "words": words, "head": heads, "target": " ".join(words[::-1])}


def write_jsonl(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_conllu(path, rows):
    lines = []
    for row in rows:
        lines.append(f"# target = {row['target']}")
        for number, (word, head) in enumerate(zip(row["words"], row["head"], strict=True), start=1):
            lines.append("\t".join([str(number), word, "_", "_", "_", "_", head, "dep", "_", "_"]))
        lines.append("")
    path.write_text("\n".join([*lines, ""]))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Format -> split -> file."""
    folder, found = tmp_path_factory.mktemp("commands"), {}
    for ending, write in (("jsonl", write_jsonl), ("conllu", write_conllu)):
        found[ending] = {split: str(folder / f"{split}.{ending}") for split in ("train", "validation", "test")}
        for (_, path), count, seed in zip(found[ending].items(), (24, 4, 4), itertools.count()):
            write(folder / path, list(commands(count, seed)))
    return found


@pytest.fixture(scope="session")
def values(files):
    """Settings of a run, for a choice and a folder."""

    def make(choice, folder):
        asked = choice.switches if choice.row not in ("heads", "convert") else {}
        syntax = asked.get("syntax")
        source = {"column": "words", "conllu": "tokens"}.get(syntax, "command")
        return {
            "dataset": files["conllu" if syntax == "conllu" else "jsonl"],
            "source_column": source,
            "target_column": "target",
            "tokenizer_type": "word",
            "hidden_size": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "metric": "token_accuracy",
            "max_steps": 2,
            "eval_steps": 2,
            "per_device_train_batch_size": 12,
            "max_new_tokens": 5,
            "output_dir": str(folder),
            "use_cpu": True,
            **asked,
        }

    return make
