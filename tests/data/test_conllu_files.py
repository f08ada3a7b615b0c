"""CoNLL-U files become rows: words without multi-word tokens and empty nodes, comments as columns."""

import gzip
import sys

import pytest

from selfattn_hf.data import DataSettings, load_splits, prepare, read_conllu

pytest.importorskip("conllu")

FILE = """\
# newdoc id = d1
# sent_id = d1-1
# text = Dogs don't bark.
# text_de = Hunde bellen nicht.
1\tDogs\tdog\tNOUN\tNNS\tNumber=Plur\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tbark\tbark\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# sent_id = d1-2
# text = Cats purr
# text_de = Katzen schnurren
1\tCats\tcat\tNOUN\tNNS\t_\t2\tnsubj\t_\t_
1.1\tthat\tthat\tPRON\t_\t_\t_\t_\t_\t_
2\tpurr\tpurr\tVERB\tVBP\t_\t0\troot\t_\t_

"""


@pytest.fixture
def conllu(tmp_path):
    def write(text=FILE, name="train.conllu"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def test_words_heads_tags_and_comments_are_columns(conllu):
    first, second = read_conllu(conllu())
    assert first == {
        "newdoc id": "d1", "sent_id": "d1-1", "text": "Dogs don't bark.", "text_de": "Hunde bellen nicht.",
        "tokens": ["Dogs", "do", "n't", "bark", "."], "lemmas": ["dog", "do", "not", "bark", "."],
        "upos": ["NOUN", "AUX", "PART", "VERB", "PUNCT"], "xpos": ["NNS", "VBP", "RB", "VB", "."],
        "head": ["4", "4", "4", "0", "4"], "deprel": ["nsubj", "aux", "advmod", "root", "punct"],
    }  # fmt: skip
    assert second["tokens"] == ["Cats", "purr"] and second["head"] == ["2", "0"]


@pytest.mark.parametrize("name", ["en-ud-train.conllu", "train.conllu.gz"])
def test_a_file_is_a_data_set_with_slices_and_any_comment_as_the_target(conllu, name):
    settings = DataSettings(
        dataset=[conllu(name=name)], source_column="tokens", target_column="text_de", syntax="conllu",
        validation_split="train[50%:]",
    )  # fmt: skip
    splits = load_splits(settings)
    assert splits["train"].to_list()[0] == {
        "source": "Dogs do n't bark .", "target": "Hunde bellen nicht.", "heads": ["4", "4", "4", "0", "4"],
        "words": ["Dogs", "do", "n't", "bark", "."],
    }  # fmt: skip
    assert splits["validation"]["source"] == ["Cats purr"]


def test_files_by_split_and_tags_as_the_target(conllu):
    files = {"train": conllu(name="a.conllu"), "test": [conllu(name="b.conllu"), conllu(name="c.conllu")]}
    splits = load_splits(DataSettings(dataset=files, source_column="tokens", target_column="upos", syntax="conllu"))
    assert splits["test"]["target"] == ["NOUN AUX PART VERB PUNCT", "NOUN VERB"] * 2


def test_the_same_words_are_read_without_their_trees(conllu):
    with_trees = DataSettings(dataset=[conllu()], source_column="tokens", target_column="text", syntax="conllu")
    without = DataSettings(dataset=[conllu()], source_column="tokens", target_column="text")
    rows = load_splits(without)["train"]
    assert rows.column_names == ["source", "target"]
    assert rows["source"] == load_splits(with_trees)["train"]["source"]


def test_a_comment_that_some_sentences_have_is_missing_in_the_others(conllu, make_tokenizers):
    text = FILE.replace("# text_de = Katzen schnurren\n", "")
    settings = DataSettings(dataset=[conllu(text)], source_column="tokens", target_column="text_de", syntax="conllu")
    _, report = prepare(load_splits(settings)["train"], make_tokenizers(), settings, "train")
    assert report.dropped == {"missing": 1}


def test_a_file_that_changed_is_read_again(conllu):
    settings = DataSettings(dataset=[conllu()], source_column="tokens", target_column="text", syntax="conllu")
    assert len(load_splits(settings)["train"]) == 2
    conllu(FILE * 2)
    assert len(load_splits(settings)["train"]) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\tpurr\tpurr\tVERB\tVBP\t_\t0\troot\t_\t_", "2 purr", "sentence 2, is no CoNLL-U: .*tabs"),
        ("1\tCats", "one\tCats", "sentence 2, is no CoNLL-U"),
        ("2\tpurr", "3\tpurr", "sentence 2: its words must be numbered 1, 2, 3"),
        ("2\tnsubj", "two\tnsubj", "sentence 2, is no CoNLL-U"),
        ("# text = Cats purr", "# head = 2", "sentence 2: its comment 'head' has the name of a column"),
    ],
)
def test_a_sentence_that_cannot_be_read_is_named(conllu, old, new, message):
    path = conllu(FILE.replace(old, new))
    with pytest.raises(ValueError, match=f"train.conllu, {message}"):
        list(read_conllu(path))
    settings = DataSettings(dataset=[path], source_column="tokens", target_column="text", syntax="conllu")
    with pytest.raises(ValueError, match=f"cannot be read: .*train.conllu, {message}"):
        load_splits(settings)


def test_a_folder_of_such_files_is_refused_with_what_to_write(conllu, tmp_path):
    conllu()
    with pytest.raises(ValueError, match="holds CoNLL files, which must be named one by one"):
        load_splits(DataSettings(dataset=str(tmp_path), source_column="tokens"))


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "train.conllu"
    path.write_bytes(FILE.replace("Hunde", "Müde Hunde").encode("latin-1"))
    with pytest.raises(ValueError, match="train.conllu is not UTF-8"):
        list(read_conllu(path))


def test_a_head_that_is_not_annotated_makes_a_broken_tree(conllu, make_tokenizers):
    settings = DataSettings(
        dataset=[conllu(FILE.replace("2\tnsubj", "_\tnsubj"))], source_column="tokens", target_column="text",
        syntax="conllu",
    )  # fmt: skip
    ready, report = prepare(load_splits(settings)["train"], make_tokenizers(), settings, "train")
    assert report.dropped == {"broken tree": 1} and len(ready) == 1


def test_without_the_package_it_is_said_how_to_get_it(conllu, monkeypatch):
    monkeypatch.setitem(sys.modules, "conllu", None)
    settings = DataSettings(dataset=[conllu()], source_column="tokens", target_column="text", syntax="conllu")
    with pytest.raises(ValueError, match=r"pip install 'selfattn_hf\[syntax\]'"):
        load_splits(settings)
    with pytest.raises(ValueError, match=r"pip install 'selfattn_hf\[syntax\]'"):
        next(read_conllu(conllu()))
