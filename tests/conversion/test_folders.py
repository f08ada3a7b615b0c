"""From folder to folder: the tokenizer comes along, texts are answered as by the source, nothing is overwritten."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BartTokenizer,
    MBart50Tokenizer,
    MBartTokenizer,
    PegasusTokenizer,
    PreTrainedTokenizerFast,
    T5Tokenizer,
)

from selfattn_hf import Translator
from selfattn_hf.conversion import convert_folder
from selfattn_hf.conversion import folder as folder_module

WORDS = [
    "a", "small", "dog", "sleeps", "in", "the", "sun", "two", "men", "walk", "by", "and", "old", "women", "read", "for",
    "an", "hour", "on", "some", "green", "bench",
]  # fmt: skip
PIECES = [(f"▁{word}", -1.0 - i / 10) for i, word in enumerate(WORDS)]
TEXTS = ["a small dog sleeps", "two men walk in the sun", "sun"]
SEARCH = {"no_repeat_ngram_size": 1, "min_new_tokens": 15, "max_new_tokens": 18}
FAIRSEQ = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]


def words_alone():
    """A plain fast tokenizer with Marian's ids: the end is 0, padding comes last."""
    names = ["</s>", "<unk>", *WORDS, "<pad>"]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def of_bart():
    letters = sorted(set("".join(WORDS)))
    names = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *letters, "<mask>"]
    return BartTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], add_prefix_space=True)


# Source, its tokenizer, and what must be said of the language to write.
TOKENIZERS = {
    "marian": (words_alone, {}),
    "bart": (of_bart, {}),
    "t5": (lambda: T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *PIECES], extra_ids=3), {}),
    "mt5": (lambda: T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *PIECES], extra_ids=0), {}),
    "pegasus": (
        lambda: PegasusTokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), *PIECES, ("<unk>", 0.0)], offset=0), {}
    ),
    "mbart": (lambda: MBartTokenizer(vocab=[*FAIRSEQ, *PIECES], src_lang="en_XX", tgt_lang="de_DE"), {}),
    "mbart50": (
        lambda: MBart50Tokenizer(vocab=[*FAIRSEQ, *PIECES], src_lang="en_XX", tgt_lang="de_DE"),
        {"forced_bos_token_id": "de_DE"},
    ),
}  # fmt: skip


@pytest.fixture
def with_tokenizer(make_source):
    """A source with its tokenizer; its vocabulary is as large as the tokenizer's."""

    def make(name, **fields):
        tokenizer = TOKENIZERS[name][0]()
        sizes = {"vocab_size": len(tokenizer), **fields}
        if name == "marian":
            pad = tokenizer.pad_token_id
            sizes |= {"pad_token_id": pad, "decoder_start_token_id": pad, "decoder_vocab_size": sizes["vocab_size"]}
        folder = make_source(name, **sizes)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@torch.no_grad()
def answers(model, tokenizer, **options):
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    written = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **options)
    return tokenizer.batch_decode(written, skip_special_tokens=True)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_translator_answers_as_the_source_with_its_own_tokenizer(name, with_tokenizer, load, tmp_path):
    folder = with_tokenizer(name)
    report, has_tokenizer = convert_folder(folder, tmp_path / "made")
    assert report.is_equal and has_tokenizer
    theirs, translator = AutoTokenizer.from_pretrained(folder), Translator.from_pretrained(tmp_path / "made")
    ours = translator.tokenizers.source
    assert ours.get_vocab() == theirs.get_vocab()
    for given in ({"text": TEXTS}, {"text_target": TEXTS}):
        assert ours(**given)["input_ids"] == theirs(**given)["input_ids"]
    options = {name: theirs.convert_tokens_to_ids(token) for name, token in TOKENIZERS[name][1].items()}
    special = [[number] for number in theirs.all_special_ids if number != theirs.eos_token_id]
    options |= {**SEARCH, "num_beams": 2, "bad_words_ids": special}
    expected = answers(load(folder), theirs, **options)
    assert translator(TEXTS, **options) == expected
    assert len(set(expected)) == len(TEXTS) and all(len(text) > 12 for text in expected), "the answers are varied"


def test_a_mask_token_without_a_row_is_no_hindrance(with_tokenizer, load, tmp_path):
    folder = with_tokenizer("bart", vocab_size=len(of_bart()) - 1)  # as bart-large-cnn
    convert_folder(folder, tmp_path / "made")
    expected = answers(load(folder), AutoTokenizer.from_pretrained(folder), **SEARCH)
    assert Translator.from_pretrained(tmp_path / "made")(TEXTS, **SEARCH) == expected


def test_everything_that_makes_a_model_lies_in_the_folder(with_tokenizer, tmp_path):
    convert_folder(with_tokenizer("t5"), tmp_path / "deep" / "made", position_encoding=["t5", "rope"])
    names = {path.name for path in (tmp_path / "deep" / "made").iterdir() if path.suffix != ".py"}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("taken", ["a folder with a file", "a file"])
def test_what_is_there_is_not_overwritten(taken, make_source, tmp_path):
    target = tmp_path / "made"
    note = target
    if taken == "a folder with a file":
        target.mkdir()
        note = target / "note.txt"
    note.write_text("keep")
    with pytest.raises(ValueError, match=f"{target} is there already and is no empty folder"):
        convert_folder(make_source("t5"), target)
    assert note.read_text() == "keep" and (target.is_file() or list(target.iterdir()) == [note])


def test_an_empty_folder_is_filled(make_source, tmp_path):
    (tmp_path / "made").mkdir()
    _, has_tokenizer = convert_folder(make_source("t5"), tmp_path / "made")
    assert not has_tokenizer and not list((tmp_path / "made").glob("*token*"))
    assert (tmp_path / "made" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "file", "packages"),
    [
        ("marian", "source.spm", "sentencepiece"),
        ("t5", "spiece.model", "sentencepiece protobuf"),
        ("pegasus", "spiece.model", "sentencepiece protobuf"),
        ("mbart", "sentencepiece.bpe.model", "sentencepiece protobuf"),
    ],
)
def test_a_tokenizer_that_needs_a_missing_package_is_not_left_out_in_silence(
    name, file, packages, make_source, tmp_path, monkeypatch
):
    folder = make_source(name, change=lambda model: None)
    (folder / file).write_bytes(b"pieces")
    for package in ("sentencepiece", "protobuf"):
        monkeypatch.setattr(folder_module, f"is_{package}_available", lambda: False)
    with pytest.raises(ValueError, match=f"is in {file}, which transformers reads by .*: pip install {packages}$"):
        convert_folder(folder, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_only_the_package_that_is_missing_is_asked_for(make_source, tmp_path, monkeypatch):
    folder = make_source("t5", change=lambda model: None)
    (folder / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr(folder_module, "is_sentencepiece_available", lambda: True)
    monkeypatch.setattr(folder_module, "is_protobuf_available", lambda: False)
    with pytest.raises(ValueError, match="reads by sentencepiece and protobuf. .*: pip install protobuf$"):
        convert_folder(folder, tmp_path / "made")


def test_beside_a_tokenizer_json_no_package_is_needed(with_tokenizer, tmp_path, monkeypatch):
    folder = with_tokenizer("t5")
    (folder / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr(folder_module, "is_sentencepiece_available", lambda: False)
    assert convert_folder(folder, tmp_path / "made")[1]


def test_a_class_of_tokenizers_that_needs_a_missing_package_is_refused(with_tokenizer, tmp_path, monkeypatch):
    def needs_a_package(*args, **kwargs):
        raise ImportError("\nMarianTokenizer requires the SentencePiece library\nbut it was not found.")

    folder = with_tokenizer("marian")
    monkeypatch.setattr(folder_module.AutoTokenizer, "from_pretrained", needs_a_package)
    with pytest.raises(ValueError, match="is not installed. MarianTokenizer requires the SentencePiece library but"):
        convert_folder(folder, tmp_path / "made")


@pytest.mark.parametrize("name", ["t5", "bart", "mbart"])
def test_a_tokenizer_without_its_vocabulary_is_refused(name, make_source, tmp_path):
    folder = make_source(name, change=lambda model: None)
    kind = TOKENIZERS[name][0]().__class__.__name__
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    assert len(AutoTokenizer.from_pretrained(folder)) > 0, "transformers makes an empty one of it"
    with pytest.raises(ValueError, match=f"has a {kind} without a vocabulary: none of .* is there"):
        convert_folder(folder, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_tokenizer_that_has_no_vocabulary_file_needs_none(make_source, tmp_path):
    folder = make_source("t5", vocab_size=384)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    convert_folder(folder, tmp_path / "made")
    assert Translator.from_pretrained(tmp_path / "made").tokenizers.source("a")["input_ids"] == [100, 1]


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_the_tokenizer_of_a_real_marian_comes_along(make_source, load, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = make_source("marian", change=lambda model: None)
    lines = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))] * 5
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=str(folder / side), vocab_size=30, minloglevel=2
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(3, 30)]
    names = ["</s>", "<unk>", *pieces, *(f"unused{i}" for i in range(10)), "<pad>"]
    assert len(names) == 40
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    convert_folder(folder, tmp_path / "made")
    theirs, translator = AutoTokenizer.from_pretrained(folder), Translator.from_pretrained(tmp_path / "made")
    assert type(translator.tokenizers.source) is type(theirs) and type(theirs).__name__ == "MarianTokenizer"
    assert translator(TEXTS, **SEARCH) == answers(load(folder), theirs, **SEARCH)
