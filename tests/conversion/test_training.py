"""A converted model is trained on as its source would be, step by step; where it is not, for a known reason."""

import pytest
import torch

from selfattn_hf import convert

LIKE_BART = ["bart", "bart_scaled", "mbart", "mbart50"]
PADDING_STARTS = ["marian", "marian_three_tables", "pegasus"]


@pytest.fixture
def both(make_source, load):
    """A source without dropout and its conversion, in float64 and training mode."""

    def make(name, **fields):
        rate = "dropout_rate" if name.startswith(("t5", "mt5")) else "dropout"

        def without_bias(model):
            if hasattr(model, "final_logits_bias"):  # it is not trained there
                model.final_logits_bias.zero_()

        no_dropout = {rate: 0.0, **({} if rate == "dropout_rate" else {"activation_dropout": 0.0})}
        folder = make_source(name, torch.float64, change=without_bias, **no_dropout, **fields)
        return load(folder).train(), convert(folder).train()

    return make


def learn(model, inputs, steps=3, rate=0.05):
    """The loss of every step of plain gradient descent; what the decoder reads and is to write are the same ids."""
    losses = []
    labels = inputs["decoder_input_ids"][:, 1:].masked_fill(inputs["decoder_attention_mask"][:, 1:] == 0, -100)
    read = {name: ids[:, :-1] if "decoder" in name else ids for name, ids in inputs.items()}
    for _ in range(steps):
        model.zero_grad()
        loss = model(**read, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= rate * weight.grad
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("name", [*LIKE_BART, *PADDING_STARTS])
def test_every_step_of_training_is_that_of_the_source(name, both, batch):
    theirs, ours = both(name)
    inputs = batch(theirs.config.pad_token_id)
    expected, got = learn(theirs, inputs), learn(ours, inputs)
    assert expected[-1] < expected[0] - 0.05, "something is learned"
    # Sinusoids are rounded to float32 there.
    torch.testing.assert_close(got, expected, rtol=1e-6 if name in PADDING_STARTS else 1e-13, atol=0)


@pytest.mark.parametrize("name", ["marian", "pegasus"])
def test_the_embedding_of_padding_is_trained_here_where_texts_start_with_it(name, both, batch):
    theirs, ours = both(name)
    pad = theirs.config.pad_token_id
    assert pad == theirs.config.decoder_start_token_id
    inputs = batch(pad)
    inputs["decoder_input_ids"][:, 0] = pad
    expected, got = learn(theirs, inputs, steps=2), learn(ours, inputs, steps=2)
    assert (got - expected).abs()[0] < 1e-6 * expected[0] < (got - expected).abs()[1]


def test_a_bias_on_the_logits_is_trained_here(make_source, load, batch):
    folder = make_source("marian", torch.float64)
    theirs, ours = load(folder), convert(folder)
    learn(ours, batch(39), steps=1)
    learn(theirs, batch(39), steps=1)
    before = load(folder).final_logits_bias
    assert torch.equal(theirs.final_logits_bias, before)
    assert not torch.allclose(ours.lm_head.bias, before.flatten())


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_gradients_of_a_t5_are_those_of_the_source_divided_by_the_scale_of_a_weight(name, both, batch, exact_norms):
    theirs, ours = both(name)
    inputs = batch(theirs.config.pad_token_id)
    learn(theirs, inputs, steps=1, rate=0.0)
    learn(ours, inputs, steps=1, rate=0.0)
    width, head = theirs.config.d_model, theirs.config.d_kv
    scales = {
        "encoder.block.1.layer.0.SelfAttention.q": ("model.encoder.layers.1.mix.sublayer.q_proj", head**0.5),
        "decoder.block.0.layer.1.EncDecAttention.q": ("model.decoder.layers.0.read.sublayer.q_proj", head**0.5),
        "encoder.block.1.layer.0.SelfAttention.k": ("model.encoder.layers.1.mix.sublayer.k_proj", 1),
        "decoder.block.1.layer.2.DenseReluDense.wo": ("model.decoder.layers.1.think.sublayer.down_proj", 1),
    }
    if name == "t5":  # the scale of its logits stands in the table
        scales["shared"] = ("model.shared", width**-0.5)
    for theirs_name, (ours_name, scale) in scales.items():
        expected = theirs.get_submodule(theirs_name).weight
        got = ours.get_submodule(ours_name).weight
        torch.testing.assert_close(got, expected * scale, rtol=1e-12, atol=0)
        torch.testing.assert_close(got.grad, expected.grad / scale, rtol=1e-9, atol=1e-12)
    if name == "mt5":  # its output has a table of its own; source and target share one there, and have two here
        apart = [stack.embed_tokens.weight for stack in (ours.model.encoder, ours.model.decoder)]
        assert torch.equal(*apart) and not torch.allclose(apart[0].grad, apart[1].grad)
        torch.testing.assert_close(apart[0].grad + apart[1].grad, theirs.shared.weight.grad, rtol=1e-9, atol=1e-12)
