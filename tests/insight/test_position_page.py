"""docs/positions.md is what its command makes of the modules, with a picture for every encoding."""

import importlib
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from selfattn_hf import insight
from selfattn_hf.insight import draw_position, encoding_of, fill_position_page, position_page
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.training import read_settings

from ..conftest import load_script

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "positions.md").read_text(encoding="utf-8")
PICTURES = ROOT / "docs" / "positions"
SCRIPT = ROOT / "scripts" / "draw_positions.py"
# The cell of what is kept, by what stands before it: it may differ a little with another torch.
KEPT = re.compile(r"^(\| \[`(\w+)`\]\S+ \| [^|]* \| [\d,]+ \|) (\d+) \|", re.MULTILINE)


def without_memory(page):
    return KEPT.sub(r"\1 |", page)


def load_drawing(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return load_script("draw_positions")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that the command writes."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        load_drawing(patch).main(["--folder", str(folder)])
    return folder


def read_picture(path):
    from matplotlib.image import imread

    return torch.from_numpy(imread(path)[..., :3].copy())


def test_the_page_is_what_its_command_makes(made):
    now = (made / "positions.md").read_text(encoding="utf-8")
    assert without_memory(now) == without_memory(PAGE), "run scripts/draw_positions.py"
    for page in (now, PAGE):
        assert {name for _, name, _ in KEPT.findall(page)} == set(POSITIONS)
    for (_, name, figure), (_, _, committed) in zip(KEPT.findall(now), KEPT.findall(PAGE), strict=True):
        assert float(figure) == pytest.approx(float(committed), rel=0.25, abs=2), name


def test_a_cell_changed_by_hand_is_found_and_mended():
    changed = PAGE
    for was, is_now in (("H·n |", "H·m |"), ("fixed slope", "learned slope"), ("| 16,448 |", "| 16,449 |")):
        assert without_memory(PAGE.replace(was, is_now)) != without_memory(PAGE)
        changed = changed.replace(was, is_now)
    assert without_memory(fill_position_page(changed)) == without_memory(PAGE)


def test_the_text_around_the_tables_stays_and_a_page_without_a_place_for_them_is_refused(monkeypatch):
    monkeypatch.setattr(position_page, "made", lambda: "new")
    begin, end = position_page.BEGIN, position_page.END
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    assert fill_position_page(page) == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    for torn in ("before\n", page.replace(end, ""), page.replace(begin, ""), f"{end}\n{begin}"):
        with pytest.raises(ValueError, match="no place for its tables"):
            fill_position_page(torn)


def test_every_encoding_has_its_rows_its_section_and_its_paper(position):
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| [`{position}`]")]
    assert len(rows) == 2
    assert f"\n### `{position}`\n" in PAGE
    assert (position == "none") or re.search(r"\[[A-Z][^\]]+ \(\d{4}\)\]\(https://", rows[0])


def test_an_encoding_without_a_remark_is_refused(monkeypatch):
    assert set(position_page.REMARKS) == set(POSITIONS)
    monkeypatch.delitem(position_page.REMARKS, "rope")
    with pytest.raises(ValueError, match="position_encoding='rope' has no remark.*Add them to REMARKS"):
        fill_position_page(PAGE)


def test_a_place_beyond_the_table_raises_where_the_remark_says_so(position):
    encoding = encoding_of(position, hidden_size=24, num_attention_heads=4, max_position_embeddings=8)

    def use(length):
        places, heads = encoding.places(length), encoding.equal_words(length)
        encoding.vectors(places)
        encoding.turned(heads, places)
        encoding.bias(heads, heads, places)

    use(8)
    if position_page.REMARKS[position].beyond.startswith("raises"):
        with pytest.raises(ValueError, match="knows 8 places"):
            use(9)
    else:
        use(9)


def test_every_picture_that_the_page_names_exists_and_there_are_no_others():
    named = set(re.findall(r"\]\((positions/\S+\.png)\)", PAGE))
    assert named == {f"positions/{path.name}" for path in PICTURES.iterdir()}
    assert len(named) == 2 * len(POSITIONS)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 1_500_000


def test_every_link_within_the_page_and_to_files_leads_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).replace(" ", "-").lower()
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#(\S+?)\)", PAGE)) <= headings
    for file in re.findall(r"(?:configs|scripts)/[\w/]+\.(?:yaml|py)", PAGE):
        assert (ROOT / file).is_file(), file


def test_a_picture_has_a_panel_for_each_door_and_something_in_each(position, made):
    drawn = read_picture(made / "positions" / f"{position}.png")
    assert drawn.shape == read_picture(PICTURES / f"{position}.png").shape
    panels = drawn.shape[1] // 350
    assert panels >= 2
    for panel in drawn.tensor_split(panels, dim=1):
        assert (panel < 0.9).any(-1).float().mean() > 0.01  # not white


def test_a_small_picture_shows_the_numbers_of_today(position, made):
    """It is nothing but its numbers' colours, so that the committed one can be compared with one drawn now."""
    now, committed = (read_picture(folder / f"{position}_small.png") for folder in (made / "positions", PICTURES))
    torch.testing.assert_close(committed, now, atol=0.02, rtol=0)


def test_a_small_picture_of_other_numbers_would_be_found():
    pictures = [read_picture(PICTURES / f"{name}_small.png") for name in POSITIONS]
    for one, other in itertools.combinations(pictures, 2):
        assert (one - other).abs().max() > 0.02


def test_several_encodings_are_drawn_in_one_picture(tmp_path):
    draw_position(encoding_of(["sinusoidal", "rope", "alibi"], hidden_size=32), tmp_path / "three.png")
    assert read_picture(tmp_path / "three.png").shape[1] == 7 * 350


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(compile(code, "positions.md", "exec"), names)
    assert names["states"].shape == (1, 6, 512)
    assert (tmp_path / "fresh.png").is_file()


def test_the_settings_of_the_page_are_read(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import _cli

    commands = re.findall(r"^python scripts/train\.py (.*?)(?:  #.*)?$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        typed = _cli.parse(command.split())
        assert read_settings(ROOT / typed.positional[0], typed.named).data.syntax is not None


def test_without_matplotlib_the_room_opens_and_a_picture_says_what_is_missing(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith(insight.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    again = importlib.import_module(insight.__name__)
    assert again is not insight
    with pytest.raises(ValueError, match=r"pip install 'selfattn_hf\[viz\]'"):
        again.draw_position(again.encoding_of("alibi", hidden_size=32), tmp_path / "alibi.png")


def test_help_answers_within_a_second():
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 1
    assert "--folder" in shown.stdout


@pytest.mark.parametrize("arguments", [["docs"], ["--fodler", "docs"], ["--folder"]])
def test_what_the_command_does_not_take_is_refused(arguments, monkeypatch):
    with pytest.raises(ValueError, match="--folder FOLDER is all that can be given"):
        load_drawing(monkeypatch).main(arguments)
