"""What the README says is run: its code, its error message, its commands."""

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.training import read_settings, train

from .conversion.conftest import SOURCES, build
from .sharing.conftest import TOKEN, believed, hub, talk_to  # noqa: F401 - fixtures
from .sharing.hub_server import User

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {"max_steps": "1", "eval_steps": "1", "max_train_rows": "300", "max_eval_rows": "3", "max_new_tokens": "6",
         "num_beams": "1", "average_checkpoints": "0"}  # fmt: skip


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a checkout, where the models that the README names have been trained for a step.

    A tiny model lies where the name of one on the Hub would be a folder.
    """
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    data, model = ROOT / "configs" / "quickstart_data", folder / "runs" / "quickstart"
    overrides = {**SMALL, "dataset": str(data), "output_dir": str(model)}
    train(read_settings(ROOT / "configs" / "quickstart.yaml", overrides))
    (folder / "runs" / "multi30k_en_de").symlink_to(folder / "runs" / "quickstart")
    build(*SOURCES["bart"]).save_pretrained(folder / "facebook" / "bart-base")
    return folder


def test_the_code_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    codes = blocks("python")
    assert len([line for line in codes[0].splitlines() if line.strip()]) <= 10
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")


def test_the_error_message_is_the_one_shown():
    (shown,) = blocks("pycon")
    call, message = shown.split("ValueError: ")
    with pytest.raises(ValueError) as error:
        eval(call.removeprefix(">>> "), {"SelfAttnConfig": SelfAttnConfig})
    assert str(error.value) == " ".join(message.split())


def commands():
    lines = [line.split("   #")[0] for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if "scripts/" in line]


@pytest.mark.parametrize("command", commands())
def test_a_command_runs(command, place, request, monkeypatch, capfdbinary):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place / "scripts"))
    said, _, call = command.rpartition("| ")
    words = shlex.split(call)
    assert words[0] == "python"
    script = Path(words[1])
    if script.name == "train.py":  # its data are not shipped: read the settings as the script does
        import _cli

        typed = _cli.parse(words[2:])
        assert read_settings(typed.positional[0], typed.named).output_dir == Path("runs/multi30k_en_de")
        return
    if script.name == "push_to_hub.py":  # the Hub is one on loopback; tests/sharing lets a stranger open what is pushed
        hub = request.getfixturevalue("hub")
        hub.users[TOKEN] = User("you")
        talk_to(hub, monkeypatch)
        request.getfixturevalue("believed")
    if script.name == "serve.py":  # it is called up to where it would listen for ever
        monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
        words += ["--port", "0"]
    if said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shlex.split(said)[1].encode() + b"\n")))
    module: dict = {"__name__": script.stem}
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), module)
    module["main"](words[2:])
    assert capfdbinary.readouterr().out


def test_the_two_commands_are_targets_of_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in ("demo", "test"):
        assert f"make {command}" in TEXT
        assert command in targets


def test_every_config_of_the_lecture_is_in_the_table():
    for path in (ROOT / "configs" / "lecture").glob("*.yaml"):
        assert path.stem in TEXT, path.stem
