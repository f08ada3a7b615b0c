"""The quickstart's data are what the generator makes, correct, and apart from split to split."""

import csv
import datetime
import random
from pathlib import Path

import pytest
from datasets import load_dataset

from selfattn_hf.data import DataSettings, load_splits

from ..conftest import load_script

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "quickstart_data"


@pytest.fixture(scope="module")
def generator():
    """The script as a module."""
    return load_script("make_quickstart_data")


@pytest.fixture(scope="module")
def splits():
    """Rows by split, as the files hold them."""
    found = {}
    for name in ("train", "validation", "test"):
        with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as file:
            found[name] = list(csv.DictReader(file))
    return found


def test_the_script_makes_the_files_that_are_shipped(generator, tmp_path):
    generator.main([str(tmp_path)])
    for split in generator.ROWS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (FOLDER / f"{split}.csv").read_bytes()


def test_neither_an_input_nor_a_date_is_in_two_splits(splits):
    for column, length in (("text", None), ("iso", 10)):
        seen = [{row[column][:length] for row in rows} for rows in splits.values()]
        assert len(set().union(*seen)) == sum(map(len, seen))
    texts = [row["text"] for rows in splits.values() for row in rows]
    assert len(set(texts)) == len(texts) == 9000


def test_every_output_is_a_date_in_iso_form(splits):
    for rows in splits.values():
        for row in rows:
            assert datetime.datetime.fromisoformat(row["iso"]).isoformat().startswith(row["iso"])


def test_the_last_words_decide_how_the_first_are_read(splits):
    marks = {"day first": [], "month first": []}
    for row in splits["train"]:
        for mark, rows in marks.items():
            if row["text"].endswith(mark):
                rows.append(row)
    assert all(len(rows) > 1000 for rows in marks.values())
    for mark, rows in marks.items():
        for row in rows:
            year, month, day = map(int, row["iso"][:10].split("-"))
            first, second = (day, month) if mark == "day first" else (month, day)
            assert any(f"{first}{mid}{second}{mid}{year}" in row["text"] for mid in "/.-")
    unclear = [row for rows in marks.values() for row in rows if int(row["iso"][8:10]) <= 12]
    assert len(unclear) > 500  # only the mark tells day from month


@pytest.mark.parametrize(
    ("hour", "minute", "sayings"),
    [
        (19, 30, {"19:30", "7:30 pm", "half past seven in the evening"}),
        (8, 45, {"08:45", "8:45 am", "a quarter to nine in the morning"}),
        (13, 0, {"13:00", "1:00 pm", "one o'clock in the afternoon"}),
        (11, 40, {"11:40", "11:40 am", "eleven forty in the morning"}),
        (3, 5, {"03:05", "3:05 am", "five past three in the morning"}),
    ],
)
def test_times_are_said_as_people_say_them(generator, hour, minute, sayings):
    draw = random.Random(0)
    assert {generator.time_in_words(hour, minute, draw) for _ in range(60)} == sayings


@pytest.mark.parametrize(
    ("year", "sayings"),
    [
        (1984, {"nineteen hundred and eighty-four", "nineteen eighty-four"}),
        (2009, {"two thousand and nine"}),
        (2000, {"two thousand"}),
        (2021, {"two thousand and twenty-one", "twenty twenty-one"}),
    ],
)
def test_years_are_said_as_people_say_them(generator, year, sayings):
    draw = random.Random(0)
    assert {generator.year_in_words(year, draw) for _ in range(60)} == sayings


def test_ordinals_are_written_right(generator):
    assert [generator.ordinal(day) for day in (1, 12, 20, 21, 30, 31)] == [
        "first", "twelfth", "twentieth", "twenty-first", "thirtieth", "thirty-first",
    ]  # fmt: skip
    assert [f"{day}{generator.ordinal_suffix(day)}" for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st",
    ]  # fmt: skip


def test_the_folder_loads_as_a_set_from_the_hub_does(splits, generator):
    plain = load_dataset(str(FOLDER))
    assert {name: rows.to_list() for name, rows in plain.items()} == splits
    loaded = load_splits(DataSettings(dataset=str(FOLDER), source_column="text", target_column="iso"))
    assert {name: len(rows) for name, rows in loaded.items()} == generator.ROWS
    assert loaded["test"]["target"] == [row["iso"] for row in splits["test"]]
