"""YAML as people mean it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfattn_hf.training.yaml_files import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-4", 5e-4), ("1e3", 1000.0), (".5", 0.5), ("-3", -3), ("0o17", 15), ("0x1F", 31), ("true", True), ("~", None),
     ("no", "no"), ("on", "on"), ("1_000", "1_000"), ("12:30", "12:30"), ("2020-01-01", "2020-01-01"), ("010", 10),
     ("[1, a, 'x']", [1, "a", "x"]), ("{a: 1}", {"a": 1})],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    parsed = parse_yaml(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 1\nb: 2\na: 3", "line 3 has the key a a second time"),
        ("a: &x 1\nb: *x", "the anchor &x"),
        ("b: *x", "the alias *x"),
        ("a: !!python/object/apply:os.system [ls]", "the tag"),
        ("a: !!str 1", "the tag"),
        ("a: !mine 1", "the tag"),
        ("1: 2", "the key 1, which is no text"),
        ("a: {b: 1, b: 2}", "the key b a second time"),
        ("a: [", "no YAML"),
        ("a: b: c", "no YAML"),
        ("a: 1\nb: \x00", "line 2 has the character U+0000"),
        ('a: "\\e[2J"', "line 1 has the character U+001B"),
        ('a: "\\ud800"', "line 1 has the character U+D800"),
        ('a: 1\nb: "\\U00110000"', "line 2 has an escape that stands for no character"),
        ("a: 0x" + "f" * 4000, "line 1 has a number of 4002 digits"),
        ("a: [" + "1," * 20_000 + "]", "line 1 has value number 20,001"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_surprises_is_refused_by_name(text, named):
    with pytest.raises(ValueError) as error:
        parse_yaml(text)
    assert named in str(error.value)


def test_a_missing_file_names_those_that_are_there(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match=r"quickstat\.yaml is no file.*quickstart\.yaml"):
        read_yaml(tmp_path / "quickstat.yaml")


@pytest.mark.parametrize("content", [b"- a\n- b", b"just text", b"\xff\xfe\x00bad", b"a: 1\n---\nb: 2"])
def test_a_file_that_holds_no_settings_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.yaml"):
        read_yaml(path)


def test_an_empty_file_holds_no_settings(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), PLAIN | st.lists(PLAIN, max_size=3), max_size=4))
def test_what_is_written_is_read_back(values):
    assert parse_yaml(dump_yaml(values)) == values


@pytest.mark.parametrize(
    "text", ["1e3", "no", "null", "~", "true", "0x1", "", " a ", "a: b", "# a", "!x", "&y", "ü\tß"]
)
def test_texts_that_look_like_something_else_stay_texts(text):
    assert parse_yaml(dump_yaml({"a": text})) == {"a": text}
