"""The page's data are the probes' answers, for models of any kind; text stays text; the file is whole and small."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from selfattn_hf import (
    SelfAttnConfig,
    SelfAttnForCausalLM,
    SelfAttnForConditionalGeneration,
    SelfAttnForSequenceClassification,
)
from selfattn_hf.data import Syntax, Tokenizers
from selfattn_hf.insight import alignment, attention_maps, leak_test, load_for_probing, lookup, path_length, reach
from selfattn_hf.insight.report import drawings_of, inside_html, page_of, write_report
from selfattn_hf.insight.report_data import model_data, report_data
from selfattn_hf.insight.report_notebook import write_notebook
from selfattn_hf.insight.report_numbers import one_line, rounded, shares
from selfattn_hf.insight.report_sections import within
from selfattn_hf.insight.report_sentences import MOST_TOKENS, sentences_of
from selfattn_hf.model.positions import POSITIONS

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "transformer": {},
    "rnn": {"encoder_mixer": "rnn", "decoder_mixer": "rnn", "attention_score": "additive", "position_encoding": "none"},
    "window": {"encoder_mixer": "window", "decoder_mixer": "window", "position_encoding": "none"},
    "dense": {"encoder_mixer": "dense", "decoder_mixer": "dense", "position_encoding": "none"},
    "local": {"encoder_mixer": "local_attention", "decoder_mixer": "local_attention", "window_radius": 1},
    "mixed": {"encoder_mixer": ["rnn", "self_attention"], "decoder_mixer": ["window", "local_attention"]},
    "shared": {"share_layers": True, "position_encoding": ["rope", "t5"], "attend_to": "embeddings"},
    "bare": {"residual": False, "norm": "none", "feedforward": "none", "future_mask": False},
    "decoder alone": {"kind": SelfAttnForCausalLM, "position_encoding": "alibi"},
    "classifier": {"kind": SelfAttnForSequenceClassification, "position_encoding": "learned"},
}


def loaded(folder):
    return (folder.name, load_for_probing(folder), folder)


@pytest.fixture(scope="module")
def transformer(make_folder):
    return make_folder()


@pytest.fixture(scope="module")
def probed(transformer):
    return load_for_probing(transformer)


@pytest.fixture(scope="module")
def data(transformer):
    return report_data([loaded(transformer)], timed=False)


def absences(found):
    """Every reason why something is not there, wherever it stands."""
    if isinstance(found, dict):
        own = [found["absent"]] if "absent" in found else []
        return own + [reason for one in found.values() for reason in absences(one)]
    return [reason for one in found for reason in absences(one)] if isinstance(found, list) else []


@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_any_kind_gives_a_page(make_folder, name):
    folder = make_folder(**KINDS[name])
    found = model_data(*loaded(folder), ["one two three four"], timed=False)
    assert json.loads(one_line(found)) == found
    for sentence in found["sentences"]:
        assert len(sentence["target_tokens"]) <= MOST_TOKENS and sentence["text"]
        for part in ("reach", "maps", "order", "depth", "mask"):
            assert sentence[part], part
    for reason in absences(found):
        assert re.fullmatch(r"[A-Z].*[a-z]\.", reason, re.DOTALL), reason
    page = page_of({"models": [found], "positions": {}, "mixers": {}, "tiny": None}, "")
    assert "</html>" in page
    expected = {"decoder alone": {"order"}, "classifier": {"mask"}, "window": set(), "rnn": set()}.get(name, set())
    for part in ("reach", "maps", "order", "depth", "mask"):
        assert ("absent" in found["sentences"][0][part]) == (part in expected)


def test_a_model_of_trees_gives_a_page(make_folder, report_tokenizers):
    for source in ("chain", "column"):
        trees = Tokenizers(report_tokenizers.source, report_tokenizers.target, Syntax(source))
        folder = make_folder(tokenizers=trees, position_encoding="none", encoder_position_encoding="tree_relative")
        found = model_data(*loaded(folder), ["one two three four"], timed=False)
        assert found["positions"]["encoder"]["bias"] and found["weights"]["layers"][0]["heads"]


def test_the_numbers_are_those_of_the_probes(probed, transformer, data):
    model, sentences = probed.model, sentences_of(probed, transformer)
    for sentence, shown in zip(sentences, data["models"][0]["sentences"], strict=True):
        pair = sentence.pair
        maps = attention_maps(model, pair)
        assert shown["maps"]["cross"] == shares(maps.cross)
        assert shown["maps"]["alignment"]["entropy"] == rounded(alignment(maps).entropy)
        for side in ("encoder", "decoder"):
            assert shown["reach"][side]["gradients"] == rounded(reach(model, pair, side, 8).gradients, 2)
            assert shown["reach"][side]["steps"] == path_length(model, pair, side).steps
        assert shown["mask"]["leaks"] == len(leak_test(model, pair, 8).leaks) == 0
        head = lookup(model, pair, "cross", 1, 1)
        kept = shown["lookups"]["cross"][1]["heads"][1]
        assert kept["products"] == rounded(head.products) and kept["mixed"] == rounded(head.mixed)


def test_results_and_curve_are_those_of_the_folder(data, transformer):
    (model,) = data["models"]
    written = json.loads((transformer / "results.json").read_text())
    assert model["results"] == rounded(written, 6) and model["results"]["test"]["bleu"] == written["test"]["bleu"]
    assert model["curve"] == {"step": [10, 20], "loss": [3.25, 1.5], "eval_loss": [None, 1.75]}


def test_a_folder_without_results_has_a_sentence_of_its_own_words(make_folder):
    folder = make_folder()
    for name in ("results.json", "training_curve.csv"):
        (folder / name).unlink()
    found = model_data(*loaded(folder), timed=False)
    assert found["results"] is None and found["curve"] is None
    assert len(found["sentences"]) == 1 and found["sentences"][0]["text"]


def test_a_number_is_rounded_and_what_is_none_is_none():
    assert rounded({"a": [0.123456, -1234.5, float("nan"), True, 2.0, 0.0]}) == {"a": [0.123, -1230, None, True, 2, 0]}
    assert shares([[0.12345, 0.00001, 1.0]]) == [[0.123, 0, 1]]


def test_a_long_text_is_cut_to_what_a_picture_holds(probed, transformer):
    (found,) = sentences_of(probed, transformer, ["one two three four " * 30])
    assert 10 < len(found.pair.source) <= MOST_TOKENS


def test_given_texts_are_looked_at_in_their_order(probed, transformer):
    texts = ["seven six five four three", "one"]
    assert [found.text for found in sentences_of(probed, transformer, texts)] == texts


def test_every_encoding_of_the_registry_is_there(data):
    assert set(data["positions"]) == set(POSITIONS)
    assert all(bool(one["doors"]) == (name != "none") for name, one in data["positions"].items())
    assert data["positions"]["learned"]["beyond"] == "raises"


def test_what_changed_between_models_is_named(make_folder):
    folders = [make_folder("first"), make_folder("second", feedforward="gelu", norm="post")]
    models = report_data([loaded(folder) for folder in folders], ["one two"], timed=False)["models"]
    assert models[1]["changed"] == {"feedforward": ["relu", "gelu"], "norm": ["pre", "post"]}


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="Name the folder of one"):
        report_data([])


class Parts(HTMLParser):
    """Scripts of a page with their attributes and text, and everything that could be loaded."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.loads, self.policy, self.inside = [], [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loads += [given[name] for name in ("src", "href", "xlink:href", "data", "poster") if name in given]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "script":
            self.scripts.append([given, ""])
            self.inside = True

    def handle_data(self, text):
        if self.inside:
            self.scripts[-1][1] += text

    def handle_endtag(self, tag):
        self.inside = False


@pytest.fixture(scope="module")
def page(data, probed):
    return page_of(data, drawings_of([probed.model.config]))


def test_the_data_in_the_page_are_the_data(page, data):
    parts = Parts(page)
    ((_, text),) = [script for script in parts.scripts if script[0].get("id") == "data"]
    assert json.loads(text) == data
    assert any("</script>" in sentence["text"] for sentence in data["models"][0]["sentences"])
    assert "<b>" not in page.replace("make(", "") and "onerror" not in page.replace(text, "")


def test_text_becomes_no_markup():
    odd = '</script><!--<script>&lt;" \u2028'
    assert json.loads(inside_html(json.dumps(odd))) == odd
    assert not set("<>&\u2028") & set(inside_html(odd))


def test_a_name_becomes_no_markup(data):
    (model,) = data["models"]
    page = page_of(data | {"models": [model | {"name": "<i>a & b</i>"}]})
    assert "<i>" not in page and "&lt;i&gt;a &amp; b" in page


def test_nothing_but_its_own_scripts_runs_and_nothing_is_loaded(page):
    parts = Parts(page)
    assert all(load.startswith(("#", "data:")) for load in parts.loads), parts.loads
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|innerHTML|\beval\(", page)
    assert "default-src 'none'" in parts.policy and "'unsafe-inline'" not in parts.policy.split("script-src")[1]
    running = [text for given, text in parts.scripts if "type" not in given]
    assert len(running) > 5
    for text in running:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in parts.policy


def test_a_page_of_a_model_as_large_as_the_quickstart_is_small_enough(make_folder, transformer, tmp_path):
    switches = {"hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 485}
    folder = make_folder(**switches)
    text = "one two three four five six seven"
    write_report([folder], tmp_path / "page.html", texts=[f"{text} {text} {text}", text], tiny=transformer, timed=False)
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


def test_lookups_that_are_too_much_are_left_out_from_the_end(data):
    lookups = data["models"][0]["sentences"][0]["lookups"]
    size = len(one_line(lookups))
    assert within([lookups] * 3, 2 * size) == [lookups, lookups, None]
    (fewer,) = within([lookups], size // 2)
    assert [len(layer["heads"]) for layer in fewer["cross"]] == [1, 1]
    assert fewer["cross"][1]["heads"][0] == lookups["cross"][1]["heads"][0]


def test_the_script_writes_page_and_data(in_process, transformer, tmp_path):
    (tmp_path / "sentences.txt").write_text("one two three\n\nfour & five\n", encoding="utf-8")
    code, out, _ = in_process(
        "report", transformer, "--output", tmp_path / "a.html", "--data", tmp_path / "a.json",
        "--sentences", tmp_path / "sentences.txt", "--timed", "false",
    )  # fmt: skip
    assert code == 0 and "a.html" in out and "a.json" in out
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [one["text"] for one in found["models"][0]["sentences"]] == ["one two three", "four & five"]
    (text,) = [text for given, text in Parts((tmp_path / "a.html").read_text()).scripts if given.get("id") == "data"]
    assert json.loads(text) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "folder of a model is needed"),
        (("x", "--colour", "red"), "--colour is no setting"),
        (("x", "--output"), "nothing stands behind it"),
        (("x", "--timed", "maybe"), "--timed is true or false"),
    ],
)
def test_a_wrong_command_is_named(in_process, words, message):
    code, _, errors = in_process("report", *words)
    assert code == 2 and message in errors


def test_notebooks_run_cell_by_cell(make_folder, tmp_path):
    cells = []
    for name in ("transformer", "window", "decoder alone"):
        file = write_notebook(make_folder(**KINDS[name]), tmp_path / "a.ipynb")
        notebook = json.loads(file.read_text(encoding="utf-8"))
        assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
        cells += ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells.append("plt.close('all')")
    assert len(cells) > 30
    (tmp_path / "cells.py").write_text("\n\n".join(cells), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(tmp_path / "cells.py")]
    ran = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("theory and measurement agree: True") == 3


def test_the_config_of_a_page_builds_the_same_config(data, probed):
    values = {name: one["value"] for name, one in data["models"][0]["config"].items()}
    rebuilt = SelfAttnConfig(**values)
    assert rebuilt.mixers_of("encoder") == probed.model.config.mixers_of("encoder")
    assert isinstance(probed.model, SelfAttnForConditionalGeneration)
