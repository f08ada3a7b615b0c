"""Decoding by compiled code: what torch's operations compute, whatever is switched on, and only where it serves."""

import copy
import ctypes
from typing import get_args

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.inference import building, compiled
from selfattn_hf.inference.int8 import to_int8
from selfattn_hf.model import DecodingState, Int8Linear
from selfattn_hf.model.decoding import _Slots
from selfattn_hf.model.positions import POSITIONS
from selfattn_hf.model.switches import TreePosition

LIBRARY = building.load_library()
needs_library = pytest.mark.skipif(LIBRARY is None, reason="there is no C++ compiler, so nothing is compiled")
needs_bytes = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.selfattn_knows(compiled.SERVES_BYTES), reason="no instructions for whole numbers"
)
STEPS = 40  # more than there are slots for at first
SERVED = {"none", "sinusoidal", "learned", "rope", "t5", "alibi", "kerple"}
SWITCHES = {
    "post": {"norm": "post"}, "no norm": {"norm": "none", "initializer_range": 0.1}, "bare": {"residual": False},
    "rms": {"norm_type": "rms_norm"}, "shared": {"share_layers": True}, "concat": {"position_combine": "concat"},
    "no feed-forward": {"feedforward": "none"}, "gelu": {"feedforward": "gelu"}, "silu": {"feedforward": "silu"},
    "swiglu": {"feedforward": "swiglu"}, "geglu": {"feedforward": "geglu"}, "no bias": {"bias": False},
    "untied": {"tie_word_embeddings": False}, "output bias": {"output_bias": True},
    "embedding norm": {"embedding_norm": True}, "unscaled": {"scale_embedding": False},
    "two encodings": {"position_encoding": ["sinusoidal", "rope", "t5"]},
    "odd sizes": {"hidden_size": 42, "num_attention_heads": 3, "intermediate_size": 50, "vocab_size": 83},
}  # fmt: skip


def make_model(**switches):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 61, "hidden_size": 32, "num_attention_heads": 4, "encoder_layers": 1, "decoder_layers": 2,
        "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.3,
        "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1, "decoder_start_token_id": 1,
    }  # fmt: skip
    return SelfAttnForConditionalGeneration(SelfAttnConfig(**(sizes | switches))).eval()


def make_source(rows):
    """Rows padded on either side, the last without a real token."""
    draw = torch.Generator().manual_seed(1)
    ids, mask = torch.randint(3, 40, (rows, 7), generator=draw), torch.ones(rows, 7, dtype=torch.long)
    mask[0, :2] = 0
    if rows > 1:
        mask[1, 5:], mask[-1] = 0, 0
    return ids, mask


@torch.no_grad()
def write(model, rows, beams, forget=False):
    """Logits of some steps under beams that are reordered at random, and what computed them."""
    draw = torch.Generator().manual_seed(2)
    ids, mask = (given.repeat_interleave(beams, 0) for given in make_source(rows))
    state = DecodingState(model.get_decoder(), model.lm_head, beams, STEPS)
    encoded, found = model.get_encoder()(ids, attention_mask=mask), []
    logits = state.answer(torch.ones(len(ids), 1, dtype=torch.long), encoded, mask).logits[:, -1]
    for _ in range(STEPS):
        found.append(logits)
        chosen = torch.randint(beams, (rows, beams), generator=draw)
        if not forget:
            state.reorder_cache((chosen + beams * torch.arange(rows)[:, None]).flatten())
        logits = state.next(torch.randint(3, 40, (rows * beams,), generator=draw))
    return torch.stack(found), type(state.writer)


def both(model, rows, beams, monkeypatch):
    """By compiled code and by torch's operations."""
    fast, by = write(model, rows, beams)
    with monkeypatch.context() as patch:
        patch.setattr(DecodingState, "offered", None)
        patch.setattr(Int8Linear, "offered", None)
        plain, other = write(model, rows, beams)
    assert other is _Slots
    return fast, plain, by


@needs_library
@pytest.mark.parametrize(("rows", "beams"), [(1, 1), (1, 4), (3, 1), (4, 5)])
@pytest.mark.parametrize("encoding", sorted(set(POSITIONS) - set(get_args(TreePosition))))
def test_every_encoding_is_computed_alike(encoding, rows, beams, monkeypatch):
    fast, plain, by = both(make_model(position_encoding=encoding), rows, beams, monkeypatch)
    assert by is (compiled.CompiledWriter if encoding in SERVED else _Slots)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@needs_library
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_switch_is_computed_alike(switches, monkeypatch):
    for rows, beams in ((1, 2), (3, 3)):
        fast, plain, by = both(make_model(**switches), rows, beams, monkeypatch)
        assert by is compiled.CompiledWriter
        torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)


@needs_library
def test_beams_that_are_not_reordered_would_be_seen():
    """Positive control."""
    model = make_model()
    assert (write(model, 2, 3)[0] - write(model, 2, 3, forget=True)[0]).abs().max() > 1e-2


@needs_library
@pytest.mark.parametrize("asked", [{}, {"num_beams": 4}, {"num_beams": 3, "no_repeat_ngram_size": 2}], ids=str)
def test_it_writes_the_same_texts(asked, monkeypatch):
    model, (ids, mask) = make_model(), make_source(4)
    fast = model.generate(ids, attention_mask=mask, max_new_tokens=STEPS, **asked)
    monkeypatch.setattr(DecodingState, "offered", None)
    assert torch.equal(fast, model.generate(ids, attention_mask=mask, max_new_tokens=STEPS, **asked))


@needs_library
@pytest.mark.parametrize("asked", [{}, {"num_beams": 3, "length_penalty": 0.0}], ids=str)
def test_it_goes_on_with_the_sentences_that_are_left(asked, monkeypatch):
    left, keep, (ids, mask) = [], compiled.CompiledWriter.keep, make_source(12)
    monkeypatch.setattr(compiled.CompiledWriter, "keep", lambda self, kept: (left.append(len(kept)), keep(self, kept)))
    asked |= {"attention_mask": mask, "decoder_input_ids": ids[:, :3], "max_new_tokens": STEPS}
    asked["eos_token_id"] = [*range(2, 45)]
    fast = make_model().generate(ids, **asked)
    monkeypatch.setattr(DecodingState, "offered", None)
    assert torch.equal(fast, make_model().generate(ids, **asked)) and left


@needs_library
def test_several_threads_compute_the_same(monkeypatch):
    model, threads = make_model(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = write(model, 3, 3)[0]
        torch.set_num_threads(3)
        assert torch.equal(write(model, 3, 3)[0], one)
    finally:
        torch.set_num_threads(threads)


@needs_library
@pytest.mark.parametrize(
    "model",
    [make_model().double(), make_model().to(torch.bfloat16), make_model(position_injection="block")],
    ids=["float64", "bfloat16", "order in every block"],
)
def test_what_it_does_not_know_is_left_to_torch(model):
    assert write(model, 2, 2)[1] is _Slots


@needs_bytes
@pytest.mark.parametrize(("rows", "beams"), [(1, 1), (1, 4), (4, 5)])
@pytest.mark.parametrize("switches", [{}, {"feedforward": "swiglu"}, {"share_layers": True}], ids=str)
def test_weights_of_8_bits_are_computed_alike(switches, rows, beams, monkeypatch):
    model = to_int8(make_model(**switches))
    fast, plain, by = both(model, rows, beams, monkeypatch)
    assert by is compiled.CompiledWriter
    # A number that lies between two whole ones may be rounded to either, a step of 1/127.
    close = (fast - plain).abs() < 1e-4 * plain.abs().max()
    assert close.float().mean() > 0.9 and (fast - plain).abs().max() < 0.1 * plain.abs().max()


@needs_bytes
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 1), (20, 7), (64, 33), (128, 65), (260, 16), (1024, 40)])
@pytest.mark.parametrize("rows", [1, 5, 6, 13, 50])
def test_products_of_whole_numbers_are_exact(rows, inputs, outputs, bias, monkeypatch):
    torch.manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(inputs, outputs, bias=bias))
    # The largest of every row is 127, so that rows are whole numbers already and rounding has no say.
    x = torch.randint(-126, 127, (rows, inputs)).float()
    x[:, 0] = 127
    fast = layer(x)
    monkeypatch.setattr(Int8Linear, "offered", None)
    torch.testing.assert_close(fast, layer(x), atol=1e-6, rtol=1e-6)
    exact = x.double() @ (layer.weight.double() * layer.scale.double()[:, None]).T
    exact = exact if layer.bias is None else exact + layer.bias.double()
    torch.testing.assert_close(fast.double(), exact, atol=1e-5, rtol=1e-5)


@needs_bytes
def test_a_copy_of_a_model_of_8_bits_has_its_own_weights():
    model = to_int8(make_model())
    other = copy.deepcopy(model)
    before = write(model, 4, 2)[0]
    for layer in other.modules():
        if isinstance(layer, Int8Linear):
            layer.weight.neg_()
    assert not torch.equal(write(other, 4, 2)[0], before)
    assert torch.equal(write(model, 4, 2)[0], before)


@needs_bytes
def test_weights_of_8_bits_that_are_loaded_are_seen():
    model, other = to_int8(make_model()), to_int8(make_model(initializer_range=0.2))
    before = write(model, 4, 2)[0]
    model.load_state_dict(other.state_dict())
    assert torch.equal(write(model, 4, 2)[0], write(other, 4, 2)[0])
    assert not torch.equal(write(other, 4, 2)[0], before)


@needs_bytes
@pytest.mark.parametrize("name", ["weight", "scale", "bias"])
def test_a_layer_of_8_bits_may_be_given_other_numbers(name, monkeypatch):
    torch.manual_seed(0)
    layer, x = Int8Linear(torch.nn.Linear(64, 33)), torch.randn(3, 64)
    layer(x)
    part = getattr(layer, name)
    part.data = -part.data if name == "weight" else part.data * 2
    fast = layer(x)
    monkeypatch.setattr(Int8Linear, "offered", None)
    torch.testing.assert_close(fast, layer(x), atol=1e-6, rtol=1e-5)


@needs_bytes
@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_numbers_that_are_lost_stay_so_in_8_bits(lost):
    torch.manual_seed(0)
    layer, x = Int8Linear(torch.nn.Linear(64, 33)), torch.randn(3, 64)
    x[1, 5] = lost
    assert layer(x).isnan().any(1).tolist() == [False, True, False]


@needs_bytes
def test_scales_of_another_format_are_left_to_torch():
    layer = Int8Linear(torch.nn.Linear(64, 33)).to(torch.bfloat16)
    assert compiled._multiply(layer, torch.randn(3, 64)) is None


@needs_library
def test_an_encoding_that_turns_every_head_its_own_way_is_left_to_torch(monkeypatch):
    class Own(type(make_model(position_encoding="rope").get_decoder().position)):
        def rotate(self, heads, places):
            return super().rotate(heads, places) * torch.arange(1, heads.shape[1] + 1)[:, None, None]

    model = make_model(position_encoding="rope")
    assert write(model, 2, 2)[1] is compiled.CompiledWriter
    model.get_decoder().position.__class__ = Own
    assert write(model, 2, 2)[1] is _Slots


@needs_library
def test_both_sides_mean_the_same_structures():
    assert LIBRARY.selfattn_knows(compiled.LAYER_SIZE) == ctypes.sizeof(compiled._Layer)
    assert LIBRARY.selfattn_knows(compiled.STEP_SIZE) == ctypes.sizeof(compiled._Step)


@needs_library
def test_weights_that_change_are_seen():
    model = make_model()
    before = write(model, 4, 2)[0]
    model.get_decoder().layers[0].think.sublayer.up_proj.weight.data.mul_(-1)
    assert (write(model, 4, 2)[0] - before).abs().max() > 1e-2


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is built yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(building, "load_library", building.load_library.__wrapped__)
    return tmp_path / "selfattn_hf"


def test_it_can_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv(building.SWITCH, "0")
    assert building.load_library() is None and not fresh.exists()


def test_without_a_compiler_nothing_is_built(fresh, monkeypatch):
    monkeypatch.setenv("PATH", str(fresh))
    assert building.load_library() is None and not fresh.exists()


@needs_library
def test_it_is_built_once(fresh, monkeypatch):
    assert building.load_library().selfattn_knows(compiled.LAYER_SIZE) == LIBRARY.selfattn_knows(compiled.LAYER_SIZE)
    made = list(fresh.iterdir())
    assert len(made) == 1 and made[0].suffix == ".so"
    before = made[0].stat().st_mtime_ns
    building.load_library()
    assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [before]


@needs_library
def test_a_folder_that_cannot_be_written_is_no_obstacle(fresh, monkeypatch):
    fresh.parent.joinpath("selfattn_hf").write_text("a file")
    assert building.load_library() is not None


def test_a_compiler_that_fails_is_named_and_torch_goes_on(fresh, monkeypatch, caplog, tmp_path):
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such header' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    assert building.load_library() is None
    assert "no such header" in caplog.text and "SELFATTN_COMPILED=0" in caplog.text
    assert not any(path.suffix == ".so" for path in fresh.iterdir())
