"""Figures against sacreBLEU's own functions and by hand."""

import pytest
import sacrebleu

from selfattn_hf.training.metrics import score_texts, signatures

OUTPUTS = ["the cat sat on the mat .", "a dog barks at the moon", "  two   spaces"]
REFERENCES = ["the cat sat on a mat .", "a dog barks at the moon", "two spaces"]


def test_bleu_and_chrf_are_those_of_sacrebleu():
    figures = score_texts(OUTPUTS, REFERENCES)
    assert figures["bleu"] == sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES]).score
    assert figures["chrf"] == sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES]).score


def test_exact_match_counts_whole_texts_up_to_white_space():
    assert score_texts(OUTPUTS, REFERENCES)["exact_match"] == pytest.approx(200 / 3)


def test_case_counts_unless_the_tokenizer_has_none():
    assert score_texts(["Ja"], ["ja"])["exact_match"] == 0
    assert score_texts(["Ja"], ["ja"], lowercase=True)["exact_match"] == 100


def test_signatures_say_case_and_tokenisation():
    assert "case:mixed" in signatures()["bleu"] and "tok:13a" in signatures()["bleu"]
    assert "case:lc" in signatures(lowercase=True)["bleu"]
    assert signatures()["chrf"].startswith("nrefs:1")


@pytest.mark.parametrize(("outputs", "references"), [([], []), (["a"], ["a", "b"])])
def test_outputs_without_their_references_are_refused(outputs, references):
    with pytest.raises(ValueError, match="one reference for each"):
        score_texts(outputs, references)
