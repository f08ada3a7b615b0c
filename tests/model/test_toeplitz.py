"""A bias of distances without its table: the same numbers as with it, in memory that grows with the length alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selfattn_hf.model import attend, toeplitz
from selfattn_hf.model.attend import Attend
from selfattn_hf.model.contracts import Places
from selfattn_hf.model.positions import POSITIONS, make_position
from selfattn_hf.model.positions_affinity import DistancePositions

EXACT = {"atol": 1e-12, "rtol": 1e-12}
CPU = torch.device("cpu")
ROWS, HEADS, LENGTH, WIDTH = 2, 4, 23, 4
BY_DISTANCE = [name for name, made in POSITIONS.items() if issubclass(made, DistancePositions)]
ENCODINGS = [[name] for name in BY_DISTANCE] + [["t5", "kerple"], ["alibi", "rope", "t5", "sinusoidal"]]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks and tiles of which no length here is a multiple."""
    for name, size in {"FORWARD": 6, "BACKWARD": 5, "KEYS": 8}.items():
        monkeypatch.setattr(toeplitz, name, size)
    monkeypatch.setattr(attend, "ALONG_DIAGONALS", 9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.fixture
def taken(monkeypatch):
    """Notes the length of every lookup along diagonals."""
    lengths = []
    along = attend.attend_along_diagonals
    monkeypatch.setattr(
        attend, "attend_along_diagonals", lambda query, *rest: lengths.append(query.shape[2]) or along(query, *rest)
    )
    return lengths


def drawn(length=LENGTH, dtype=torch.float64, rows=ROWS, heads=HEADS):
    """Queries, keys and values laid out as layers lay them out, and diagonals."""
    q, k, v = (torch.randn(rows, length, heads, WIDTH, dtype=dtype).transpose(1, 2) for _ in range(3))
    return [x.requires_grad_() for x in (q, k, v, torch.randn(heads, 2 * length - 1, dtype=dtype))]


def table_of(diagonals, causal):
    """[H, 2T - 1] -> [1, H, T, T], pair by pair."""
    place = torch.arange((diagonals.shape[1] + 1) // 2)
    distance = place[None, :] - place[:, None]
    table = diagonals[:, distance + len(place) - 1][None]
    return table.masked_fill(distance > 0, -torch.inf) if causal else table


def by_table(q, k, v, diagonals, scaling, causal):
    return torch.softmax(q @ k.mT * scaling + table_of(diagonals, causal), -1) @ v


def with_gradients(lookup, given, *more):
    context = lookup(*given, *more)
    weights = torch.randn(context.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return context, *torch.autograd.grad((context * weights.to(context.dtype)).sum(), given)


@pytest.mark.parametrize("length", [1, 2, 5, 16, LENGTH])
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_equal_those_with_a_table(length, causal):
    given = drawn(length)
    along = with_gradients(toeplitz.attend_along_diagonals, given, 0.4, causal)
    torch.testing.assert_close(along, with_gradients(by_table, given, 0.4, causal), **EXACT)


@pytest.mark.parametrize("causal", [False, True])
def test_a_bias_that_is_off_by_one_is_found(causal, monkeypatch):
    given = drawn()
    wanted = with_gradients(by_table, given, 0.4, causal)
    span = toeplitz._span
    monkeypatch.setattr(toeplitz, "_span", lambda of, *tile: span(of.roll(1, -1), *tile))
    found = with_gradients(toeplitz.attend_along_diagonals, given, 0.4, causal)
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_finite_differences(causal):
    given = drawn(length=7, rows=1, heads=2)
    assert torch.autograd.gradcheck(lambda *x: toeplitz.attend_along_diagonals(*x, 0.4, causal), given)


@pytest.mark.parametrize("steepness", [1.0, 30.0, 1000.0])
def test_float32_is_as_exact_as_torch_where_weights_vanish(steepness):
    given = drawn(dtype=torch.float32)
    steep = -steepness * torch.arange(1 - LENGTH, LENGTH).abs().expand(HEADS, -1)
    given[3] = steep.contiguous().requires_grad_()
    found = with_gradients(toeplitz.attend_along_diagonals, given, 0.4, False)
    wanted = with_gradients(by_table, [x.detach().double().requires_grad_() for x in given], 0.4, False)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-6, rtol=2e-6)


def test_nothing_flows_back_to_what_lies_in_the_future():
    q, k, v, diagonals = drawn()
    context = toeplitz.attend_along_diagonals(q, k, v, diagonals, 0.4, True)
    context[:, :, :10].sum().backward()
    assert diagonals.grad[:, :LENGTH].any() and not diagonals.grad[:, LENGTH:].any()
    for x in (q, k, v):
        assert x.grad[:, :, :10].any() and not x.grad[:, :, 10:].any()


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same():
    given = drawn()
    wanted = with_gradients(by_table, given, 0.4, True)[1:4]
    fixed = [*given[:3], given[3].detach()]
    context = toeplitz.attend_along_diagonals(*fixed, 0.4, True)
    weights = torch.randn(context.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad((context * weights).sum(), fixed[:3]), wanted, **EXACT)


def test_functional_gradients_work_too():
    q, k, v, diagonals = (x.detach() for x in drawn())
    loss = lambda along: lambda d: along(q, k, v, d, 0.4, True).square().sum()  # noqa: E731
    found = torch.func.grad(loss(toeplitz.attend_along_diagonals))(diagonals)
    torch.testing.assert_close(found, torch.func.grad(loss(by_table))(diagonals), **EXACT)


class Largest(TorchDispatchMode):
    """Notes how many bytes the largest memory has that a tensor stands in."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.most = max(self.most, one.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("causal", [False, True])
def test_no_table_is_ever_made(causal, monkeypatch):
    for name in ("FORWARD", "BACKWARD", "KEYS"):
        monkeypatch.setattr(toeplitz, name, 40)
    length = 600
    table = HEADS * length * length * 8
    with Largest() as along:
        with_gradients(toeplitz.attend_along_diagonals, drawn(length), 0.4, causal)
    with Largest() as with_table:
        with_gradients(by_table, drawn(length), 0.4, causal)
    assert along.most < table / HEADS / 10 and with_table.most >= table


@pytest.mark.parametrize("names", ENCODINGS, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_diagonals_are_those_of_the_bias(names, causal, make_config):
    encoding = make_position(names, make_config(encoder_position_encoding=names), causal).double()
    for weight in encoding.parameters():
        torch.nn.init.normal_(weight)
    q, k = drawn()[:2]
    places = Places.count((ROWS, LENGTH), CPU)
    diagonals = encoding.diagonals(places)
    assert diagonals.shape == (HEADS, 2 * LENGTH - 1)
    torch.testing.assert_close(table_of(diagonals, False), encoding.bias(q, k, places), **EXACT)


@pytest.mark.parametrize("names", [[name] for name in POSITIONS if name not in BY_DISTANCE] + [["t5", "fire"]], ids=str)
def test_what_reads_more_than_the_distance_has_no_diagonals(names, make_config):
    encoding = make_position(names, make_config(encoder_position_encoding=names), False)
    assert encoding.diagonals(Places.count((ROWS, LENGTH), CPU)) is None


def test_places_with_gaps_have_no_diagonals(make_config):
    encoding = make_position(["alibi"], make_config(), False)
    padding = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    padding[1, 4:] = False
    plain = Places.count((ROWS, LENGTH), CPU)
    assert encoding.diagonals(Places(plain.queries + 3, plain.keys + 3, plain.shape)) is not None
    for places in (
        Places.count((ROWS, LENGTH), CPU, padding),
        Places.count((ROWS, LENGTH), CPU, past=2),
        Places(plain.queries * 2, plain.keys * 2, plain.shape),
        Places(plain.queries, plain.keys + 1, plain.shape),
    ):
        assert encoding.diagonals(places) is None


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"_attn_implementation": "eager"},
        {"dropout": 0.1},
        {"mask": torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool)},
        {"length": 8},
        {"dtype": torch.bfloat16},
        {"keys": LENGTH + 1},
        {"device": "meta"},
        {"threads": 2},
    ],
    ids=lambda change: "-".join(change) or "none",
)
def test_diagonals_are_taken_only_where_they_serve(change, make_config, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: change.get("threads", 1))
    config = make_config(attention_dropout=change.get("dropout", 0.0))
    config._attn_implementation = change.get("_attn_implementation", "sdpa")
    length = change.get("length", LENGTH)
    form = {"dtype": change.get("dtype", torch.float32), "device": change.get("device", "cpu")}
    q, k = torch.empty(1, HEADS, length, 4, **form), torch.empty(1, HEADS, change.get("keys", length), 4, **form)
    lookup = Attend(config, False, 0.5)
    assert lookup.train().takes_diagonals(q, k, change.get("mask")) == (not change)
    if "threads" in change:
        with torch.no_grad():
            assert lookup.takes_diagonals(q, k, None)
    if "dropout" in change:
        assert lookup.eval().takes_diagonals(q, k, None)
    with torch.autocast("cpu"):
        assert not lookup.takes_diagonals(q, k, change.get("mask"))


@pytest.mark.parametrize("names", ENCODINGS, ids=str)
def test_a_model_equals_itself_with_eager_attention(names, make_model, taken):
    model = make_model(position_encoding=names).train()
    ids = torch.randint(4, 40, (ROWS, 2, LENGTH))

    def gradients(implementation):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        logits = model(input_ids=ids[:, 0], decoder_input_ids=ids[:, 1]).logits
        logits.square().sum().backward()
        return {"logits": logits.detach(), **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}

    wanted = gradients("eager")
    assert not taken
    torch.testing.assert_close(gradients("sdpa"), wanted, atol=1e-10, rtol=1e-10)
    assert taken == [LENGTH] * (model.config.encoder_layers + model.config.decoder_layers)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_takes_the_table(side, make_model, taken, batch):
    model = make_model(position_encoding="t5")
    ids = torch.randint(4, 40, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[1, slice(0, 6) if side == "left" else slice(-6, None)] = 0
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :4]).logits
        assert not taken
        alone = model(input_ids=ids[1:][mask[1:] == 1][None], decoder_input_ids=ids[1:, :4]).logits
    assert taken and (padded[1:] - alone).abs().max() < 1e-12
