"""What holds for every test: fixed seeds, no network, no caches outside a temporary folder, few threads."""

import atexit
import gc
import importlib.util
import os
import random
import shutil
import socket
import sys
import tempfile
from pathlib import Path

# Gone when the process ends, not when a session of pytest does: one may run inside another.
_HOME = tempfile.mkdtemp(prefix="selfattn_tests_")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
# Before transformers, datasets and huggingface_hub are imported: they read these once.
os.environ.update(
    HF_HOME=_HOME,
    HF_MODULES_CACHE=f"{_HOME}/modules",
    HF_DATASETS_CACHE=f"{_HOME}/datasets",
    HF_HUB_CACHE=f"{_HOME}/hub",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
)

import numpy as np  # noqa: E402 - after the environment is set
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

LOOPBACK = ("localhost", "::1", "0.0.0.0", "")


# Few examples, always the same ones, unless --hypothesis-profile=long asks for many new ones.
settings.register_profile("bounded", max_examples=5, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=200, deadline=None)
settings.load_profile("bounded")


def pytest_configure():
    torch.set_num_threads(1)  # models are tiny: more threads would only wait for each other


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays to the end: who collects garbage, as every Trainer does, looks elsewhere."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


# torch.manual_seed also notes, with all lines of the stack, that other devices are to be seeded: slow, where none is.
seed_torch = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed


@pytest.fixture(autouse=True)
def fixed_seeds():
    """A test that draws numbers draws the same ones whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    seed_torch(0)


class NetworkBlockedError(RuntimeError):
    """A test tried to leave this machine."""


def _refuse_other_machines(host):
    host = host.decode() if isinstance(host, bytes) else host
    if host is not None and host not in LOOPBACK and not host.startswith("127."):
        raise NetworkBlockedError(f"Tests must not use the network, and one asked for {host!r}. Serve it on 127.0.0.1.")


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Loopback and local sockets alone."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(original):
        def method(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse_other_machines(address[0])
            return original(self, address)

        return method

    def guarded_look_up(host, *args, **kwargs):
        _refuse_other_machines(host)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield


@pytest.fixture
def real_data():
    """Folder of real data sets, one sub-folder each, that the environment variable SELFATTN_DATA names."""
    given = os.environ.get("SELFATTN_DATA")
    if not given:
        pytest.skip("needs real data sets: set SELFATTN_DATA to a folder that holds them")
    folder = Path(given)
    if not folder.is_dir():
        pytest.fail(f"SELFATTN_DATA names {given}, and that is no folder")
    return folder


SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def load_script(name):
    """A file of scripts/ as a module; "examples/ask_head" is one of a folder there."""
    spec = importlib.util.spec_from_file_location(Path(name).name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def in_process(monkeypatch, capsys):
    """Call a script without a process of its own: exit code, output, errors."""

    def call_here(name, *words):
        monkeypatch.syspath_prepend(str(SCRIPTS))
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        script, code = load_script(name), 0
        try:
            script._cli.run(script.main)
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call_here
