"""Values against annotations."""

from typing import Any, Literal

import pytest
from transformers import SchedulerType

from selfattn_hf.training.fields import check_value, describe, near_name, read_typed
from selfattn_hf.training.settings import MODEL_TYPES

Kind = Literal["bpe", "word"]
Affine = Literal["self_attention", "local_attention"]
Mixers = Literal[Affine, "rnn"] | list[Literal[Affine, "rnn"]] | None


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [(3, int, 3), (1e3, int, 1000), (3, float, 3), (0.5, float | None, 0.5), (None, int | None, None),
     (True, bool, True),
     ("bpe", Kind | None, "bpe"), ("cosine", SchedulerType | str, "cosine"), (["a"], str | list[str], ["a"]),
     ({"a": 1}, dict[str, Any] | str, {"a": 1}), ("rnn", Mixers, "rnn"), (None, Mixers, None),
     (["rnn", "self_attention", "rnn"], Mixers, ["rnn", "self_attention", "rnn"])],
)  # fmt: skip
def test_a_value_that_fits_is_taken(value, annotation, result):
    checked = check_value("x", value, annotation)
    assert checked == result and type(checked) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(True, int), ("3", int), (3.5, int), (True, float), ("a", float), (1, bool), ("true", bool), ("bp", Kind),
     (None, int), (1, str),
     ("cosin", SchedulerType | str), ([1], str | list[str]), (float("nan"), float), (float("inf"), float),
     (["rn"], Mixers), ([None], Mixers), ([["rnn"]], Mixers), ({"rnn": 1}, Mixers), (["bpe"], Kind)],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_refused_by_name(value, annotation):
    with pytest.raises(ValueError, match="my_setting"):
        check_value("my_setting", value, annotation)


def test_a_near_miss_names_the_member_meant():
    with pytest.raises(ValueError, match="takes bpe or word, got 'bp'.*Did you mean bpe"):
        check_value("x", "bp", Kind)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("self_atention", "got 'self_atention' (a text). Did you mean self_attention?"),
        (
            ["rnn", "self_atention"],
            "got 'self_atention' (a text) in the list ['rnn', 'self_atention']. Did you mean self_attention?",
        ),
        (["rnn", None], "got null in the list ['rnn', None]."),
        ("rnn, self_attention", "got 'rnn, self_attention' (a text). Did you mean [rnn, self_attention]?"),
        ("rnn, self_atention", "got 'rnn, self_atention' (a text). Did you mean self_attention?"),
        ("dense", "got 'dense' (a text)."),
    ],
)
def test_what_is_wrong_in_a_list_is_named_with_what_was_meant(value, sentence):
    with pytest.raises(ValueError) as error:
        check_value("x", value, Mixers)
    assert str(error.value) == f"x takes self_attention, local_attention, rnn, a list of them or null, {sentence}"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [(str | list[str], "a text or a list of texts"), (list[Kind], "a list of bpe or word"), (list, "a list"),
     (int | list[int] | None, "a whole number, a list of whole numbers or null"), (Kind, "bpe or word")],
)  # fmt: skip
def test_a_field_is_described_in_words(annotation, words):
    assert describe(annotation) == words


@pytest.mark.parametrize(
    "name",
    ["encoder_mixer", "decoder_mixer", "position_encoding", "encoder_position_encoding", "decoder_position_encoding"],
)
@pytest.mark.parametrize("text", ["[{}, {}]", "[{},{}]", "{},{}", "{}, {}"])
def test_a_switch_that_takes_lists_takes_them_in_every_spelling(name, text):
    one, other = ("rnn", "self_attention") if "mixer" in name else ("rope", "learned")
    assert read_typed(name, text.format(one, other), MODEL_TYPES[name]) == [one, other]
    assert read_typed(name, one, MODEL_TYPES[name]) == one
    with pytest.raises(ValueError, match=f"{name} takes .*got '{other}s'.* in the list .*Did you mean {other}\\?"):
        read_typed(name, text.format(one, other + "s"), MODEL_TYPES[name])


@pytest.mark.parametrize(
    ("text", "annotation", "result"),
    [("5e-4", float, 5e-4), ("-1", int, -1), ("1e3", int, 1000), ("true", bool, True), (True, bool, True),
     ("null", int | None, None), ("null", str | None, None), ("007", str, "007"),
     ("[a, b]", str | list[str], ["a", "b"]),
     ("a.json", str | list[str], "a.json"), ("0.5", float | str, 0.5), ("true", bool | str, True), ("", str, ""),
     ("a,b.json", str | list[str], "a,b.json"), ("[rnn]", Mixers, ["rnn"]), ("null", Mixers, None)],
)  # fmt: skip
def test_a_word_means_what_the_field_takes(text, annotation, result):
    value = read_typed("x", text, annotation)
    assert value == result and type(value) is type(result)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("yes", bool),
        (True, int),
        ("", int),
        ("x", float),
        ("[1", int),
        ("&a 1", int),
        ("rnn,", Mixers),
        ("[rnn", Mixers),
        ("[rnn,[rnn]]", Mixers),
    ],
)
def test_a_word_that_means_nothing_is_refused_by_name(text, annotation):
    with pytest.raises(ValueError, match="my_setting"):
        read_typed("my_setting", text, annotation)


def test_near_names():
    assert "learning_rate" in near_name("learnign_rate", ["learning_rate", "seed"])
    assert "--help" in near_name("zzz", ["learning_rate", "seed"])
