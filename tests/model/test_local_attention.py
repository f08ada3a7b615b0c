"""Local attention against self-attention under a band that is written down pair by pair."""

from typing import get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer, EncoderDecoderCache, StaticCache

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model.contracts import Places
from selfattn_hf.model.layers import MIXERS, DecoderCache, make_cache
from selfattn_hf.model.local_attention import SMALLEST_BLOCK
from selfattn_hf.model.masking import pack
from selfattn_hf.model.positions import make_position
from selfattn_hf.model.switches import AffinityPosition, TreePosition
from selfattn_hf.model.trees import Tree

EXACT = {"atol": 1e-12, "rtol": 1e-12}
GRADIENTS = {"atol": 1e-10, "rtol": 1e-10}
AFFINITY_POSITIONS = ["none", *get_args(AffinityPosition)]
SEVERAL_BLOCKS = 3 * SMALLEST_BLOCK + 5


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real_tokens(lengths, width, side):
    steps = torch.arange(width)
    lengths = torch.tensor(lengths)[:, None]
    return steps >= width - lengths if side == "left" else steps < lengths


def band_of(real, radius, causal):
    """[B, 1, T, T] True where token i may see token j: the definition, pair by pair."""
    rows, width = real.shape
    allowed = torch.zeros(rows, 1, width, width, dtype=torch.bool)
    for i in range(width):
        for j in range(width):
            near = 0 <= i - j <= radius if causal else abs(i - j) <= radius
            allowed[:, 0, i, j] = real[:, j] & near
    return allowed


class Pair:
    """A local mixer, a full one with the same weights, and the encoding that both are handed."""

    def __init__(self, make_config, position, causal, radius, implementation="sdpa"):
        tree = position in get_args(TreePosition)
        side = "encoder_position_encoding" if tree else "position_encoding"
        self.config = make_config(
            encoder_mixer="local_attention", decoder_mixer="local_attention", window_radius=radius,
            **{"position_encoding": "none"} | {side: position} if tree else {side: position},
        )  # fmt: skip
        self.config._attn_implementation = implementation
        self.causal = causal
        torch.manual_seed(1)
        self.position = make_position(self.config.positions_of("encoder"), self.config, causal).double()
        self.local = MIXERS["local_attention"](self.config, causal).double()
        self.full = MIXERS["self_attention"](self.config, causal).double()
        with torch.no_grad():
            for weight in (*self.position.parameters(), *self.local.parameters()):
                weight.copy_(torch.randn_like(weight) * 0.4)
        self.full.load_state_dict(self.local.state_dict())

    def mask_for_full(self, allowed):
        if self.config._attn_implementation == "sdpa":
            return allowed
        return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, torch.finfo(torch.float64).min)

    def outputs_and_gradients(self, mixer, mask, x, places, inputs=None):
        x = x.clone().requires_grad_()
        weights = [*mixer.parameters(), *self.position.parameters()]
        y = mixer(x, mask=mask, position=self.position, places=places, inputs=inputs)
        loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        return y.detach(), torch.autograd.grad(loss, [x, *weights], allow_unused=True)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", ["whole", "left", "right", "packed"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", AFFINITY_POSITIONS)
def test_it_is_self_attention_under_a_band(make_config, name, causal, layout, implementation):
    if causal and name in get_args(TreePosition):
        pytest.skip("an encoding by trees is for encoders")
    radius, width = 3, SEVERAL_BLOCKS
    pair = Pair(make_config, name, causal, radius, implementation)
    lengths = [width] * 3 if layout == "whole" else [width, 20, 2]
    real = real_tokens(lengths, width, "left" if layout == "left" else "right")
    padding = None if layout == "whole" else real
    places = Places.count((3, width), real.device, padding, packed=pack(real) if layout == "packed" else None)
    if name in get_args(TreePosition):
        # every other word is of one branch: the way between neighbours is longer than any window
        heads = torch.arange(width).sub(2).clamp(min=0) * real
        places = Places(**vars(places) | {"tree": Tree(heads.masked_fill(~real, -1))})
    x = randn(3, width, 16)
    local_mask = pair.local.make_mask(pair.config, x, padding, None, causal)
    full_mask = pair.mask_for_full(band_of(real, radius, causal))
    x = places.take_back(x)
    got, grads = pair.outputs_and_gradients(pair.local, local_mask, x, places)
    expected, other_grads = pair.outputs_and_gradients(pair.full, full_mask, x, places)
    torch.testing.assert_close(got, expected, **EXACT)
    for grad, other in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(grad, other, **GRADIENTS)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("radius", [1, SMALLEST_BLOCK - 1, SMALLEST_BLOCK, SMALLEST_BLOCK + 1, 40])
def test_blocks_of_every_size_meet_at_their_ends(make_config, radius, causal):
    """Lengths around every border: of one block, of two, of a block and its neighbours."""
    pair = Pair(make_config, "transformer_xl", causal, radius)
    size = max(radius, SMALLEST_BLOCK)
    borders = {1, 2, radius, size, 2 * size, size + radius, size + 2 * radius, 3 * size}
    for width in sorted({near for border in borders for near in (border - 1, border, border + 1) if near > 0}):
        real = real_tokens([width, -(-width // 2)], width, "left")
        places, x = Places.count((2, width), real.device, real), randn(2, width, 16)
        mask = pair.local.make_mask(pair.config, x, real, None, causal)
        got = pair.local(x, mask=mask, position=pair.position, places=places)
        expected = pair.full(x, mask=band_of(real, radius, causal), position=pair.position, places=places)
        torch.testing.assert_close(got, expected, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(1,) * 12, (2, 1, 3, 1), (30, 1, 1, 25, 3), (1, 50, 9)], ids=str)
@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("name", [name for name in AFFINITY_POSITIONS if name not in get_args(TreePosition)])
def test_chunks_behind_a_cache_are_the_full_pass_and_the_cache_stays_small(make_config, name, side, chunks):
    radius, width = 3, sum(chunks)
    pair = Pair(make_config, name, True, radius)
    real = real_tokens([width, width - 4, 1], width, side or "right")
    padding = real if side else None
    x, inputs = randn(3, width, 16), randn(3, width, 16, seed=1)
    expected = pair.full(
        x,
        mask=band_of(real if side else torch.ones_like(real), radius, True),
        position=pair.position,
        places=Places.count((3, width), real.device, padding),
        inputs=inputs,
    )
    cache, outputs, past = DecoderCache(pair.config), [], 0
    for size in chunks:
        seen = None if padding is None else padding[:, : past + size]
        new = slice(past, past + size)
        mask = pair.local.make_mask(pair.config, x[:, new], seen, cache, True)
        places = Places.count((3, size), real.device, seen, past)
        outputs.append(
            pair.local(
                x[:, new], mask=mask, position=pair.position, places=places, cache=cache, inputs=inputs[:, new]
            )  # fmt: skip
        )
        past += size
        assert cache.layers[0].keys.shape[2] == min(past, radius)
        assert cache.get_seq_length() == past
    torch.testing.assert_close(torch.cat(outputs, 1), expected, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("name", ["rope", "shaw", "fire", "transformer_xl"])
def test_a_radius_beyond_the_row_is_self_attention(make_model, batch, pad, name):
    switches = {"position_encoding": name, "window_radius": 7}
    local = make_model(encoder_mixer="local_attention", decoder_mixer="local_attention", **switches)
    full = make_model(position_encoding=name)
    full.load_state_dict(local.state_dict())
    (source, mask), (target, target_mask) = pad(batch["source"]), pad(batch["target"], "left")
    inputs = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}
    for model in (local, full):
        model.set_attn_implementation("eager")
    got, expected = (
        model(**inputs, decoder_attention_mask=target_mask, output_attentions=True) for model in (local, full)
    )
    torch.testing.assert_close(got.logits, expected.logits, **EXACT)
    for maps in ("encoder_attentions", "decoder_attentions"):
        for one, other in zip(getattr(got, maps), getattr(expected, maps), strict=True):
            seen = (mask if maps[0] == "e" else target_mask).bool()
            torch.testing.assert_close(one.transpose(1, 2)[seen], other.transpose(1, 2)[seen], **EXACT)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that anything returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        # A view that is expanded has elements, but takes no room.
        sizes = [leaf.untyped_storage().nbytes() // leaf.itemsize for leaf in tree_leaves(out) if torch.is_tensor(leaf)]
        self.numel = max(self.numel, *sizes, 0)
        return out


def largest_tensor(pair, mixer, width):
    places, x = Places.count((1, width), torch.device("cpu")), randn(1, width, 16)
    with Largest() as largest:
        mask = mixer.make_mask(pair.config, x, None, None, pair.causal)
        pair.outputs_and_gradients(mixer, mask, x, places)
    return largest.numel


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", [name for name in AFFINITY_POSITIONS if name not in get_args(TreePosition)])
def test_nothing_grows_with_the_square_of_the_length(make_config, name, causal):
    """A tree alone knows the distance of every pair of words."""
    pair = Pair(lambda **switches: make_config(num_attention_heads=1, **switches), name, causal, 8)
    largest = {width: largest_tensor(pair, pair.local, width) for width in (512, 2048)}
    assert largest[2048] < 2048**2
    assert largest[2048] <= 4 * largest[512]


def test_what_grows_with_the_square_would_be_found(make_config):
    pair = Pair(make_config, "shaw", True, 8)
    assert largest_tensor(pair, pair.full, 512) >= 512**2


@torch.no_grad()
def test_maps_are_those_of_whole_rows(make_model):
    """Zero outside the band, one in all inside it, those of the slow way; and, step by step, their last rows."""
    radius, width = 2, SEVERAL_BLOCKS
    switches = {"position_encoding": "alibi", "window_radius": radius, "decoder_layers": 2}
    model = make_model(encoder_mixer="local_attention", decoder_mixer=["local_attention", "self_attention"], **switches)
    model.set_attn_implementation("eager")
    ids = torch.randint(3, 40, (2, width), generator=torch.Generator().manual_seed(0))
    real = real_tokens([width, 20], width, "right")
    out = model(
        input_ids=ids, attention_mask=real.long(), decoder_input_ids=ids, use_cache=True, output_attentions=True
    )
    assert [len(out.encoder_attentions), len(out.decoder_attentions), len(out.cross_attentions)] == [2, 2, 2]
    for maps, band in (
        (out.encoder_attentions[0], band_of(real, radius, False)),
        (out.decoder_attentions[0], band_of(torch.ones_like(real), radius, True)),
    ):
        assert maps.shape == (2, 4, width, width)
        band = band.expand_as(maps)
        assert torch.equal(maps[~band], torch.zeros_like(maps[~band]))
        assert (maps[band] > 0).all()
        sees = band.any(-1).to(maps.dtype)  # padding that is far from every word sees nothing
        torch.testing.assert_close(maps.sum(-1), sees, **EXACT)
    assert (out.decoder_attentions[1][:, :, -1] > 0).all()

    cut = model(
        input_ids=ids, attention_mask=real.long(), decoder_input_ids=ids[:, :-1], use_cache=True
    ).past_key_values
    step = model(
        encoder_outputs=(out.encoder_last_hidden_state,), attention_mask=real.long(), decoder_input_ids=ids[:, -1:],
        past_key_values=cut, output_attentions=True,
    )  # fmt: skip
    for one, all_at_once in zip(step.decoder_attentions, out.decoder_attentions, strict=True):
        torch.testing.assert_close(one, all_at_once[:, :, -1:], **EXACT)


@pytest.mark.parametrize("causal", [False, True])
def test_a_map_has_the_gradient_that_it_has_in_self_attention(make_config, causal):
    radius, width, maps = 3, SEVERAL_BLOCKS, []
    pair = Pair(make_config, "none", causal, radius, "eager")
    real = real_tokens([width, 20], width, "left")
    allowed, places, x = band_of(real, radius, causal), Places.count((2, width), real.device, real), randn(2, width, 16)
    local_mask = pair.local.make_mask(pair.config, x, real, None, causal)
    for mixer, mask in ((pair.local, local_mask), (pair.full, pair.mask_for_full(allowed))):
        mixer.attend.register_forward_hook(lambda module, given, output: maps.append(output[1]))
        y = mixer(x, mask=mask, position=pair.position, places=places)
        maps[-1].retain_grad()
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    local, full = (weights.grad.masked_select(allowed & real[:, None, :, None]) for weights in maps)
    assert full.abs().min() > 0
    torch.testing.assert_close(local, full, **GRADIENTS)


@pytest.mark.parametrize("neighbourly", ["local_attention", "window"])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_stack_sees_one_radius_further_with_every_layer(make_model, neighbourly, layers):
    radius, width, middle = 2, 2 * SMALLEST_BLOCK + 9, SMALLEST_BLOCK + 3
    switches = {"encoder_layers": layers, "decoder_layers": layers, "window_radius": radius}
    model = make_model(encoder_mixer=neighbourly, decoder_mixer=neighbourly, position_encoding="none", **switches).model
    distance = torch.arange(width) - middle
    for stack, reached in (
        (model.encoder, distance.abs() <= radius * layers),
        (model.decoder, (distance <= 0) & (-distance <= radius * layers)),
    ):
        embeds = randn(1, width, 16).requires_grad_()
        source = {} if stack is model.encoder else {"encoder_hidden_states": randn(1, 2, 16)}
        states = stack(inputs_embeds=embeds, **source).last_hidden_state
        (grad,) = torch.autograd.grad(states[0, middle].square().sum(), embeds)
        assert torch.equal(grad[0].abs().amax(-1) > 0, reached)
        assert reached.sum() == 1 + (2 if stack is model.encoder else 1) * radius * layers


MIXED = {
    "encoder_mixer": ["local_attention", "self_attention"],
    "decoder_mixer": ["local_attention", "self_attention", "rnn", "window", "local_attention", "dense"],
    "decoder_layers": 6,
    "max_position_embeddings": 80,
}


@torch.no_grad()
@pytest.mark.parametrize("last", ["self_attention", "local_attention"])
def test_a_mixed_stack_decodes_as_it_trains_behind_left_padding(make_model, batch, pad, last):
    order = [name for name in MIXED["decoder_mixer"] if name != last] + [last]
    model = make_model(**MIXED | {"decoder_mixer": order, "decoder_layers": len(order)}, position_encoding="shaw")
    source, mask = pad(batch["source"])
    width = SEVERAL_BLOCKS
    target = torch.randint(3, 40, (3, width), generator=torch.Generator().manual_seed(0))
    real = real_tokens([width, 30, 3], width, "left").long()
    full = model(input_ids=source, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=real).logits
    cache, steps, past = None, [], 0
    for size in (40, 1, 1, width - 42):
        out = model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target[:, past : past + size],
            decoder_attention_mask=real[:, : past + size], past_key_values=cache, use_cache=True,
        )  # fmt: skip
        cache, past = out.past_key_values, past + size
        steps.append(out.logits)
    torch.testing.assert_close(torch.cat(steps, 1), full, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["local_attention", MIXED["decoder_mixer"]], ids=["alone", "mixed"])
def test_every_way_of_decoding_outlives_the_window(make_model, batch, decoder):
    """Beams, crops and lookups long after the first tokens were forgotten: as without a cache."""
    switches = {"window_radius": 3, "tie_word_embeddings": False, "max_position_embeddings": 200}
    layers = 3 if isinstance(decoder, str) else len(decoder)
    model = make_model(torch.float32, decoder_mixer=decoder, decoder_layers=layers, **switches)
    helper = make_model(torch.float32, decoder_mixer="local_attention", **switches)
    for one in (model, helper):
        one.lm_head.weight.mul_(3)
    source = batch["source"][0][None]
    prompt = torch.randint(3, 40, (1, SEVERAL_BLOCKS - 30), generator=torch.Generator().manual_seed(0))
    settings = {"max_new_tokens": 25, "do_sample": False, "decoder_input_ids": prompt, "eos_token_id": None,
                "no_repeat_ngram_size": 2}  # fmt: skip
    greedy = model.generate(source, use_cache=False, **settings)
    assert len(set(greedy[0, prompt.shape[1] :].tolist())) > 3
    assert torch.equal(model.generate(source, **settings), greedy)
    assert torch.equal(model.generate(source, prompt_lookup_num_tokens=3, **settings), greedy)
    assert torch.equal(model.generate(source, assistant_model=helper, **settings), greedy)
    assert torch.equal(model.generate(source, assistant_model=model, **settings), greedy)
    beams = {"num_beams": 4, "num_return_sequences": 4, **settings}
    assert torch.equal(model.generate(source, **beams), model.generate(source, use_cache=False, **beams))


@torch.no_grad()
def test_a_crop_leaves_what_was_there_before(make_model, batch):
    model = make_model(decoder_mixer="local_attention")
    source, ids = batch["source"][0][None], torch.arange(3, 23)[None]
    full = model(input_ids=source, decoder_input_ids=ids).logits
    cache = make_cache(model.config)
    cache.activate_past_recording()
    for new in (ids[:, :12], ids[:, 12:14], torch.tensor([[30, 31, 32]])):
        model(input_ids=source, decoder_input_ids=new, past_key_values=cache)
    cache.crop(-3)
    assert cache.get_seq_length() == 14
    again = model(input_ids=source, decoder_input_ids=ids[:, 14:], past_key_values=cache).logits
    torch.testing.assert_close(again, full[:, 14:], **EXACT)


def test_a_cache_that_remembers_otherwise_is_refused(make_model, batch):
    model = make_model(torch.float32, decoder_mixer="local_attention", window_radius=2)
    source = batch["source"][0][None]
    config = model.config
    wrong = {
        "NoneType": DynamicCache(),
        "StaticLayer": StaticCache(config=config, max_cache_len=16),
        "DynamicSlidingWindowLayer": DecoderCache(config),
    }
    wrong["DynamicSlidingWindowLayer"].layers = [DynamicSlidingWindowLayer(sliding_window=9) for _ in range(3)]
    for name, own in wrong.items():
        with pytest.raises(TypeError, match=rf"last 2 keys and values.*{name}.*make_cache\(config\)"):
            model(
                input_ids=source,
                decoder_input_ids=source,
                past_key_values=EncoderDecoderCache(own, DynamicCache()),
            )
    with pytest.raises(ValueError, match="cache_implementation='static'.*decoder_mixer='local_attention'"):
        model.generate(source, cache_implementation="static", max_new_tokens=3)


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_an_attention_that_makes_its_own_blocks_is_refused(make_config, implementation):
    config = make_config(encoder_mixer="local_attention", position_encoding="none")
    config._attn_implementation = implementation
    with pytest.raises(ValueError, match=f"local_attention.*'{implementation}'.*eager, sdpa"):
        MIXERS["local_attention"].make_mask(config, torch.zeros(1, 1, 16), None, None, False)
    with pytest.raises(ValueError, match="does not support"):
        SelfAttnForConditionalGeneration._from_config(config, attn_implementation=implementation)
