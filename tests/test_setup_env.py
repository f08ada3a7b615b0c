"""The set-up script: what it says when something is missing, and that it does its work once.

The interpreters and pip are small shell scripts, so nothing is installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A python3 that writes down and answers the few questions that the script asks.
FAKE_PYTHON = r"""#!/bin/sh
version={version}
echo "$(basename "$0") $*" >>{log}
case "$*" in
    *'"%d.%d"'*) echo "$version" ;;
    *'sys.version_info < (3, 11)'*) [ "${{version#3.}}" -ge 11 ] ;;
    *'import venv, ensurepip'*) exit {no_venv} ;;
    *'import pip'*) exit 0 ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *urlopen*) exit {no_index} ;;
    *--dry-run*) echo '{plan}' ;;
    *'--no-deps --index-url'*) exit 0 ;;
    *' --editable '*) exit {no_packages} ;;
    *install*) exit 0 ;;
    '-c import selfattn_hf') exit 0 ;;
    *) echo "unforeseen question: $*" >&2; exit 99 ;;
esac
"""


class Machine:
    """A checkout and a PATH of its own."""

    def __init__(self, folder):
        self.path, self.project, self.log = folder / "bin", folder / "project", folder / "log"
        self.path.mkdir()
        for name in ("scripts/setup_env.sh", "constraints/tested.txt", "setup.cfg", "pyproject.toml"):
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.project / name)
        for tool in ("sh", "cat", "cksum", "dirname", "basename", "ls", "rm", "mkdir", "cp", "grep"):
            (self.path / tool).symlink_to(shutil.which(tool))
        self.tool("uname", "#!/bin/sh\necho Linux\n")

    def tool(self, name, text):
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def python(self, name="python3", version="3.12", no_venv=0, no_index=0, plan="{}", no_packages=0):
        self.tool(name, FAKE_PYTHON.format(
            version=version, log=self.log, no_venv=no_venv, no_index=no_index, plan=plan, no_packages=no_packages
        ))  # fmt: skip

    def set_up(self, **environment):
        return subprocess.run(
            ["sh", "scripts/setup_env.sh"],
            cwd=self.project,
            env={"PATH": str(self.path)} | environment,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def asked(self):
        """What the interpreters were asked since the last time."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return text


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def refused(result):
    """The one sentence that a refusal says."""
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "making" not in line and "installing" not in line]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_no_python_is_said_in_one_sentence(machine):
    assert "Python is missing: install Python 3.11 or newer" in refused(machine.set_up())


def test_an_old_python_is_said_with_its_version(machine):
    machine.python(version="3.9")
    assert "3.11 or newer is needed, and python3 is Python 3.9" in refused(machine.set_up())


def test_a_newer_python_beside_an_old_one_is_found(machine):
    machine.python(version="3.9")
    machine.python(name="python3.12", version="3.12")
    result = machine.set_up()
    assert result.returncode == 0, result.stderr
    assert "with python3.12 (Python 3.12)" in result.stderr


def test_a_missing_venv_module_names_the_debian_package(machine):
    machine.python(version="3.11", no_venv=1)
    assert "sudo apt install python3.11-venv" in refused(machine.set_up())
    assert not (machine.project / ".venv").exists()


@pytest.mark.parametrize("given", ["/bin/false", "no-such-python"])
def test_a_python_that_does_not_run_is_named(machine, given):
    machine.python()
    assert f"PYTHON={given} does not run" in refused(machine.set_up(PYTHON=given))


def test_a_python_that_is_named_and_old_is_refused(machine):
    machine.python()
    machine.python(name="ancient", version="3.8")
    assert "PYTHON=ancient is Python 3.8" in refused(machine.set_up(PYTHON="ancient"))


def test_a_second_call_installs_nothing(machine):
    machine.python()
    assert machine.set_up().returncode == 0
    assert "--editable .[dev]" in machine.asked()
    second = machine.set_up()
    assert (second.returncode, second.stderr) == (0, "")
    assert "install" not in machine.asked()


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml", "constraints/tested.txt"])
def test_a_change_of_the_requirements_installs_again_into_the_same_environment(machine, name):
    machine.python()
    machine.set_up()
    machine.asked()
    with open(machine.project / name, "a") as file:
        file.write("\n# changed\n")
    assert machine.set_up().returncode == 0
    asked = machine.asked()
    assert "--editable .[dev]" in asked
    assert "-m venv" not in asked


def test_a_set_up_that_failed_can_be_repeated(machine):
    machine.python(no_packages=1)
    failed = machine.set_up()
    assert failed.returncode == 1
    assert "could not be installed" in failed.stderr
    assert machine.set_up().returncode == 1, "a failure must not count as done"
    machine.python()
    assert machine.set_up().returncode == 0
    machine.asked()
    assert machine.set_up().returncode == 0
    assert "install" not in machine.asked()


def test_a_broken_environment_is_made_again(machine):
    machine.python()
    machine.set_up()
    (machine.project / ".venv/bin/python").unlink()
    again = machine.set_up()
    assert again.returncode == 0
    assert "does not work and is made again" in again.stderr
    assert (machine.project / ".venv/bin/python").exists()


def test_an_interrupted_set_up_is_made_again_wherever_it_is(machine, tmp_path):
    machine.python()
    left = tmp_path / "place/lib/half_a_package.py"
    left.parent.mkdir(parents=True)
    left.touch()
    (tmp_path / "place/selfattn_setup").write_text("unfinished\n")
    again = machine.set_up(SELFATTN_VENV=str(tmp_path / "place"))
    assert again.returncode == 0, again.stderr
    assert not left.exists()


def test_another_interpreter_makes_the_environment_again(machine):
    machine.python(version="3.11")
    machine.python(name="python3.13", version="3.13")
    machine.set_up()
    assert "has another Python than python3.13" in machine.set_up(PYTHON="python3.13").stderr


def test_a_folder_of_somebody_else_is_never_deleted(machine, tmp_path):
    machine.python()
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("ten years")
    assert "something that this script did not make" in refused(machine.set_up(SELFATTN_VENV=str(precious.parent)))
    assert precious.read_text() == "ten years"


def test_a_working_environment_that_was_made_by_hand_is_left_alone(machine):
    machine.python()
    by_hand = machine.project / ".venv/bin/python"
    by_hand.parent.mkdir(parents=True)
    shutil.copy(machine.path / "python3", by_hand)
    assert "was not made by this script" in refused(machine.set_up())
    assert by_hand.exists()


def test_the_environment_can_be_elsewhere(machine, tmp_path):
    machine.python()
    place = tmp_path / "a place" / "environment"
    assert machine.set_up(SELFATTN_VENV=str(place)).returncode == 0
    assert (place / "bin/python").exists()
    assert not (machine.project / ".venv").exists()


def test_without_a_gpu_torch_comes_from_the_index_for_the_cpu(machine):
    machine.python()
    machine.set_up()
    assert "--no-deps --index-url https://download.pytorch.org/whl/cpu torch==" in machine.asked()


def test_with_a_gpu_torch_comes_from_the_package_index(machine):
    machine.python()
    machine.tool("nvidia-smi", "#!/bin/sh\nexit 0\n")
    machine.set_up()
    assert "--index-url" not in machine.asked()


def test_a_driver_without_a_gpu_counts_as_no_gpu(machine):
    machine.python()
    machine.tool("nvidia-smi", "#!/bin/sh\nexit 9\n")
    machine.set_up()
    assert "--index-url" in machine.asked()


def test_on_a_mac_torch_comes_from_the_package_index(machine):
    machine.python()
    machine.tool("uname", "#!/bin/sh\necho Darwin\n")
    machine.set_up()
    assert "--index-url" not in machine.asked()


def test_a_mirror_of_the_index_for_the_cpu_can_be_named(machine):
    machine.python()
    machine.set_up(SELFATTN_TORCH_INDEX="https://mirror.example/cpu")
    assert "--index-url https://mirror.example/cpu torch==" in machine.asked()


PLAN = '{"install": [{"metadata": {"name": "torch"}}, {"metadata": {"name": "%s"}}]}'


@pytest.mark.parametrize("package", ["nvidia-cudnn-cu13", "cuda-bindings"])
def test_gigabytes_of_cuda_are_refused_where_no_gpu_is(machine, package):
    machine.python(no_index=1, plan=PLAN % package)
    result = machine.set_up()
    assert result.returncode == 1
    assert "gigabytes of CUDA packages" in result.stderr
    assert "--editable" not in machine.asked()


def test_a_torch_without_cuda_is_taken_where_the_index_for_the_cpu_does_not_answer(machine):
    machine.python(no_index=1, plan=PLAN % "sympy")
    result = machine.set_up()
    assert result.returncode == 0, result.stderr
    assert "does not answer; asking pip" in result.stderr


def test_the_constraints_pin_torch_and_every_core_package():
    pins = dict(line.split("==") for line in (ROOT / "constraints/tested.txt").read_text().split() if "==" in line)
    assert {"torch", "transformers", "datasets", "accelerate", "sacrebleu", "PyYAML", "pytest", "ruff", "mypy"} <= set(
        pins
    )
    assert not [version for version in pins.values() if "+" in version], "a local version exists on one machine only"


def test_the_script_is_plain_sh():
    assert subprocess.run(["sh", "-n", ROOT / "scripts/setup_env.sh"]).returncode == 0
    assert os.access(ROOT / "scripts/setup_env.sh", os.X_OK)
