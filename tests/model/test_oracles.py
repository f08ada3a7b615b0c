"""Parts against an independent reference: PyTorch's and transformers' own modules, or a loop written from the paper."""

import math
from typing import get_args

import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model.contracts import Places, PositionalEncoding
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.loss import SmoothedCrossEntropy, sequence_loss
from selfattn_hf.model.positions import POSITIONS, make_position
from selfattn_hf.model.switches import TreePosition
from selfattn_hf.model.trees import Tree

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def places_of(length):
    return Places.count((1, length), torch.device("cpu"))


def heads(length, config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = config.hidden_size // config.num_attention_heads
    return torch.randn(2, config.num_attention_heads, length, width, generator=generator, dtype=torch.float64)


def test_rnn_encoder_equals_torch_bidirectional_lstm_on_packed_sequences(make_model, batch, pad):
    model = make_model(encoder_mixer="rnn", position_encoding="none")
    mixer = model.model.encoder.layers[0].mix.sublayer
    oracle = nn.LSTM(16, 8, bidirectional=True, batch_first=True).double()
    for name, weight in mixer.forwards.named_parameters():
        getattr(oracle, name).data = weight.data
        getattr(oracle, f"{name}_reverse").data = dict(mixer.backwards.named_parameters())[name].data
    ids, mask = pad(batch["source"])
    x = torch.randn(*ids.shape, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = mask.sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(oracle(packed)[0], batch_first=True)[0]
    real = mask.bool()
    states = mixer(x, mask=real, position=PositionalEncoding(model.config, False), places=places_of(7))
    torch.testing.assert_close(states[real], expected[real], **EXACT)


def looked_up(mixer, x, affinity, sees):
    """y(i) = Wo [sum over j of softmax(a(h, i, ..))(j) v(j) of every head h], j over what i sees."""
    values = [mixer.v_proj(token).chunk(mixer.heads) for token in x]
    for i in range(len(x)):
        heads = []
        for h in range(mixer.heads):
            seen = [j for j in range(len(x)) if sees(i, j)]
            weights = [math.exp(affinity(h, i, j)) for j in seen]
            heads.append(sum(w * values[j][h] for w, j in zip(weights, seen, strict=True)) / sum(weights))
        yield mixer.out_proj(torch.cat(heads))


def attention_loop(mixer, x, causal, sees):
    queries, keys = ([proj(token).chunk(mixer.heads) for token in x] for proj in (mixer.q_proj, mixer.k_proj))
    width = len(queries[0][0])
    return looked_up(mixer, x, lambda h, i, j: queries[i][h] @ keys[j][h] / width**0.5, sees)


def self_attention_loop(mixer, x, causal):
    return attention_loop(mixer, x, causal, lambda i, j: j <= i or not causal)


def local_attention_loop(mixer, x, causal):
    return attention_loop(mixer, x, causal, lambda i, j: abs(i - j) <= 2 and (j <= i or not causal))


def dense_loop(mixer, x, causal):
    table = mixer.affinities.weight
    return looked_up(mixer, x, lambda h, i, j: table[h, i, j], lambda i, j: j <= i or not causal)


def window_loop(mixer, x, causal):
    for i in range(len(x)):
        neighbours = range(i - 2, i + 1 if causal else i + 3)
        window = [x[j] if 0 <= j < len(x) else torch.zeros_like(x[0]) for j in neighbours]
        yield torch.tanh(mixer.proj.weight @ torch.cat(window) + mixer.proj.bias)


def lstm_step(x, h, c, weights):
    gates = weights["weight_ih_l0"] @ x + weights["bias_ih_l0"] + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(x, h, c, weights):
    read, kept = (
        weights["weight_ih_l0"] @ x + weights["bias_ih_l0"],
        weights["weight_hh_l0"] @ h + weights["bias_hh_l0"],
    )
    (r, z, n), (r_, z_, n_) = read.chunk(3), kept.chunk(3)
    z = (z + z_).sigmoid()
    return (1 - z) * (n + (r + r_).sigmoid() * n_).tanh() + z * h, c


def rnn_loop(mixer, x, causal):
    step = lstm_step if isinstance(mixer.forwards, nn.LSTM) else gru_step

    def read(tokens, cell):
        weights = dict(cell.named_parameters())
        h = c = torch.zeros(cell.hidden_size, dtype=x.dtype)
        for token in tokens:
            h, c = step(token, h, c, weights)
            yield h

    forwards = list(read(x, mixer.forwards))
    if causal:
        return forwards
    backwards = list(read(x.flip(0), mixer.backwards))[::-1]
    return [torch.cat(states) for states in zip(forwards, backwards, strict=True)]


LOOPS = {
    "self_attention": self_attention_loop,
    "local_attention": local_attention_loop,
    "dense": dense_loop,
    "window": window_loop,
    "rnn": rnn_loop,
}


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_every_mixer_equals_the_loop_of_its_formula(mixer, causal, make_model):
    for switches in [{"rnn_type": "lstm"}, {"rnn_type": "gru"}] if mixer == "rnn" else [{}]:
        model = make_model(encoder_mixer=mixer, decoder_mixer=mixer, position_encoding="none", **switches)
        layer = (model.model.decoder if causal else model.model.encoder).layers[0].mix.sublayer
        x = torch.randn(1, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        mask = layer.make_mask(model.config, x, None, None, causal)
        states = layer(x, mask=mask, position=PositionalEncoding(model.config, causal), places=places_of(7))[0]
        torch.testing.assert_close(states, torch.stack(list(LOOPS[mixer](layer, x[0], causal))), **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("name", ["self_attention", "local_attention", "dense"])
def test_a_loop_tells_who_sees_whom(name, make_model):
    layer = make_model(encoder_mixer=name, position_encoding="none").model.encoder.layers[0].mix.sublayer
    x = torch.randn(7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, past = (torch.stack(list(LOOPS[name](layer, x, causal))) for causal in (False, True))
    assert ((whole - past)[:-1].abs().amax(-1) > 1e-3).all()


class Mixed(nn.Module):
    """A mixer and an encoding as a module's forward: [B, Q, D], places and padding -> states of the real tokens."""

    def __init__(self, config, mixer, position, causal):
        super().__init__()
        self.config, self.causal = config, causal
        self.position = make_position([position], config, causal)
        self.mixer = MIXERS[mixer](config, causal)

    def forward(self, x, places, padding):
        x = self.position.embed(x, places)
        mask = self.mixer.make_mask(self.config, x, padding, None, self.causal)
        return self.mixer(x, mask=mask, position=self.position, places=places)[padding]


def assert_gradients_are_right(config, mixer, position, causal):
    """Of the states with respect to the input and every weight, in a batch with padding on the left."""
    config._attn_implementation = "sdpa"
    generator = torch.Generator().manual_seed(0)
    module = Mixed(config, mixer, position, causal).double()
    weights = [torch.randn(w.shape, generator=generator, dtype=w.dtype) * 0.5 + 0.4 for w in module.parameters()]
    names = [name for name, _ in module.named_parameters()]
    padding = torch.tensor([[True] * 5, [False, False, True, True, True]])
    heads = torch.tensor([[1, 1, 1, 2, 2], [-1, -1, 3, 3, 3]])
    places = Places.count((2, 5), padding.device, padding)
    places = Places(**vars(places) | {"tree": Tree(heads)})
    x = torch.randn(2, 5, config.hidden_size, generator=generator, dtype=torch.float64)

    def states(x, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(module, given, (x, places, padding))

    inputs = tuple(tensor.requires_grad_() for tensor in (x, *weights))
    assert torch.autograd.gradcheck(states, inputs)
    if weights:
        grads = torch.autograd.grad(states(*inputs).square().sum(), inputs)
        assert all(grad.any() for grad in grads), "every weight has a part in the states"


SMALL = {"hidden_size": 4, "num_attention_heads": 2, "max_position_embeddings": 6}


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_every_mixer_are_right(mixer, causal, make_config):
    config = make_config(**SMALL, encoder_mixer=mixer, decoder_mixer=mixer, position_encoding="none")
    assert_gradients_are_right(config, mixer, "none", causal)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_every_position_are_right(position, on_a_side, causal, make_config):
    if causal and position in get_args(TreePosition):
        pytest.skip("an encoding by trees is for encoders")
    buckets = {"relative_num_buckets": 4} if position == "t5" else {}
    assert_gradients_are_right(make_config(**SMALL, **on_a_side, **buckets), "self_attention", position, causal)


def test_a_wrong_gradient_would_be_found(make_config, monkeypatch):
    def detached(self, heads, places):
        return heads * heads.detach().cos()

    monkeypatch.setattr(PositionalEncoding, "rotate", detached)
    with pytest.raises(GradcheckError):
        assert_gradients_are_right(make_config(**SMALL, position_encoding="none"), "self_attention", "none", False)


def test_self_attention_equals_torch_multihead_attention(make_model):
    model = make_model(position_encoding="none")
    mixer = model.model.decoder.layers[0].mix.sublayer
    oracle = nn.MultiheadAttention(16, 4, batch_first=True).double()
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([p.weight for p in (mixer.q_proj, mixer.k_proj, mixer.v_proj)]))
        oracle.in_proj_bias.copy_(torch.cat([p.bias for p in (mixer.q_proj, mixer.k_proj, mixer.v_proj)]))
        oracle.out_proj.weight.copy_(mixer.out_proj.weight)
        oracle.out_proj.bias.copy_(mixer.out_proj.bias)
    x = torch.randn(2, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected, _ = oracle(x, x, x, attn_mask=future)
    mask = mixer.make_mask(model.config, x, None, None, True)
    states = mixer(x, mask=mask, position=PositionalEncoding(model.config, True), places=places_of(6))
    torch.testing.assert_close(states, expected, **EXACT)


@pytest.mark.parametrize("score", ["scaled_dot", "dot", "general", "additive"])
def test_attention_scores_equal_their_formulas(make_model, score):
    model = make_model(attention_score=score, num_attention_heads=1)
    read = model.model.decoder.layers[0].read.sublayer
    generator = torch.Generator().manual_seed(0)
    x, source = (torch.randn(1, n, 16, dtype=torch.float64, generator=generator) for n in (3, 5))
    got = read(x, source=source, mask=None, places=places_of(3), source_places=places_of(5))
    formulas = {
        "scaled_dot": lambda h, s: read.q_proj(h) @ read.k_proj(s) / 4,
        "dot": lambda h, s: h @ s,
        "general": lambda h, s: read.q_proj(h) @ s,
        "additive": lambda h, s: read.energy[0] @ torch.tanh(read.q_proj(h) + read.k_proj(s)),
    }
    for t in range(3):
        weights = torch.stack([formulas[score](x[0, t], s) for s in source[0]]).softmax(0)
        expected = read.out_proj(sum(w * read.v_proj(s) for w, s in zip(weights, source[0], strict=True)))
        torch.testing.assert_close(got[0, t], expected, **EXACT)


def test_sinusoidal_equals_the_formula_in_a_loop(make_config):
    config = make_config()
    table = POSITIONS["sinusoidal"](config, False).vectors(places_of(50))[0]
    for t in range(50):
        for i in range(config.hidden_size // 2):
            angle = t / 10000 ** (2 * i / config.hidden_size)
            assert abs(table[t, 2 * i].item() - math.sin(angle)) < 1e-5
            assert abs(table[t, 2 * i + 1].item() - math.cos(angle)) < 1e-5


def test_rope_equals_llama(make_config):
    config = make_config(position_encoding="rope", hidden_size=32, rope_theta=500)
    q, k = heads(9, config).float(), heads(9, config, 1).float()
    frequencies = 1.0 / 500 ** (torch.arange(0, 8, 2).float() / 8)
    angles = torch.cat([torch.arange(9)[:, None] * frequencies] * 2, dim=-1)[None]
    expected = apply_rotary_pos_emb(q, k, angles.cos(), angles.sin())
    rope = POSITIONS["rope"](config, False)
    for got, oracle in zip((rope.rotate(q, places_of(9)), rope.rotate(k, places_of(9))), expected, strict=True):
        torch.testing.assert_close(got, oracle, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_t5_buckets_equal_transformers(make_config, causal):
    config = make_config(position_encoding="t5", relative_num_buckets=16, relative_max_distance=40)
    distances = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(distances, not causal, num_buckets=16, max_distance=40)
    assert torch.equal(POSITIONS["t5"](config, causal).bucket(distances), expected)


@pytest.mark.parametrize("heads_", [1, 2, 4, 6, 8, 12])
def test_alibi_equals_transformers_for_any_number_of_heads(make_config, heads_):
    config = make_config(position_encoding="alibi", num_attention_heads=heads_, hidden_size=24)
    bias = POSITIONS["alibi"](config, True).bias(torch.zeros(1), torch.zeros(1), places_of(7))
    expected = build_mpt_alibi_tensor(heads_, 7)[:, 0]  # the last query's row
    torch.testing.assert_close(bias[0, :, -1], expected, atol=1e-7, rtol=0)
    assert torch.equal(bias, bias.transpose(-1, -2))


def test_shaw_equals_the_loop_of_its_formula(make_config):
    config = make_config(position_encoding="shaw", relative_max_distance=3)
    shaw = POSITIONS["shaw"](config, False).double()
    q, k = heads(8, config), heads(8, config, 1)
    bias = shaw.bias(q, k, places_of(8))
    for i in range(8):
        for j in range(8):
            a = shaw.table.weight[max(-3, min(3, j - i)) + 3]
            torch.testing.assert_close(bias[:, :, i, j], q[:, :, i] @ a / 2, **EXACT)


def test_loss_equals_torch_with_smoothing_and_ignored_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 11, (2, 5), generator=generator)
    labels[0, 3:] = -100
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.2)
    torch.testing.assert_close(sequence_loss(logits, labels, label_smoothing=0.2), expected, **EXACT)
    for smoothing in (0.0, 0.2):
        assert torch.autograd.gradcheck(
            lambda z, s=smoothing: SmoothedCrossEntropy.apply(z, labels.flatten(), s),
            logits.flatten(0, 1).clone().requires_grad_(),
        )
    nothing = sequence_loss(logits.requires_grad_(), torch.full((2, 5), -100))
    nothing.backward()
    assert nothing.item() == 0.0 and torch.equal(logits.grad, torch.zeros_like(logits))


def copy_linear(ours, theirs, scale=1.0):
    ours.weight.copy_(theirs.weight * scale)
    if theirs.bias is None:
        ours.bias.zero_()
    else:
        ours.bias.copy_(theirs.bias * scale)


def copy_bart_like(ours, theirs, norm):
    """Layers of BART or Pegasus, whose parts have the same names; `norm` is where ours keeps its LayerNorm."""
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        parts = [(layer.mix, other.self_attn, other.self_attn_layer_norm)]
        if hasattr(other, "encoder_attn"):
            parts.append((layer.read, other.encoder_attn, other.encoder_attn_layer_norm))
        for residual, attention, layer_norm in parts:
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                copy_linear(getattr(residual.sublayer, name), getattr(attention, name))
            getattr(residual, norm).load_state_dict(layer_norm.state_dict())
        copy_linear(layer.think.sublayer.up_proj, other.fc1)
        copy_linear(layer.think.sublayer.down_proj, other.fc2)
        getattr(layer.think, norm).load_state_dict(other.final_layer_norm.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("family", ["bart", "pegasus"])
def test_copied_weights_give_the_logits_of_transformers(family, make_config, batch, pad):
    """BART is post-norm with gelu, Pegasus pre-norm with relu; each hands over its embedded tokens."""
    sizes = {
        "vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
        "dropout": 0.0, "init_std": 0.4,
    }  # fmt: skip
    torch.manual_seed(0)
    if family == "bart":
        theirs = BartForConditionalGeneration(BartConfig(**sizes, activation_function="gelu"))
        config = make_config(norm="post", feedforward="gelu", position_encoding="none")
    else:
        theirs = PegasusForConditionalGeneration(PegasusConfig(**sizes, activation_function="relu"))
        config = make_config(norm="pre", feedforward="relu", position_encoding="none")
    theirs = theirs.double().eval()
    ours = SelfAttnForConditionalGeneration(config).double().eval()
    norm = "after" if family == "bart" else "before"
    for side in ("encoder", "decoder"):
        copy_bart_like(getattr(ours.model, side), getattr(theirs.model, side), norm)
        if family == "pegasus":
            stack = getattr(ours.model, side)
            stack.norm.load_state_dict(getattr(theirs.model, side).layer_norm.state_dict())
    ours.get_input_embeddings().weight.copy_(theirs.model.shared.weight)

    def embedded(stack, ids):
        """What the first layer of a stack of theirs reads, without our own scaling."""
        seen = []
        hook = stack.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        if stack is theirs.model.encoder:
            stack(input_ids=ids)
        else:
            stack(input_ids=ids, encoder_hidden_states=torch.zeros(ids.shape[0], 1, 16, dtype=torch.float64))
        hook.remove()
        return seen[0] / 4

    (source, mask), (target, _) = pad(batch["source"]), pad(batch["target"])
    expected = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    got = ours(
        inputs_embeds=embedded(theirs.model.encoder, source),
        attention_mask=mask,
        decoder_inputs_embeds=embedded(theirs.model.decoder, target),
    ).logits
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)


@torch.no_grad()
def test_copied_weights_give_the_logits_of_t5(make_config, batch, pad):
    """The whole of T5, buckets and tied output included, with T5's own norm put where ours stands."""
    torch.manual_seed(0)
    theirs = (
        T5ForConditionalGeneration(
            T5Config(
                vocab_size=40,
                d_model=16,
                d_kv=4,
                d_ff=24,
                num_layers=2,
                num_decoder_layers=3,
                num_heads=4,
                relative_attention_num_buckets=8,
                relative_attention_max_distance=20,
                dropout_rate=0.0,
                tie_word_embeddings=True,
                initializer_factor=3.0,
            )  # fmt: skip
        )
        .double()
        .eval()
    )
    config = make_config(position_encoding="t5", relative_num_buckets=8, relative_max_distance=20)
    ours = SelfAttnForConditionalGeneration(config).double().eval()
    for side in ("encoder", "decoder"):
        stack, other = getattr(ours.model, side), getattr(theirs, side)
        stack.norm = other.final_layer_norm
        stack.position.table.weight.copy_(other.block[0].layer[0].SelfAttention.relative_attention_bias.weight)
        for layer, block in zip(stack.layers, other.block, strict=True):
            parts = [(layer.mix, block.layer[0].SelfAttention, block.layer[0].layer_norm)]
            if side == "decoder":
                parts.append((layer.read, block.layer[1].EncDecAttention, block.layer[1].layer_norm))
            for residual, attention, layer_norm in parts:
                residual.before = layer_norm
                copy_linear(residual.sublayer.q_proj, attention.q, scale=2.0)  # T5 does not divide by sqrt(d)
                for name, weights in (("k_proj", attention.k), ("v_proj", attention.v), ("out_proj", attention.o)):
                    copy_linear(getattr(residual.sublayer, name), weights)
            layer.think.before = block.layer[-1].layer_norm
            copy_linear(layer.think.sublayer.up_proj, block.layer[-1].DenseReluDense.wi)
            copy_linear(layer.think.sublayer.down_proj, block.layer[-1].DenseReluDense.wo)
    ours.get_input_embeddings().weight.copy_(theirs.shared.weight / 4)  # ours is scaled by sqrt(D) when read
    (source, mask), (target, _) = pad(batch["source"]), pad(batch["target"])
    expected = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    got = ours(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)
