"""Data settings are refused when they are built, in a sentence that names the field."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfattn_hf.data import DataSettings
from selfattn_hf.data import settings as module


def test_the_defaults_are_legal():
    assert DataSettings(dataset="any").tokenizer_type == "bpe"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("too_long", "shorten"),
        ("bad_rows", "cut"),
        ("tokenizer_type", "wordpiece"),
        ("max_source_length", 1),
        ("max_target_length", 0),
        ("max_train_rows", 0),
        ("max_eval_rows", -3),
        ("tokenizer_vocab_size", 4),
        ("tokenizer_vocab_size", True),
        ("max_source_length", 12.5),
        ("dataset", ""),
        ("dataset", []),
        ("syntax", "colum"),
    ],
)
def test_an_illegal_value_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(ValueError, match=field):
        DataSettings(**{"dataset": "any", field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("lowercase", True), ("tokenizer_type", "word"), ("tokenizer_vocab_size", 500), ("tokenizer_shared", False)],
)
def test_a_setting_for_training_a_tokenizer_is_refused_beside_a_loaded_one(field, value):
    assert getattr(DataSettings(dataset="any", **{field: value}), field) == value
    with pytest.raises(ValueError, match=rf"{field}.*tokenizer='t5-small'"):
        DataSettings(dataset="any", tokenizer="t5-small", **{field: value})


def test_source_and_target_cannot_be_the_same_column():
    with pytest.raises(ValueError, match="both are 'text'"):
        DataSettings(dataset="any", source_column="text", target_column="text")


@pytest.mark.parametrize("dataset", ["a.conllu", ["a.conllu", "b.conllu.gz"], {"train": ["a.conllu"]}])
def test_trees_of_conllu_files_are_asked_for_by_their_own_name(dataset):
    assert DataSettings(dataset=dataset, syntax="conllu").syntax == "conllu"
    with pytest.raises(ValueError, match="stand in .conllu files. Set syntax to conllu"):
        DataSettings(dataset=dataset, syntax="column")
    with pytest.raises(ValueError, match="syntax='conllu' reads the trees of .conllu files"):
        DataSettings(dataset="any", syntax="conllu")


@pytest.mark.parametrize(
    ("given", "needs"), [({"syntax_column": "en_head"}, "column"), ({"syntax_language": "de"}, "parser")]
)
def test_a_syntax_setting_that_would_do_nothing_is_refused(given, needs):
    assert DataSettings(dataset="any", syntax=needs, **given).syntax == needs
    for other in (None, "chain"):
        with pytest.raises(ValueError, match=f"{next(iter(given))}=.* would do nothing .*syntax='{needs}'"):
            DataSettings(dataset="any", syntax=other, **given)


def test_files_by_split_need_the_training_split():
    with pytest.raises(ValueError, match="train_split='train'"):
        DataSettings(dataset={"tset": "a.csv"})
    assert DataSettings(dataset={"all": "a.csv"}, train_split="all[:9]")


def test_the_settings_are_read_without_importing_anything_heavy():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(Path(module.__file__))], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
