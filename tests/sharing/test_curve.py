"""The training curve of a card: the picture draws what stands in the file, and travels with the folder."""

import csv
import re
import xml.etree.ElementTree

import pytest

from selfattn_hf.sharing import card_of, files_of, push_folder
from selfattn_hf.sharing.curve import CURVE, HEIGHT, PICTURE, WIDTH, curve_picture, points_of, ticks
from selfattn_hf.sharing.destination import Destination
from selfattn_hf.training.yaml_files import read_yaml

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture):
    """Points of every coloured line of more than two points, or sloping, in order; texts."""
    root = xml.etree.ElementTree.fromstring(picture)
    ways = []
    for path in root.iter(f"{SVG}path"):
        if "var(--arch" in path.get("style"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            ways += [points] if points[0][1] >= 0 else []  # the others are the legend
    return ways, [text.text for text in root.iter(f"{SVG}text")]


def test_a_run_leaves_a_picture_of_what_stands_in_its_file(trained):
    picture = (trained / PICTURE).read_text()
    with (trained / CURVE).open() as file:
        lines = list(csv.DictReader(file))
    training, validation, metric = (points_of(lines, name) for name in ("loss", "eval_loss", "eval_exact_match"))
    ways, texts = drawn(picture)
    assert [len(way) for way in ways] == [len(training), len(validation), len(metric)]
    values = [y for _, y in training + validation]
    for way, points in zip(ways, (training, validation), strict=False):
        for (_, y), (_, value) in zip(way, points, strict=True):
            height = HEIGHT * (1 - (value - min(values)) / (max(values) - min(values)))
            assert y == pytest.approx(height, abs=0.01)
        assert all(0 <= x <= WIDTH for x, _ in way)
    assert {"loss, in nats per token", "training", "validation", "step"} <= set(texts)
    assert "exact match, validation" in texts
    assert f"training {training[0][1]:.4g} at step {training[0][0]:g}" in picture, "said in words too"
    assert "http://www.w3.org/2000/svg" in picture and picture.count("http") == 1 and "<script" not in picture


def test_the_card_shows_it_where_it_is_there_and_it_is_pushed(online, believed, model):
    settings = read_yaml(model / "settings.yaml")
    assert f"]({PICTURE})\n" in (model / "README.md").read_text() and PICTURE in files_of(model)
    push_folder(model, Destination("anna/backwards"), say=lambda line: None)
    assert online.tree("anna/backwards")[PICTURE] == (model / PICTURE).read_bytes()
    (model / PICTURE).unlink()
    assert PICTURE not in card_of(model, settings)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("step,loss,eval_loss,eval_bleu\n", 0),
        ("step,loss,eval_loss,eval_bleu\n1,2.0,,\n2,,3.0,nan\n", 0),  # a point is no line
        ("step,loss,eval_loss,eval_bleu\n1,2.0,,\n2,2.0,3.0,1.0\n3,,,\n", 1),  # all the same
        ("step,loss,eval_loss,eval_bleu\n1,,3.0,1\n2,,nan,2\n3,,2.0,3\n", 2),
    ],
)
def test_what_makes_no_line_is_not_drawn(text, lines, tmp_path):
    (tmp_path / CURVE).write_text(text)
    picture = curve_picture(tmp_path, "bleu")
    assert len(drawn(picture)[0] if picture else []) == lines


def test_without_a_file_there_is_no_picture(tmp_path):
    assert curve_picture(tmp_path, "bleu") is None


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (1.3, 4.2), (0, 8000), (-0.5, 0.5), (24.9, 25.0), (3, 100)])
def test_ticks_are_round_few_and_inside(low_high):
    low, high = low_high
    found = ticks(low, high)
    assert 3 <= len(found) <= 7 and all(low - 1e-6 <= one <= high + 1e-6 for one in found)
    steps = {round(after - before, 6) for before, after in zip(found, found[1:], strict=False)}
    assert len(steps) == 1 and f"{steps.pop():e}"[0] in "125"
