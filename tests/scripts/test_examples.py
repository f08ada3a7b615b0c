"""The examples: each head learns a few steps of its task, and leaves a folder that its Auto class opens."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import transformers

from selfattn_hf import MODELS

from ..conftest import load_script

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "scripts" / "examples"
AUTO = {
    "tokens": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
    "question": "AutoModelForQuestionAnswering",
    "language": "AutoModelForCausalLM",
}
SMALL = {"steps": 2, "evaluations": 2, "batch": 4, "vocabulary": 270, "hidden_size": 16, "encoder_layers": 1,
         "decoder_layers": 1, "intermediate_size": 16}  # fmt: skip
# Word, two tags, head, relation.
WORDS = [("The", "DET", "DT", 2, "det"), ("{}", "NOUN", "NN", 3, "nsubj"), ("{}", "VERB", "{}", 0, "root"),
         ("a", "DET", "DT", 5, "det"), ("{}", "NOUN", "NN", 3, "obj"), ("who", "PRON", "WP", 7, "nsubj"),
         ("slept", "VERB", "VBD", 5, "acl:relcl"), (".", "PUNCT", ".", 3, "punct")]  # fmt: skip


@pytest.fixture
def tasks():
    return load_script("examples/head_tasks")


@pytest.fixture
def treebank(tmp_path):
    """A clone's files, with sentences of now and then."""
    for part, nouns in (("train", ["cat", "dog", "boy", "girl"]), ("dev", ["cat", "girl"]), ("test", ["dog", "bird"])):
        lines = []
        for number, noun in enumerate(nouns):
            blanks = iter([noun, *(("sees", "VBZ") if number % 2 else ("saw", "VBD")), "man"])
            for place, given in enumerate(WORDS, start=1):
                word, tag, penn, head, relation = (next(blanks) if value == "{}" else value for value in given)
                lines.append("\t".join([str(place), word, word, tag, penn, "_", str(head), relation, "_", "_"]))
            lines.append("")
        (tmp_path / f"en-ud-{part}.conllu").write_text("\n".join([*lines, ""]))
    return tmp_path


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Call train_head.py here: the folder, what was printed, and how the saved head would be asked."""

    def call(task, data, *words):
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.delitem(sys.modules, "head_tasks", raising=False)
        asked = []
        monkeypatch.setattr(subprocess, "run", lambda command, **kwargs: asked.append(command))
        given = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
        load_script("examples/train_head").main(
            [task, "--data", str(data), "--output", str(tmp_path / "out"), *given, *words]
        )
        return tmp_path / "out", capsys.readouterr().out, asked

    return call


@pytest.mark.parametrize("task", AUTO)
def test_a_head_is_trained_evaluated_saved_and_asked(task, train, treebank, monkeypatch, capsys):
    data = ROOT / "configs" / "quickstart_data" if task == "language" else treebank
    column = ("--column", "text", "--max_rows", "20") if task == "language" else ()
    folder, printed, (command,) = train(task, data, *column)
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("step")] == ["step 1", "step 2"]
    assert printed.count("counting") == 3 and "\ntest loss" in printed
    model = getattr(transformers, AUTO[task]).from_pretrained(folder)
    assert type(model) in MODELS
    assert command[:2] == [sys.executable, "-I"] and command[3] == str(folder)
    monkeypatch.setattr(sys, "argv", command[2:])
    load_script("examples/ask_head").main()
    first, answer = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{AUTO[task]} made {type(model).__name__}")
    assert answer.startswith("  -> ")


def test_a_saved_head_is_asked_in_a_process_without_the_package(train, treebank, monkeypatch):
    folder, _, (command,) = train("tokens", treebank)
    monkeypatch.undo()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, answer = done.stdout.splitlines()
    assert "SelfAttnForTokenClassification from transformers_modules" in first
    words = [pair.rsplit("/", 1)[0] for pair in answer.split()[1:]]
    assert " ".join(words) == "The dog saw a man who slept ."


@pytest.mark.parametrize(
    ("task", "pipeline"), [("tokens", "token-classification"), ("sequence", "text-classification")]
)
def test_a_pipeline_of_transformers_says_what_the_head_says(task, pipeline, train, treebank):
    folder, _, (command,) = train(task, treebank)
    head = transformers.pipeline(pipeline, str(folder), device="cpu")
    ids = head.tokenizer(command[4], return_tensors="pt")
    said = head.model(**ids).logits.argmax(-1).flatten().tolist()
    found = [one.get("entity", one.get("label")) for one in head(command[4])]
    assert found == [head.model.config.id2label[label] for label in said][: len(found)]


def test_trees_are_read_where_they_are_asked_for(train, treebank):
    folder, printed, asked = train("tokens", treebank, "--trees")
    assert transformers.AutoConfig.from_pretrained(folder).reads_trees
    assert "test loss" in printed and not asked


def sentence(text, penn, heads, relations):
    """A row of a treebank; a word is a verb if its Penn tag is a verb's."""
    tags = penn.split()
    return {
        "tokens": text.split(), "xpos": tags, "upos": ["VERB" if tag[0] == "V" else "X" for tag in tags],
        "head": heads, "deprel": relations.split(),
    }  # fmt: skip


def test_questions_ask_for_the_words_below_a_subject_or_an_object(tasks):
    row = sentence(
        "The cat hears a man who sleeps .", "DT NN VBZ DT NN WP VBZ .", [2, 3, 0, 5, 3, 7, 5, 3],
        "det nsubj root det obj nsubj acl punct",
    )  # fmt: skip
    found = [(" ".join(one["question"]), row["tokens"][one["start"] : one["end"] + 1]) for one in tasks.questions(row)]
    assert found == [
        ("subject of hears", ["The", "cat"]),
        ("object of hears", ["a", "man", "who", "sleeps"]),
        ("subject of sleeps", ["who"]),
    ]
    row["tokens"][6] = "hears"  # which of the two is meant?
    assert not list(tasks.questions(row))


@pytest.mark.parametrize(
    ("text", "penn", "heads", "relations", "time"),
    [
        ("He says it was", "PRP VBZ PRP VBD", [2, 0, 4, 2], "nsubj root nsubj ccomp", "present"),
        ("He said it is", "PRP VBD PRP VBZ", [2, 0, 4, 2], "nsubj root nsubj ccomp", "past"),
        ("They were late", "PRP VBD JJ", [3, 3, 0], "nsubj cop root", "past"),
        ("You will see", "PRP MD VB", [3, 3, 0], "nsubj aux root", "modal"),
        ("Do n't go", "VB RB VB", [3, 3, 0], "aux advmod root", "order"),
        ("Be good", "VB JJ", [2, 0], "cop root", "order"),
        ("to go", "TO VB", [2, 0], "mark root", "none"),
        ("Thanks", "NN", [0], "root", "none"),
    ],
)
def test_the_time_of_a_sentence_is_that_of_its_main_clause(text, penn, heads, relations, time, tasks):
    assert tasks.time_of(sentence(text, penn, heads, relations)) == time


@pytest.fixture
def make_task(tasks, real_data):
    """A task of real sentences."""

    def make(name, data="ud_english_ewt"):
        options = Namespace(data=str(real_data / data), max_rows=50, vocabulary=300, trees=True, column="en")
        return tasks.MAKERS[name](options)

    return make


def test_every_real_word_has_one_label_and_every_token_its_place_in_the_tree(make_task):
    task = make_task("tokens")
    for row in task.rows["test"]:
        assert all(len(column) == len(row["input_ids"]) for column in row.values())
        stands_for_a_word = [place for place, node in enumerate(row["syntax_nodes"]) if node == place]
        assert [place for place, label in enumerate(row["labels"]) if label != -100] == stands_for_a_word
    assert task.switches["id2label"][task.rows["train"][0]["labels"][0]] == "PROPN"  # Al - Zaman : American forces


def test_a_real_answer_is_what_hangs_on_its_word(make_task):
    task = make_task("question")
    subject, thing = task.rows["train"][:2]
    decode = lambda row: task.tokenizer.decode(row["input_ids"][row["start_positions"] : row["end_positions"] + 1])  # noqa: E731
    assert decode(subject).strip() == "American forces"
    assert decode(thing).strip().startswith("Shaikh Abdullah al - Ani , the preacher")
    assert "subject of killed</s>" in task.tokenizer.decode(subject["input_ids"])


def test_real_sentences_have_times_and_real_captions_a_start_and_an_end(make_task):
    task = make_task("sequence")
    assert {row["labels"] for row in task.rows["train"]} == set(task.switches["id2label"])
    assert task.switches["id2label"][task.rows["train"][0]["labels"]] == "none"  # Al - Zaman : ..., a name is its root
    task = make_task("language", "multi30k_en_de")
    for row in task.rows["validation"]:
        assert row["input_ids"][0] == task.tokenizer.bos_token_id
        assert row["input_ids"][-1] == task.tokenizer.eos_token_id
    assert task.tokenizer(task.example[0])["input_ids"][-1] != task.tokenizer.eos_token_id
