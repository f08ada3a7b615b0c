"""A converted model computes what its source computes: logits, greedy search, beam search, and after saving."""

import copy
import json
import os

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import SelfAttnForConditionalGeneration, convert
from selfattn_hf.conversion import bart, t5
from selfattn_hf.conversion.converting import FAMILIES
from selfattn_hf.model.contracts import Places

from .conftest import SOURCES

FLOAT32 = 1e-5
# Tables of sinusoids are rounded to float32 by transformers, and angles by this package; all else is exact.
FLOAT64 = {True: 1e-6, False: 1e-12}

RATE, STEPS = 0.005, 5  # of training

every_source = pytest.mark.parametrize("name", SOURCES)


def has_sinusoids(name):
    return name.startswith(("marian", "pegasus"))


def test_every_family_has_a_source():
    assert {config_class.model_type for config_class, _ in SOURCES.values()} == set(FAMILIES)


@every_source
def test_logits_are_equal_in_float32_in_a_padded_batch(name, make_source, pair, difference):
    theirs, ours, report = pair(name)
    assert isinstance(ours, SelfAttnForConditionalGeneration) and not ours.training
    assert difference(theirs, ours) < FLOAT32
    assert report.is_equal and report.fresh == report.dropped == () and report.switched == {}
    assert (report.source, report.model_type) == (str(make_source(name)), SOURCES[name][0].model_type)


@every_source
def test_logits_are_equal_in_float64(name, make_source, load, difference, exact_norms):
    folder = make_source(name, torch.float64)
    assert difference(load(folder), convert(folder)) < FLOAT64[has_sinusoids(name)]


@every_source
@pytest.mark.parametrize("num_beams", [1, 4])
def test_searches_write_the_same(name, pair, batch, num_beams):
    theirs, ours, _ = pair(name)
    inputs = {key: value for key, value in batch(theirs.config.pad_token_id).items() if "decoder" not in key}
    # Models with random weights write one word again and again, or end at once. Where no word may come twice, every
    # step has to rank all that are left.
    search = {"no_repeat_ngram_size": 1, "min_new_tokens": 10, "max_new_tokens": 16, "num_beams": num_beams}
    expected, got = (
        model.generate(**inputs, **search, return_dict_in_generate=True, output_scores=True) for model in (theirs, ours)
    )
    assert torch.equal(got.sequences, expected.sequences)
    assert all(len(row.unique()) > 10 for row in expected.sequences), "the text is varied"
    assert len(expected.sequences.unique(dim=0)) == 3, "and every source has a text of its own"
    if num_beams > 1:
        torch.testing.assert_close(got.sequences_scores, expected.sequences_scores, rtol=1e-4, atol=1e-5)


def rates(ours, config, rate):
    """A weight that is c times its source's moves as its source does at c^2 times the rate."""
    factors = dict.fromkeys((name for name, _ in ours.named_parameters()), 1.0)
    if config.model_type in ("t5", "mt5"):
        table = config.d_model**-0.5 if t5.scales_logits(config) else 1.0
        factors |= {name: config.d_kv**0.5 for name in factors if ".q_proj." in name}
        factors |= {name: table for name in factors if name.endswith(("shared.weight", "lm_head.weight"))}
    return [{"params": [weight], "lr": rate * factors[name] ** 2} for name, weight in ours.named_parameters()]


def train(model, groups, batches):
    optimizer = torch.optim.SGD(groups, lr=RATE)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


@pytest.fixture
def trainable(make_source, load, exact_norms):
    """A source in float64 whose bias on the logits, which it does not train, is 0; and what becomes of it.

    A table that the source shares between two of three uses is three tables here; while both are compared it is shared.
    """

    def make(name):
        has_bias = not name.startswith(("t5", "mt5"))
        zero = (lambda model: model.final_logits_bias.zero_()) if has_bias else None
        theirs = load(make_source(name, torch.float64, zero))
        ours = convert(theirs.name_or_path)
        read, written = ours.model.encoder.embed_tokens, ours.model.decoder.embed_tokens
        if name in ("t5_1.1", "mt5"):
            written.weight = read.weight
        if name == "marian_untied":
            ours.lm_head.weight = written.weight
        if has_sinusoids(name):  # theirs are rounded to float32: both take ours
            for side in ("encoder", "decoder"):
                table = getattr(theirs.model, side).embed_positions.weight
                places = Places.count((1, len(table)), table.device)
                table.data.copy_(getattr(ours.model, side).position.vectors(places)[0])
        return theirs, ours

    return make


@pytest.fixture
def batches(batch):
    """Batches for training, without padding among the inputs that count: its row of a table may be frozen there."""

    def make(pad):
        made = []
        for seed in range(STEPS):
            inputs = batch(pad)
            generator = torch.Generator().manual_seed(seed)
            for name in ("input_ids", "decoder_input_ids", "labels"):
                mask = inputs["attention_mask" if name == "input_ids" else "decoder_attention_mask"]
                ids = torch.randint(3, 39, mask.shape, generator=generator)
                inputs[name] = ids.masked_fill(mask == 0, -100 if name == "labels" else pad)
            made.append(inputs)
        return made

    return make


@every_source
def test_steps_of_training_are_the_same_steps(name, trainable, batches, difference):
    theirs, ours = trainable(name)
    before, steps = copy.deepcopy(theirs), batches(theirs.config.pad_token_id)
    expected = train(theirs, [{"params": [w for w in theirs.parameters() if w.requires_grad]}], steps)
    got = train(ours, rates(ours, theirs.config, RATE), steps)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
    assert difference(theirs, ours) < 1e-9
    assert difference(before, theirs) > 1e-2, "the steps change what is computed"


def test_a_step_that_is_too_long_would_be_seen(trainable, batches, difference):
    theirs, ours = trainable("bart")
    steps = batches(theirs.config.pad_token_id)
    train(theirs, [{"params": list(theirs.parameters())}], steps)
    train(ours, rates(ours, theirs.config, RATE * (1 + 1e-6)), steps)
    assert difference(theirs, ours) > 1e-9


GENERATION = {
    "num_beams": 3,
    "max_length": 14,
    "min_length": 5,
    "no_repeat_ngram_size": 2,
    "forced_bos_token_id": 11,
    "forced_eos_token_id": 2,
    "bad_words_ids": [[12], [13, 14]],
    "length_penalty": 1.7,
    "early_stopping": True,
}


@pytest.mark.parametrize(("name", "legacy"), [("bart", False), ("mbart", True), ("t5", False), ("t5", True)])
def test_the_way_of_writing_comes_along(name, legacy, make_source, load, batch, tmp_path):
    folder = make_source(name, change=lambda model: model.generation_config.update(**GENERATION))
    if legacy:  # as checkpoints were saved before there was a file for it
        os.remove(folder / "generation_config.json")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | GENERATION))
    theirs, ours = load(folder), convert(folder)
    ours.save_pretrained(tmp_path / "saved")
    saved = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved")
    for model in (ours, saved):
        written = model.generation_config.to_dict()
        assert written.items() >= GENERATION.items()
        assert written["decoder_start_token_id"] == theirs.generation_config.decoder_start_token_id
    inputs = {key: value for key, value in batch(theirs.config.pad_token_id).items() if "decoder" not in key}
    expected = theirs.generate(**inputs)
    assert expected.shape[1] > 5 and (expected[:, 1] == 11).all(), "the settings act"
    for model in (ours, saved):
        assert torch.equal(model.generate(**inputs), expected)


def test_the_language_to_write_is_chosen_as_with_the_source(pair, batch):
    theirs, ours, _ = pair("mbart50")
    inputs = {key: value for key, value in batch(1).items() if "decoder" not in key}
    for language in (9, 10):
        options = {**inputs, "forced_bos_token_id": language, "num_beams": 2, "max_new_tokens": 12}
        expected = theirs.generate(**options)
        assert (expected[:, 1] == language).all()
        assert torch.equal(ours.generate(**options), expected)


def test_special_ids_are_the_sources(pair):
    config = pair("mbart")[1].config
    ids = (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id)
    assert ids == (1, 0, 2, 7)
    assert pair("t5")[1].config.bos_token_id is None


def test_the_first_token_of_a_decoder_may_stand_in_the_generation_config_alone(make_source):
    folder = make_source(
        "t5",
        decoder_start_token_id=None,
        change=lambda model: model.generation_config.update(decoder_start_token_id=5),
    )
    assert convert(folder).config.decoder_start_token_id == 5


@pytest.mark.parametrize(
    "name", ["bart", "bart_scaled", "mbart", "pegasus", "marian_three_tables", "t5", "t5_1.1", "mt5"]
)
def test_saved_and_loaded_it_is_the_same(name, pair, load, difference, tmp_path):
    theirs, ours, _ = pair(name)
    ours.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert type(again) is SelfAttnForConditionalGeneration
    assert difference(ours, again) == 0
    assert difference(theirs, again) < FLOAT32


@pytest.mark.parametrize(
    ("name", "tied", "scaled"),
    [
        ("bart", True, False),
        ("bart_scaled", True, True),
        ("marian_untied", False, False),
        ("t5", True, True),
        ("t5_1.1", False, False),
        ("mt5", False, False),
        ("mt5_tied", True, False),
    ],
)
def test_tables_are_shared_where_the_sources_are(name, tied, scaled, pair):
    model = pair(name)[1]
    assert (model.config.tie_word_embeddings, model.config.scale_embedding) == (tied, scaled)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_a_bias_of_zeros_on_the_logits_is_none(make_source, pair, load, difference):
    folder = make_source("bart", change=lambda model: model.final_logits_bias.zero_())
    ours = convert(folder)
    assert ours.lm_head.bias is None
    assert difference(load(folder), ours) < FLOAT32
    assert pair("bart")[1].config.output_bias


def test_rates_of_training_are_carried_over_and_what_is_not_is_named(make_source):
    ours, report = convert(
        make_source("bart", dropout=0.3, attention_dropout=0.2, encoder_layerdrop=0.05, init_std=0.01),
        return_report=True,
    )
    assert (ours.config.dropout, ours.config.attention_dropout, ours.config.initializer_range) == (0.3, 0.2, 0.01)
    assert report.training_only == {
        "dropout inside the feed-forward": 0.1,
        "encoder layers left out at random": 0.05,
    }
    assert "encoder layers left out at random (0.05)" in str(report)
    ours, report = convert(make_source("t5", dropout_rate=0.25), return_report=True)
    assert (ours.config.dropout, ours.config.attention_dropout) == (0.25, 0.25)
    assert report.training_only == {"dropout inside the feed-forward and after the last norm": 0.25}


MISTAKES = [
    ("bart", lambda model: model.model.encoder.position.table.weight.copy_(
        model.model.encoder.position.table.weight.roll(1, 0))),
    ("bart", lambda model: model.lm_head.bias.zero_()),
    ("mbart", lambda model: model.model.decoder.norm.bias.zero_()),
    ("t5", lambda model: model.model.shared.weight.mul_(1.01)),
    ("t5", lambda model: [layer.mix.sublayer.q_proj.weight.div_(8**0.5) for layer in model.model.decoder.layers]),
    ("mt5", lambda model: model.model.decoder.position.table.weight.copy_(
        model.model.encoder.position.table.weight)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_a_mistake_in_a_weight_would_be_seen(name, mistake, make_source, pair, difference):
    ours = convert(make_source(name))
    with torch.no_grad():
        mistake(ours)
    assert difference(pair(name)[0], ours) > 100 * FLOAT32


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        ("bart", {"norm_eps": 1.1e-5}),
        ("t5", {"norm_eps": 1.1e-6}),
        ("bart", {"scale_embedding": True}),
        ("bart", {"feedforward": "silu"}),
        ("t5_1.1", {"feedforward": "swiglu"}),
        ("pegasus", {"sinusoid_layout": "interleaved"}),
        ("marian_untied", {"norm": "pre"}),
        ("t5", {"relative_max_distance": 16}),
    ],
)
def test_a_mistake_in_a_field_would_be_seen(name, switch, make_source, load, difference, exact_norms):
    folder = make_source(name, torch.float64)
    assert difference(load(folder), convert(folder, **switch)) > 5 * FLOAT64[has_sinusoids(name)]


def test_an_offset_that_is_not_dropped_would_be_seen(make_source, monkeypatch):
    monkeypatch.setattr(bart, "OFFSET", 0)
    with pytest.raises(ValueError, match=r"model.encoder.embed_positions.weight \(34, 24\).* would be left over"):
        convert(make_source("bart"))


def test_a_table_without_its_scale_would_be_seen(make_source, pair, difference, monkeypatch):
    monkeypatch.setattr(t5, "multiplied", lambda weight, factor: weight)
    assert difference(pair("t5")[0], convert(make_source("t5"))) > 0.1
