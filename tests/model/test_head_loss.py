"""The loss without its logits: the same numbers as with them, a few rows at a time."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from selfattn_hf import SelfAttnForCausalLM
from selfattn_hf.model import loss

VOCABULARY, WIDTH = 23, 6


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", (4 * VOCABULARY, 4 * VOCABULARY))


@pytest.fixture
def labelled(batch, pad):
    """Sources and labels, padded."""
    (ids, mask), (target, target_mask) = pad(batch["source"]), pad(batch["target"])
    labels = target.masked_fill(target_mask == 0, loss.IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "decoder_attention_mask": target_mask}


def made(bias=True, dtype=torch.float64):
    head = nn.Linear(WIDTH, VOCABULARY, bias=bias).to(dtype)
    states = torch.randn(3, 7, WIDTH, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, VOCABULARY, (3, 7))
    labels[1, 2:] = loss.IGNORED
    return head, states, labels


@pytest.mark.parametrize("more", [{}, {"label_smoothing": 0.1}, {"num_items_in_batch": 40}], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_equal_those_of_all_logits(bias, more):
    head, states, labels = made(bias)
    weights = [states, *head.parameters()]
    few, all_ = loss.head_loss(head, states, labels, **more), loss.sequence_loss(head(states), labels, **more)
    torch.testing.assert_close(few, all_, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        torch.autograd.grad(3 * few, weights), torch.autograd.grad(3 * all_, weights), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_its_gradient_is_that_of_finite_differences(smoothing):
    head, states, _ = made()
    given = [x.detach().requires_grad_() for x in (states[0], head.weight, head.bias)]
    labels = torch.randint(0, VOCABULARY, (7,))
    assert torch.autograd.gradcheck(
        lambda x, w, b: loss.LinearCrossEntropy.apply(x, w, b, labels, smoothing), tuple(given)
    )


def test_what_is_frozen_gets_no_gradient():
    head, states, labels = made()
    head.requires_grad_(False)
    loss.head_loss(head, states, labels).backward()
    assert states.grad.abs().sum() > 0 and head.weight.grad is None
    head.requires_grad_(True)
    loss.head_loss(head, states.detach(), labels).backward()
    assert head.weight.grad.abs().sum() > 0


def test_nothing_but_ignored_labels_is_a_loss_of_zero_with_a_gradient_of_zeros():
    head, states, labels = made()
    none = loss.head_loss(head, states, torch.full_like(labels, loss.IGNORED))
    none.backward()
    assert none == 0 and not states.grad.any() and not head.weight.grad.any()


class Rows(TorchDispatchMode):
    """Notes of how many rows the logits are that are made."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.ndim > 1 and made.shape[-1] == VOCABULARY:
            self.most = max(self.most, made.numel() // VOCABULARY)
        return made


def test_the_logits_are_never_there_as_a_whole():
    head, states, labels = made()
    with Rows() as few:
        loss.head_loss(head, states, labels).backward()
    with Rows() as whole:
        loss.sequence_loss(head(states), labels).backward()
    assert whole.most == labels.numel()  # the control
    assert few.most == max(
        4, WIDTH
    )  # four rows of logits; the weight, transposed, has a row for each number of a state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_it_computes_what_the_head_would(dtype):
    head, states, labels = made(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        few, all_ = loss.head_loss(head, states, labels), loss.sequence_loss(head(states), labels)
    assert few.dtype == torch.float32
    near = {torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(few, all_, atol=near, rtol=near)
    few.backward()
    assert head.weight.grad.dtype == states.grad.dtype == torch.float32


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_asked_for_its_loss_alone_has_no_logits_and_the_same_gradients(tied, make_model, labelled):
    model = make_model(torch.float64, tie_word_embeddings=tied).train()
    plain = model(**labelled)
    plain.loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    alone = model(**labelled, loss_only=True)
    alone.loss.backward()
    assert alone.logits is None and plain.logits is not None
    torch.testing.assert_close(alone.loss, plain.loss, atol=1e-12, rtol=0)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], atol=1e-12, rtol=0)


def test_a_decoder_alone_shifts_its_labels_with_or_without_logits(make_model, labelled):
    model = SelfAttnForCausalLM(make_model(torch.float64).config).double().eval()
    ids, mask = labelled["input_ids"], labelled["attention_mask"]
    plain = model(input_ids=ids, attention_mask=mask, labels=ids)
    alone = model(input_ids=ids, attention_mask=mask, labels=ids, loss_only=True)
    assert alone.logits is None
    torch.testing.assert_close(alone.loss, plain.loss, atol=1e-12, rtol=0)


def test_a_head_with_a_hook_and_a_loss_of_somebody_else_are_used_as_they_are(make_model, labelled):
    model = make_model()
    seen = []
    handle = model.lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits.shape))
    model(**labelled, loss_only=True)
    assert seen == [(*labelled["labels"].shape, model.config.vocab_size)]
    handle.remove()
    model.loss_function = lambda logits, labels, **more: logits.sum() * 0 + 7
    assert model(**labelled, loss_only=True).loss == 7


def test_a_loss_alone_needs_labels(make_model, labelled):
    given = {name: value for name, value in labelled.items() if name != "labels"}
    with pytest.raises(ValueError, match="loss_only=True asks for the loss alone, and a loss needs labels"):
        make_model()(**given, decoder_input_ids=labelled["labels"].clamp(min=0), loss_only=True)
