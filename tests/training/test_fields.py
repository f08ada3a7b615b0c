"""Values against annotations."""

from typing import Any, Literal

import pytest
from transformers import SchedulerType

from selfattn_hf.training.fields import check_value, near_name, read_typed

Kind = Literal["bpe", "word"]


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [(3, int, 3), (1e3, int, 1000), (3, float, 3), (0.5, float | None, 0.5), (None, int | None, None),
     (True, bool, True),
     ("bpe", Kind | None, "bpe"), ("cosine", SchedulerType | str, "cosine"), (["a"], str | list[str], ["a"]),
     ({"a": 1}, dict[str, Any] | str, {"a": 1})],
)  # fmt: skip
def test_a_value_that_fits_is_taken(value, annotation, result):
    checked = check_value("x", value, annotation)
    assert checked == result and type(checked) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(True, int), ("3", int), (3.5, int), (True, float), ("a", float), (1, bool), ("true", bool), ("bp", Kind),
     (None, int), (1, str),
     ("cosin", SchedulerType | str), ([1], str | list[str]), (float("nan"), float), (float("inf"), float)],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_refused_by_name(value, annotation):
    with pytest.raises(ValueError, match="my_setting"):
        check_value("my_setting", value, annotation)


def test_a_near_miss_names_the_member_meant():
    with pytest.raises(ValueError, match="takes bpe or word, got 'bp'.*Did you mean bpe"):
        check_value("x", "bp", Kind)


@pytest.mark.parametrize(
    ("text", "annotation", "result"),
    [("5e-4", float, 5e-4), ("-1", int, -1), ("1e3", int, 1000), ("true", bool, True), (True, bool, True),
     ("null", int | None, None), ("null", str | None, None), ("007", str, "007"),
     ("[a, b]", str | list[str], ["a", "b"]),
     ("a.json", str | list[str], "a.json"), ("0.5", float | str, 0.5), ("true", bool | str, True), ("", str, "")],
)  # fmt: skip
def test_a_word_means_what_the_field_takes(text, annotation, result):
    value = read_typed("x", text, annotation)
    assert value == result and type(value) is type(result)


@pytest.mark.parametrize(
    ("text", "annotation"), [("yes", bool), (True, int), ("", int), ("x", float), ("[1", int), ("&a 1", int)]
)
def test_a_word_that_means_nothing_is_refused_by_name(text, annotation):
    with pytest.raises(ValueError, match="my_setting"):
        read_typed("my_setting", text, annotation)


def test_near_names():
    assert "learning_rate" in near_name("learnign_rate", ["learning_rate", "seed"])
    assert "--help" in near_name("zzz", ["learning_rate", "seed"])
