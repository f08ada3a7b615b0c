"""Ids, masks and lengths that no model can take are refused with the number and the limit, before they are used."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from selfattn_hf import (
    SelfAttnForCausalLM,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
)
from selfattn_hf.data import Seq2SeqCollator
from selfattn_hf.model import masking
from selfattn_hf.model.masking import looks

VOCABULARY = 40
IDS = torch.arange(3, 13).view(2, 5)
ONES = torch.ones(2, 5, dtype=torch.long)
WHOLE = {"input_ids": IDS, "attention_mask": ONES, "decoder_input_ids": IDS, "decoder_attention_mask": ONES}


def with_one(value, ids=IDS):
    changed = ids.clone()
    changed[1, 2] = value
    return changed


# What is given in place of a part of a whole batch, and the words that the refusal must hold.
BAD = {
    "source id too large": ({"input_ids": with_one(40)}, ["input_ids", "from 0 to 39", "got 40"]),
    "source id far too large": ({"input_ids": with_one(2**40)}, ["input_ids", "0 to 39", str(2**40)]),
    "source id negative": ({"input_ids": with_one(-1)}, ["input_ids", "0 to 39", "got -1"]),
    "target id too large": ({"decoder_input_ids": with_one(99)}, ["decoder_input_ids", "0 to 39", "99"]),
    "target id negative": ({"decoder_input_ids": with_one(-100)}, ["decoder_input_ids", "0 to 39", "-100"]),
    "label too large": ({"labels": with_one(40)}, ["labels", "0 to 39", "got 40"]),
    "label negative": ({"labels": with_one(-7)}, ["labels", "0 to 39", "got -7"]),
    "labels that are floating": ({"labels": IDS.float()}, ["labels", "torch.float32"]),
    "labels without a batch": ({"labels": IDS[0]}, ["labels", "(5,)"]),
    "labels longer than the target": ({"labels": torch.cat([IDS, IDS], 1)}, ["labels", "(2, 5)", "(2, 10)"]),
    "no source token": ({"input_ids": IDS[:, :0], "attention_mask": ONES[:, :0]}, ["at least one token", "(2, 0)"]),
    "no target token": ({"decoder_input_ids": IDS[:, :0]}, ["decoder", "at least one token", "(2, 0)"]),
    "no row": ({"input_ids": IDS[:0]}, ["at least one token", "(0, 5)"]),
    "a row that is no batch": ({"input_ids": IDS[0]}, ["a batch of shape (5,)"]),
    "ids that are floating": ({"input_ids": IDS.float()}, ["ids", "torch.float32"]),
    "ids that are booleans": ({"decoder_input_ids": IDS > 5}, ["ids", "torch.bool"]),
    "a list of ids": ({"input_ids": IDS.tolist()}, ["tensor", "list"]),
    "a wide mask": ({"attention_mask": torch.ones(2, 6)}, ["attention_mask", "(2, 5)", "(2, 6)"]),
    "a mask of other rows": ({"attention_mask": torch.ones(3, 5)}, ["attention_mask", "(2, 5)", "(3, 5)"]),
    "a deep mask": ({"attention_mask": torch.ones(2, 5, 5)}, ["attention_mask", "(2, 5)", "(2, 5, 5)"]),
    "a mask to be added": ({"attention_mask": torch.full((2, 5), -1e9)}, ["attention_mask", "-1000000000.0"]),
    "a wide target mask": (
        {"decoder_attention_mask": torch.ones(2, 4)},
        ["decoder_attention_mask", "(2, 5)", "(2, 4)"],
    ),
    "more targets than sources": (
        {"decoder_input_ids": torch.cat([IDS, IDS]), "decoder_attention_mask": torch.cat([ONES, ONES])},
        ["4 rows", "(2, 5, 16)"],
    ),
    "embeddings of another width": (
        {"input_ids": None, "inputs_embeds": torch.randn(2, 5, 12)},
        ["inputs_embeds", "hidden_size=16", "12"],
    ),
    "states of another width": (
        {"input_ids": None, "encoder_outputs": (torch.randn(2, 5, 12),)},
        ["width of 16", "(2, 5, 12)"],
    ),
    "logits of a negative number of places": ({"logits_to_keep": -3}, ["logits_to_keep", "-3"]),
    "ids and embeddings": ({"inputs_embeds": torch.randn(2, 5, 16)}, ["both"]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("training", [True, False])
def test_a_bad_batch_is_refused_with_the_number_and_the_limit(name, training, make_model):
    changes, words = BAD[name]
    model = make_model(torch.float32).train(training)
    model(**WHOLE)
    with pytest.raises(ValueError) as error:
        model(**WHOLE | changes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("switches", "side"),
    [
        ({"position_encoding": "learned"}, "input_ids"),
        ({"position_encoding": "learned"}, "decoder_input_ids"),
        ({"encoder_mixer": "dense"}, "input_ids"),
        ({"decoder_mixer": "dense"}, "decoder_input_ids"),
    ],
)
def test_a_row_beyond_a_bounded_table_is_refused(switches, side, make_model):
    model = make_model(torch.float32, **switches, max_position_embeddings=6)
    batch = {"input_ids": IDS, "decoder_input_ids": IDS}
    model(**batch)
    with pytest.raises(ValueError, match=r"knows 6 places, and the longest row has at least 10 tokens"):
        model(**batch | {side: torch.cat([IDS, IDS], 1)})


def test_generation_beyond_a_bounded_table_is_refused(make_model):
    model = make_model(torch.float32, decoder_position_encoding="learned", max_position_embeddings=6)
    with pytest.raises(ValueError, match="knows 6 places"):
        model.generate(IDS, max_new_tokens=9, min_new_tokens=9)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (SelfAttnForCausalLM, {"labels": with_one(40)}, ["labels", "0 to 39", "40"]),
        (SelfAttnForCausalLM, {"input_ids": with_one(-2)}, ["input_ids", "0 to 39", "-2"]),
        (SelfAttnForSequenceClassification, {"labels": torch.tensor([0, 2])}, ["labels", "0 to 1", "got 2"]),
        (SelfAttnForTokenClassification, {"labels": torch.full((2, 5), -1)}, ["labels", "0 to 1", "got -1"]),
        (
            SelfAttnForQuestionAnswering,
            {"start_positions": torch.tensor([0, 4]), "end_positions": torch.tensor([0, 4])},
            ["start_positions", "got 4", "row 1"],
        ),
    ],
)
def test_a_head_refuses_labels_that_mean_nothing(kind, given, words, make_model):
    model = make_model(torch.float32, kind)
    mask = ONES.clone()
    mask[1, 4] = 0
    with pytest.raises(ValueError) as error:
        model(**{"input_ids": IDS, "attention_mask": mask} | given)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"input_ids": [3, 40], "labels": [3]}, ["input_ids", "row 1", "id 40", "0 to 39"]),
        ({"input_ids": [3, -1], "labels": [3]}, ["input_ids", "row 1", "id -1", "0 to 39"]),
        ({"input_ids": [3], "labels": [40]}, ["labels", "row 1", "id 40", "0 to 39"]),
        ({"input_ids": [], "labels": [3]}, ["row 1", "no input_ids"]),
        ({"input_ids": [3], "labels": []}, ["row 1", "no labels"]),
        ({"input_ids": [3, 3], "labels": [3], "syntax_heads": [0, 2]}, ["syntax_heads", "row 1", "2", "0 to 1"]),
    ],
)
def test_the_collator_looks_at_every_batch(row, words):
    collate = Seq2SeqCollator(0, decoder_start_token_id=1, vocab_size=VOCABULARY)
    good = {"input_ids": [3, 4], "labels": [5]} | ({"syntax_heads": [0, 0]} if "syntax_heads" in row else {})
    with pytest.raises(ValueError) as error:
        collate([good, row])
    for word in words:
        assert word in str(error.value)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """A tensor that says that it is on a GPU; only its place is asked."""
    monkeypatch.setattr(masking, "Tensor", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return SimpleNamespace(device=torch.device("cuda"), is_meta=False)


def test_on_a_gpu_the_first_batch_of_a_training_is_looked_at_and_every_one_of_an_evaluation(on_a_gpu):
    module = nn.Linear(1, 1)
    assert [looks(module, on_a_gpu) for _ in range(3)] == [True, False, False]
    module.eval()
    assert [looks(module, on_a_gpu) for _ in range(3)] == [True, True, True]
    assert not looks(module, on_a_gpu, fresh=False), "a cache goes on with ids that the model itself chose"


def test_on_the_cpu_every_batch_is_looked_at_and_no_tensor_without_values():
    module = nn.Linear(1, 1)
    assert [looks(module, IDS, fresh) for fresh in (True, False, True)] == [True, True, True]
    assert not looks(module, IDS.to("meta")) and not looks(module, None)


def test_nothing_is_looked_at_while_a_graph_is_captured(on_a_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not looks(nn.Linear(1, 1), on_a_gpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [name for name in BAD if " id " in name or "label " in name])
def test_a_gpu_refuses_ids_too(name, make_model):
    changes, words = BAD[name]
    model = make_model(torch.float32).cuda()
    with pytest.raises(ValueError) as error:
        model(**{key: value.cuda() for key, value in (WHOLE | changes).items()})
    for word in words:
        assert word in str(error.value)


def test_a_model_that_does_not_look_would_be_found(make_model, monkeypatch):
    model = make_model(torch.float32)
    monkeypatch.setattr("selfattn_hf.model.stacks.looks", lambda *given: False)
    with pytest.raises(IndexError):
        model(**WHOLE | {"input_ids": with_one(40)})
