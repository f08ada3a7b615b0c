"""Every shipped config is read, builds its model and trains a step; the lecture changes few lines at a time."""

from pathlib import Path

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.training import read_settings, train

ROOT = Path(__file__).parent.parent
# Studies are no runs: tests/training/test_shipped_studies.py.
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("accelerate", "studies")
)
LECTURE = [path for path in CONFIGS if path.parent.name == "lecture"]
# Configs whose data are not shipped: the folder of the data in the tests' own place, and what else differs there.
ELSEWHERE: dict[str, tuple[str, dict[str, str]]] = {
    "multi30k_en_de": ("multi30k_en_de", {}),
    "multi30k_published": ("multi30k_en_de", {}),
    "scan": ("scan", {}),
    "scan_syntax": ("scan", {}),
    "ud_ewt_tags": ("ud_english_ewt", {"syntax": "column"}),
}
SMALL = {"max_steps": "1", "eval_steps": "1", "max_train_rows": "300", "max_eval_rows": "3", "num_beams": "1",
         "average_checkpoints": "0", "max_new_tokens": "4"}  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_trains_a_step(path, tmp_path, monkeypatch, request):
    monkeypatch.chdir(ROOT)
    overrides = {**SMALL, "output_dir": str(tmp_path / "run")}
    if path.stem in ELSEWHERE:
        folder, others = ELSEWHERE[path.stem]
        overrides |= {"dataset": str(request.getfixturevalue("real_data") / folder), **others}
    results = train(read_settings(path, overrides))
    assert results["steps"] == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_says_what_it_shows_and_how_to_run_it(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = f"#   python scripts/train.py {path.relative_to(ROOT).as_posix()}"
    assert any(line.startswith(command) for line in header)
    assert any("xpected" in line and any(digit.isdigit() for digit in line) for line in header)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_names_only_what_differs_from_the_default(path):
    settings = read_settings(path)
    defaults = SelfAttnConfig()
    assert [name for name, value in settings.model.items() if value == getattr(defaults, name)] == []


@pytest.mark.parametrize(("before", "after"), list(zip(LECTURE, LECTURE[1:], strict=False)), ids=lambda path: path.stem)
def test_a_step_of_the_lecture_changes_few_switches(before, after):
    one, other = read_settings(before), read_settings(after)
    changed = {name for name in {**one.model, **other.model} if one.model.get(name) != other.model.get(name)}
    assert 1 <= len(changed) <= 3
    assert one.data == other.data
    assert {**one.training, "output_dir": ""} == {**other.training, "output_dir": ""}


def test_the_published_tiny_shape_has_2_6_million_parameters():
    from selfattn_hf import SelfAttnForConditionalGeneration

    settings = read_settings(ROOT / "configs" / "multi30k_en_de.yaml")
    model = SelfAttnForConditionalGeneration(SelfAttnConfig(**settings.model, vocab_size=10000))
    assert 2.55e6 < model.num_parameters() < 2.65e6
