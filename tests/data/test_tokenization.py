"""Tokenizers give texts back exactly, end them, and load by AutoTokenizer without a flag."""

import json
import subprocess
import sys
import unicodedata

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from selfattn_hf.data import DataSettings, Tokenizers, load_splits, load_tokenizers, tokenization, train_tokenizers

TYPES = ("bpe", "unigram", "word")
LOSSLESS = ("bpe", "unigram")
AWKWARD = [
    " lead",
    "trail ",
    "two  spaces",
    "tab\tline\n",
    "日本 😀",
    "weiße Äpfel",
    "</s> <pad> <s>",
    "",
    " ",
    "it's",
    "x\u0301y",
]


def round_trip(tokenizer, text):
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)


@pytest.mark.parametrize("kind", TYPES)
def test_special_tokens_have_their_ids_and_every_text_ends(make_tokenizers, kind):
    tokenizers = make_tokenizers(tokenizer_type=kind)
    assert tokenizers.source.convert_tokens_to_ids(["<pad>", "<s>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    expected = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    assert tokenizers.special_ids() == expected
    batch = tokenizers.source(["A girl", "A girl in a yellow coat"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    ids = batch["input_ids"][0]
    assert ids.count(2) == 1 and ids[ids.index(2) + 1 :] == [0] * (len(ids) - ids.index(2) - 1)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_come_back(make_tokenizers, kind, text):
    assert round_trip(make_tokenizers(tokenizer_type=kind).source, text) == text


@pytest.fixture(scope="module")
def bytes_of_bpe():
    rows = Dataset.from_dict({"source": ["a dog"] * 3, "target": ["ein Hund"] * 3})
    return train_tokenizers(DataSettings(dataset="unused", tokenizer_vocab_size=300), rows).source


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_up_to_unicode_composition(bytes_of_bpe, text):
    assert round_trip(bytes_of_bpe, text) == unicodedata.normalize("NFC", text)


def test_words_come_back_as_they_stood_and_unknown_ones_are_unknown(make_tokenizers, rows):
    tokenizer = make_tokenizers(tokenizer_type="word").source
    assert [round_trip(tokenizer, text) for text in rows["source"]] == list(rows["source"])
    assert tokenizer("A zebra")["input_ids"][-2:] == [3, 2]


def test_words_with_underscores_are_one_token():
    rows = Dataset.from_dict({"source": ["walk left"], "target": ["I_TURN_LEFT I_WALK"]})
    tokenizer = train_tokenizers(DataSettings(dataset="unused", tokenizer_type="word"), rows).target
    assert tokenizer.tokenize("I_TURN_LEFT I_WALK") == [" I_TURN_LEFT", " I_WALK"]


@pytest.mark.parametrize("kind", TYPES)
def test_digits_stand_alone_and_are_the_same_token_everywhere(make_tokenizers, kind):
    tokenizer = make_tokenizers(tokenizer_type=kind).source
    ids = tokenizer.convert_tokens_to_ids(["1", "9", "8", "4"])
    assert 3 not in ids
    found = [token for token in tokenizer("1984")["input_ids"] if token in ids]
    assert found == ids
    assert [token for token in tokenizer("On 23 November 1984")["input_ids"] if token in ids][-4:] == ids


@pytest.mark.parametrize("kind", TYPES)
def test_a_word_has_the_same_token_first_and_in_the_middle(make_tokenizers, kind):
    tokenizer = make_tokenizers(tokenizer_type=kind).source
    assert tokenizer("men men")["input_ids"][:1] == tokenizer("men")["input_ids"][:1]
    first, second = tokenizer("men")["input_ids"][:-1], tokenizer("men men")["input_ids"][:-1]
    assert second == first * 2


def test_training_twice_gives_the_same_tokenizer(make_tokenizers):
    assert make_tokenizers().source.get_vocab() == make_tokenizers().source.get_vocab()


def test_lowercase_reaches_both_vocabulary_and_input(make_tokenizers):
    tokenizer = make_tokenizers(lowercase=True).source
    assert round_trip(tokenizer, "ZWEI Männer") == "zwei männer"
    assert round_trip(make_tokenizers().source, "ZWEI Männer") == "ZWEI Männer"


def test_vocabulary_stays_within_its_size_and_a_size_too_small_is_refused(make_tokenizers):
    assert make_tokenizers(tokenizer_vocab_size=300).vocab_size == 300
    assert make_tokenizers(tokenizer_type="word", tokenizer_vocab_size=10).vocab_size == 10
    with pytest.raises(ValueError, match="tokenizer_vocab_size=100 is too small.*260"):
        make_tokenizers(tokenizer_vocab_size=100)


def test_rows_without_text_do_not_disturb_training(make_settings):
    rows = Dataset.from_dict({"source": ["a dog", None, ""], "target": [None, "ein Hund", "x"]})
    assert train_tokenizers(make_settings(), rows).vocab_size > 260
    nothing = Dataset.from_dict({"source": [None, ""], "target": [None, ""]})
    with pytest.raises(ValueError, match="no text to train a tokenizer on"):
        train_tokenizers(make_settings(), nothing)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_saved_is_loaded(tmp_path, make_tokenizers, rows, kind, shared):
    tokenizers = make_tokenizers(tokenizer_type=kind, tokenizer_shared=shared)
    tokenizers.save(tmp_path)
    again = load_tokenizers(tmp_path)
    assert again.shared is shared is tokenizers.shared
    assert (tmp_path / "target_tokenizer").is_dir() is not shared
    assert again.vocab_size == tokenizers.vocab_size
    for side, texts in (("source", [*rows["source"], *AWKWARD]), ("target", [*rows["target"], *AWKWARD])):
        before, after = getattr(tokenizers, side), getattr(again, side)
        assert before(texts)["input_ids"] == after(texts)["input_ids"]
        assert before.batch_decode(before(texts)["input_ids"]) == after.batch_decode(after(texts)["input_ids"])


def test_separate_vocabularies_differ(make_tokenizers):
    tokenizers = make_tokenizers(tokenizer_type="word", tokenizer_shared=False)
    assert " Mädchen" in tokenizers.target.get_vocab() and " Mädchen" not in tokenizers.source.get_vocab()
    assert tokenizers.vocab_size == max(len(tokenizers.source), len(tokenizers.target))


def test_a_shared_tokenizer_saved_over_separate_ones_is_shared_again(tmp_path, make_tokenizers):
    make_tokenizers(tokenizer_shared=False).save(tmp_path)
    make_tokenizers().save(tmp_path)
    assert load_tokenizers(tmp_path).shared


def test_a_lost_target_tokenizer_is_noticed(tmp_path, make_tokenizers):
    make_tokenizers(tokenizer_shared=False).save(tmp_path)
    for file in (tmp_path / "target_tokenizer").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="target_tokenizer"):
        load_tokenizers(tmp_path)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        load_tokenizers(tmp_path)


@pytest.mark.slow  # a fresh process imports transformers
def test_the_saved_tokenizer_needs_neither_this_package_nor_a_flag(tmp_path, make_tokenizers):
    tokenizers = make_tokenizers()
    tokenizers.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "auto_map" not in config
    code = (
        "import sys; sys.modules['selfattn_hf'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"print(AutoTokenizer.from_pretrained({str(tmp_path)!r})('A man')['input_ids'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.strip().split("\n")[-1]) == tokenizers.source("A man")["input_ids"]
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast)


@pytest.mark.parametrize("missing", ["pad_token", "eos_token"])
def test_a_tokenizer_without_padding_or_end_is_refused(tmp_path, make_tokenizers, missing):
    tokenizer = make_tokenizers().source
    setattr(tokenizer, missing, None)
    with pytest.raises(ValueError, match=f"has no {missing}.*set tokenizer.{missing}"):
        Tokenizers(tokenizer, tokenizer)


def test_tokenizers_that_pad_differently_are_refused(make_tokenizers):
    first, second = make_tokenizers().source, make_tokenizers().source
    second.pad_token = "<unk>"
    with pytest.raises(ValueError, match="pad with the same id; they have 0 and 3"):
        Tokenizers(first, second)


def test_without_a_first_token_decoding_starts_with_padding(make_tokenizers):
    tokenizer = make_tokenizers().source
    tokenizer.bos_token = None
    ids = Tokenizers(tokenizer, tokenizer).special_ids()
    assert ids["bos_token_id"] is None and ids["decoder_start_token_id"] == 0


@pytest.mark.parametrize(("token", "fits"), [("mask_token", True), ("sep_token", False)])
def test_a_mask_token_alone_needs_no_row(make_tokenizers, token, fits):
    tokenizer = make_tokenizers().source
    rows = len(tokenizer)
    tokenizer.add_special_tokens({token: "<last>"})
    tokenizers = Tokenizers(tokenizer, tokenizer)
    assert tokenizers.vocab_size == rows + 1
    assert tokenizers.fit(rows + 1) and tokenizers.fit(rows) == fits and not tokenizers.fit(rows - 1)


def test_a_tokenizer_that_needs_a_missing_package_is_refused(tmp_path, monkeypatch):
    def needs_a_package(*args, **kwargs):
        raise ImportError("\nMarianTokenizer requires the SentencePiece library\nbut it was not found.")

    monkeypatch.setattr(tokenization.AutoTokenizer, "from_pretrained", needs_a_package)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="needs a package that is not installed. MarianTokenizer requires the"):
        load_tokenizers(tmp_path)


@pytest.mark.slow
def test_a_real_translation_set_comes_back_with_few_tokens_a_word(real_data):
    settings = DataSettings(
        dataset=str(real_data / "multi30k_en_de"), source_column="en", target_column="de", tokenizer_vocab_size=10000
    )
    splits = load_splits(settings)
    tokenizers = train_tokenizers(settings, splits["train"])
    assert tokenizers.vocab_size == 10000
    for side, most in (("source", 1.4), ("target", 1.5)):
        texts = list(splits["test"][side])
        ids = tokenizers.source(texts)["input_ids"]
        assert tokenizers.source.batch_decode(ids, skip_special_tokens=True) == texts
        assert sum(map(len, ids)) / sum(len(text.split()) for text in texts) < most
