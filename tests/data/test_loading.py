"""Every way to name data gives the same two columns, and what is wrong with data is said by name."""

import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from selfattn_hf.data import DataSettings, load_splits

ROWS = [{"source": "null", "target": "1984-11-23"}, {"source": 'a "quoted, word', "target": "1984-11-23T19:30"}]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_csv(path, rows):
    Dataset.from_list(rows).to_csv(path)
    return str(path)


def write_tsv(path, rows):
    path.write_text("".join(f"{row['source']}\t{row['target']}\n" for row in [dict.fromkeys(rows[0]), *rows]))
    lines = path.read_text().split("\n")
    path.write_text("\n".join(["source\ttarget", *lines[1:]]))
    return str(path)


def write_parquet(path, rows):
    Dataset.from_list(rows).to_parquet(path)
    return str(path)


def write_gzipped(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


KINDS = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "tsv": write_tsv,
    "parquet": write_parquet,
    "jsonl.gz": write_gzipped,
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_from_a_file_are_exactly_those_written(tmp_path, kind):
    file = KINDS[kind](tmp_path / f"pairs.{kind}", ROWS)
    splits = load_splits(DataSettings(dataset=file))
    assert list(splits) == ["train"]
    assert splits["train"].to_list() == ROWS
    assert {feature.dtype for feature in splits["train"].features.values()} == {"string"}


def test_dates_in_a_folder_of_json_stay_texts(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = [{"source": row["target"], "target": row["target"]} for row in ROWS]
    write_jsonl(folder / "train.jsonl", rows)
    assert load_splits(DataSettings(dataset=str(folder)))["train"].to_list() == rows


def test_digits_in_a_csv_file_stay_texts(tmp_path):
    rows = [{"source": "007", "target": "seven"}, {"source": "12", "target": "NA"}]
    file = tmp_path / "train.csv"
    file.write_text("source,target\n007,seven\n12,NA\n")
    assert load_splits(DataSettings(dataset=str(file)))["train"].to_list() == rows


def test_a_list_of_files_is_split_by_their_names(tmp_path):
    files = [write_jsonl(tmp_path / f"{name}.jsonl", ROWS) for name in ("my_train", "my.dev", "my-test", "training2")]
    splits = load_splits(DataSettings(dataset=files))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 4, "validation": 2, "test": 2}


def test_files_are_given_by_split(tmp_path):
    files = {"train": write_jsonl(tmp_path / "a.jsonl", ROWS), "test": [write_jsonl(tmp_path / "b.jsonl", ROWS[:1])]}
    splits = load_splits(DataSettings(dataset=files))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "test": 1}


def test_a_file_whose_name_says_no_split_beside_others_that_do_is_refused(tmp_path):
    files = [write_jsonl(tmp_path / name, ROWS) for name in ("train.jsonl", "more.jsonl")]
    with pytest.raises(ValueError, match=r"more\.jsonl.*no split"):
        load_splits(DataSettings(dataset=files))


def test_a_translation_column_gives_its_languages(tmp_path):
    rows = [{"id": 3, "translation": {"en": "a dog", "de": "ein Hund"}}]
    file = write_jsonl(tmp_path / "train.jsonl", rows)
    settings = DataSettings(dataset=file, source_column="de", target_column="en")
    assert load_splits(settings)["train"].to_list() == [{"source": "ein Hund", "target": "a dog"}]
    with pytest.raises(ValueError, match=r"'fr'.*keys of the translation column are en, de|'fr'.*de, en"):
        load_splits(DataSettings(dataset=file, source_column="fr", target_column="en"))


def test_columns_that_are_not_asked_for_are_left_out_and_swapped_names_stay_right(tmp_path):
    file = write_jsonl(tmp_path / "train.jsonl", [{"target": "in", "source": "out", "id": 1}])
    settings = DataSettings(dataset=file, source_column="target", target_column="source")
    assert load_splits(settings)["train"].to_list() == [{"source": "in", "target": "out"}]


def test_slices_of_one_split_serve_as_two(tmp_path):
    file = write_jsonl(tmp_path / "pairs.jsonl", [{"source": f"s{i}", "target": f"t{i}"} for i in range(20)])
    splits = load_splits(DataSettings(dataset=file, train_split="train[:90%]", validation_split="train[90%:]"))
    assert len(splits["train"]) == 18
    assert splits["validation"]["source"] == ["s18", "s19"]


def test_only_the_splits_asked_for_are_returned_and_limits_apply(tmp_path):
    files = [write_jsonl(tmp_path / f"{name}.jsonl", ROWS * 5) for name in ("train", "validation", "test")]
    settings = DataSettings(dataset=files, max_train_rows=7, max_eval_rows=3)
    assert {name: len(rows) for name, rows in load_splits(settings).items()} == {"train": 7, "validation": 3, "test": 3}
    assert list(load_splits(settings, splits=("test",))) == ["test"]
    with pytest.raises(ValueError, match="splits must be among"):
        load_splits(settings, splits=("tset",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation_split": "dev"}, "validation_split='dev'.*only train, test.*train\\[95%:\\]"),
        ({"test_split": "tests"}, "no split 'tests'.*Did you mean test"),
        ({"train_split": "train[5:5]"}, r"train_split='train\[5:5\]' is no split or slice with rows"),
        ({"train_split": "train[nonsense]"}, "train_split='train\\[nonsense\\]'"),
        ({"source_column": "sorce"}, "source_column='sorce'.*Did you mean source"),
        ({"target_column": "number"}, "target_column='number' holds int64"),
        ({"target_column": "words"}, "target_column='words' holds"),
        ({"dataset_config": "x"}, "dataset_config does nothing"),
    ],
)
def test_what_the_data_do_not_have_is_refused_by_name(tmp_path, given, message):
    rows = [{"source": "a", "target": "b", "number": 3, "words": ["c d", "e"]}]
    files = [write_jsonl(tmp_path / f"{name}.jsonl", rows) for name in ("train", "test")]
    with pytest.raises(ValueError, match=message):
        load_splits(DataSettings(**{"dataset": files, **given}))


def test_lists_of_words_are_read_as_text_and_lists_of_texts_are_refused(tmp_path):
    rows = [{"words": ["old", "cats"], "tags": ["ADJ", "NOUN"]}, {"words": None, "tags": ["X", None]}]
    columns = {"source_column": "words", "target_column": "tags"}
    splits = load_splits(DataSettings(dataset=[write_jsonl(tmp_path / "train.jsonl", rows)], **columns))
    assert splits["train"].to_list() == [{"source": "old cats", "target": "ADJ NOUN"}, {"source": None, "target": None}]
    captions = [{"words": ["old", "cats"], "tags": ["old cats", "two cats"]}]
    with pytest.raises(
        ValueError,
        match=r"row 0 .* of the train split .*test\.jsonl.*target_column='tags' holds a list, and 'old cats' in it is",
    ):
        load_splits(
            DataSettings(dataset=[write_jsonl(tmp_path / "test.jsonl", captions)], train_split="test", **columns)
        )


def test_missing_files_and_folders_are_named():
    with pytest.raises(FileNotFoundError, match=r"no_such\.jsonl.*does not exist"):
        load_splits(DataSettings(dataset=["no_such.jsonl"]))
    with pytest.raises(FileNotFoundError, match=r"'\./no_such'.*no such folder"):
        load_splits(DataSettings(dataset="./no_such"))


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path):
    broken = tmp_path / "train.jsonl"
    broken.write_text('{"source": "a", "target": "b"}\n{"source": "a"\n')
    with pytest.raises(ValueError, match=r"train\.jsonl, line 2, is no JSON"):
        load_splits(DataSettings(dataset=str(broken)))
    empty = tmp_path / "train.csv"
    empty.touch()
    with pytest.raises(ValueError, match=r"train\.csv is empty"):
        load_splits(DataSettings(dataset=str(empty)))
    other = tmp_path / "train.docx"
    other.touch()
    with pytest.raises(ValueError, match=r"train\.docx.*Convert"):
        load_splits(DataSettings(dataset=[str(other)]))
    with pytest.raises(ValueError, match="of several kinds"):
        empty.write_text("source,target\na,b\n")
        load_splits(DataSettings(dataset=[str(empty), str(broken)]))


def test_csv_files_with_different_columns_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("source,target\na,b\n")
    (tmp_path / "test.csv").write_text("target,source\nb,a\n")
    with pytest.raises(ValueError, match=r"test\.csv has the columns target, source"):
        load_splits(DataSettings(dataset=[str(tmp_path / "train.csv"), str(tmp_path / "test.csv")]))


def test_a_folder_saved_in_parquet_loads_as_from_the_hub(tmp_path):
    both = DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])})
    for name, rows in both.items():
        rows.to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    splits = load_splits(DataSettings(dataset=str(tmp_path)))
    assert {name: rows.to_list() for name, rows in splits.items()} == {"train": ROWS, "test": ROWS[:1]}
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_splits(DataSettings(dataset=str(tmp_path), dataset_config="simpel"))


def test_real_sets_load(real_data):
    settings = DataSettings(dataset=str(real_data / "multi30k_en_de"), source_column="en", target_column="de")
    assert {name: len(rows) for name, rows in load_splits(settings).items()} == {
        "train": 29000,
        "validation": 1014,
        "test": 1000,
    }
    scan = {"dataset": str(real_data / "scan"), "source_column": "commands", "target_column": "actions"}
    assert list(load_splits(DataSettings(**scan, dataset_config="simple"))) == ["train", "test"]
    with pytest.raises(ValueError, match="simple"):
        load_splits(DataSettings(**scan, dataset_config="simpel"))


def test_a_folder_whose_file_was_changed_is_read_again(tmp_path, make_settings):
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.csv\n---\n"
    (tmp_path / "README.md").write_text(card)
    for word in ("old", "new"):
        (tmp_path / "train.csv").write_text(f"source,target\n{word},word\n")
        rows = load_splits(make_settings(dataset=str(tmp_path)), ["train"])["train"]
        assert rows["source"][:] == [word]
