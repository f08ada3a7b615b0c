"""Models in other hands: adapters of PEFT, activation checkpointing, training in bfloat16, for every mixer."""

import copy

import pytest
import torch

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.model.decoding import DecodingState
from selfattn_hf.model.layers import MIXERS

peft = pytest.importorskip("peft", reason="PEFT is an extra: pip install selfattn-hf[peft]")

# What PEFT calls on its way, and transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
KINDS = {
    **{mixer: {"encoder_mixer": mixer, "decoder_mixer": mixer} for mixer in MIXERS},
    **{name: {"position_encoding": name} for name in ("t5", "shaw", "transformer_xl", "rope")},
    "mixed, untied": {"decoder_mixer": ["rnn", "self_attention"], "tie_word_embeddings": False},
}
ORDERED = ("self_attention", "local_attention", "dense")


def made(kind, **more):
    torch.manual_seed(0)
    switches = {"position_encoding": "sinusoidal" if kind in ORDERED else "none", **KINDS[kind], **more}
    config = SelfAttnConfig(
        vocab_size=40, hidden_size=16, encoder_layers=2, decoder_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, **switches,
    )  # fmt: skip
    return SelfAttnForConditionalGeneration(config).eval()


def batch(rows=3):
    ids, labels = torch.randint(3, 40, (rows, 7)), torch.randint(3, 40, (rows, 6))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    labels[1, 3:] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def lora(**asked):
    """An adapter that changes what a model says from the start."""
    return peft.LoraConfig(r=4, **{"target_modules": "all-linear", "init_lora_weights": False, **asked})


def written_slowly(model, source, tokens):
    """The most probable token of all logits, again and again."""
    ids = torch.ones(len(source["input_ids"]), 1, dtype=torch.long)
    for _ in range(tokens):
        logits = model(**source, decoder_input_ids=ids, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_decodes_as_its_logits_say_and_is_merged_without_a_trace(kind):
    plain, source = made(kind), batch()
    source.pop("labels")
    before = plain(**source, decoder_input_ids=source["input_ids"]).logits
    model = peft.get_peft_model(copy.deepcopy(plain), lora(task_type="SEQ_2_SEQ_LM")).eval()
    logits = model(**source, decoder_input_ids=source["input_ids"]).logits
    assert (logits - before).abs().max() > 0.1
    asked = {"max_new_tokens": 8, "eos_token_id": None}
    assert torch.equal(model.generate(**source, **asked), written_slowly(model, source, 8))
    beams = [model.generate(**source, **asked, num_beams=3, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*beams)
    with model.disable_adapter():
        torch.testing.assert_close(model(**source, decoder_input_ids=source["input_ids"]).logits, before)
    merged = model.merge_and_unload()
    again = merged(**source, decoder_input_ids=source["input_ids"]).logits
    torch.testing.assert_close(again, logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(merged.generate(**source, **asked), written_slowly(merged, source, 8))


def test_the_shorter_way_of_decoding_knows_an_adapter_and_comes_back_without_it():
    model = made("self_attention")
    served = lambda: DecodingState.serves(model.get_decoder(), model.lm_head)  # noqa: E731
    assert served()
    model.add_adapter(lora())
    assert not served()
    model.delete_adapter("default")
    assert not any("lora" in name for name, _ in model.named_parameters())
    merged = peft.get_peft_model(made("self_attention"), lora()).merge_and_unload()
    assert DecodingState.serves(merged.get_decoder(), merged.lm_head)


@pytest.mark.parametrize("kind", ["self_attention", "rnn", "window"])
def test_transformers_own_adapters_are_trained_saved_and_loaded(kind, tmp_path):
    plain, given = made(kind), batch()
    model = copy.deepcopy(plain)
    whole = ["forwards", "backwards"] if kind == "rnn" else None  # its cells are no linear layers
    model.add_adapter(peft.LoraConfig(r=4, target_modules="all-linear", modules_to_save=whole))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(**given).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed and all("lora" in name or "modules_to_save" in name for name in changed)
    assert any("modules_to_save" in name for name in changed) == (kind == "rnn")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file() and not (tmp_path / "model.safetensors").exists()
    plain.load_adapter(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(**given).logits, model.eval()(**given).logits)
    given.pop("labels")
    asked = {"max_new_tokens": 6, "eos_token_id": None}
    assert torch.equal(model.generate(**given, **asked), written_slowly(model, given, 6))


def test_a_table_of_its_own_takes_an_adapter():
    model = peft.get_peft_model(made("mixed, untied"), lora(target_modules=["embed_tokens", "lm_head"])).eval()
    given = batch()
    with torch.no_grad():
        logits = model(**given).logits
        torch.testing.assert_close(model.merge_and_unload()(**given).logits, logits, atol=1e-5, rtol=1e-5)


def gradients(model, given):
    model.zero_grad()
    model(**given).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_changes_no_gradient(kind, reentrant):
    model, given = made(kind).train(), batch()
    expected = gradients(model, given)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert all(stack.gradient_checkpointing for stack in (model.get_encoder(), model.get_decoder()))
    if reentrant:
        model.enable_input_require_grads()
    found = gradients(model, given)
    assert set(found) == set(expected) and len(found) > 10
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_training_in_bfloat16_follows_training_in_float32(kind):
    given, ends = batch(8), []
    for half in (False, True):
        model = made(kind).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(8):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model(**given, loss_only=True).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        ends.append(float(loss.detach()))
    assert ends[1] == pytest.approx(ends[0], abs=0.05)
    assert ends[0] < 3.5
