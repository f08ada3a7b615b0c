"""Any settings file: what is taken is of the types the fields say and read back the same; else a sentence says why.

A refusal is a ValueError, which is what the command line shows, and names the file, and a setting or a line of it.
"""

import contextlib
import dataclasses
import enum
import math
import os
import re
import tempfile
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from unittest import mock

import torch
import yaml
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st

from selfattn_hf.training import settings as reading
from selfattn_hf.training.settings import DATA_TYPES, DECIDED_ELSEWHERE, MODEL_TYPES, NOT_TAKEN, RUN_TYPES
from selfattn_hf.training.yaml_files import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if path.parent.name not in ("accelerate", "studies")  # which are no settings of one run
]
TYPES = {**reading.ARGUMENT_TYPES, **RUN_TYPES, **DATA_TYPES, **MODEL_TYPES}
KNOWN = {*TYPES, *NOT_TAKEN, *DECIDED_ELSEWHERE}
LONGEST = 800  # characters of a refusal

NAMES = st.sampled_from(sorted(TYPES))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=8),
    st.sampled_from([2**31, 2**63, 10**400, -(10**30), 1e300, "x" * 5000, "no", "1e3", "\x1b[2J", "a\0b", "\n"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def values_for(name: str) -> st.SearchStrategy[Any]:
    """Values of the types that a setting takes."""
    return st.one_of([_values_of(part) for part in parts_of(TYPES[name])])


def _values_of(part: Any) -> st.SearchStrategy[Any]:
    if get_origin(part) is Literal:
        return st.sampled_from(get_args(part))
    if isinstance(part, type) and issubclass(part, enum.Enum):
        return st.sampled_from([member.value for member in part])
    if get_origin(part) is list:
        return st.lists(st.one_of([_values_of(inner) for inner in parts_of(get_args(part)[0])]), max_size=3)
    if get_origin(part) is dict or part is dict:
        return st.dictionaries(st.text(max_size=5), SCALARS, max_size=2)
    plain = {bool: st.booleans(), int: st.integers(0, 64), float: st.floats(0, 1), str: st.text(max_size=8)}
    return plain.get(part, st.none())


def parts_of(annotation: Any) -> list[Any]:
    return list(get_args(annotation)) if get_origin(annotation) in (Union, types.UnionType) else [annotation]


MEANT = NAMES.flatmap(lambda name: st.tuples(st.just(name), values_for(name)))
STRANGE = st.tuples(st.one_of(NAMES, NAMES, st.sampled_from(sorted(KNOWN)), st.text(max_size=12)), VALUES)


@st.composite
def settings_of_a_run(draw) -> dict[str, Any]:
    """A shipped config, or the least there may be, with settings changed, added, renamed and taken out."""
    values = parse_yaml(draw(st.sampled_from([*SHIPPED, "dataset: configs/quickstart_data"])))
    values.update(draw(st.lists(MEANT if draw(st.booleans()) else STRANGE, max_size=3)))
    for change in draw(st.lists(st.sampled_from(["remove", "misspell", "nest"]), max_size=1)):
        name = draw(st.sampled_from(sorted(values)))
        value = values.pop(name)
        if change == "misspell":
            place = draw(st.integers(0, len(name)))
            values[name[:place] + draw(st.sampled_from(["", "x", "-", " "])) + name[place + 1 :]] = value
        elif change == "nest":
            values["model"] = {name: value}
    return values


WRITTEN = st.builds(
    lambda values, flow, escaped: yaml.safe_dump(values, default_flow_style=flow, allow_unicode=not escaped),
    settings_of_a_run(), st.sampled_from([None, False, True]), st.booleans(),
)  # fmt: skip
SNIPPETS = st.one_of(
    st.sampled_from([
        "&a ", "*a", "!!python/object/apply:os.system ", "!x ", "!!str ", "---\n", "...\n", "%YAML 1.2\n", "<<: ",
        "- ", "? ", ": ", ":", "|\n", ">\n", "{", "[", "}", "]", ", ", "#", '"', "'", "\t", "\n", "\r", "\0", "\x1b[2J",
        "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", '"\\ud800"', '"\\U00110000"', '"a\\nb": 5\n', "[" * 999,
        "a: &a [*a]\n", "seed: 0x\n", f"seed: {'9' * 5000}\n", f"{'k' * 9000}: 1\n", f"run_name: {'v' * 9000}\n",
        '"\\e[2J": 1\n', "lr_scheduler_kwargs: {a: .nan}\n", "adam_beta1: [1e999]\n", "seed: [" + "1," * 30_000 + "]\n",
    ]),
    st.text(max_size=4),
    st.builds("\n{}: {}\n".format, NAMES, st.text(max_size=6)),
)  # fmt: skip


@st.composite
def spoiled(draw) -> str:
    """A text in which pieces are put in, taken out, or doubled."""
    text = draw(st.sampled_from(SHIPPED) | WRITTEN)
    for snippet in draw(st.lists(st.none() | SNIPPETS, min_size=1, max_size=3)):
        begin = draw(st.integers(0, len(text)))
        end = begin + draw(st.integers(0, 12))
        text = text[:begin] + (2 * text[begin:end] if snippet is None else snippet) + text[end:]
    return text


TEXTS = st.one_of(WRITTEN, WRITTEN, spoiled(), VALUES.map(lambda value: yaml.safe_dump(value)), st.text())
ENCODINGS = ["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "shift_jis"]
FILES = st.one_of(
    st.builds(lambda text, code: text.encode(code, "replace"), TEXTS, st.sampled_from(ENCODINGS)), st.binary()
)
EXAMPLES = settings(
    max_examples=20 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# A control needs one that is found, not the shortest.
FIRST = settings(EXAMPLES, phases=[Phase.generate], max_examples=3000)


@EXAMPLES
@given(content=FILES)
def test_a_settings_file_is_read_as_it_says_or_refused_in_a_sentence(content):
    event(verdict_on(content))


def test_a_value_of_a_wrong_type_would_be_found(monkeypatch):
    monkeypatch.setattr(reading, "check_value", lambda name, value, annotation: value)
    content = find(FILES, is_wrong, settings=FIRST)
    monkeypatch.undo()
    assert verdict_on(content) == "refused"


def test_a_setting_that_is_lost_would_be_found(monkeypatch):
    read = reading.read_yaml
    lose = lambda path: {name: value for name, value in read(path).items() if name in KNOWN}  # noqa: E731
    monkeypatch.setattr(reading, "read_yaml", lose)
    content = find(FILES, is_wrong, settings=FIRST)
    monkeypatch.undo()
    assert verdict_on(content) == "refused"


def is_wrong(content: bytes) -> bool:
    try:
        verdict_on(content)
    except Exception:
        return True
    return False


def verdict_on(content: bytes) -> str:
    """Whether a file is taken or refused; raises where it is neither as it should be."""
    with tempfile.TemporaryDirectory() as folder, as_it_was(), contextlib.chdir(folder):
        path = Path("given.yaml")
        path.write_bytes(content)
        try:
            taken = reading.read_settings(path)
        except ValueError as error:
            assert not isinstance(error, UnicodeError)
            assert_is_a_sentence(str(error), content)
            verdict = "refused"
        else:
            assert_says_the_same(taken, parse_yaml(content.decode()))
            verdict = "taken"
        assert os.listdir() == ["given.yaml"], "something was written"
    return verdict


@contextlib.contextmanager
def as_it_was():
    """What transformers' arguments set for the whole process is set back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with mock.patch.dict(os.environ):
        yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def assert_is_a_sentence(message: str, content: bytes) -> None:
    """One line that can be shown on a terminal, of bearable length, about this file."""
    assert message.startswith("given.yaml"), message
    assert message.isprintable() and len(message) < LONGEST and message.endswith((".", "?")), message[: 2 * LONGEST]
    named = set(re.findall(r"\w+", message))
    written = set(re.findall(r"[A-Za-z_]{3,}", content.decode("utf-8", "replace")))
    assert named & (KNOWN | written | {"line", "nested", "bytes", "name", "setting"}), message


def assert_says_the_same(taken: reading.Settings, values: Any) -> None:
    """Every setting of the file is there, of its type, and is again when it is written and read."""
    groups = [taken.model, dataclasses.asdict(taken.data), dataclasses.asdict(taken.run), taken.training]
    held = {name: value for group in groups for name, value in group.items()}
    for name, value in held.items():
        assert is_of(value, TYPES[name]), (name, value)
    for name, value in (values or {}).items():
        if name == "output_dir" and value is None:
            value = "runs/given"  # it is then named after the file
        assert held[name] == value, (name, value, held[name])
    Path("given.yaml").write_text(taken.to_yaml(), encoding="utf-8")
    assert reading.read_settings("given.yaml").portable() == taken.portable()


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type, in the words of Python; a whole number is a number, and a number is finite."""
    for part in parts_of(annotation):
        origin = get_origin(part)
        if isinstance(part, type) and issubclass(part, enum.Enum):
            fits = value in [member.value for member in part]
        elif origin is Literal:
            fits = value in get_args(part)
        elif origin is list:
            fits = isinstance(value, list) and all(is_of(item, get_args(part)[0]) for item in value)
        elif part is float:
            fits = type(value) in (int, float) and math.isfinite(value)
        elif part in (Any, type(None)):
            fits = part is Any or value is None
        else:
            fits = type(value) is (origin or part)
        if fits:
            return True
    return False
