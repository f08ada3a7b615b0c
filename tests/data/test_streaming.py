"""Rows as they come: the same columns, every row once a pass, and the same batches for whoever goes on."""

import csv
import itertools
import json
from pathlib import Path

import datasets
import pytest

from selfattn_hf.data import (
    DataSettings,
    StreamedBatches,
    Tokenizers,
    cut_by,
    cut_by_tokens,
    load_splits,
    open_streams,
    prepare,
    train_tokenizers,
)

WORDS = ["a", "b", "c", "d", "e"]


def rows_of(count):
    return [
        {"source": " ".join(WORDS[: i % 5 + 1] + [str(i)]), "target": " ".join(WORDS[: i % 3 + 1])}
        for i in range(count)
    ]


def write(path, rows):
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.fixture
def settings(tmp_path):
    files = {split: write(tmp_path / f"{split}.jsonl", rows_of(n)) for split, n in (("train", 50), ("validation", 9))}
    return DataSettings(dataset=files, tokenizer_type="word", streaming=True, streaming_buffer=20, max_eval_rows=4)


@pytest.fixture
def batches(settings):
    tokenizers = train_tokenizers(settings, load_splits(settings)["train"])
    return lambda cut, of=settings: StreamedBatches(open_streams(of, ["train"])["train"], tokenizers, of, cut)


CUTS = {
    "random": cut_by("random", 4, seed=3),
    "sequential": cut_by("sequential", 4),
    "groups": cut_by("group_by_length", 4, group=2, seed=3),
    "budget": cut_by_tokens(40, seed=3),
}


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_a_stream_has_the_rows_and_columns_of_the_loaded_split(tmp_path, ending):
    file = write(tmp_path / f"train{ending}", rows_of(50))
    loaded = load_splits(DataSettings(dataset=file))["train"]
    pieces = [rows for rows, _ in open_streams(DataSettings(dataset=file, streaming=True))["train"].pieces(20)]
    assert [len(rows) for rows in pieces] == [20, 20, 10]
    assert pieces[0].column_names == loaded.column_names
    assert [row for rows in pieces for row in rows] == list(loaded)


def test_a_folder_a_translation_column_and_words_with_heads_are_streamed_too(tmp_path):
    rows = [{"translation": {"en": f"a {i}", "de": f"b {i}"}} for i in range(5)]
    (tmp_path / "pairs").mkdir()
    write(tmp_path / "pairs" / "train.jsonl", rows)
    settings = DataSettings(
        dataset=str(tmp_path / "pairs"), source_column="en", target_column="de", streaming=True, streaming_buffer=3
    )
    assert load_splits(settings)["train"][:] == {"source": ["a 0", "a 1", "a 2"], "target": ["b 0", "b 1", "b 2"]}

    rows = [{"source": ["x", "y"], "head": [2, 0], "target": "z"}] * 5
    settings = DataSettings(dataset=write(tmp_path / "trees.jsonl", rows), streaming=True, syntax="column")
    assert load_splits(settings)["train"][4] == {"source": "x y", "target": "z", "words": ["x", "y"], "heads": [2, 0]}


def test_dates_stay_the_texts_that_they_are(tmp_path):
    rows = [{"source": f"day {i}", "target": f"2020-01-0{i + 1}"} for i in range(5)]
    settings = DataSettings(dataset=write(tmp_path / "train.jsonl", rows), streaming=True)
    assert load_splits(settings)["train"]["target"][:] == [row["target"] for row in rows]


def test_nothing_is_written_to_the_cache(settings):
    def cached():
        return set(Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow"))

    before = cached()
    load_splits(settings)
    assert cached() == before
    load_splits(DataSettings(dataset=settings.dataset))
    assert cached() > before, "the probe sees what is written"


def test_of_the_training_split_the_first_rows_are_loaded_and_of_the_others_as_many_as_are_asked_for(settings):
    assert {split: len(rows) for split, rows in load_splits(settings).items()} == {"train": 20, "validation": 4}


@pytest.mark.parametrize("name", CUTS)
def test_every_row_comes_once_a_pass_in_a_new_order(batches, settings, name):
    stream = iter(batches(CUTS[name]))
    passes = []
    for _ in range(2):
        seen = []
        while len(seen) < 50:
            seen += [row["row"] for row in next(stream)]
        passes.append(seen)
    for seen in passes:
        assert sorted(seen) == list(range(50))
        assert sorted(seen[:20]) == list(range(20)), "rows are shuffled within their buffer"
    assert (passes[0] == passes[1]) is (name == "sequential")


def test_the_rows_are_those_that_prepare_makes(batches, settings):
    whole = DataSettings(dataset=settings.dataset, tokenizer_type="word")
    stream = batches(CUTS["sequential"])
    tokenizers = Tokenizers(stream.preparer.tokenizers["source"], stream.preparer.tokenizers["target"])
    tokens, report = prepare(load_splits(whole)["train"], tokenizers, whole, "train")
    seen = [row for batch in itertools.islice(stream, 13) for row in batch]
    assert seen == list(tokens)
    assert stream.report() == report


@pytest.mark.parametrize("name", CUTS)
def test_who_goes_on_from_a_place_sees_the_batches_that_would_have_come(batches, name):
    expected = list(itertools.islice(batches(CUTS[name]), 60))
    for count in (0, 1, 4, 5, 6, 13, 14, 30, 45):
        first = batches(CUTS[name])
        drawn = iter(first)
        for _ in range(count + 1):  # one is drawn early, as loaders do
            next(drawn)
        place = json.loads(json.dumps(first.place(count)))
        second = batches(CUTS[name])
        second.go_on(place, count)
        again = list(itertools.islice(second, 60))
        assert again[:count] == [[]] * count
        assert again[count:] == expected[count:]
    assert count - place["batches"] < 15, "it goes on from a place nearby"


def test_a_place_that_is_forgotten_gives_other_batches(batches):
    """The control of the test above."""
    expected = list(itertools.islice(batches(CUTS["random"]), 20))
    second = batches(CUTS["random"])
    second.go_on({**second._start}, 0)
    assert list(itertools.islice(second, 10)) != expected[10:]


def test_rows_that_cannot_be_used_are_counted_and_keep_their_numbers(tmp_path, batches, settings):
    rows = rows_of(50)
    rows[3]["target"], rows[25]["source"] = "", None
    write(tmp_path / "train.jsonl", rows)
    stream = batches(CUTS["sequential"])
    seen = [row["row"] for batch in itertools.islice(stream, 13) for row in batch]
    assert seen == [number for number in range(50) if number not in (3, 25)]
    assert stream.report().dropped == {"empty": 1, "missing": 1} and stream.report().rows == 50


def test_a_stream_without_a_row_that_can_be_used_ends(tmp_path, batches, settings):
    stream = batches(CUTS["random"])
    write(tmp_path / "train.jsonl", [{"source": "", "target": "a"}] * 30)
    with pytest.raises(ValueError, match=r"no row of the train split .* is left, of 30"):
        next(iter(stream))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"train_split": "train[:50%]"}, "train_split='train[:50%]' is a slice"),
        ({"validation_split": "train[50%:]"}, "validation_split='train[50%:]' is a slice"),
        ({"max_train_rows": 5}, "max_train_rows=5 would do nothing with streaming=True"),
        ({"streaming": False, "streaming_buffer": 5}, "streaming_buffer=5 would do nothing with streaming=False"),
        ({"streaming_buffer": 0}, "streaming_buffer must be a whole number from 1 on"),
    ],
)
def test_what_does_not_go_with_a_stream_is_refused(changed, named):
    with pytest.raises(ValueError) as error:
        DataSettings(**{"dataset": "some/data", "streaming": True, **changed})
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"train_split": "trian"}, "Did you mean train"), ({"source_column": "sorce"}, "Did you mean source")],
)
def test_a_split_or_column_that_is_not_there_is_named(settings, changed, named):
    values = {"dataset": settings.dataset, "streaming": True, **changed}
    with pytest.raises(ValueError, match=named):
        load_splits(DataSettings(**values))


def test_an_empty_split_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("source,target\n")
    with pytest.raises(ValueError, match="has no rows"):
        load_splits(DataSettings(dataset=str(tmp_path / "train.csv"), streaming=True))
