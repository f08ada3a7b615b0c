"""Trees in prepared rows, whatever they come from; rows without one are dropped and counted, or refused by name."""

import json
import sys
from types import SimpleNamespace

import pytest
from datasets import Dataset

from selfattn_hf.data import DataSettings, Syntax, Tokenizers, load_splits, load_tokenizers, parser, prepare

WORDS = ["old", "cats", "sleep", "outside"]
GOOD = ["2", "3", "0", "3"]


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


@pytest.fixture
def treebank(tmp_path):
    """Settings for rows of words with these heads."""

    def make(*heads, words=WORDS, **given):
        rows = [{"words": words, "text": f"row {number}", "head": head} for number, head in enumerate(heads)]
        path = write(tmp_path / "train.jsonl", rows)
        columns = {"source_column": "words", "target_column": "text", "tokenizer_vocab_size": 400}
        return DataSettings(**{"dataset": [path], **columns, "syntax": "column", **given})

    return make


def prepared(settings, tokenizers):
    return prepare(load_splits(settings)["train"], tokenizers, settings, "train")


@pytest.mark.parametrize("heads", [GOOD, [2, 3, 0, 3]])
def test_heads_may_be_texts_or_numbers(treebank, make_tokenizers, heads):
    ready, report = prepared(treebank(heads, heads), make_tokenizers(tokenizer_type="word"))
    assert report.kept == 2
    assert ready[0]["syntax_heads"] == [1, 2, 2, 2, -1] and ready[0]["syntax_nodes"] == [0, 1, 2, 3, -1]
    assert ready[0]["source"] == "old cats sleep outside"
    assert ready.column_names == ["row", "input_ids", "syntax_heads", "syntax_nodes", "labels", "source", "target"]


BROKEN = [
    (["2", "3", "2", "3"], "none of its 4 words has the head 0"),
    (["2", "0", "0", "3"], r"word 2 \('cats'\) and word 3 \('sleep'\) have the head 0"),
    (["2", "3", "0", "7"], r"word 4 \('outside'\) has the head 7, and there are 4 words"),
    (["2", "1", "0", "3"], r"word 1 \('old'\) is above itself"),
    (["2", "3", "0", "None"], r"word 4 \('outside'\) has the head 'None'"),
    (["2", "3", "0"], "its 4 words need a list of as many heads, and 3 are given"),
    (None, "its 4 words need a list of as many heads, and None is given"),
]


@pytest.mark.parametrize(("heads", "message"), BROKEN)
def test_a_broken_tree_is_refused_with_split_row_column_and_word(treebank, make_tokenizers, heads, message):
    settings = treebank(GOOD, heads, bad_rows="refuse")
    with pytest.raises(
        ValueError,
        match=rf"row 1 \(counted from 0\) of the train split \(.*train\.jsonl\): column 'words' has no tree: {message}",
    ):
        prepared(settings, make_tokenizers())


def test_broken_trees_are_dropped_and_counted(treebank, make_tokenizers):
    settings = treebank(*(heads for heads, _ in BROKEN), GOOD)
    ready, report = prepared(settings, make_tokenizers())
    assert report.dropped == {"broken tree": len(BROKEN)} and report.kept == 1
    assert ready["target"] == [f"row {len(BROKEN)}"]
    assert f"{len(BROKEN)} dropped ({len(BROKEN)} broken tree)" in str(report)


def test_where_nothing_is_left_the_first_reason_is_told(treebank, make_tokenizers):
    with pytest.raises(
        ValueError, match=r"left: 1 broken tree. The first: row 0 .*word 4 \('outside'\) has the head 7"
    ):
        prepared(treebank(["2", "3", "0", "7"]), make_tokenizers())


def test_words_that_are_missing_or_none_are_dropped_as_texts_are(treebank, make_tokenizers, tmp_path):
    rows = [{"words": words, "text": "x", "head": ["0"]} for words in (["a"], None, [None], [])]
    settings = treebank(GOOD, dataset=[write(tmp_path / "others.jsonl", rows)])
    _, report = prepared(settings, make_tokenizers())
    assert report.dropped == {"missing": 2, "empty": 1}


def test_a_tree_too_long_is_dropped_where_a_text_is_cut(treebank, make_tokenizers):
    tokenizers = make_tokenizers(tokenizer_type="word")
    ready, report = prepared(treebank(GOOD, max_source_length=5), tokenizers)
    assert report.kept == 1 and report.cut == 0
    with pytest.raises(ValueError, match="left: 1 too long to cut a tree"):
        prepared(treebank(GOOD, max_source_length=4), tokenizers)
    _, report = prepared(treebank(GOOD, max_source_length=4, syntax=None), tokenizers)
    assert report.cut == 1 and report.kept == 1
    with pytest.raises(ValueError, match="more than max_source_length=4. Raise it"):
        prepared(treebank(GOOD, max_source_length=4, too_long="refuse"), tokenizers)


def test_a_target_is_cut_and_the_tree_stays(treebank, make_tokenizers):
    ready, report = prepared(treebank(GOOD, max_target_length=2), make_tokenizers())
    assert report.cut == 1 and not report.dropped
    assert len(ready[0]["labels"]) == 2 and len(ready[0]["syntax_heads"]) == len(ready[0]["input_ids"])


def test_a_text_that_the_grammar_does_not_know_is_dropped_or_refused(make_tokenizers):
    rows = Dataset.from_dict({"source": ["walk left", "walk fast", "jump"], "target": ["a", "b", "c"]})
    settings = DataSettings(dataset="any", syntax="grammar")
    _, report = prepare(rows, make_tokenizers(), settings, "test")
    assert report.dropped == {"no SCAN command": 1} and report.kept == 2
    refusing = DataSettings(dataset="any", syntax="grammar", bad_rows="refuse", source_column="commands")
    with pytest.raises(ValueError, match="row 1 .* of the test split: column 'commands' has no tree: word 2 is 'fast'"):
        prepare(rows, make_tokenizers(), refusing, "test")


def test_every_sentence_of_the_treebanks_has_its_tree(real_data, make_tokenizers):
    ewt = DataSettings(dataset=str(real_data / "ud_english_ewt"), source_column="tokens", target_column="text",
                       syntax="column", bad_rows="refuse", max_source_length=None)  # fmt: skip
    ready, report = prepare(load_splits(ewt)["validation"], make_tokenizers(), ewt, "validation")
    assert report.kept == report.rows == 2001 and not report.dropped
    for row in ready:
        roots = [place for place, head in enumerate(row["syntax_heads"]) if head == place]
        assert len(roots) == 1 and row["syntax_nodes"][roots[0]] == roots[0]
    pud = DataSettings(dataset=str(real_data / "ud_pud_en_de"), source_column="en_tokens", target_column="de",
                       syntax="column", syntax_column="en_head", train_split="test", bad_rows="refuse")  # fmt: skip
    _, report = prepare(load_splits(pud)["train"], make_tokenizers(), pud, "train")
    assert report.kept == 1000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"source_column": "text", "target_column": "words"},
            "source_column='text' holds string and must hold lists of",
        ),
        ({"syntax_column": "text2"}, "syntax_column='text2' holds string and must hold lists of heads"),
        ({"syntax_column": "haed"}, "syntax_column='haed' is not in the data.*Did you mean head"),
        ({"syntax_column": "words"}, "syntax_column='words' is the source or the target"),
    ],
)
def test_columns_that_hold_no_trees_are_refused_by_name(treebank, tmp_path, given, message):
    rows = [{"words": WORDS, "text": "x y", "text2": "z", "head": GOOD}]
    with pytest.raises(ValueError, match=message):
        load_splits(treebank(GOOD, dataset=[write(tmp_path / "others.jsonl", rows)], **given))


def test_words_without_trees_are_the_same_source(treebank, make_tokenizers):
    tokenizers = make_tokenizers()
    with_trees, _ = prepared(treebank(GOOD), tokenizers)
    without, _ = prepared(treebank(GOOD, syntax=None), tokenizers)
    assert without.column_names == ["row", "input_ids", "labels", "source", "target"]
    assert without["input_ids"] == with_trees["input_ids"]


def test_rows_loaded_without_their_words_are_refused(make_tokenizers, rows):
    settings = DataSettings(dataset="any", syntax="column")
    with pytest.raises(
        ValueError, match="needs the columns words and heads, and the train split has only source, target"
    ):
        prepare(rows, make_tokenizers(), settings, "train")


@pytest.mark.parametrize("name", ["column", "grammar", "conllu", "chain", "flat", "random"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_folder_remembers_how_trees_are_made(tmp_path, make_tokenizers, name, shared):
    plain = make_tokenizers(tokenizer_shared=shared)
    Tokenizers(plain.source, plain.target, Syntax(name)).save(tmp_path)
    again = load_tokenizers(tmp_path)
    assert again.syntax == Syntax(name) and again.shared is shared
    assert again.source("old cats")["input_ids"] == plain.source("old cats")["input_ids"]
    plain.save(tmp_path)
    assert load_tokenizers(tmp_path).syntax is None


def test_a_folder_remembers_the_language_of_the_parser_and_nothing_that_does_nothing(tmp_path, make_tokenizers):
    plain = make_tokenizers()
    Tokenizers(plain.source, plain.target, Syntax("parser", "de")).save(tmp_path)
    assert load_tokenizers(tmp_path).syntax == Syntax("parser", "de")
    Tokenizers(plain.source, plain.target, Syntax("chain")).save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert saved["syntax"] == "chain" and "syntax_language" not in saved


def test_trained_tokenizers_know_the_setting(make_tokenizers):
    assert make_tokenizers(syntax="flat").syntax == Syntax("flat")
    assert make_tokenizers().syntax is None


class Pipeline:
    """A parser that splits at spaces and hangs every word on the last, except where it is asked to fail."""

    made = []

    def __init__(self, language, **options):
        if language == "xx":
            raise RuntimeError("Language xx is currently unsupported")
        self.made.append((language, options))

    def bulk_process(self, texts):
        return [SimpleNamespace(sentences=[self.sentence(part) for part in text.split("|")]) for text in texts]

    def sentence(self, text):
        words = text.split()
        heads = [len(words)] * (len(words) - 1) + [0]
        return SimpleNamespace(words=[SimpleNamespace(text=w, head=h) for w, h in zip(words, heads, strict=True)])


@pytest.fixture
def stanza(monkeypatch):
    monkeypatch.setattr(Pipeline, "made", [])
    monkeypatch.setitem(sys.modules, "stanza", SimpleNamespace(Pipeline=Pipeline))
    parser._pipeline.cache_clear()
    yield
    parser._pipeline.cache_clear()


def test_a_parser_gives_words_and_heads_and_is_made_once(stanza, make_tokenizers):
    rows = Dataset.from_dict({"source": ["old  cats\n\nsleep"] * 3, "target": ["x"] * 3})
    settings = DataSettings(dataset="any", syntax="parser", syntax_language="de")
    for _ in range(2):
        ready, _ = prepare(rows, make_tokenizers(tokenizer_type="word"), settings, "train")
    assert ready["syntax_heads"] == [[2, 2, 2, -1]] * 3
    assert [language for language, _ in Pipeline.made] == ["de"]
    assert Pipeline.made[0][1]["tokenize_no_ssplit"] is True


def test_a_text_that_the_parser_splits_into_sentences_has_no_tree(stanza, make_tokenizers):
    good, bad = Syntax("parser").encode(make_tokenizers().source, ["a b", "a b|c d"])
    assert good.syntax_heads[-1] == -1
    assert "and a tree has one root" in str(bad)


def test_a_language_without_a_parser_is_refused(stanza, make_tokenizers):
    with pytest.raises(ValueError, match="no parser|cannot make a parser for syntax_language='xx': Language xx"):
        Syntax("parser", "xx").encode(make_tokenizers().source, ["a"])


def test_without_the_parser_it_is_said_how_to_get_it(monkeypatch, make_tokenizers):
    monkeypatch.setitem(sys.modules, "stanza", None)
    parser._pipeline.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'selfattn_hf\[parse\]'"):
        Syntax("parser").encode(make_tokenizers().source, ["a"])
