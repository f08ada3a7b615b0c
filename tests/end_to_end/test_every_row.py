"""Every choice works end to end: trains, evaluates, is saved, loads in a process without the package, generates.

The table in the README is made of what is found here. After a change, write it anew:

    SELFATTN_WRITE_README=1 python -m pytest tests/end_to_end
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Trainer, TrainingArguments

from selfattn_hf import SelfAttnConfig
from selfattn_hf.conversion import convert_folder
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.training import evaluate, make_settings, train

from ..conversion.conftest import SOURCES, build
from .conftest import CHOICES, HEADS, PRETRAINED, STAGES, SWITCHES, SYNTAX, Choice

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- table: tests/end_to_end -->\n", "<!-- end of table -->"
WRITE = "SELFATTN_WRITE_README"

# Run with -I and the package made unimportable; prints what each folder was found to do, a line of JSON for each.
STRANGER = """
import json, sys
sys.modules["selfattn_hf"] = None
import torch, transformers
for folder in sys.argv[1:]:
    expected = torch.load(folder + "/expected.pt", weights_only=True)
    try:
        loader = getattr(transformers, expected["auto"])
        model = loader.from_pretrained(folder, trust_remote_code=True).eval()
        assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
        with torch.no_grad():
            first = model(**expected["inputs"], return_dict=False)[0]
        size = expected["first"][expected["first"] > -1e30].abs().max()  # what a mask closes is -3.4e38
        off = ((first - expected["first"]).abs().max() / size).item()
        assert off < 1e-5, f"outputs differ by {off:.1e} of the largest"
        if expected["written"] is not None:
            assert torch.equal(model.generate(**expected["prompt"]), expected["written"]), "other text"
        print(json.dumps({"folder": folder, "failed": None}), flush=True)
    except Exception as error:
        print(json.dumps({"folder": folder, "failed": f"{type(error).__name__}: {error}"}), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(values, tmp_path_factory):
    """Choice -> stage -> what went wrong, None where nothing did; a stage that the choice does not have is absent.

    Choices that make the very same run, such as the defaults of all switches, are one run.
    """
    folder = tmp_path_factory.mktemp("rows")
    start = folder / "start"  # where heads begin, and what gives pretrained models a tokenizer
    train(make_settings(values(Choice("norm", "pre"), start)))
    found, runs = {}, {}

    def place_of(number):
        return folder / f"row_{number}" / "model"  # equal code under one last name is imported once

    for number, choice in enumerate(CHOICES):
        same = runs.setdefault(run_of(choice, values, folder), choice)
        if same is not choice:
            found[choice] = found[same]
            continue
        place = place_of(number)
        if choice in HEADS:
            stages = {"train": lambda c=choice, p=place: train_head(c, start, p), "save": lambda p=place: saved(p)}
        else:
            stages = {
                "train": lambda c=choice, p=place: train(make_settings(settings_of(c, p, values, start, folder))),
                "evaluate": lambda p=place: evaluates_as_the_run_did(p),
                "save": lambda p=place: saved(p),
                "generate": lambda p=place: writes_the_same_by_every_search(p),
            }
        found[choice] = run_in_turn(stages)
        if choice in HEADS:
            found[choice]["evaluate"] = found[choice]["train"]  # the head's Trainer evaluates in the same breath
            if choice.value == "AutoModelForCausalLM":
                found[choice]["generate"] = found[choice]["train"]
    places = {place_of(number): choice for number, choice in enumerate(CHOICES)}
    for place, failed in without_the_package(folder, [p for p in places if (p / "expected.pt").is_file()]).items():
        found[places[place]]["load"] = failed
    return found


def run_of(choice, values, folder):
    """What tells one run from another: all settings, with the defaults of those that are not given."""
    if choice in HEADS or choice in PRETRAINED:
        return choice.name
    return json.dumps(make_settings(values(choice, folder)).resolved(), sort_keys=True, default=str)


def run_in_turn(stages):
    """What each stage raised; what follows a stage that failed was not tried."""
    found, failed = {}, None
    for name, stage in stages.items():
        if failed is None:
            try:
                stage()
            except Exception as error:  # every choice is tried, whatever became of the others
                failed = f"{type(error).__name__}: {error}"
            found[name] = failed
        else:
            found[name] = "not tried"
    return found


def settings_of(choice, place, values, start, folder):
    """Settings of the run; a family of pretrained models is built, converted, and trained on."""
    given = values(choice, place)
    if choice in PRETRAINED:
        source, converted = folder / f"source_{choice.value}", folder / f"converted_{choice.value}"
        tokenizer = AutoTokenizer.from_pretrained(start)
        config_class, fields = next(pair for pair in SOURCES.values() if pair[0].model_type == choice.value)
        ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        build(config_class, {**fields, **ids, "decoder_start_token_id": ids["bos_token_id"]}).save_pretrained(source)
        tokenizer.save_pretrained(source)
        convert_folder(source, converted)
        for name in ("hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "intermediate_size",
                     "tokenizer_type"):  # fmt: skip
            del given[name]
        given["init_from"] = str(converted)
    return given


def evaluates_as_the_run_did(place):
    results = json.loads((place / "results.json").read_text())
    assert evaluate(str(place))["test"] == pytest.approx(results["test"])


def saved(place):
    """Safetensors, and the code of every class that the config names."""
    names = {path.name for path in place.iterdir()}
    code = {f"{name.split('.')[0]}.py" for name in json.loads((place / "config.json").read_text())["auto_map"].values()}
    assert {"model.safetensors", *code} <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl"))]


def example(config):
    """Two rows of ids, the second padded on the left, under trees where the model reads them."""
    inputs = {
        "input_ids": torch.tensor([[4, 6, 7, 2], [0, 5, 6, 2]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]),
    }
    if config.reads_trees:
        inputs["syntax_heads"] = torch.tensor([[1, 2, 2, -1], [-1, 2, 2, -1]])
    return inputs


@torch.no_grad()
def expect(model, auto, place, prompt=None, **more):
    """Note, beside the weights, what the model answers."""
    inputs = example(model.config) | more
    written = None if prompt is None else model.generate(**prompt)
    first = model(**inputs, return_dict=False)[0]
    found = {"auto": auto, "inputs": inputs, "first": first, "prompt": prompt, "written": written}
    torch.save(found, place / "expected.pt")


@torch.no_grad()
def writes_the_same_by_every_search(place):
    """Greedy and by beams, with a cache and without; and what a stranger is to find."""
    model = AutoModelForSeq2SeqLM.from_pretrained(place).eval()
    prompt = example(model.config) | {"max_new_tokens": 6}
    for search in ({"num_beams": 1}, {"num_beams": 3}):
        options = prompt | search
        plain = model.generate(**options, use_cache=False)
        assert plain.shape[1] > 1
        if model.config.future_mask:
            assert torch.equal(model.generate(**options, use_cache=True), plain)
    expect(model, "AutoModelForSeq2SeqLM", place, prompt | {"num_beams": 3, "use_cache": model.config.future_mask},
           decoder_input_ids=torch.tensor([[1, 4, 5], [1, 6, 4]]))  # fmt: skip


HEAD_LABELS = {
    "AutoModelForCausalLM": {"labels": [4, 6, 7, 2]},
    "AutoModelForSequenceClassification": {"labels": 1},
    "AutoModelForTokenClassification": {"labels": [0, 1, 1, -100]},
    "AutoModelForQuestionAnswering": {"start_positions": 1, "end_positions": 2},
    "AutoModelForTextEncoding": {},
}


def train_head(choice, start, place):
    """A head on the stack of a trained encoder-decoder, by transformers' own Trainer; then what a stranger is to find.

    An encoder without a head has no loss of its own: it is taken from the folder as it is.
    """
    auto = choice.value
    model = getattr(transformers, auto).from_pretrained(start).eval()
    if HEAD_LABELS[auto]:
        row = {"input_ids": [4, 6, 7, 2], "attention_mask": [1, 1, 1, 1], **HEAD_LABELS[auto]}
        rows = Dataset.from_list([row] * 4)
        arguments = TrainingArguments(str(place / "trainer"), max_steps=2, learning_rate=0.1, use_cpu=True,
                                      per_device_train_batch_size=2, disable_tqdm=True)  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        assert trainer.evaluate()["eval_loss"] < before
        model.eval()
    model.save_pretrained(place)
    prompt = None
    if auto == "AutoModelForCausalLM":
        prompt = {"input_ids": torch.tensor([[4, 6]]), "num_beams": 3, "max_new_tokens": 6}
        assert torch.equal(model.generate(**prompt), model.generate(**prompt, use_cache=False))
    expect(model, auto, place, prompt)


def without_the_package(folder, places):
    """Folder -> what went wrong when it was opened by trust_remote_code in a fresh process without the package."""
    env = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_MODULES_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", STRANGER, *map(str, places)],
        capture_output=True, text=True, env=env, cwd=folder, timeout=900,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(places), done.stderr
    return {Path(line["folder"]): line["failed"] for line in lines}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_works_end_to_end(choice, outcomes):
    assert {stage: failed for stage, failed in outcomes[choice].items() if failed} == {}
    assert "load" in outcomes[choice]


def test_choices_are_one_run_where_all_their_settings_are_equal(values, tmp_path):
    runs = {}
    for choice in CHOICES:
        runs.setdefault(run_of(choice, values, tmp_path), []).append(choice)
    for same in runs.values():
        configs = [SelfAttnConfig(**make_settings(values(choice, tmp_path)).model) for choice in same]
        assert all(config.to_dict() == configs[0].to_dict() for config in configs)
        assert len({choice.row for choice in same}) == len(same)  # two words of a switch are never one run
    assert len(runs) > 0.75 * len(CHOICES)


def test_every_mixer_and_every_encoding_is_tried():
    tried = {(choice.row, choice.value) for choice in SWITCHES if isinstance(choice.value, str)}
    assert {("encoder_mixer", mixer) for mixer in MIXERS} | {("decoder_mixer", mixer) for mixer in MIXERS} <= tried
    assert {("position_encoding", name) for name in POSITIONS} <= tried
    assert len(SYNTAX) == 6 and len(HEADS) == 5


def table(outcomes):
    """A row for each switch: its choices, and how many of them pass each stage."""
    lines = ["| switch | choices tried | " + " | ".join(STAGES) + " |", "|---|---" + "|---:" * len(STAGES) + "|"]
    for row in dict.fromkeys(choice.row for choice in CHOICES):
        choices = [choice for choice in CHOICES if choice.row == row]
        shown = ", ".join(f"`{json.dumps(choice.value).replace(chr(34), '')}`" for choice in choices)
        cells = []
        for stage in STAGES:
            passed = [outcomes[choice][stage] is None for choice in choices if stage in outcomes[choice]]
            cells.append(f"{sum(passed)}/{len(passed)}")
        lines.append(f"| `{row}` | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_table_in_the_readme_is_what_is_found(outcomes):
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    shown, _, after = rest.partition(END)
    if os.environ.get(WRITE):
        README.write_text(before + START + table(outcomes) + END + after, encoding="utf-8")
    else:
        assert shown == table(outcomes), f"README.md shows another table; set {WRITE}=1 to write it anew"


def test_a_choice_that_fails_would_be_shown():
    """Positive control."""
    found = {choice: dict.fromkeys(STAGES) for choice in CHOICES}
    found[SWITCHES[0]]["train"] = "ValueError: no"
    row = next(line for line in table(found).splitlines() if line.startswith(f"| `{SWITCHES[0].row}`"))
    total = len([choice for choice in CHOICES if choice.row == SWITCHES[0].row])
    assert f"| {total - 1}/{total} | {total}/{total} |" in row
    assert run_in_turn({"train": lambda: None, "save": lambda: [][0], "load": lambda: None}) == {
        "train": None, "save": "IndexError: list index out of range", "load": "not tried",
    }  # fmt: skip


def test_a_choice_is_in_the_config_that_is_trained(values, tmp_path):
    for choice in SWITCHES:
        settings = make_settings(values(choice, tmp_path))
        config = SelfAttnConfig(**settings.model)
        value = getattr(config, choice.row)
        assert value == choice.value or config.encoder_position_encoding == choice.value
