"""A switch changed on a pretrained model: what is drawn anew and what is dropped is listed, all else is bit-equal."""

import re

import pytest
import torch

from selfattn_hf import convert
from selfattn_hf.conversion import converting
from selfattn_hf.conversion.converting import take
from selfattn_hf.conversion.report import HARMLESS, ConversionReport, counted
from selfattn_hf.model.positions import POSITIONS

TABLE = [f"model.{side}.position.table.weight" for side in ("encoder", "decoder")]
BART_TABLE = [f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")]
T5_TABLE = [f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for side in ("encoder", "decoder")]
BART_LAYERS = [("encoder", 2), ("decoder", 3)]
T5_LAYERS = [("encoder", 3), ("decoder", 2)]
BOTH = ("weight", "bias")
STEPS = {"encoder": ("mix", "think"), "decoder": ("mix", "read", "think")}


def norms(layers, where, kinds, final):
    """Names here of the norms of every layer, and of the stacks' own where there are."""
    for side, depth in layers:
        for kind in kinds:
            yield from (f"model.{side}.layers.{i}.{step}.{where}.{kind}" for i in range(depth) for step in STEPS[side])
            if final:
                yield f"model.{side}.norm.{kind}"


def rnn(depth):
    for i in range(depth):
        for way in ("forwards", "backwards"):
            for kind in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                yield f"model.encoder.layers.{i}.mix.sublayer.{way}.{kind}"


def bart(side, depth, modules, kinds=BOTH):
    """Names in a BART of modules of every layer."""
    return [f"model.{side}.layers.{i}.{module}.{kind}" for i in range(depth) for module in modules for kind in kinds]


ATTENTION = [f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")]
ALL_BART_NORMS = [
    *bart("encoder", 2, ["self_attn_layer_norm", "final_layer_norm"]),
    *bart("decoder", 3, ["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"]),
]

# Source, switches, what is fresh by its name here, what is dropped by its name there.
SWITCHED = [
    ("bart", {"position_encoding": "none"}, [], BART_TABLE),
    ("bart", {"position_encoding": "rope"}, [], BART_TABLE),
    ("bart", {"position_encoding": "sinusoidal"}, [], BART_TABLE),
    ("bart", {"position_encoding": "t5"}, TABLE, BART_TABLE),
    ("bart", {"position_encoding": ["learned", "alibi"]}, [], []),
    ("bart", {"position_encoding": ["t5", "learned"]}, [name.replace("table", "parts.0.table") for name in TABLE], []),
    ("bart", {"encoder_position_encoding": "alibi"}, [], BART_TABLE[:1]),
    ("bart", {"encoder_position_encoding": "tree_relative"}, TABLE[:1], BART_TABLE[:1]),
    ("bart", {"position_combine": "concat"}, [name.replace("table", "combine") for name in TABLE]
     + [name.replace("table.weight", "combine.bias") for name in TABLE], []),
    ("bart", {"max_position_embeddings": 40}, TABLE, BART_TABLE),
    ("marian", {"position_encoding": "rope"}, [], []),
    ("marian", {"position_encoding": "learned"}, TABLE, []),
    ("marian", {"decoder_position_encoding": ["sinusoidal", "learned"]}, [TABLE[1].replace(".table", ".parts.1.table")],
     []),
    ("t5", {"position_encoding": "learned"}, TABLE, T5_TABLE),
    ("t5", {"position_encoding": ["rope", "t5"]}, [], []),
    ("t5", {"relative_num_buckets": 12}, TABLE, T5_TABLE),
    ("bart", {"encoder_mixer": "rnn"}, list(rnn(2)), bart("encoder", 2, ATTENTION)),
    ("bart", {"encoder_mixer": ["rnn", "self_attention"]}, list(rnn(1)), bart("encoder", 1, ATTENTION)),
    ("marian", {"encoder_mixer": "local_attention", "window_radius": 3}, [], []),
    ("bart", {"tie_word_embeddings": False}, [], []),
    ("t5", {"tie_word_embeddings": False}, [], []),
    ("mt5", {"tie_word_embeddings": True}, [], ["lm_head.weight"]),
    ("marian_three_tables", {"tie_word_embeddings": True}, [],
     ["model.decoder.embed_tokens.weight", "lm_head.weight"]),
    ("bart", {"norm": "pre"}, list(norms(BART_LAYERS, "before", BOTH, True)), ALL_BART_NORMS),
    ("bart", {"norm": "none"}, [], ALL_BART_NORMS),
    ("t5", {"norm_type": "layer_norm"}, list(norms(T5_LAYERS, "before", ["bias"], True)), []),
    ("bart", {"norm_type": "rms_norm"}, [], [name for name in ALL_BART_NORMS if name.endswith("bias")]
     + [f"model.{side}.layernorm_embedding.bias" for side in ("encoder", "decoder")]),
    ("bart", {"embedding_norm": False}, [],
     [f"model.{side}.layernorm_embedding.{kind}" for side in ("encoder", "decoder") for kind in BOTH]),
    ("bart", {"output_bias": False}, [], ["final_logits_bias"]),
    ("t5", {"output_bias": True}, ["lm_head.bias"], []),
    ("bart", {"feedforward": "swiglu"},
     [f"model.{side}.layers.{i}.think.sublayer.gate_proj.weight" for side, depth in BART_LAYERS for i in range(depth)],
     [name for side, depth in BART_LAYERS for name in bart(side, depth, ["fc1", "fc2"], ["bias"])]),
    ("t5_gated_silu", {"feedforward": "silu"}, [],
     [f"{side}.block.{i}.layer.{len(STEPS[side]) - 1}.DenseReluDense.wi_0.weight" for side, depth in T5_LAYERS
      for i in range(depth)]),
    ("bart", {"decoder_layers": 2}, [],
     [f"model.decoder.layers.2.{module}.{kind}" for kind in BOTH for module in (
         *ATTENTION, *(name.replace("self", "encoder") for name in ATTENTION), "self_attn_layer_norm",
         "encoder_attn_layer_norm", "fc1", "fc2", "final_layer_norm")]),
    ("bart", {"future_mask": False}, [], []),
    ("t5", {"dropout": 0.0, "attention_dropout": 0.3, "initializer_range": 0.5, "use_cache": False}, [], []),
    ("marian", {"position_shift": 5, "max_position_embeddings": 9}, [], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "switches", "fresh", "dropped"), SWITCHED, ids=[f"{name}-{switches}" for name, switches, *_ in SWITCHED]
)
def test_a_switch_leaves_every_weight_alone_that_it_does_not_list(name, switches, fresh, dropped, make_source, pair):
    before = pair(name)[1]
    model, report = convert(make_source(name), return_report=True, **switches)
    assert sorted(report.fresh) == sorted(fresh)
    assert sorted(report.dropped) == sorted(dropped)
    assert report.switched == {field: (getattr(before.config, field), value) for field, value in switches.items()}
    weights = before.state_dict()
    weights["model.shared.weight"] = weights["model.encoder.embed_tokens.weight"]
    for ours, weight in model.named_parameters():
        if ours in fresh:
            assert weight.isfinite().all()
        else:
            assert torch.equal(weight, weights[re.sub(r"position\.parts\.\d", "position", ours)]), ours
    assert report.is_equal == (switches.keys() <= HARMLESS and not fresh and not dropped)


@pytest.mark.parametrize("switches", [{}, {"dropout": 0.3}, {"position_encoding": "alibi"}], ids=str)
def test_without_a_report_a_warning_says_what_a_switch_cost(switches, make_source, caplog):
    _, report = convert(make_source("bart"), return_report=True, **switches)
    assert not caplog.messages
    convert(make_source("bart"), **switches)
    assert caplog.messages == ([] if report.is_equal else [str(report)])


@pytest.mark.parametrize("position", [position for position in POSITIONS if not position.startswith("tree_")])
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_every_encoding_can_take_the_place_of_the_sources(name, position, make_source, pair, batch):
    before = pair(name)[1]
    model, report = convert(make_source(name), position_encoding=position, return_report=True)
    weights = before.state_dict()
    for ours, weight in model.named_parameters():
        assert ours in report.fresh or torch.equal(weight, weights[ours])
    assert all(".position." in ours for ours in report.fresh)
    inputs = batch(before.config.pad_token_id)
    same = torch.equal(model(**inputs).logits, before(**inputs).logits)
    assert same == (position == before.config.position_encoding) == report.is_equal


def test_what_is_drawn_anew_hangs_on_the_seed_alone(make_source):
    def table(seed):
        torch.manual_seed(seed)
        return convert(make_source("marian"), position_encoding="learned").model.encoder.position.table.weight

    assert torch.equal(table(1), table(1)) and not torch.equal(table(1), table(2))
    assert 0.01 < table(1).std() < 0.03, "with the source's standard deviation of fresh weights, init_std=0.02"


@pytest.mark.parametrize("switch", sorted(HARMLESS))
def test_a_harmless_switch_changes_no_logit(switch, make_source, pair, difference):
    name = "pegasus"
    before = pair(name)[1]
    value = getattr(before.config, switch)
    switches = {switch: not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 0.3}
    model, report = convert(make_source(name), return_report=True, **switches)
    assert report.is_equal and difference(before, model) == 0


def test_a_weight_that_was_not_copied_would_be_listed(make_source, monkeypatch):
    forgotten = "model.encoder.layers.0.think.sublayer.up_proj.bias"

    def forgets_one(model, weights):
        return take(model, {name: weight for name, weight in weights.items() if name != forgotten})

    monkeypatch.setattr(converting, "take", forgets_one)
    _, report = convert(make_source("bart"), return_report=True)
    assert report.fresh == (forgotten,) and not report.is_equal


def test_the_report_says_what_was_done():
    report = ConversionReport(
        source="models/bart",
        model_type="bart",
        switched={"position_encoding": ("learned", "t5"), "dropout": (0.1, 0.0)},
        fresh=tuple(TABLE),
        dropped=(*BART_TABLE, *(f"model.encoder.layers.{i}.fc1.weight" for i in range(6)), "a.0.b.weight"),
        training_only={"dropout inside the feed-forward": 0.1, "encoder layers left out at random": 0.05},
    )
    assert not report.is_equal
    assert str(report).splitlines() == [
        "models/bart (bart) converted with position_encoding='t5' (was 'learned'), dropout=0.0 (was 0.1).",
        "It no longer computes what it did, and needs training.",
        f"Newly initialised: {TABLE[0]}, {TABLE[1]}.",
        f"Dropped: {BART_TABLE[0]}, {BART_TABLE[1]}, model.encoder.layers.*.fc1.weight (6), a.0.b.weight.",
        "Training goes on without: dropout inside the feed-forward (0.1), encoder layers left out at random (0.05).",
    ]


def test_a_report_without_changes_is_one_line():
    assert str(ConversionReport("models/t5", "t5")) == "models/t5 (t5) converted."
    assert counted([]) == "nothing"
