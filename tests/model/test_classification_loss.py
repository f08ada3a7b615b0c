"""The losses of the heads against transformers' own, and what their labels may be."""

from types import SimpleNamespace

import pytest
import torch
from transformers.loss.loss_utils import (
    ForCausalLMLoss,
    ForQuestionAnsweringLoss,
    ForSequenceClassificationLoss,
    ForTokenClassification,
)
from transformers.utils import find_labels

from selfattn_hf import (
    MODELS,
    SelfAttnForCausalLM,
    SelfAttnForConditionalGeneration,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
)
from selfattn_hf.model.loss import classification_loss, problem_of, sequence_loss, span_loss

CLASSES = 5
CLOSE = {"atol": 1e-6, "rtol": 1e-6}  # transformers computes some of its losses in float32


def logits_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4)).requires_grad_()


def classes(*shape, ignored=True):
    drawn = torch.randint(CLASSES, shape, generator=torch.Generator().manual_seed(5))
    return drawn.masked_fill(
        torch.rand(shape, generator=torch.Generator().manual_seed(6)) < 0.4, -100 if ignored else 0
    )


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def assert_same_loss_and_gradient(ours, theirs, *inputs):
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for got, expected in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("count", [None, 11, torch.tensor(11)])
def test_the_loss_of_tokens_is_that_of_transformers(count):
    logits, labels = logits_of(3, 6, CLASSES), classes(3, 6)
    assert 0 < (labels == -100).sum() < labels.numel()
    theirs = ForTokenClassification(logits, labels, SimpleNamespace(num_labels=CLASSES), num_items_in_batch=count)
    assert_same_loss_and_gradient(sequence_loss(logits, labels, count), theirs, logits)


@pytest.mark.parametrize(
    ("problem", "shape", "labels"),
    [
        ("single_label_classification", (4, CLASSES), classes(4, ignored=False)),
        ("single_label_classification", (6, CLASSES), classes(6)),
        ("single_label_classification", (4, CLASSES), classes(4, 1, ignored=False)),
        ("multi_label_classification", (4, CLASSES), (numbers(4, CLASSES) > 0).float()),
        ("regression", (4, 1), numbers(4)),
        ("regression", (4, 1), numbers(4, 1)),
        ("regression", (4, 3), numbers(4, 3)),
    ],
)
@pytest.mark.parametrize("said", [True, False], ids=["said", "inferred"])
def test_the_loss_of_texts_is_that_of_transformers(problem, shape, labels, said):
    if problem == "regression" and shape[1] > 1 and not said:
        pytest.skip("several numbers and several yes-or-no labels look alike, so regression must be said")
    logits = logits_of(*shape)
    theirs_config = SimpleNamespace(num_labels=shape[1], problem_type=problem if said else None)
    theirs = ForSequenceClassificationLoss(labels, logits, theirs_config)
    ours = classification_loss(logits, labels, problem if said else None)
    assert_same_loss_and_gradient(ours, theirs, logits)
    assert said or problem_of(logits, labels) == theirs_config.problem_type == problem


@pytest.mark.parametrize("count", [None, 7, torch.tensor(7)])
def test_the_loss_of_answers_is_that_of_transformers(count):
    start, end = logits_of(4, 9), logits_of(4, 9).detach().flip(0).requires_grad_()
    starts, ends = torch.tensor([0, 3, 8, 9]), torch.tensor([2, 3, 30, 4])  # 9 and 30 lie behind the row
    theirs = ForQuestionAnsweringLoss(
        start, end, starts, ends, **({} if count is None else {"num_items_in_batch": count})
    )
    ours = (span_loss(start, starts, count) + span_loss(end, ends, count)) / 2
    assert_same_loss_and_gradient(ours, theirs, start, end)
    torch.testing.assert_close(span_loss(start, starts[:, None], count), span_loss(start, starts, count))
    before = span_loss(start, torch.tensor([0, 3, 8, -1]), count)
    torch.testing.assert_close(before, span_loss(start, starts, count))


@pytest.mark.parametrize("count", [None, 11, torch.tensor(11)])
def test_the_loss_of_a_language_model_is_that_of_transformers(count, make_model, batch, pad):
    model = make_model(torch.float32, SelfAttnForCausalLM)
    ids, mask = pad(batch["target"])
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, 2] = -100
    given = {} if count is None else {"num_items_in_batch": count}
    out = model(ids, attention_mask=mask, labels=labels, **given)
    theirs = ForCausalLMLoss(model(ids, attention_mask=mask).logits, labels, model.config.vocab_size, **given)
    assert_same_loss_and_gradient(out.loss, theirs, model.lm_head.weight)
    behind = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    shifted = model(ids, attention_mask=mask, labels=None, shift_labels=behind, **given)
    torch.testing.assert_close(shifted.loss, out.loss)


@pytest.mark.parametrize("labels", [torch.full((2, 4), -100), torch.full((2,), -100)])
def test_labels_none_of_which_counts_give_a_loss_and_a_gradient_of_zero(labels):
    logits = logits_of(*labels.shape, CLASSES)
    loss = sequence_loss(logits, labels) if labels.ndim > 1 else classification_loss(logits, labels)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_answers_none_of_which_counts_give_a_loss_and_a_gradient_of_zero():
    logits = logits_of(2, 4)
    loss = span_loss(logits, torch.tensor([-1, 4]))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_one_token_alone_is_asked_for_nothing(make_model):
    model = make_model(kind=SelfAttnForCausalLM)
    out = model(torch.tensor([[5]]), labels=torch.tensor([[5]]))
    out.loss.backward()
    assert out.loss.item() == 0 and all(not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_a_loss_in_half_precision_is_computed_in_float32(problem):
    logits = logits_of(64, 1 if problem == "regression" else CLASSES).detach().bfloat16()
    labels = classes(64, ignored=False) if problem.startswith("single") else (numbers(*logits.shape) > 0).float()
    loss = classification_loss(logits, labels, problem)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, classification_loss(logits.float(), labels, problem))


def test_the_counts_of_several_devices_are_added():
    logits, labels = logits_of(4, CLASSES), classes(4, ignored=False)
    several = torch.tensor([[3], [5]])
    for problem, given in (("single_label_classification", labels), ("regression", numbers(4, CLASSES))):
        loss = classification_loss(logits, given, problem, several)
        assert loss.shape == ()
        torch.testing.assert_close(loss, classification_loss(logits, given, problem, 8))


HEADS = {
    SelfAttnForSequenceClassification: {"labels": torch.tensor([3, 0, 4])},
    SelfAttnForTokenClassification: {"labels": classes(3, 7)},
    SelfAttnForQuestionAnswering: {
        "start_positions": torch.tensor([1, 0, -1]),
        "end_positions": torch.tensor([4, 3, 0]),
    },
    SelfAttnForCausalLM: {"labels": classes(3, 7)},
}


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)
def test_accumulated_gradients_equal_those_of_one_batch(kind, make_model, batch, pad):
    model = make_model(kind=kind, num_labels=CLASSES)
    ids, mask = pad(batch["source"])
    labels = HEADS[kind]
    gradients = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        model.zero_grad()
        for part in parts:
            cut = {name: value[part] for name, value in labels.items()}
            model(ids[part], attention_mask=mask[part], **cut, num_items_in_batch=5).loss.backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(one, many, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem", "word"),
    [
        (1, torch.tensor([0.5, 2.0, 1.0]), "regression", "regression"),
        (CLASSES, torch.tensor([0, 4, 1]), "single_label_classification", "single"),
        (CLASSES, torch.ones(3, CLASSES), "multi_label_classification", "multi"),
    ],
)
def test_what_the_first_labels_were_is_saved(num_labels, labels, problem, word, make_model, batch, pad, tmp_path):
    model = make_model(torch.float32, SelfAttnForSequenceClassification, num_labels=num_labels)
    ids, mask = pad(batch["source"])
    assert model.config.problem_type is None
    model(ids, attention_mask=mask, labels=labels)
    model.save_pretrained(tmp_path)
    assert SelfAttnForSequenceClassification.from_pretrained(tmp_path).config.problem_type == problem
    with pytest.raises(ValueError, match=word):
        model(ids, attention_mask=mask, labels=torch.ones(3, 2))


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        (
            SelfAttnForTokenClassification,
            {"labels": torch.full((3, 7), CLASSES)},
            ["from 0 to 4", "num_labels=5", "got 5"],
        ),
        (SelfAttnForTokenClassification, {"labels": torch.full((3, 7), -1)}, ["-100", "got -1"]),
        (SelfAttnForTokenClassification, {"labels": torch.full((3, 6), 1)}, ["(3, 7)", "(3, 6)"]),
        (SelfAttnForSequenceClassification, {"labels": torch.tensor([0, -1, 2])}, ["from 0 to 4", "got -1"]),
        (SelfAttnForSequenceClassification, {"labels": torch.tensor([0, 9, 2])}, ["got 9"]),
        (SelfAttnForSequenceClassification, {"labels": torch.tensor([0, 1])}, ["(3,)", "(2,)"]),
        (SelfAttnForSequenceClassification, {"labels": torch.ones(3, 4)}, ["(3, 5)", "(3, 4)", "num_labels"]),
        (SelfAttnForQuestionAnswering, {"start_positions": torch.tensor([0, 5, 0]), "end_positions": torch.zeros(3)},
         ["start_positions", "padding", "got 5 in row 1"]),
        (SelfAttnForQuestionAnswering, {"start_positions": torch.tensor([0, 0, 0])}, ["no end_positions"]),
        (SelfAttnForQuestionAnswering, {"end_positions": torch.tensor([0, 0, 0])}, ["no start_positions"]),
    ],
)  # fmt: skip
def test_labels_that_do_not_belong_to_the_logits_are_named_with_their_rule(kind, labels, words, make_model, batch, pad):
    ids, mask = pad(batch["source"])
    with pytest.raises(ValueError) as error:
        make_model(kind=kind, num_labels=CLASSES)(ids, attention_mask=mask, **labels)
    for word in words:
        assert word in str(error.value)


def test_a_float_is_no_class():
    with pytest.raises(ValueError, match=r"whole number.*torch.float32"):
        classification_loss(logits_of(3, CLASSES), torch.ones(3), "single_label_classification")


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_trainer_knows_which_columns_are_labels(kind):
    """It evaluates the loss only where it is given all of the parameters that it takes for labels."""
    expected = {
        SelfAttnForConditionalGeneration: ["labels"],
        SelfAttnForCausalLM: ["labels"],
        SelfAttnForSequenceClassification: ["labels"],
        SelfAttnForTokenClassification: ["labels"],
        SelfAttnForQuestionAnswering: ["start_positions", "end_positions"],
    }
    assert find_labels(kind) == expected.get(kind, [])
