"""Encodings against a loop written from the paper, in float64; and how several of them act together."""

import math

import pytest
import torch
from torch import nn

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model.contracts import Places
from selfattn_hf.model.positions import POSITIONS, make_position
from selfattn_hf.model.trees import Tree

EXACT = {"atol": 1e-12, "rtol": 1e-12}
LENGTH, HEADS, WIDTH = 6, 4, 4


def places_of(length, past=0):
    return Places.count((1, length - past), torch.device("cpu"), past=past)


def queries_and_keys(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, HEADS, LENGTH, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))


def made(name, config, causal=False):
    """An encoding with weights that nothing is special about."""
    encoding = make_position([name], config, causal).double()
    generator = torch.Generator().manual_seed(5)
    for weight in encoding.parameters():
        nn.init.normal_(weight, std=0.7, generator=generator)
    return encoding


@torch.no_grad()
def test_transformer_xl_equals_the_loop_of_its_formula(make_config):
    config = make_config(position_encoding="transformer_xl")
    encoding, (q, k) = made("transformer_xl", config), queries_and_keys()
    got = encoding.bias(q, k, places_of(LENGTH))
    for i in range(LENGTH):
        for j in range(LENGTH):
            distance = i - j
            waves = [10000 ** (-2 * n / 16) for n in range(8)]
            r = torch.tensor([f(distance * w) for w in waves for f in (math.sin, math.cos)], dtype=torch.float64)
            projected = (encoding.proj.weight @ r).view(HEADS, WIDTH)
            u, v = encoding.content_bias.weight, encoding.place_bias.weight
            for h in range(HEADS):
                whole = ((q[0, h, i] + u[h]) @ k[0, h, j] + (q[0, h, i] + v[h]) @ projected[h]) / WIDTH**0.5
                without = q[0, h, i] @ k[0, h, j] / WIDTH**0.5
                assert abs(got[0, h, i, j] - (whole - without)) < 1e-5  # its sinusoids are made in float32


@torch.no_grad()
def test_kerple_equals_the_loop_of_its_formula(make_config):
    encoding, (q, k) = made("kerple", make_config(position_encoding="kerple")), queries_and_keys()
    got = encoding.bias(q, k, places_of(LENGTH))
    for h in range(HEADS):
        a, b = (math.exp(learned.weight[h]) for learned in (encoding.log_scale, encoding.log_rate))
        for i in range(LENGTH):
            for j in range(LENGTH):
                assert abs(got[0, h, i, j] + a * math.log(1 + b * abs(i - j))) < 1e-12


@torch.no_grad()
def test_fire_equals_the_loop_of_its_formula(make_config):
    encoding, (q, k) = made("fire", make_config(position_encoding="fire", relative_max_distance=3)), queries_and_keys()
    got = encoding.bias(q, k, places_of(LENGTH))
    c, threshold = (math.exp(learned.weight) for learned in (encoding.log_rate, encoding.log_threshold))
    assert threshold < LENGTH  # so that both sides of the maximum are met
    psi = lambda x: math.log(c * x + 1)  # noqa: E731
    for i in range(LENGTH):
        for j in range(LENGTH):
            ratio = math.copysign(psi(abs(i - j)), i - j) / psi(max(threshold, i, j))
            hidden = torch.relu(encoding.hidden.weight[:, 0] * ratio + encoding.hidden.bias)
            expected = encoding.out.weight @ hidden + encoding.out.bias
            torch.testing.assert_close(got[0, :, i, j], expected, **EXACT)


def test_fire_starts_as_in_its_paper(make_config):
    config = make_config(position_encoding="fire", relative_max_distance=50)
    encoding = SelfAttnForConditionalGeneration(config).model.encoder.position
    assert encoding.log_rate().exp().item() == pytest.approx(0.1)
    assert encoding.log_threshold().exp().item() == pytest.approx(50)


@torch.no_grad()
def test_tree_path_equals_the_loop_of_its_formula(make_config):
    encoding = made("tree_path", make_config(encoder_position_encoding="tree_path"))
    heads = [1, 1, 1, 2, 2, 4]
    branch = [1, 0, 2, 1, 2, 1]  # which child of its head
    places = places_of(LENGTH)
    got = encoding.vectors(Places(places.queries, places.keys, places.shape, tree=Tree(torch.tensor([heads]))))[0]
    decay = torch.sigmoid(encoding.decay.weight)
    waves = torch.tensor([10000 ** (-2 * n / 16) for n in range(8)], dtype=torch.float64)
    w = lambda b: torch.stack([(b * waves).sin(), (b * waves).cos()], -1).flatten()  # noqa: E731
    for x in range(LENGTH):
        expected, node, k = torch.zeros(16, dtype=torch.float64), x, 0
        while True:
            expected += decay**k * w(branch[node])
            if heads[node] == node:
                break
            node, k = heads[node], k + 1
        torch.testing.assert_close(got[x], expected, atol=1e-6, rtol=1e-6)  # its sinusoids are made in float32


@pytest.mark.parametrize("name", ["shaw", "t5", "alibi", "transformer_xl", "kerple", "fire"])
def test_a_bias_reads_places_and_not_the_shape_of_a_batch(name, make_config):
    """Behind a cache, with keys in any order, in blocks: a pair has the bias of its two places."""
    encoding, (q, k) = made(name, make_config(position_encoding=name)), queries_and_keys()
    full = encoding.bias(q, k, places_of(LENGTH))
    behind = encoding.bias(q[:, :, 4:], k, places_of(LENGTH, past=4))
    torch.testing.assert_close(behind, full[:, :, 4:], **EXACT)
    index = torch.tensor([[0, 1, 2], [3, 4, 5]])
    blocks = places_of(LENGTH).blocks(index, index)
    folded = lambda x: x[:, :, index].transpose(1, 2).flatten(0, 1)  # noqa: E731
    got = encoding.bias(folded(q), folded(k), Places(blocks.queries.repeat(2, 1), blocks.keys.repeat(2, 1), (4, 3)))
    for row in range(2):
        for n in range(2):
            part = full[row if full.shape[0] > 1 else 0][:, index[n]][:, :, index[n]]
            torch.testing.assert_close(got[row * 2 + n], part, **EXACT)


@pytest.mark.parametrize("name", ["shaw", "transformer_xl", "kerple", "fire", "t5"])
def test_gradients_of_a_bias_are_right(name, make_config):
    encoding = made(name, make_config(position_encoding=name))
    q, k = queries_and_keys()
    places = places_of(LENGTH)
    weights = tuple(weight.detach().clone().requires_grad_() for weight in encoding.parameters())
    names = [name for name, _ in encoding.named_parameters()]

    def bias(q, k, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            Bias(encoding), {f"encoding.{n}": v for n, v in given.items()}, (q, k, places)
        )

    assert torch.autograd.gradcheck(bias, (q.requires_grad_(), k.requires_grad_(), *weights))


class Bias(nn.Module):
    """The bias of an encoding as a module's forward."""

    def __init__(self, encoding):
        super().__init__()
        self.encoding = encoding

    def forward(self, q, k, places):
        return self.encoding.bias(q, k, places)


def test_several_encodings_act_one_after_the_other_and_their_biases_add_up(make_config):
    names = ["sinusoidal", "learned", "rope", "shaw", "alibi"]
    config = make_config(position_encoding=names)
    together = make_position(names, config, False).double()
    q, k = queries_and_keys()
    x = torch.randn(1, LENGTH, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    places = places_of(LENGTH)
    sinusoidal, learned, rope, shaw, alibi = together.parts
    torch.testing.assert_close(together.embed(x, places), learned.embed(sinusoidal.embed(x, places), places), **EXACT)
    assert torch.equal(together.rotate(q, places), rope.rotate(q, places))
    expected = shaw.bias(q, k, places) + alibi.bias(q, k, places)
    torch.testing.assert_close(together.bias(q, k, places), expected, **EXACT)
    # Wherever the encoding without a bias stands in the list.
    for order in (["rope", "shaw"], ["shaw", "rope"]):
        assert make_position(order, config, False).double().bias(q, k, places) is not None
    assert make_position(["rope", "sinusoidal"], config, False).bias(q, k, places) is None


@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
def test_a_shift_moves_rows_in_training_alone(name, make_model, batch):
    model = make_model(position_encoding=name, position_shift=9)
    plain = make_model(position_encoding=name)
    source = batch["source"][0][None].repeat(8, 1)
    same = {"input_ids": source, "decoder_input_ids": source}
    assert torch.equal(model(**same).logits, plain(**same).logits)
    model.train()
    states = model.model.encoder(source).last_hidden_state
    assert len({tuple(row.flatten().tolist()) for row in states}) > 2  # equal rows stand at different places
    # Places move together: a row is what it is at that place.
    seen = []
    embed = model.model.encoder.position.embed
    model.model.encoder.position.embed = lambda x, places: seen.append(places) or embed(x, places)
    torch.manual_seed(3)
    states = model.model.encoder(source).last_hidden_state
    (places,) = seen
    assert places.shift.min() >= 0 and places.shift.max() <= 9 and places.shift.unique().numel() > 2
    model.eval()
    model.model.encoder.position.embed = lambda x, places_: embed(x, places)
    torch.testing.assert_close(model.model.encoder(source).last_hidden_state, states, **EXACT)


def test_a_shift_beyond_a_table_raises(make_model):
    model = make_model(position_encoding="learned", position_shift=30).train()
    ids = torch.full((16, 8), 5)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="knows 32 places.*position_shift included"):
        model(input_ids=ids, labels=ids)


def test_halves_are_the_same_waves_in_another_order(make_config):
    places = places_of(30)
    interleaved = POSITIONS["sinusoidal"](make_config(), False).vectors(places)
    halves = POSITIONS["sinusoidal"](make_config(sinusoid_layout="halves"), False).vectors(places)
    assert torch.equal(torch.cat([interleaved[..., 0::2], interleaved[..., 1::2]], -1), halves)
