"""Heads on the encoder: whatever mixes and orders its tokens, they say of a text what they say of it alone."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from transformers import AutoModelForTextEncoding, Trainer, TrainingArguments

from selfattn_hf import (
    MODELS,
    SelfAttnConfig,
    SelfAttnEncoderModel,
    SelfAttnForCausalLM,
    SelfAttnForConditionalGeneration,
    SelfAttnForQuestionAnswering,
    SelfAttnForSequenceClassification,
    SelfAttnForTokenClassification,
    SelfAttnModel,
)
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

EXACT = {"atol": 1e-12, "rtol": 0}
CLASSES = 5
UNLIKE = [
    {"encoder_mixer": ["rnn", "self_attention"]},
    {"encoder_mixer": ["local_attention", "dense"], "encoder_position_encoding": "alibi", "window_radius": 1},
    {"encoder_position_encoding": ["tree_depth", "tree_path", "tree_relative", "rope"]},
    {"encoder_position_encoding": ["learned", "kerple"], "position_combine": "concat", "position_injection": "block"},
    {"share_layers": True, "norm": "post"},
    {"attend_to": "embeddings", "embedding_norm": True},
    {"tie_word_embeddings": False, "norm_type": "rms_norm", "bias": False, "head_dim": 6, "feedforward": "swiglu",
     "encoder_position_encoding": "t5", "relative_num_buckets": 8},
]  # fmt: skip


def is_legal(switches):
    try:
        SelfAttnConfig(hidden_size=16, encoder_layers=2, num_attention_heads=4, **switches)
    except ValueError:
        return False
    return True


PAIRS = [{"encoder_mixer": m, "encoder_position_encoding": p} for m, p in itertools.product(MIXERS, POSITIONS)]
ENCODERS = [*filter(is_legal, PAIRS), *UNLIKE]
every_encoder = pytest.mark.parametrize("switches", ENCODERS, ids=lambda s: "-".join(map(str, s.values())))

HEADS = {
    SelfAttnForSequenceClassification: {"labels": torch.tensor([3, 0, 4])},
    SelfAttnForTokenClassification: {"labels": [torch.arange(n) % CLASSES for n in (7, 4, 1)]},
    SelfAttnForQuestionAnswering: {
        "start_positions": torch.tensor([1, 0, 0]),
        "end_positions": torch.tensor([4, 3, 0]),
    },
}
every_head = pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)


def auto_class(kind):
    return getattr(transformers, kind._auto_class)


@pytest.fixture
def make_head(make_model):
    def make(kind, dtype=torch.float64, **switches):
        return make_model(dtype, kind, num_labels=CLASSES, **switches)

    return make


def said(out, real):
    """What a head says of [B, S] real tokens, row after row, whatever stands beside them."""
    if "start_logits" in out:
        return torch.stack([out.start_logits, out.end_logits], -1)[real]
    return out.logits[real if out.logits.ndim == 3 else real.any(1)]


def said_and_gradients(model, ids, mask, real, weights):
    """What is said of the real tokens, and the gradients of its weighted sum."""
    model.zero_grad()
    answer = said(model(ids, attention_mask=mask), real)
    (answer * weights).sum().backward()
    return answer.detach(), [weight.grad.clone() for weight in model.parameters()]


def test_no_head_no_mixer_and_no_encoding_is_left_out():
    assert {*HEADS, SelfAttnEncoderModel} == set(MODELS) - {
        SelfAttnModel, SelfAttnForConditionalGeneration, SelfAttnForCausalLM
    }  # fmt: skip
    legal = list(filter(is_legal, PAIRS))
    assert {switches["encoder_mixer"] for switches in legal} == set(MIXERS)
    assert {switches["encoder_position_encoding"] for switches in legal} == set(POSITIONS)
    assert all(map(is_legal, UNLIKE))


@every_head
@every_encoder
def test_padding_never_matters(switches, kind, make_head, batch, pad):
    """Rows alone, right-padded, left-padded, in a wider batch, and not packed: the same answers and gradients."""
    model, rows = make_head(kind, **switches), batch["source"]
    size = [1 if kind is SelfAttnForSequenceClassification else len(row) for row in rows]
    width = 2 if kind is SelfAttnForQuestionAnswering else CLASSES
    weights = torch.linspace(-1, 1, sum(size) * width, dtype=torch.float64).view(-1, width)
    alone = [
        said_and_gradients(model, row[None], None, row[None] >= 0, weight)
        for row, weight in zip(rows, weights.split(size), strict=True)
    ]
    expected = torch.cat([answer for answer, _ in alone])
    for side, wider, recorded in (("right", None, False), ("left", None, False), ("left", 9, True)):
        ids, mask = pad(rows, side, wider)
        model.config.output_hidden_states = recorded  # what is recorded is not packed
        answer, grads = said_and_gradients(model, ids, mask, mask.bool(), weights)
        torch.testing.assert_close(answer, expected, **EXACT)
        for grad, *others in zip(grads, *[one for _, one in alone], strict=True):
            torch.testing.assert_close(grad, sum(others), atol=1e-12, rtol=1e-10)


@torch.no_grad()
@every_head
def test_padding_that_is_not_masked_is_found(kind, make_head, batch, pad):
    """Positive control: without its mask a padded row must differ."""
    model = make_head(kind)
    ids, mask = pad(batch["source"])
    error = (said(model(ids), mask.bool()) - said(model(ids, attention_mask=mask), mask.bool())).abs().max()
    assert error > 1e-3


@torch.no_grad()
@every_encoder
def test_eager_equals_sdpa_and_a_row_without_one_token_changes_no_other(switches, make_head, batch, pad):
    ids, mask = pad(batch["source"], "left")
    emptied = mask * torch.tensor([[1], [0], [1]])
    for kind in HEADS:
        model, answers = make_head(kind, **switches), []
        for name, shown in itertools.product(("eager", "sdpa"), (mask, emptied)):
            model.set_attn_implementation(name)
            out = model(ids, attention_mask=shown)
            assert all(value.isfinite().all() for value in out.values())
            answers.append([said(out, shown.bool()), said(out, emptied.bool())])
        for eager, sdpa in zip(answers[:2], answers[2:], strict=True):
            torch.testing.assert_close(eager, sdpa, **EXACT)
        torch.testing.assert_close(answers[0][1], answers[1][1], **EXACT)


@every_head
def test_states_and_maps_are_returned(kind, mixer, make_head, batch, pad):
    model = make_head(kind, encoder_mixer=mixer)
    model.set_attn_implementation("eager")
    ids, mask = pad(batch["source"])
    plain = model(ids, attention_mask=mask)
    out = model(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    assert plain.hidden_states is None and plain.attentions is None
    torch.testing.assert_close(said(out, mask.bool()), said(plain, mask.bool()), **EXACT)
    assert [states.shape for states in out.hidden_states] == [(3, 7, 16)] * 3
    maps = 2 if mixer in ("self_attention", "local_attention", "dense") else 0
    assert [weights.shape for weights in out.attentions] == [(3, 4, 7, 7)] * maps
    assert isinstance(model(ids, return_dict=False), tuple)


def load(kind, folder, **given):
    """A model by its Auto class, and what was missing, unexpected or of another shape."""
    model, report = auto_class(kind).from_pretrained(folder, output_loading_info=True, **given)
    assert type(model) is kind
    missing = report.pop("missing_keys")
    assert not any(report.values())
    return model, missing


def own_layer(head):
    return {name for name, _ in head.named_parameters() if not name.startswith("model.")}


@torch.no_grad()
@every_encoder
def test_every_head_takes_the_encoder_of_an_encoder_decoder(switches, make_model, with_trees, batch, pad, tmp_path):
    """And reports the layer of its own, which is fresh."""
    whole = make_model(torch.float32, **switches)
    whole.save_pretrained(tmp_path)
    ids, mask = pad(batch["source"])
    states = whole.get_encoder()(ids, attention_mask=mask).last_hidden_state
    encoder, missing = load(SelfAttnEncoderModel, tmp_path)
    assert not missing
    assert torch.equal(with_trees(encoder)(ids, attention_mask=mask).last_hidden_state, states)
    for kind in HEADS:
        head, missing = load(kind, tmp_path, num_labels=CLASSES)
        assert missing == own_layer(head) and len(missing) == 2
        assert torch.equal(with_trees(head).model(ids, attention_mask=mask).last_hidden_state, states)


@torch.no_grad()
@every_head
def test_the_folder_of_a_head_opens_as_itself_as_its_encoder_and_as_another_head(
    kind, mixer, make_head, batch, pad, tmp_path
):
    head = make_head(kind, torch.float32, encoder_mixer=mixer)
    head.save_pretrained(tmp_path)
    ids, mask = pad(batch["source"])
    again, missing = load(kind, tmp_path)
    assert not missing
    assert torch.equal(*(said(model(ids, attention_mask=mask), mask.bool()) for model in (head, again)))
    encoder, report = AutoModelForTextEncoding.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    states = [model(ids, attention_mask=mask).last_hidden_state for model in (head.model, encoder)]
    assert torch.equal(*states)
    for other in HEADS.keys() - {kind}:
        model, report = auto_class(other).from_pretrained(tmp_path, output_loading_info=True)
        assert report["missing_keys"] == own_layer(model)
        assert torch.equal(model.model(ids, attention_mask=mask).last_hidden_state, states[0])


TRAINED = {**HEADS, SelfAttnForCausalLM: {"labels": [torch.arange(3, 3 + n) for n in (7, 4, 1)]}}


def step(model, rows, collate, batch_size, folder):
    """What one step of transformers' Trainer adds to every weight, for rows cut into batches of a size."""
    before = [weight.detach().clone() for weight in model.parameters()]
    arguments = TrainingArguments(
        output_dir=folder, max_steps=1, per_device_train_batch_size=batch_size, lr_scheduler_type="constant",
        gradient_accumulation_steps=len(rows) // batch_size, train_sampling_strategy="sequential", optim="sgd",
        learning_rate=1.0, max_grad_norm=0, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
    return [weight.detach() - old for weight, old in zip(model.parameters(), before, strict=True)]


@pytest.fixture
def step_in_batches(batch, pad, make_head, tmp_path):
    """What a step over six rows, of unlike length and with unlike numbers of labels, adds to the weights of a head."""

    def take_step(kind, size, **attributes):
        columns = {"input_ids": batch["source"], **TRAINED[kind]}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] * 2

        def collate(features):
            ids, mask = pad([row["input_ids"] for row in features])
            given = {"input_ids": ids, "attention_mask": mask}
            for name in TRAINED[kind]:
                values = [row[name] for row in features]
                padded, real = pad(values) if values[0].ndim else (torch.stack(values), torch.ones(len(values)))
                given[name] = padded.masked_fill(real == 0, -100)
            return given

        model = make_head(kind)
        for name, value in attributes.items():
            setattr(model, name, value)
        return step(model, rows, collate, size, tmp_path)

    return take_step


@pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.__name__)
def test_a_step_of_the_trainer_does_not_depend_on_how_its_rows_are_cut_into_batches(kind, step_in_batches):
    at_once, *cut = [step_in_batches(kind, size) for size in (6, 3, 1)]
    assert max(change.abs().max() for change in at_once) > 1e-2
    for changes in cut:
        for one, many in zip(at_once, changes, strict=True):
            torch.testing.assert_close(many, one, **EXACT)


def test_a_loss_that_is_averaged_batch_by_batch_is_found(step_in_batches):
    """Positive control: a model that is not told how many labels all batches have moves its weights differently."""
    at_once, cut = (step_in_batches(SelfAttnForTokenClassification, size, accepts_loss_kwargs=False) for size in (6, 1))
    assert max((one - many).abs().max() for one, many in zip(at_once, cut, strict=True)) > 1e-3


# Run with -I and the package made unimportable; prints the largest difference for each folder.
STRANGER = """
import json, sys
sys.modules["selfattn_hf"] = None
import torch, transformers
for pair in sys.argv[1:]:
    auto, folder = pair.split("=")
    saved = torch.load(folder + "/saved.pt", weights_only=True)
    model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)
    pairs = zip(model(**saved["inputs"]).values(), saved["outputs"], strict=True)
    error = max((one - other).abs().max().item() for one, other in pairs)
    print(json.dumps([type(model).__module__.split(".")[0], type(model).__name__, error]))
"""


@torch.no_grad()
def test_every_head_opens_in_a_process_that_does_not_have_the_package(make_head, batch, pad, tmp_path):
    kinds = [SelfAttnEncoderModel, *TRAINED]
    ids, mask = pad(batch["source"])
    for kind, mixer in zip(kinds, itertools.cycle(MIXERS), strict=False):
        model, inputs = make_head(kind, torch.float32, encoder_mixer=mixer), {"input_ids": ids, "attention_mask": mask}
        if kind is SelfAttnForCausalLM:
            inputs["use_cache"] = False
        model.save_pretrained(tmp_path / kind.__name__)
        torch.save({"inputs": inputs, "outputs": list(model(**inputs).values())}, tmp_path / kind.__name__ / "saved.pt")
    env = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    env.pop("HF_MODULES_CACHE", None)
    pairs = [f"{kind._auto_class}={kind.__name__}" for kind in kinds]
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", STRANGER, *pairs],
        capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, kind in zip(done.stdout.splitlines(), kinds, strict=True):
        module, name, error = json.loads(line)
        assert (module, name) == ("transformers_modules", kind.__name__)
        assert error <= 2e-6


def test_a_folder_of_the_decoder_alone_has_no_encoder_to_give(make_head, tmp_path):
    make_head(SelfAttnForCausalLM, torch.float32).save_pretrained(tmp_path)
    for kind in (SelfAttnEncoderModel, *HEADS):
        with pytest.raises(ValueError, match=r"no encoder.*AutoModelForCausalLM"):
            auto_class(kind).from_pretrained(tmp_path)
