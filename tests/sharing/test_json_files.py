"""Files of JSON that a run has left: what is no file is nothing, and what is no object is refused with what to do."""

import pytest

from selfattn_hf.sharing import card_of
from selfattn_hf.sharing.json_files import read_object


def test_a_file_is_read_and_none_is_nothing(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, "ä"]}', encoding="utf-8")
    assert read_object(tmp_path / "a.json", "Delete it") == {"a": [1, "ä"]}
    assert read_object(tmp_path / "b.json", "Delete it") == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "no JSON"), (b"\xff", "no JSON"), (b"[1]", "holds a list"), (b"null", "holds a NoneType"),
     (b"[" * 100_000, "no JSON")],
)  # fmt: skip
def test_what_is_none_is_refused_by_name(content, said, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json .*{said}.*\. Delete it\.$"):
        read_object(tmp_path / "a.json", "Delete it")


def test_a_card_of_results_that_are_none_is_refused(model):
    (model / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json holds a list .*Delete it, or train again"):
        card_of(model)
