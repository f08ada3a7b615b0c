"""A bad settings file is refused by the name of its key: the keys of one shipped config, and all hostile YAML.

The campaign spoils every key of every shipped config, in child processes with limits of time and memory.
"""

import pytest
from _judging import CLEAR, SILENT
from _settings_cases import CASES, CONFIGS, HOSTILE, SHIPPED, SMALLEST, Case
from settings_files import attempt

ONE = [case for case in SHIPPED if case.name.startswith("quickstart: ")]


@pytest.mark.parametrize("case", [*ONE, *HOSTILE], ids=lambda case: case.name)
def test_a_bad_file_is_refused_before_anything_is_written(case, tmp_path):
    outcome = attempt(case, tmp_path / "run")
    assert outcome.verdict == CLEAR, outcome


def test_a_good_file_is_let_through(tmp_path):
    assert attempt(Case("good", SMALLEST.encode(), ()), tmp_path / "run").verdict == SILENT


def test_every_key_of_every_config_has_its_cases():
    assert len(CASES) >= 120
    for path in CONFIGS:
        assert sum(case.name.startswith(f"{path.stem}: ") for case in SHIPPED) >= 20, path


def test_a_key_that_is_ignored_would_be_found(tmp_path, monkeypatch):
    from selfattn_hf.training import settings

    def read_what_is_known(path):
        return {name: value for name, value in read(path).items() if name != "zzz"}

    read = settings.read_yaml
    monkeypatch.setattr(settings, "read_yaml", read_what_is_known)
    case = Case("ignored", (SMALLEST + "zzz: 5\n").encode(), ("zzz",))
    assert attempt(case, tmp_path / "run").verdict == SILENT
