"""Every row is kept, cut or dropped, counted, and never lost between its text and its ids."""

import pytest
from datasets import Dataset, Features, Json

from selfattn_hf.data import DataSettings, load_tokenizers, prepare

ODD = {
    "source": ["a dog", None, "", "   ", "a girl in a yellow coat looks at the moon", "men"],
    "target": ["ein Hund", "x", "y", "z", "ein Mann", None],
}


@pytest.fixture
def odd_rows():
    """One good row, one long row, four without text."""
    return Dataset.from_dict(ODD)


def test_ids_end_with_the_end_token_and_decode_to_the_texts(rows, make_tokenizers, make_settings):
    tokenizers = make_tokenizers()
    ready, report = prepare(rows, tokenizers, make_settings(), "train")
    assert report.kept == report.rows == len(ready) == 20 and not report.dropped and not report.cut
    for row, text in zip(ready, rows, strict=True):
        assert row["input_ids"][-1] == row["labels"][-1] == 2
        assert tokenizers.source.decode(row["input_ids"], skip_special_tokens=True) == text["source"] == row["source"]
        assert tokenizers.target.decode(row["labels"], skip_special_tokens=True) == text["target"] == row["target"]
    assert report.source_tokens == sum(map(len, ready["input_ids"]))


def test_separate_tokenizers_each_read_their_side(rows, make_tokenizers, make_settings):
    tokenizers = make_tokenizers(tokenizer_type="word", tokenizer_shared=False)
    _, report = prepare(rows, tokenizers, make_settings(), "train")
    assert report.source_unknown == report.target_unknown == 0
    swapped = rows.rename_columns({"source": "target", "target": "source"})
    _, report = prepare(swapped, tokenizers, make_settings(), "train")
    assert report.source_unknown > 0 and report.target_unknown > 0
    assert "source tokens unknown" in str(report)


def test_rows_without_text_are_dropped_and_counted_by_reason(odd_rows, make_tokenizers, make_settings):
    ready, report = prepare(odd_rows, make_tokenizers(), make_settings(), "validation")
    assert report.dropped == {"missing": 2, "empty": 2}
    assert (report.rows, report.kept) == (6, 2)
    assert ready["source"] == [ODD["source"][0], ODD["source"][4]]
    line = str(report)
    assert "\n" not in line
    assert line.startswith("validation: 2 of 6 rows; 4 dropped (2 missing, 2 empty)")


def test_values_that_are_no_text_are_counted_one_by_one(make_tokenizers, make_settings):
    mixed = Dataset.from_dict(
        {"source": ["a", 3, ["x"], "b"], "target": ["c", "d", "e", {"f": 1}]},
        features=Features({"source": Json(), "target": Json()}),
    )
    ready, report = prepare(mixed, make_tokenizers(), make_settings(), "train")
    assert report.dropped == {"wrong type": 3} and ready["source"] == ["a"]
    with pytest.raises(ValueError, match="row 1 .* column 'source' is a int and must be a text: 3"):
        prepare(mixed, make_tokenizers(), make_settings(bad_rows="refuse"), "train")


def test_bad_rows_are_refused_by_number_split_and_column(odd_rows, make_tokenizers):
    settings = DataSettings(dataset="any", bad_rows="refuse", source_column="en")
    with pytest.raises(ValueError, match=r"row 1 \(counted from 0\) of the test split: column 'en' is missing"):
        prepare(odd_rows, make_tokenizers(), settings, "test")


def test_long_rows_are_cut_and_still_end(odd_rows, make_tokenizers, make_settings):
    ready, report = prepare(odd_rows, make_tokenizers(), make_settings(max_source_length=6), "train")
    assert report.cut == 1 and report.kept == 2
    assert [len(ids) <= 6 for ids in ready["input_ids"]] == [True, True]
    assert ready["input_ids"][1][-1] == 2 and len(ready["input_ids"][1]) == 6
    assert "1 cut" in str(report)


def test_a_row_of_exactly_the_longest_length_is_not_cut(odd_rows, make_tokenizers, make_settings):
    tokenizers = make_tokenizers()
    longest = len(tokenizers.source(ODD["source"][4])["input_ids"])
    _, report = prepare(odd_rows, tokenizers, make_settings(max_source_length=longest), "train")
    assert report.cut == 0
    _, report = prepare(odd_rows, tokenizers, make_settings(max_source_length=longest - 1), "train")
    assert report.cut == 1


def test_long_rows_are_dropped_or_refused_as_the_setting_says(odd_rows, make_tokenizers, make_settings):
    tokenizers = make_tokenizers()
    ready, report = prepare(odd_rows, tokenizers, make_settings(max_source_length=6, too_long="drop"), "train")
    assert report.dropped["too long"] == 1 and ready["target"] == ["ein Hund"]
    with pytest.raises(ValueError, match="row 4 .*column 'source' has .* tokens, more than max_source_length=6"):
        prepare(odd_rows, tokenizers, make_settings(max_source_length=6, too_long="refuse"), "train")
    with pytest.raises(ValueError, match="column 'target' .* more than max_target_length=3"):
        prepare(odd_rows, tokenizers, make_settings(max_target_length=3, too_long="refuse"), "train")


def test_a_split_without_a_usable_row_is_refused(make_tokenizers, make_settings):
    empty = Dataset.from_dict({"source": [None, ""], "target": ["a", "b"]})
    with pytest.raises(ValueError, match="no row of the train split is left: 1 missing, 1 empty"):
        prepare(empty, make_tokenizers(), make_settings(), "train")


def test_a_tokenizer_that_adds_no_end_token_gets_one(tmp_path, rows, make_tokenizers, make_settings):
    from tokenizers import processors

    tokenizers = make_tokenizers()
    tokenizers.source.backend_tokenizer.post_processor = processors.Sequence([])
    tokenizers.save(tmp_path)
    again = load_tokenizers(tmp_path)
    assert again.source("men")["input_ids"][-1] != 2
    ready, _ = prepare(rows, again, make_settings(), "train")
    assert all(ids[-1] == 2 and ids.count(2) == 1 for ids in [*ready["input_ids"], *ready["labels"]])


def test_preparing_twice_gives_the_same_rows_and_counts(odd_rows, make_tokenizers, make_settings):
    first = prepare(odd_rows, make_tokenizers(), make_settings(), "train")
    second = prepare(odd_rows, make_tokenizers(), make_settings(), "train")
    assert first[0].to_list() == second[0].to_list() and first[1] == second[1]
