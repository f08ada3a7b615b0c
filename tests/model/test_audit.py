"""The code that travels, under an audit hook: no network, no file written, no program started, no text compiled."""

import json
import os
import subprocess
import sys

import pytest

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

# Run without the package: load a folder once, so that transformers has copied the code; then watch a second process.
WATCHER = """
import json, os, sys
import torch, transformers
folder, planted = sys.argv[1], sys.argv[2]
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "shutil.rmtree")
seen, watching = [], False

def hook(event, args):
    if not watching:
        return
    if event.startswith("socket.") or event in PROGRAMS + CHANGES:
        seen.append([event, str(args)[:200]])
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append([event, str(args)[:200]])
    if event == "compile" and args[1] is not None and str(args[1]).startswith("<"):
        caller = sys._getframe(1)
        while caller is not None:
            if "transformers_modules" in caller.f_code.co_filename:
                seen.append([event, str(args[1])])
            caller = caller.f_back

sys.addaudithook(hook)
sys.dont_write_bytecode = True
config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
watching = os.environ["WATCH"] == "1"
model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
ids = torch.tensor([[5, 6, 7, 2]])
loss = model(input_ids=ids, labels=ids).loss
loss.backward()
model.generate(ids, max_new_tokens=4)
model.generate(ids, max_new_tokens=4, num_beams=2, use_cache=False)
if planted == "file":
    open(os.path.join(folder, "planted"), "w").close()
elif planted == "network":
    import socket
    socket.socket().close()
watching = False
print(json.dumps([type(model).__module__, seen]))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Call the watcher: where the model's code came from, and what was seen."""
    folder = tmp_path_factory.mktemp("audit")
    config = SelfAttnConfig(
        vocab_size=20, hidden_size=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, intermediate_size=16,
        encoder_mixer="self_attention", decoder_mixer=["rnn", "self_attention"], position_encoding="t5",
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    SelfAttnForConditionalGeneration(config).save_pretrained(folder / "model")
    (folder / "watch.py").write_text(WATCHER)

    def call(watch, planted="nothing"):
        done = subprocess.run(
            [sys.executable, "-I", str(folder / "watch.py"), str(folder / "model"), planted],
            capture_output=True, text=True, check=False, cwd=folder,
            env={**os.environ, "WATCH": watch, "HF_MODULES_CACHE": str(folder / "modules"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    call("0")
    return call


def test_code_that_travels_touches_nothing_on_loading_learning_and_writing(watched):
    module, seen = watched("1")
    assert module.startswith("transformers_modules"), "the package itself was used"
    assert seen == []


@pytest.mark.parametrize(("planted", "event"), [("file", "open"), ("network", "socket.__new__")])
def test_what_would_be_touched_is_seen(watched, planted, event):
    _, seen = watched("1", planted)
    assert [name for name, _ in seen] == [event]
