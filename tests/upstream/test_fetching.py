"""Where transformers' own tests come from, and that nothing of theirs is left out in silence."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from . import fetching
from .cases import make_cases, peers_that_run


@pytest.fixture
def pip(monkeypatch):
    """A pip that writes what the test puts into `files`, or says what it puts into `stderr`."""

    class Pip:
        files, stderr, calls, cut = {}, "", 0, None

        def __call__(self, command, **kwargs):
            self.calls += 1
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w:gz") as archive:
                for name, text in self.files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(text)
                    archive.addfile(member, io.BytesIO(text.encode()))
            folder = Path(command[command.index("--dest") + 1])
            (folder / "transformers-9.0.0.tar.gz").write_bytes(content.getvalue()[: self.cut])
            return subprocess.CompletedProcess(command, bool(self.stderr), "", self.stderr)

    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    return pip


def test_the_files_of_the_tests_are_fetched_once(pip, tmp_path):
    pip.files = {"t/tests/test_a.py": "a = 1", "t/tests/deep/test_b.py": "", "t/src/test_c.py": "", "t/setup.py": ""}
    folder = fetching.fetch(tmp_path / "cache", "9.0.0")
    assert fetching.fetch(tmp_path / "cache", "9.0.0") == folder
    assert pip.calls == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"__init__.py": "", "test_a.py": "a = 1"}
    assert list(folder.parent.iterdir()) == [folder]


def test_half_an_archive_leaves_nothing_behind(pip, tmp_path):
    pip.files, pip.cut = {"t/tests/test_a.py": "a = 1" * 1000}, 60
    with pytest.raises(EOFError):
        fetching.fetch(tmp_path, "9.0.0")
    assert not list(tmp_path.iterdir())


def test_where_no_index_answers_the_reason_is_what_pip_said(pip, tmp_path, monkeypatch):
    pip.stderr = "WARNING: retrying\nERROR: No matching distribution found\n"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, missing = fetching.find()
    assert folder is None
    assert missing.endswith("ERROR: No matching distribution found")


def test_missing_tests_are_skipped_and_in_continuous_integration_they_fail(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no index"):
        fetching.report_missing("no index")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no index"):
        fetching.report_missing("no index")
    fetching.report_missing("")


@pytest.fixture
def common():
    folder, missing = fetching.find()
    if missing:
        pytest.skip(missing)
    return fetching.load(folder, "test_modeling_common")


def test_our_own_tests_keep_their_name(common):
    assert common.__package__ == fetching.PACKAGE
    assert str(Path(common.__file__).parent) not in sys.path
    assert str(Path(__file__).parent.parent) in sys.modules["tests"].__path__


def test_a_test_that_bart_and_t5_run_is_not_skipped_without_a_reason(common):
    cases = make_cases(common)
    assert peers_that_run(cases["self_attention_seq2seq"], "test_attention_outputs") == ["bart", "t5"]
    assert not peers_that_run(cases["rnn_seq2seq"], "test_attention_outputs")  # the reason is given
    assert not peers_that_run(cases["rnn_seq2seq"], "test_internal_model_config_and_subconfig_are_same")  # none runs it


def test_every_reason_is_that_of_a_test(common):
    tests = {name for name in dir(common.ModelTesterMixin) if name.startswith("test_")}
    for case in make_cases(common).values():
        assert set(case.reasons) <= tests
