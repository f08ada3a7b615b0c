"""Text in, text out: the same answers in any batch and order, clear refusals."""

import copy
import logging

import pytest
import torch
from datasets import Dataset

from selfattn_hf import Translator
from selfattn_hf.data import DataSettings, train_tokenizers
from selfattn_hf.inference import TextError
from selfattn_hf.inference import translator as translator_module


def test_one_text_gives_a_text_and_a_list_gives_a_list(translator, sentences):
    assert translator(sentences[0]) == sentences[0]
    assert translator(sentences) == sentences
    assert translator([]) == []


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_answers_as_one_by_one_and_in_order(translator, sentences, batch_size, num_beams):
    texts = [*sentences, " ".join(sentences[:3]), "snow snow dog"]
    alone = [translator(text, num_beams=num_beams) for text in texts]
    assert translator(texts, batch_size=batch_size, num_beams=num_beams) == alone
    assert translator(texts[::-1], batch_size=batch_size, num_beams=num_beams) == alone[::-1]


def test_the_same_call_gives_the_same_answers(translator, sentences):
    first = translator(sentences)
    torch.manual_seed(99)
    assert translator(sentences) == first


def test_texts_of_like_length_share_a_batch_and_the_longest_comes_first(translator, sentences, monkeypatch):
    widths = []
    generate = translator.model.generate

    def watched(**given):
        widths.append(given["attention_mask"].sum(1).tolist())
        return generate(**given)

    monkeypatch.setattr(translator.model, "generate", watched)
    translator(sentences, batch_size=2)
    flat = [width for batch in widths for width in batch]
    assert [len(batch) for batch in widths] == [2, 2, 2]
    assert flat == sorted(flat, reverse=True)


@pytest.mark.parametrize("most", [1, 9, 12, 1000])
def test_a_batch_has_no_more_tokens_than_are_allowed(translator, sentences, monkeypatch, most):
    texts, shapes, generate = [*sentences, "snow", "dog"], [], translator.model.generate
    alone = translator(texts)

    def watched(**given):
        shapes.append(tuple(given["input_ids"].shape))
        return generate(**given)

    monkeypatch.setattr(translator.model, "generate", watched)
    assert translator(texts, batch_tokens=most, batch_size=4) == alone
    assert list(translator.stream(texts, batch_tokens=most, batch_size=4)) == alone
    assert sum(rows for rows, _ in shapes) == 2 * len(texts)
    assert all(rows <= 4 and (rows == 1 or rows * width <= most) for rows, width in shapes)
    assert most == 1 or max(rows for rows, _ in shapes) > 1


@pytest.mark.parametrize(("name", "what"), [("batch_size", "texts"), ("batch_tokens", "tokens")])
def test_a_batch_of_nothing_is_refused(translator, name, what):
    for call in (translator, lambda *given, **more: list(translator.stream(*given, **more))):
        with pytest.raises(ValueError, match=f"{name} is a number of {what} and starts at 1, got 0"):
            call(["snow"], **{name: 0})


@pytest.mark.parametrize("empty", ["", "   ", "\t\n"])
def test_an_empty_text_has_an_empty_answer_and_keeps_its_place(translator, sentences, empty):
    assert translator(empty) == ""
    assert translator([sentences[0], empty, sentences[1]]) == [sentences[0], "", sentences[1]]


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["nested"]])
def test_something_that_is_no_text_is_refused_with_its_index(translator, sentences, wrong):
    with pytest.raises(ValueError, match=r"texts\[2\] must be text, got .* of type"):
        translator([*sentences[:2], wrong])


def test_nothing_is_decoded_before_every_text_is_checked(translator, sentences, monkeypatch):
    monkeypatch.setattr(translator.model, "generate", lambda **given: pytest.fail("decoded already"))
    with pytest.raises(ValueError, match=r"texts\[6\]"):
        translator([*sentences, None], batch_size=1)


def test_a_text_beyond_a_bounded_table_is_refused_before_decoding(make_model, tokenizers, sentences, monkeypatch):
    bounded = Translator(make_model(position_encoding="learned"), tokenizers)
    monkeypatch.setattr(bounded.model, "generate", lambda **given: pytest.fail("decoded already"))
    with pytest.raises(TextError, match=r"texts\[1\] has \d+ tokens and the model's encoder knows 16 places") as caught:
        bounded([sentences[0], " ".join(sentences)])
    assert caught.value.index == 1


def test_a_text_that_just_fits_a_bounded_table_is_answered(make_model, tokenizers):
    bounded = Translator(make_model(position_encoding="learned"), tokenizers)
    assert isinstance(bounded(" ".join(["snow"] * 15)), str)  # 15 words and </s> are 16 tokens
    with pytest.raises(TextError):
        bounded(" ".join(["snow"] * 16))


def test_an_unbounded_encoding_takes_any_length(translator, sentences):
    assert isinstance(translator(" ".join(sentences * 5)), str)


def test_an_answer_longer_than_the_decoders_table_is_refused(make_model, tokenizers):
    bounded = Translator(make_model(encoder_position_encoding="none", position_encoding="learned"), tokenizers)
    assert isinstance(bounded("snow", max_new_tokens=16), str)
    with pytest.raises(ValueError, match="16 places that the model's decoder knows, got 17"):
        bounded("snow", max_new_tokens=17)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "batch_size .* starts at 1, got 0"),
        ({"num_beams": 0}, "num_beams .* starts at 1, got 0"),
        ({"max_new_tokens": -1}, "max_new_tokens .* starts at 1, got -1"),
        ({"num_beam": 3}, "num_beam is no setting of a translation.*Did you mean num_beams"),
        ({"num_beams": 2, "num_return_sequences": 2}, "one answer per text"),
        ({"return_dict_in_generate": True}, "one answer per text"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(translator, given, message):
    with pytest.raises(ValueError, match=message):
        translator(["snow"], **given)


def test_a_call_does_not_change_what_is_saved_with_the_model(translator):
    before = copy.deepcopy(translator.model.generation_config.to_dict())
    translator("snow", num_beams=3, max_new_tokens=2, length_penalty=0.5)
    assert translator.model.generation_config.to_dict() == before


@pytest.mark.parametrize("length", [{"max_new_tokens": 14}, {"max_length": 15}], ids=str)
def test_the_saved_length_holds_unless_the_call_names_one(translator, tokenizers, length, monkeypatch, caplog):
    translator.model.generation_config.update(**{"max_new_tokens": None, "max_length": None, **length})
    lengths = []
    generate = translator.model.generate

    def watched(**given):
        answers = generate(**given)
        lengths.append(answers.shape[1] - 1)
        return answers

    monkeypatch.setattr(translator.model, "generate", watched)
    never_ends = {"suppress_tokens": [tokenizers.target.eos_token_id]}
    translator("snow", **never_ends)
    translator("snow", max_new_tokens=9, **never_ends)
    assert lengths == [14, 9]
    assert "max_new_tokens=9 and may be cut" in caplog.text
    assert "seem to have been set" not in caplog.text, "generate() was told one length"


def test_answers_that_were_cut_off_are_counted_in_the_log(translator, sentences, caplog):
    with caplog.at_level(logging.WARNING, logger=translator_module.__name__):
        translator(sentences)
        assert not caplog.records
        translator([*sentences, ""], suppress_tokens=[translator.tokenizers.target.eos_token_id])
    assert "6 of 7 answers reached max_new_tokens=14" in caplog.text


def test_a_model_in_training_mode_is_put_to_evaluation(make_model, tokenizers, sentences):
    model = make_model(dropout=0.5)
    calm = Translator(model, tokenizers)(sentences)
    assert Translator(model.train(), tokenizers)(sentences) == calm


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(make_model, tokenizers):
    with pytest.raises(ValueError, match="must know every token of its tokenizer"):
        Translator(make_model(vocab_size=tokenizers.vocab_size - 1), tokenizers)


def test_separate_vocabularies_read_with_one_and_write_with_the_other(make_model, sentences, tmp_path, monkeypatch):
    rows = Dataset.from_dict({"source": sentences, "target": ["Schnee fällt", "der rote Ball"] * 3})
    settings = DataSettings(dataset="unused", tokenizer_type="word", tokenizer_shared=False, tokenizer_vocab_size=100)
    both = train_tokenizers(settings, rows)
    make_model(vocab_size=both.vocab_size, tie_word_embeddings=False).save_pretrained(tmp_path)
    both.save(tmp_path)
    translator = Translator.from_pretrained(tmp_path, device="cpu")
    read = []

    def answer(**given):
        read.extend(given["input_ids"].tolist())
        return torch.tensor([[1, *both.target("der rote Ball")["input_ids"]]])

    monkeypatch.setattr(translator.model, "generate", answer)
    assert translator("snow") == "der rote Ball"
    assert read == [both.source("snow")["input_ids"]]


def test_a_stream_answers_in_order_and_is_read_a_few_batches_ahead(translator, sentences, monkeypatch):
    monkeypatch.setattr(translator_module, "BATCHES_AHEAD", 2)
    texts, taken = [*sentences, ""] * 2, []

    def watched():
        for text in texts:
            taken.append(text)
            yield text

    answers = translator.stream(watched(), batch_size=2)
    first = next(answers)
    assert len(taken) == 4
    assert [first, *answers] == texts


def test_a_stream_counts_from_its_first_text(translator, sentences):
    answers = translator.stream(["snow"] * translator_module.BATCHES_AHEAD + [None], batch_size=1)
    with pytest.raises(TextError, match=r"texts\[16\] must be text"):
        list(answers)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"device": "gpu"}, "device is a name that torch knows"), ({"dtype": "half32"}, "dtype is a number format")],
)
def test_a_device_or_dtype_that_does_not_exist_is_refused(saved, given, message):
    with pytest.raises(ValueError, match=message):
        Translator.from_pretrained(saved, **given)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_the_number_format_can_be_chosen(saved, sentences, dtype):
    small = Translator.from_pretrained(saved, dtype=dtype, device="cpu")
    assert small.model.dtype == torch.bfloat16
    assert small(sentences[0]) == sentences[0]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises((OSError, ValueError), match="nowhere"):
        Translator.from_pretrained(tmp_path / "nowhere")
