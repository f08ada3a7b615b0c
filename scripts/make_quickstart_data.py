"""Make the quickstart's data: written-out dates and times, and what they are in ISO form.

    scripts/make_quickstart_data.py [FOLDER]      (default: configs/quickstart_data)

The last words often decide the first output: "3/4/2021 at half past seven in the evening, month first" is
2021-03-04T19:30. So the task needs order (3/4 is not 4/3), long reach, and an output that is a sequence. The same seed
gives the same files; no date of one split occurs in another. Standard library only.
"""

import argparse
import csv
import datetime
import random
from pathlib import Path

SEED = 7
ROWS = {"train": 8000, "validation": 500, "test": 500}
FIRST_YEAR, LAST_YEAR = 1950, 2049

MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
]  # fmt: skip
CONNECTED_MINUTES = {5: "five", 10: "ten", 15: "a quarter", 20: "twenty", 25: "twenty-five"}


def number(value: int) -> str:
    """A number below 100 in words."""
    if value < len(UNITS):
        return UNITS[value]
    tens, units = divmod(value, 10)
    return f"{TENS[tens]}-{UNITS[units]}" if units else TENS[tens]


def ordinal(day: int) -> str:
    """A day of the month in words."""
    if day < len(ORDINALS):
        return ORDINALS[day]
    return "thirtieth" if day == 30 else f"{TENS[day // 10]}-{ORDINALS[day % 10]}"


def ordinal_suffix(day: int) -> str:
    """The two letters behind 1st, 2nd, 3rd, 11th."""
    if 11 <= day <= 13:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def year_in_words(year: int, draw: random.Random) -> str:
    """A year as it is read aloud, in one of two ways."""
    century, rest = divmod(year, 100)
    hundreds = "two thousand" if century == 20 else f"{number(century)} hundred"
    if not rest:
        return hundreds
    if rest < 10 or draw.random() < 0.5:
        return f"{hundreds} and {number(rest)}"
    return f"{number(century)} {number(rest)}"


def date_in_words(date: datetime.date, draw: random.Random) -> tuple[str, str]:
    """A date in one of its forms, and the remark that its numbers need, if they do."""
    day, month, year = date.day, date.month, date.year
    name = MONTHS[month - 1]
    form = draw.randrange(6)
    if form == 0:
        return f"the {ordinal(day)} of {name}, {year_in_words(year, draw)}", ""
    if form == 1:
        return f"{name} the {ordinal(day)}, {year_in_words(year, draw)}", ""
    if form == 2:
        return f"the {day}{ordinal_suffix(day)} of {name} {year}", ""
    if form == 3:
        return f"{name[:3]} {day}{ordinal_suffix(day)}, {year}", ""
    separator = draw.choice("/.-")
    first, second, remark = (day, month, "day first") if draw.random() < 0.5 else (month, day, "month first")
    return f"{first}{separator}{second}{separator}{year}", remark


def time_in_words(hour: int, minute: int, draw: random.Random) -> str:
    """A time of day in one of its forms; the hour is never 0 or 12, so that all forms can say it."""
    half_day = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    form = draw.randrange(4)
    if form == 0:
        return f"{hour:02}:{minute:02}"
    if form == 1:
        return f"{hour % 12}:{minute:02} {'am' if hour < 12 else 'pm'}"
    said = UNITS[hour % 12]
    if minute == 0:
        return f"{said} o'clock {half_day}"
    if minute == 30:
        return f"half past {said} {half_day}"
    if minute < 30:
        return f"{CONNECTED_MINUTES[minute]} past {said} {half_day}"
    # "a quarter to eight" is 7:45; at 11:45 the hour said would be twelve, which "in the morning" does not go with.
    if hour % 12 == 11:
        return f"{said} {number(minute)} {half_day}"
    return f"{CONNECTED_MINUTES[60 - minute]} to {UNITS[hour % 12 + 1]} {half_day}"


def make_row(date: datetime.date, draw: random.Random) -> dict[str, str]:
    """One input with its output."""
    text, remark = date_in_words(date, draw)
    iso = date.isoformat()
    if draw.random() < 0.75:
        hour, minute = draw.choice([*range(1, 12), *range(13, 24)]), draw.randrange(0, 60, 5)
        time = time_in_words(hour, minute, draw)
        text = f"{text} at {time}" if draw.random() < 0.5 else f"at {time} on {text}"
        iso += f"T{hour:02}:{minute:02}"
    elif draw.random() < 0.5:
        text = f"on {text}"
    return {"text": f"{text}, {remark}" if remark else text, "iso": iso}


def make_splits(seed: int = SEED) -> dict[str, list[dict[str, str]]]:
    """All splits; a date belongs to one split, and no input occurs twice."""
    draw = random.Random(seed)
    first = datetime.date(FIRST_YEAR, 1, 1)
    days = (datetime.date(LAST_YEAR, 12, 31) - first).days + 1
    dates = iter(draw.sample(range(days), sum(ROWS.values())))
    return {
        split: [make_row(first + datetime.timedelta(next(dates)), draw) for _ in range(rows)]
        for split, rows in ROWS.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, make, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    default = Path(__file__).resolve().parent.parent / "configs" / "quickstart_data"
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=default, help="where the files go")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in make_splits().items():
        # CSV and not JSONL: readers of JSON take a column of ISO dates for timestamps and write them in another way.
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "iso"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"{folder / split}.csv: {len(rows):,} rows")


if __name__ == "__main__":
    main()
