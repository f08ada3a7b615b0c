"""The whole way: push, fine-tune what was pushed, by its id, on data from the Hub, push again, load it all by id.

One Hub on loopback serves models and data; the first model lies there already as a push leaves it. What each process
does is written down once, by the module's fixture, and looked at by the tests.
"""

import json
import re
import shutil

import pytest
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import SelfAttnForConditionalGeneration, Translator
from selfattn_hf.sharing import Destination, files_of, push_folder
from selfattn_hf.training.yaml_files import dump_yaml

from ..conftest import SCRIPTS
from ..training.conftest import write_rows
from .conftest import TOKEN, elsewhere, settings_of, talk_to
from .hub_server import Hub, User

# huggingface_hub hands a file to its HTTP client in a way that the client calls old.
FIRST, TUNED, ROWS = "anna/backwards", "lab/backwards-tuned", "anna/words"

# Loads by id in a process that cannot import the package, and runs the code that the card shows for that.
STRANGER = """
import contextlib, io, json, re, sys
sys.modules["selfattn_hf"] = None
from huggingface_hub import hf_hub_download
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
seen = {}
for name, revision in json.loads(sys.argv[1]):
    pinned = {"revision": revision, "trust_remote_code": True}
    model, report = AutoModelForSeq2SeqLM.from_pretrained(name, output_loading_info=True, **pinned)
    batch = AutoTokenizer.from_pretrained(name, **pinned)(["a b c"], return_tensors="pt")
    wrote = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    card = open(hf_hub_download(name, "README.md", revision=revision), encoding="utf-8").read()
    code = re.findall("```python\\n(.*?)```", card, re.DOTALL)[1].replace("COMMIT", revision or "main")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "README.md", "exec"), {})
    weights = float(sum(weight.double().sum() for weight in model.state_dict().values()))
    missing = sorted(map(str, report["missing_keys"]))
    seen[f"{name} {revision}"] = [type(model).__module__, wrote.tolist(), weights, said.getvalue(), missing]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def way(trained, tmp_path_factory):
    """What was done: the Hub afterwards, commits, and what every process said."""
    place = tmp_path_factory.mktemp("way")
    model = shutil.copytree(trained, place / "backwards", ignore=shutil.ignore_patterns("checkpoint-*"))
    with Hub(lfs_from=5_000) as hub:
        hub.users[TOKEN] = User("anna", orgs=("lab",))
        splits = {"train": (48, 5), "validation": (6, 6)}
        rows = {f"{split}.jsonl": write_rows(place / f"{split}.jsonl", *count) for split, count in splits.items()}
        old = hub.add("dataset", ROWS, {name: (place / name).read_bytes() for name in rows}, private=True)
        repo = hub.repos["dataset", ROWS]
        repo.commit("main", {"train.jsonl": (b'{"source": "a", "target": "a"}\n', False)}, "all rows but one are gone")
        with pytest.MonkeyPatch.context() as patch:
            talk_to(hub, patch)
            said = []
            push_folder(model, Destination(FIRST), text="a b c", say=said.append)
        first = hub.head(FIRST)
        settings = settings_of(place / "tuned", ROWS, dataset_revision=old, init_from=FIRST, push_to_hub=True,
                               hub_model_id=TUNED, hub_private_repo=True)  # fmt: skip
        for name in ("tokenizer_type", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads",
                     "intermediate_size"):  # fmt: skip
            del settings[name]
        (place / "tune.yaml").write_text(dump_yaml(settings))
        tuned = elsewhere(hub, place / "home", SCRIPTS / "train.py", place / "tune.yaml")
        asked = json.dumps([[FIRST, first], [FIRST, None], [TUNED, hub.head(TUNED) if tuned[0] == 0 else "main"]])
        strange = elsewhere(hub, place / "fresh", "-I", "-c", STRANGER, asked)
        yield {"hub": hub, "model": model, "first": first, "old": old, "place": place, "asked": json.loads(asked),
               "pushed": (0, "\n".join(said), ""), "tuned": tuned, "strange": strange}  # fmt: skip


def seen(way, who):
    code, said, errors = way[who]
    assert code == 0, errors[-3000:]
    return json.loads(said.strip().splitlines()[-1])


def test_the_folder_is_pushed_as_it_lies_there(way):
    assert "opened without the package by AutoConfig, AutoModel" in way["pushed"][1]
    there = way["hub"].tree(FIRST, way["first"])
    for name, path in files_of(way["model"]).items():
        assert name == "README.md" or there[name] == path.read_bytes()


def test_a_pushed_model_is_fine_tuned_by_its_id_on_data_of_the_hub_at_a_pinned_revision(way):
    code, said, errors = way["tuned"]
    assert code == 0, errors[-3000:]
    results = json.loads((way["place"] / "tuned" / "results.json").read_text())
    assert results["data"]["train"]["rows"] == 48, "the pinned revision, not the newest, which has one row"
    head = way["hub"].tree(TUNED)["README.md"].decode()
    assert f"base_model: {FIRST}" in head and ROWS in head and way["old"] in head
    assert way["hub"].repos["model", TUNED].private


def test_the_code_of_a_model_fine_tuned_from_the_hub_is_its_own(way):
    config = json.loads(way["hub"].tree(TUNED)["config.json"])
    assert "--" not in json.dumps(config["auto_map"])
    first, tuned = way["hub"].tree(FIRST), way["hub"].tree(TUNED)
    code = {name for name in first if name.endswith(".py")}
    assert code and all(tuned[name] == first[name] for name in code)
    assert tuned["model.safetensors"] != first["model.safetensors"]


def test_strangers_load_it_by_id_with_the_code_of_the_pinned_commit(way):
    strange = seen(way, "strange")
    assert len(strange) == 3
    for key, (module, wrote, _, said, missing) in strange.items():
        name, revision = key.split()
        assert module.startswith(f"transformers_modules.{name.replace('/', '.').replace('-', '_hyphen_')}.")
        assert revision == "None" or revision in module
        assert not missing and wrote[0]
        assert re.fullmatch(r"\['.*'\]\n", said), "the code that the card shows was run"


def test_the_package_loads_the_same_by_id(way, monkeypatch):
    strange = seen(way, "strange")
    talk_to(way["hub"], monkeypatch)
    for name, revision in way["asked"]:
        model = AutoModelForSeq2SeqLM.from_pretrained(name, revision=revision)
        assert type(model) is SelfAttnForConditionalGeneration
        weights = float(sum(weight.double().sum() for weight in model.state_dict().values()))
        translator = Translator.from_pretrained(name, revision=revision)
        batch = translator.tokenizers.source(["a b c"], return_tensors="pt")
        wrote = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        assert [wrote.tolist(), weights] == strange[f"{name} {revision}"][1:3]
        assert isinstance(translator("a b c"), str)


def test_no_process_says_the_token(way):
    for name in ("pushed", "tuned", "strange"):
        assert TOKEN not in way[name][1] + way[name][2]
    for folder in (way["place"] / "tuned", way["model"]):
        for path in folder.rglob("*"):
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
