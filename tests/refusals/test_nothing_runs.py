"""Loading a folder, writing and learning with it run nothing that came with it: no code, no command, no network.

A process looks at itself by Python's audit hooks (https://docs.python.org/3/library/audit_events.html). It imports all
there is to import by opening another folder first; then the hook is armed, and the folder of the test is opened. One
process opens by several ways, one after the other, each a folder that it has not seen before.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import selfattn_hf
from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

ROOT = Path(selfattn_hf.__file__).parents[1]

TRIPWIRE = """
import json, os, sys
warm, cache, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
way = asked[0][0]
if way == "stranger":
    sys.modules["selfattn_hf"] = None
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

armed, events = False, []
RUNS = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn",
        "subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "code.__new__", "os.putenv", "os.kill")
TOUCHES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate")

def hook(event, args):
    if not armed or event in ("object.__getattr__",):
        return
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and not is_ours(path):
            events.append([event, str(path)])
    elif event in TOUCHES:
        if not is_ours(args[0]):
            events.append([event, str(args[0])])
    elif event == "exec":
        code = args[0]
        name = getattr(code, "co_filename", "?")
        if not name.startswith(("<frozen", sys.prefix, sys.base_prefix, ROOT)) and not is_ours(name):
            events.append([event, name])
    elif event == "compile":
        if not is_ours(args[1]) and not (way == "stranger" and args[1] == "<unknown>"):  # ast.parse, to see imports
            events.append([event, str(args[1])])
    elif event in RUNS or event.startswith(("socket.", "urllib.", "http.", "ftplib.", "shutil.", "winreg.")):
        if not (event.startswith("shutil.") and is_ours(args[1])):
            events.append([event, repr(args)[:200]])

def is_ours(path):  # the code of a folder that is trusted is copied to the cache of modules, and run from there
    return way == "stranger" and str(path).startswith(cache)

def use(name):
    if way == "package":
        from selfattn_hf import Translator
        Translator.from_pretrained(name, device="cpu")(["two men walk"], num_beams=2)
        return
    more = {"trust_remote_code": True} if way == "stranger" else {}
    model = AutoModelForSeq2SeqLM.from_pretrained(name, **more)
    tokenizer = AutoTokenizer.from_pretrained(name, **more)
    batch = tokenizer(["two men walk"], return_tensors="pt")
    model.generate(**batch, max_new_tokens=4, num_beams=2)
    model.generate(**batch, max_new_tokens=4, use_cache=False)
    model(**batch, labels=batch["input_ids"]).loss.backward()

ROOT = os.environ["SELFATTN_ROOT"]
if way != "stranger":
    sys.path.insert(0, ROOT)
    import selfattn_hf
torch.set_num_threads(1)
sys.addaudithook(hook)
for way, folder in asked:
    events, error = [], ""
    use(warm)
    armed = True
    try:
        use(folder)
        if way == "control":
            exec(compile("x = 1", "<planted>", "exec"))
            import pickle, socket, subprocess
            pickle.loads(b"cposix\\ngetcwd\\n.")
            subprocess.Popen(["true"]).wait()
            socket.socket().close()
            open(folder + "/planted", "w").close()
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    armed = False
    print(json.dumps({"events": events, "error": error}))
"""


def watched(asked, warm, place):
    """What a process did while it opened each folder by its way: its events, and the error it ended with."""
    cache = place / "modules"
    env = {**os.environ, "HF_HOME": str(place / "home"), "HF_MODULES_CACHE": str(cache), "SELFATTN_ROOT": str(ROOT),
           "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
    command = [sys.executable, "-I", "-W", "ignore", "-c", TRIPWIRE, str(warm), str(cache), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=place, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-len(asked) :]]


@pytest.fixture(scope="module")
def twin(whole, tmp_path_factory):
    """Another whole folder, to be opened first."""
    import _doors

    folder = tmp_path_factory.mktemp("twin") / "model"
    _doors.make_whole(folder)
    return folder


@pytest.fixture(scope="module")
def unlike(whole, tmp_path_factory):
    """A folder whose model computes by other parts of the code: recurrence, and a bias on the affinities."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("unlike") / "model")
    given = SelfAttnConfig.from_pretrained(folder).to_diff_dict()
    switches = {"decoder_mixer": ["rnn", "self_attention"], "position_encoding": "t5"}
    SelfAttnForConditionalGeneration(SelfAttnConfig(**given | switches)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def seen(twin, whole, tmp_path_factory):
    """Name -> what was seen, where the package is installed."""
    from _folders import pickled_weights

    place = tmp_path_factory.mktemp("watched")
    ways = {"package": "package", "auto": "auto", "pickle": "package", "control": "control"}
    for name in ways:
        shutil.copytree(whole, place / name)
    pickled_weights(place / "pickle")
    found = watched([[way, str(place / name)] for name, way in ways.items()], twin, place)
    return dict(zip(ways, found, strict=True)) | {"unpickled": (place / "unpickled").exists()}


@pytest.mark.parametrize("way", ["package", "auto"])
def test_nothing_runs_while_a_folder_is_loaded_and_writes(way, seen):
    assert seen[way] == {"events": [], "error": ""}


def test_without_the_package_the_trusted_code_runs_and_nothing_else(twin, whole, unlike, tmp_path):
    asked = [["stranger", str(folder)] for folder in (whole, unlike)]
    assert watched(asked, twin, tmp_path) == [{"events": [], "error": ""}] * 2


def test_a_pickle_is_refused_before_it_is_opened(seen):
    assert seen["pickle"]["events"] == [] and "pytorch_model.bin, a pickle" in seen["pickle"]["error"]
    assert not seen["unpickled"]


def test_what_runs_is_seen(seen):
    events = {event for event, _ in seen["control"]["events"]}
    assert {"compile", "exec", "pickle.find_class", "subprocess.Popen", "socket.__new__", "open"} <= events
