"""Models that read trees: texts whose trees are made here, words that bring their heads, files of them."""

import importlib
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from selfattn_hf import Translator
from selfattn_hf.data import Syntax
from selfattn_hf.inference import TextError
from selfattn_hf.inference import translator as translator_module

SENTENCES = [
    ["a", "small", "dog", "sleeps"],
    ["two", "men", "walk"],
    ["snow"],
    ["the", "children", "play", "with", "it"],
]
HEADS = [["3", "3", "4", "0"], [2, 3, 0], ["0"], ["2", "3", "0", "5", "3"]]


@pytest.fixture(scope="module")
def make_translator(make_model, tokenizers):
    """A model with fresh weights and the given way to make trees; it answers differently for other trees."""

    def make(syntax, **switches):
        given = {"encoder_position_encoding": "tree_relative", **switches}
        return Translator(make_model(**given), replace(tokenizers, syntax=syntax and Syntax(syntax)))

    return make


@pytest.fixture(scope="module")
def by_heads(make_translator):
    return make_translator("column")


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("position", ["tree_depth", "tree_relative", "tree_path"])
@pytest.mark.parametrize("syntax", ["chain", "flat", "random"])
def test_trees_are_made_while_translating_and_a_batch_answers_as_one_by_one(
    make_translator, sentences, syntax, position, num_beams
):
    translator = make_translator(syntax, encoder_position_encoding=position)
    alone = [translator(text, num_beams=num_beams) for text in sentences]
    assert translator([*sentences, " "], batch_size=4, num_beams=num_beams) == [*alone, ""]
    assert not translator.reads_heads


def test_what_reaches_generate_is_what_the_data_room_makes(make_translator, sentences, monkeypatch):
    translator, seen = make_translator("random"), []
    monkeypatch.setattr(translator.model, "generate", lambda **given: seen.append(given) or torch.ones(1, 3).long())
    translator(sentences[0])
    (row,) = translator.tokenizers.syntax.encode(translator.tokenizers.source, sentences[:1])
    assert {name: seen[0][name][0].tolist() for name in vars(row)} == vars(row)
    assert seen[0]["attention_mask"].all()


def test_padding_is_in_no_tree(make_translator, sentences, monkeypatch):
    translator, seen = make_translator("chain"), []
    monkeypatch.setattr(translator.model, "generate", lambda **given: seen.append(given) or torch.ones(2, 3).long())
    translator([sentences[0], "snow"], batch_size=2)
    assert seen[0]["syntax_heads"][1].tolist() == [0] + [-1] * (seen[0]["input_ids"].shape[1] - 1)
    assert torch.equal(seen[0]["syntax_heads"] == -1, seen[0]["syntax_nodes"] == -1)


def test_words_with_heads_are_answered_in_order(by_heads):
    assert by_heads.reads_heads
    answers = by_heads(SENTENCES, heads=HEADS, batch_size=2)
    assert answers == [by_heads([words], heads=[heads])[0] for words, heads in zip(SENTENCES, HEADS, strict=True)]
    assert by_heads([*SENTENCES, []], heads=[*HEADS, []]) == [*answers, ""]
    assert by_heads([], heads=[]) == []


def test_the_heads_decide_the_answer(by_heads, monkeypatch):
    seen = []
    monkeypatch.setattr(by_heads.model, "generate", lambda **given: seen.append(given) or torch.ones(1, 3).long())
    by_heads(SENTENCES[1:2], heads=[["2", "3", "0"]])
    by_heads(SENTENCES[1:2], heads=[["0", "1", "1"]])
    assert seen[0]["syntax_heads"].tolist() == [[1, 2, 2, -1]]
    assert seen[1]["syntax_heads"].tolist() == [[0, 0, 0, -1]]
    assert torch.equal(seen[0]["input_ids"], seen[1]["input_ids"])


def test_a_grammar_names_the_text_that_it_does_not_know(make_translator):
    translator = make_translator("grammar")
    with pytest.raises(TextError, match=r"texts\[1\] has no tree: word 2 is 'fast'") as caught:
        translator(["walk left", "walk fast"])
    assert caught.value.index == 1
    with pytest.raises(TextError, match=r"texts\[33\] has no tree"):
        list(translator.stream([*["jump"] * 33, "fly"], batch_size=1))


@pytest.mark.parametrize(
    ("texts", "heads", "message"),
    [
        (SENTENCES, [*HEADS[:3], ["2", "3", "0", "5", "9"]], r"texts\[3\] has no tree: word 5 \('it'\) has the head 9"),
        (SENTENCES, [*HEADS[:3], HEADS[0]], r"texts\[3\] has no tree: its 5 words need a list of as many heads"),
        (SENTENCES, HEADS[:3], "heads go with the texts, one list for each: got 3 for 4 texts"),
        (
            SENTENCES,
            None,
            r"Give lists of words and their heads: translator\(\[\['old', 'cats'\]\], heads=\[\[2, 0\]\]\)",
        ),
        ("two men walk", None, "Give lists of words and their heads"),
        ("two men walk", [[2, 3, 0]], "Give lists of words and their heads"),
        (["two men walk"], [[2, 3, 0]], r"texts\[0\] must be a list of words, got 'two men walk' of type str"),
        ([["two", 3]], [[2, 0]], r"texts\[0\] must be a list of words"),
    ],
)
def test_words_without_fitting_heads_are_refused(by_heads, texts, heads, message):
    with pytest.raises(ValueError, match=message):
        by_heads(texts, heads=heads)


def test_heads_that_nobody_reads_are_refused(make_translator, translator):
    with pytest.raises(ValueError, match="heads would do nothing: the model reads no trees"):
        translator(["snow"], heads=[["0"]])
    with pytest.raises(ValueError, match=r"makes its trees itself \(syntax: chain\)"):
        make_translator("chain")(["snow"], heads=[["0"]])
    with pytest.raises(ValueError, match="heads would do nothing"):
        next(translator.stream(["snow"], heads=[["0"]]))


def test_a_model_that_reads_trees_needs_a_way_to_make_them(make_translator):
    with pytest.raises(ValueError, match="The model reads trees, and its tokenizers do not say how they are made"):
        make_translator(None)


def test_a_way_to_make_trees_is_not_used_for_a_model_that_reads_none(make_translator, sentences):
    plain = make_translator("column", encoder_position_encoding="sinusoidal")
    assert not plain.reads_heads
    assert plain(sentences) == make_translator(None, encoder_position_encoding="sinusoidal")(sentences)


def test_a_saved_folder_makes_its_trees_again(make_translator, sentences, tmp_path):
    before = make_translator("random")
    before.model.save_pretrained(tmp_path)
    before.tokenizers.save(tmp_path)
    again = Translator.from_pretrained(tmp_path, device="cpu")
    assert again.tokenizers.syntax == Syntax("random")
    assert again(sentences) == before(sentences)


def test_a_text_ends_as_in_training_whatever_the_tokenizer_adds(make_model, tokenizers, sentences, monkeypatch):
    from copy import deepcopy

    from tokenizers import processors

    bare = deepcopy(tokenizers.source)
    bare.backend_tokenizer.post_processor = processors.Sequence([])
    translator, seen = Translator(make_model(), replace(tokenizers, source=bare)), []
    monkeypatch.setattr(translator.model, "generate", lambda **given: seen.append(given) or torch.ones(1, 3).long())
    translator(sentences[0])
    assert seen[0]["input_ids"].tolist() == [tokenizers.source(sentences[0])["input_ids"]]


def test_a_stream_reads_words_and_heads_together(by_heads, monkeypatch):
    monkeypatch.setattr(translator_module, "BATCHES_AHEAD", 1)
    expected = by_heads(SENTENCES, heads=HEADS)
    assert list(by_heads.stream(iter(SENTENCES), heads=iter(HEADS), batch_size=2)) == expected
    for texts, heads, ended in (
        (SENTENCES, HEADS[:3], "heads end after 3"),
        (SENTENCES[:2], HEADS, "texts end after 2"),
    ):
        with pytest.raises(ValueError, match=ended):
            list(by_heads.stream(texts, heads=heads, batch_size=2))
    with pytest.raises(TextError, match=r"texts\[3\] has no tree"):
        list(by_heads.stream(SENTENCES, heads=[*HEADS[:3], ["1"]], batch_size=2))


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("translate")


@pytest.fixture
def conllu(tmp_path):
    pytest.importorskip("conllu")

    def write(sentences=SENTENCES, heads=HEADS):
        blocks = []
        for words, above in zip(sentences, heads, strict=True):
            lines = [
                "\t".join([str(place), word, *"_" * 4, str(head), *"_" * 3])
                for place, (word, head) in enumerate(zip(words, above, strict=True), start=1)
            ]
            blocks.append("\n".join(["# text = some", *lines]) + "\n\n")
        path = tmp_path / "input.conllu"
        path.write_text("".join(blocks))
        return path

    return write


def call(script, monkeypatch, capsysbinary, translator, *arguments):
    monkeypatch.setattr(Translator, "from_pretrained", lambda *args, **kwargs: translator)
    script.main(["model", *map(str, arguments)])
    return capsysbinary.readouterr().out.decode()


def test_the_script_translates_a_conllu_file_sentence_by_sentence(
    script, monkeypatch, capsysbinary, by_heads, conllu, tmp_path
):
    expected = "".join(f"{answer}\n" for answer in by_heads(SENTENCES, heads=HEADS, num_beams=2))
    options = (conllu(), "--num_beams", 2, "--batch_size", 1)
    assert call(script, monkeypatch, capsysbinary, by_heads, *options) == expected
    call(script, monkeypatch, capsysbinary, by_heads, *options, "--output", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == expected


def test_the_script_names_the_sentence_that_has_no_tree(script, monkeypatch, capsysbinary, by_heads, conllu):
    path = conllu(heads=[*HEADS[:3], [1, 2, 3, 4, 5]])
    with pytest.raises(ValueError, match=r"input.conllu, sentence 4, has no tree: none of its 5 words has the head 0"):
        call(script, monkeypatch, capsysbinary, by_heads, path)


@pytest.mark.parametrize("given", [["--text", "two men"], ["text.txt"], ["-"], []])
def test_the_script_asks_for_a_conllu_file_where_text_tells_no_tree(
    script, monkeypatch, capsysbinary, by_heads, tmp_path, given
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("two men\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"two men\n")))
    with pytest.raises(ValueError, match="model was trained on the trees of its data.*Name a .conllu file"):
        call(script, monkeypatch, capsysbinary, by_heads, *given)


def test_the_script_does_not_take_a_conllu_file_for_text(script, monkeypatch, capsysbinary, translator, conllu):
    with pytest.raises(ValueError, match=r"input.conllu is CoNLL-U, and model reads text"):
        call(script, monkeypatch, capsysbinary, translator, conllu())


def test_the_script_makes_trees_for_lines_of_text(
    script, monkeypatch, capsysbinary, make_translator, sentences, tmp_path
):
    translator = make_translator("chain")
    (tmp_path / "text.txt").write_text("\n".join(sentences) + "\n")
    written = call(script, monkeypatch, capsysbinary, translator, tmp_path / "text.txt")
    assert written == "".join(f"{answer}\n" for answer in translator(sentences))
