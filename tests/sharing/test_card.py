"""The card of a run: a head that the Hub takes, and text that a stranger can read and copy code from."""

import csv
import json
import re

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.utils import get_session

from selfattn_hf import SelfAttnConfig
from selfattn_hf.sharing import card_of
from selfattn_hf.sharing.card_words import data_words, is_hub_id, table
from selfattn_hf.training.yaml_files import read_yaml


def blocks(card, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", card, flags=re.DOTALL)


@pytest.fixture(scope="module")
def card(trained):
    return (trained / "README.md").read_text()


@pytest.fixture(scope="module")
def results(trained):
    return json.loads((trained / "results.json").read_text())


def test_the_head_says_the_figures_as_a_model_index(card, results):
    head = ModelCard(card).data
    assert head.model_name == "backwards" and head.library_name == "transformers"
    found = {(one.dataset_split, one.metric_type): one for one in head.eval_results}
    for split in ("validation", "test"):
        for metric in ("bleu", "chrf", "exact_match", "token_accuracy"):
            assert found.pop((split, metric)).metric_value == round(results[split][metric], 2)
    assert not found
    again = {one.metric_type: one.metric_args for one in head.eval_results}
    assert again["bleu"] == {"signature": results["signatures"]["bleu"]} and again["exact_match"] is None
    assert head.license is None and head.datasets is None, "nobody said a licence, and local files are no data set"


def test_the_hub_takes_the_head_and_would_refuse_a_broken_one(card, online):
    ModelCard(card).validate()
    for wrong in (card.replace("  results:\n", "  result:\n", 1), card.replace("tags:", "tags: [", 1)):
        answer = get_session().post(f"{online.url}/api/validate-yaml", json={"repoType": "model", "content": wrong})
        assert wrong != card and answer.status_code == 400


def test_the_code_with_the_package_runs_on_the_folder(card, trained, capsys):
    code = blocks(card)[0].replace("owner/name", str(trained))
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[")


def test_each_way_of_use_takes_ten_lines_at_most_and_pins_the_commit(card):
    codes = blocks(card)
    assert len(codes) == 2
    for code in codes:
        assert len([line for line in code.splitlines() if line.strip()]) <= 10
        assert '"COMMIT"' in code and '"owner/name"' in code
    assert "selfattn_hf" in codes[0] and "selfattn_hf" not in codes[1]


def test_the_switches_are_those_that_differ_from_the_default(card, trained):
    config, default = SelfAttnConfig.from_pretrained(trained), SelfAttnConfig()
    shown = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \| `[^`]*` \|$", card, flags=re.MULTILINE))
    assert shown["hidden_size"] == "16" and shown["encoder_layers"] == "1"
    assert all(getattr(config, name) != getattr(default, name) for name in shown)
    assert "position_encoding" not in shown and "Encoder: embedding of 16 numbers" in card


def test_every_figure_curve_and_example_stands_there(card, trained, results):
    for example in results["examples"]:
        assert f"| {example['source']} | {example['output']} | {example['reference']} |" in card
    assert f"{results['parameters']:,} parameters" in card and results["signatures"]["bleu"] in card
    assert "64 of 64" in card and "4 steps" in card and "one run, seed 42" in card
    with (trained / "training_curve.csv").open() as file:
        evaluations = [row for row in csv.DictReader(file) if row["eval_loss"]]
    for row in evaluations:
        assert re.search(rf"^\| {row['step']} \| [\d.]+ \| {float(row['eval_loss']):.3f} \|", card, re.MULTILINE)


def test_the_command_to_repeat_is_the_settings_file_beside_it(card, trained):
    assert "python scripts/train.py settings.yaml" in blocks(card, "bash")[0]
    assert (trained / "settings.yaml").is_file()


def test_no_path_of_this_machine_stands_there(card, trained, data):
    assert str(trained.parent) not in card and str(data["train"]) not in card
    assert "the local files train.jsonl, validation.jsonl, test.jsonl" in card


def test_what_is_not_known_is_left_out(model):
    for name in ("results.json", "training_curve.csv"):
        (model / name).unlink()
    bare = card_of(model)
    assert ModelCard(bare).data.eval_results is None
    for title in ("## What it does", "## Data", "## Training", "## Figures"):
        assert title not in bare
    for title in ("## Use it", "## What it is", "## Limits", "## Licence", "## Versions"):
        assert title in bare


def test_names_on_the_hub_are_linked_and_in_the_head(model):
    settings = {**read_yaml(model / "settings.yaml"), "dataset": "anna/words", "dataset_revision": "abc123",
                "init_from": "berta/old"}  # fmt: skip
    text = card_of(model, settings)
    head = ModelCard(text).data
    assert head.datasets == ["anna/words"] and head.base_model == "berta/old"
    assert head.eval_results[0].dataset_type == "anna/words" and head.eval_results[0].dataset_revision == "abc123"
    assert "https://huggingface.co/datasets/anna/words" in text and "fine-tuned from berta/old" in text


def test_a_model_that_reads_trees_is_used_with_the_package(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"encoder_position_encoding": "tree_depth"}))
    for syntax, call in (("chain", "print(translate(['"), ("column", "heads=[[0, 1")):
        text = card_of(model, {**read_yaml(model / "settings.yaml"), "syntax": syntax})
        assert len(blocks(text)) == 1 and call in text and "syntax_heads" in text


def test_a_model_that_sees_the_future_says_so(model):
    before = card_of(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"future_mask": False, "use_cache": False}))
    assert "trained seeing the future" in card_of(model) and "trained seeing the future" not in before


def test_markup_in_a_text_stays_text():
    shown = table(("a", "b"), [("x | y", "**bold** <b> [l](u) `c`")]).splitlines()[2]
    assert shown == r"| x \| y | \*\*bold\*\* \<b\> \[l\](u) \`c\` |"
    assert table(("a",), [("two\nlines",)]).splitlines()[2] == "| two lines |"
    assert len(table(("a",), [("x" * 1000,)]).splitlines()[2]) < 320


def test_a_name_on_the_hub_is_no_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("anna/words") and not is_hub_id("data/x/y") and not is_hub_id(["a/b"]) and not is_hub_id(None)
    (tmp_path / "anna" / "words").mkdir(parents=True)
    assert not is_hub_id("anna/words")
    assert data_words({"train": ["elsewhere/a.csv", "b.csv"]}) == "the local files a.csv, b.csv"
