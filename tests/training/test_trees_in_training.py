"""Runs of a model that reads trees: from the data to the folder, and what the folder needs to be used again."""

import hashlib
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import Translator
from selfattn_hf.data import Syntax, load_tokenizers
from selfattn_hf.training import evaluate, make_settings, train
from selfattn_hf.training.run_folder import digest_of

VERBS, DIRECTIONS = ["walk", "run", "jump"], ["left", "right"]


def write_commands(path, count, seed):
    """Commands of SCAN with their own reversal as the target, and the trees of `column` beside them."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            words, heads = [draw.choice(VERBS), draw.choice(DIRECTIONS)], ["2", "0"]
            if draw.random() < 0.5:
                words, heads = [*words, "twice"], ["2", "3", "0"]
            row = {"command": " ".join(words), "words": words, "head": heads, "target": " ".join(words[::-1])}
            file.write(json.dumps(row) + "\n")
    return str(path)


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    sizes = {"train": 48, "validation": 8, "test": 8}
    return {split: write_commands(folder / f"{split}.jsonl", size, size) for split, size in sizes.items()}


@pytest.fixture
def tree_values(values, commands):
    """Settings of a short run with the trees of the grammar."""
    trees = {"dataset": commands, "source_column": "command", "syntax": "grammar", "metric": "exact_match",
             "position_encoding": "sinusoidal", "encoder_position_encoding": "tree_relative"}  # fmt: skip
    return {**values, **trees}


@pytest.mark.parametrize("position", ["tree_depth", "tree_relative", "tree_path", ["rope", "tree_relative"]])
@pytest.mark.parametrize("syntax", ["grammar", "column", "chain", "random"])
def test_a_run_ends_in_a_folder_that_evaluates_and_translates_as_the_run_did(tree_values, tmp_path, position, syntax):
    words = {"source_column": "words"} if syntax == "column" else {}
    results = train(make_settings({**tree_values, **words, "syntax": syntax, "encoder_position_encoding": position}))
    folder = tmp_path / "out"
    assert results["data"]["train"]["kept"] == 48
    assert load_tokenizers(folder).syntax == Syntax(syntax)
    assert evaluate(str(folder))["test"] == pytest.approx(results["test"])
    translator = Translator.from_pretrained(folder, device="cpu")
    rows = read(tree_values["dataset"]["test"])
    given = ([row["words"] for row in rows], [row["head"] for row in rows])
    sources = [row["command"] for row in rows]
    answers = translator(given[0], heads=given[1]) if syntax == "column" else translator(sources)
    by_source = dict(zip(sources, answers, strict=True))
    assert [by_source[example["source"]] for example in results["examples"]] == [
        example["output"] for example in results["examples"]
    ]


def test_the_trees_reach_the_loss_and_the_writing(tree_values, tmp_path, monkeypatch):
    seen = []
    train(make_settings(tree_values))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    for name in ("forward", "generate"):
        original = getattr(type(model), name)

        def watched(self, *args, original=original, name=name, **given):
            if given.get("encoder_outputs") is None:
                seen.append((name, given["syntax_heads"].tolist(), given["syntax_nodes"].tolist()))
            return original(self, *args, **given)

        monkeypatch.setattr(type(model), name, watched)
    evaluate(str(tmp_path / "out"), {"per_device_eval_batch_size": "8"})
    assert {name for name, _, _ in seen} == {"forward", "generate"}
    for _, heads, nodes in seen:
        assert [1, 2, 2, -1] in heads and [0, 1, 2, -1] in nodes
        assert [1, 1, -1, -1] in heads


def test_other_trees_give_other_figures(tree_values, tmp_path):
    train(make_settings(tree_values))
    folder = str(tmp_path / "out")
    by_tree = {name: evaluate(folder, {"syntax": name})["test"]["loss"] for name in ("grammar", "chain", "flat")}
    assert len({round(loss, 6) for loss in by_tree.values()}) == 3


@pytest.mark.parametrize("batches", [{}, {"batch_tokens": 96, "per_device_train_batch_size": None}])
def test_a_run_with_trees_resumed_equals_one_never_stopped(tree_values, tmp_path, batches):
    shared = {**tree_values, **batches, "predict_with_generate": False, "eval_steps": 4, "metric": "token_accuracy"}
    shared = {name: value for name, value in shared.items() if value is not None}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(make_settings({**shared, "output_dir": str(whole)}))
    train(make_settings({**shared, "output_dir": str(parts), "max_steps": 4}))
    train(make_settings({**shared, "output_dir": str(parts)}))
    first, second = (load_file(folder / "checkpoint-8" / "model.safetensors") for folder in (whole, parts))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_other_trees_of_the_same_words_are_other_training_rows(tree_values, tmp_path):
    values = {**tree_values, "syntax": "column", "source_column": "words", "max_steps": 2}
    rows = read(values["dataset"]["train"])
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values["dataset"] = {**values["dataset"], "train": str(path)}
    train(make_settings(values))
    for row in rows:
        row["head"] = ["0", "1", "1"][: len(row["words"])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="training rows are not those"):
        train(make_settings(values))


def test_rows_without_trees_have_the_digest_of_their_ids_alone():
    plain = {"input_ids": [4, 2], "labels": [5, 2]}
    assert digest_of([plain]) == hashlib.sha256(b"[[4, 2], [5, 2]]").hexdigest()
    assert digest_of([plain]) != digest_of([{**plain, "syntax_heads": [0, -1], "syntax_nodes": [0, -1]}])


def test_a_run_begun_before_a_setting_existed_is_resumed(values, tmp_path):
    train(make_settings({**values, "max_steps": 2}))
    path = tmp_path / "out" / "run.json"
    kept = json.loads(path.read_text())
    for name in ("syntax", "syntax_column", "syntax_language", "position_shift", "share_layers"):
        del kept["settings"][name]
    path.write_text(json.dumps(kept))
    assert train(make_settings({**values, "max_steps": 4}))["steps"] == 4


def test_evaluation_takes_trees_from_another_column(tree_values, tmp_path):
    train(make_settings({**tree_values, "syntax": "column", "source_column": "words"}))
    rows = read(tree_values["dataset"]["test"])
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"gold": row.pop("head"), **row}) + "\n" for row in rows))
    folder = str(tmp_path / "out")
    again = evaluate(folder, {"dataset": str(path), "syntax_column": "gold"})
    assert again["test"] == pytest.approx(evaluate(folder)["test"])
    with pytest.raises(ValueError, match="syntax_column='head' is not in the data"):
        evaluate(folder, {"dataset": str(path)})


def test_evaluation_with_another_source_of_trees_forgets_the_column_of_the_training(tree_values, tmp_path):
    rows = {split: read(path) for split, path in tree_values["dataset"].items()}
    for split, path in rows.items():
        text = "".join(json.dumps({"tree": row["head"], **row}) + "\n" for row in path)
        (tmp_path / f"{split}.jsonl").write_text(text)
    files = {split: str(tmp_path / f"{split}.jsonl") for split in rows}
    trees = {"syntax": "column", "syntax_column": "tree", "source_column": "words"}
    train(make_settings({**tree_values, "dataset": files, **trees}))
    assert evaluate(str(tmp_path / "out"), {"syntax": "chain"})["data"]["test"]["kept"] == 8


NOWHERE = {"dataset": "./no-such-folder"}


@pytest.mark.parametrize("missing", ["syntax", "encoding"])
def test_trees_and_their_encoding_need_each_other_before_data_are_read(tree_values, missing):
    values = {**tree_values, **NOWHERE}
    values.pop("syntax" if missing == "syntax" else "encoder_position_encoding")
    message = {
        "syntax": r"\(tree_relative\) reads trees, and syntax does not say where they come from. Set syntax",
        "encoding": r"syntax=grammar would do nothing: .*\(sinusoidal\) reads no trees",
    }[missing]
    with pytest.raises(ValueError, match=message):
        make_settings(values)


@pytest.mark.parametrize("reads", [True, False])
def test_a_start_from_a_model_is_checked_with_its_own_config_before_data_are_read(tree_values, tmp_path, reads):
    if not reads:
        tree_values = {name: value for name, value in tree_values.items() if name != "encoder_position_encoding"}
        tree_values["syntax"] = None
    train(make_settings({**tree_values, "max_steps": 1, "eval_steps": 1, "output_dir": str(tmp_path / "first")}))
    shapes = ("hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "intermediate_size",
              "tokenizer_type", "position_encoding", "encoder_position_encoding")  # fmt: skip
    again = {name: value for name, value in tree_values.items() if name not in shapes}
    again |= {"init_from": str(tmp_path / "first"), "max_steps": 1, "eval_steps": 1}
    wrong = {"syntax": None if reads else "chain", **NOWHERE}
    with pytest.raises(
        ValueError, match="does not say where they come from" if reads else "syntax=chain would do nothing"
    ):
        train(make_settings({**again, **wrong}))
    assert train(make_settings({**again, "syntax": "random" if reads else None}))["steps"] == 1
    assert load_tokenizers(tmp_path / "out").syntax == (Syntax("random") if reads else None)


def test_an_evaluation_without_the_trees_that_the_model_reads_is_refused(tree_values, tmp_path):
    train(make_settings(tree_values))
    with pytest.raises(ValueError, match="syntax does not say where they come from"):
        evaluate(str(tmp_path / "out"), {"syntax": "null"})
