"""Make the data of the studies in configs/studies: copy, reverse and reach.

    scripts/make_study_data.py [TASK ...] [--folder FOLDER]      (default: all tasks, into runs/study_data)

copy, reverse: a row of letters, and the same row, or backwards. Equally many rows of every length. Training rows have
up to 12 letters, `lengths.jsonl` has up to 48 and no row of the training.

reach: a subject and its verb with a growing clause between them, and the form of the verb that `?` stands for:
`the girls near a cat ? .` -> `are`. To answer, `?` must be brought together with its own subject. Beside it stands a
sentence whose subject has the other number, so that no majority tells, and whose clause is as long, so that nobody who
is too far from the one sees the other whole and rules it out; which of both comes first is drawn, and words that say
nothing stand around them, so that no edge tells either. Training rows have clauses of 1 to 12 words;
`distance_N.jsonl` has N.

The same seed gives the same files. Standard library only.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

SEED = 11
TASKS = ("copy", "reverse", "reach")
LETTERS = "abcdefghijklmnopqrst"
TRAINED_TO = 12
TESTED = (4, 8, 12, 14, 16, 18, 20, 24, 30, 36, 48)
ROWS_OF_A_LENGTH, TEST_ROWS_OF_A_LENGTH = 1000, 100
FEWEST_LETTERS = 3  # of shorter ones there are too few

CLAUSE_TO = 12
DISTANCES = (1, 2, 4, 6, 7, 8, 9, 10, 12, 16, 20, 24)
ROWS_OF_A_DISTANCE, TEST_ROWS_OF_A_DISTANCE = 1000, 200
SUBJECTS = ("girl", "boy", "farmer", "doctor", "pilot", "king", "friend", "guest")
OTHERS = ("dog", "cat", "bird", "horse", "tree", "house", "river", "garden")
PLACES = ("near", "behind", "with", "under", "above", "beside")
DEEDS = ("saw", "liked", "followed", "heard")
ADVERBS = ("really", "always", "often", "never", "quite", "rather", "still", "just")
CHATTER = ("well", "yes", "so", "then", "now", "oh", "indeed", "maybe")
SLEPT = ("slept", "waited", "smiled", "left")
EDGE, BETWEEN = (5, 8), (10, 12)  # words that say nothing: fewest and most


def letters(
    task: str, lengths: Iterable[int], number: int, taken: set[str], draw: random.Random
) -> Iterator[dict[str, str]]:
    """`number` rows of every length, none of which is in `taken`; they are added to it."""
    for length in lengths:
        made = 0
        while made < number:
            row = draw.choices(LETTERS, k=length)
            source = " ".join(row)
            if source not in taken:
                taken.add(source)
                made += 1
                yield {"source": source, "target": " ".join(row if task == "copy" else row[::-1])}


def clause(length: int, draw: random.Random) -> list[str]:
    """Exactly so many words about other nouns of both numbers."""
    words: list[str] = []
    while len(words) < length:
        few, many = draw.choice(OTHERS), f"{draw.choice(OTHERS)}s"
        part = draw.choice([
            [draw.choice(ADVERBS)],
            [draw.choice(PLACES), many],
            [draw.choice(PLACES), "a", few],
            ["that", draw.choice(DEEDS), "a", few],
            ["that", draw.choice(DEEDS), "some", many],
        ])  # fmt: skip
        if len(words) + len(part) <= length:
            words += part
    return words


def agreement(distance: int, draw: random.Random) -> dict[str, str]:
    """A row in which `distance` words stand between each subject and its verb."""
    is_many = draw.random() < 0.5
    asked = ["the", draw.choice(SUBJECTS) + "s" * is_many, *clause(distance, draw), "?", "."]
    other = ["the", draw.choice(SUBJECTS) + "s" * (not is_many), *clause(distance, draw)]
    other += [draw.choice(SLEPT), "."]
    first, second = (asked, other) if draw.random() < 0.5 else (other, asked)
    edge, between, end = (draw.choices(CHATTER, k=draw.randint(*span)) for span in (EDGE, BETWEEN, EDGE))
    return {"source": " ".join([*edge, *first, *between, *second, *end]), "target": "are" if is_many else "is"}


def files_of(task: str, seed: int = SEED) -> dict[str, list[dict[str, str]]]:
    """The rows of every file of a task, by its name without ending."""
    draw = random.Random(f"{task} {seed}")
    if task == "reach":
        spans = {"train": ROWS_OF_A_DISTANCE, "validation": 20}
        files = {
            name: [agreement(distance, draw) for distance in range(1, CLAUSE_TO + 1) for _ in range(rows)]
            for name, rows in spans.items()
        }
        tests = {
            f"distance_{distance}": [agreement(distance, draw) for _ in range(TEST_ROWS_OF_A_DISTANCE)]
            for distance in DISTANCES
        }
        return {**files, **tests}
    taken: set[str] = set()
    trained = range(FEWEST_LETTERS, TRAINED_TO + 1)
    return {
        "train": list(letters(task, trained, ROWS_OF_A_LENGTH, taken, draw)),
        "validation": list(letters(task, trained, 20, taken, draw)),
        "lengths": list(letters(task, TESTED, TEST_ROWS_OF_A_LENGTH, taken, draw)),
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, make, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    default = Path("runs") / "study_data"
    parser.add_argument("tasks", metavar="TASK", nargs="*", help=f"some of {', '.join(TASKS)}; all if none is named")
    parser.add_argument("--folder", type=Path, default=default, help="where the files go, a folder for each task")
    typed = parser.parse_args(arguments)
    if unknown := [task for task in typed.tasks if task not in TASKS]:
        parser.error(f"there is no task {unknown[0]!r}. Choose some of: {', '.join(TASKS)}")
    for task in typed.tasks or TASKS:
        folder = typed.folder / task
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in files_of(task).items():
            path = folder / f"{name}.jsonl"
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            print(f"{path}: {len(rows):,} rows")


if __name__ == "__main__":
    main()
