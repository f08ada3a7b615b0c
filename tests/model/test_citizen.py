"""The model as a citizen of transformers: recording, checkpointing, tying, decoding, compiling, attention backends."""

import shutil

import pytest
import torch
from transformers import AttentionInterface, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import logging

from selfattn_hf import SelfAttnForConditionalGeneration, make_cache
from selfattn_hf.model.attend import eager_attention


@pytest.fixture
def example(batch, pad):
    (source, mask), (target, _) = pad(batch["source"]), pad(batch["target"])
    return {"input_ids": source, "attention_mask": mask, "labels": target.masked_fill(target == 0, -100)}


def test_states_and_attention_maps_are_recorded(mixer, make_model, example):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer)
    model.set_attn_implementation("eager")
    out = model(**example, output_hidden_states=True, output_attentions=True)
    assert [len(states) for states in (out.encoder_hidden_states, out.decoder_hidden_states)] == [3, 4]
    assert out.decoder_hidden_states[0].shape == (3, 6, 16)
    assert [weights.shape for weights in out.cross_attentions] == [(3, 4, 6, 7)] * 3
    has_maps = mixer in ("self_attention", "local_attention", "dense")
    expected = [(2, (3, 4, 7, 7)), (3, (3, 4, 6, 6))] if has_maps else [(0, None), (0, None)]
    for maps, (count, shape) in zip((out.encoder_attentions, out.decoder_attentions), expected, strict=True):
        assert len(maps) == count
        assert all(weights.shape == shape for weights in maps)
    for weights in out.cross_attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert torch.equal(weights[2, ..., 1:], torch.zeros_like(weights[2, ..., 1:]))  # the last row has one word


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_gives_the_same_gradients(mixer, reentrant, make_model, example):
    model = make_model(encoder_mixer=mixer, decoder_mixer=mixer).train()
    model(**example).loss.backward()
    expected = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model(**example).loss.backward()
    for weight, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, grad, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_resizing_the_vocabulary_resizes_every_table(make_model, example, tied):
    model = make_model(torch.float32, tie_word_embeddings=tied)
    before = model(**example).logits.detach()
    model.resize_token_embeddings(44, mean_resizing=False)
    tables = [model.model.encoder.embed_tokens.weight, model.model.decoder.embed_tokens.weight, model.lm_head.weight]
    assert [table.shape[0] for table in tables] == [44] * 3
    assert len({table.data_ptr() for table in tables}) == (1 if tied else 3)
    torch.testing.assert_close(model(**example).logits[..., :40], before)
    model(input_ids=torch.tensor([[43]]), decoder_input_ids=torch.tensor([[43]]))


def test_accumulated_gradients_equal_those_of_one_batch(make_model, batch, pad):
    model = make_model()
    rows = [(s, t) for s, t in zip(batch["source"], batch["target"], strict=True)]
    count = sum(len(t) for _, t in rows)

    def gradient(parts):
        model.zero_grad()
        for part in parts:
            (source, mask), (target, real) = pad([s for s, _ in part]), pad([t for _, t in part])
            labels = target.masked_fill(real == 0, -100)
            out = model(input_ids=source, attention_mask=mask, labels=labels, num_items_in_batch=count)
            out.loss.backward()
        return [weight.grad.clone() for weight in model.parameters()]

    for one, many in zip(gradient([rows]), gradient([[row] for row in rows]), strict=True):
        torch.testing.assert_close(one, many, atol=1e-12, rtol=1e-9)


def test_padding_gets_no_gradient(make_model, example):
    model = make_model(tie_word_embeddings=False)
    example["input_ids"] = example["input_ids"].masked_fill(example["attention_mask"] == 0, 39)
    model(**example).loss.backward()
    grad = model.model.encoder.embed_tokens.weight.grad
    assert (example["input_ids"][0] != 39).all()  # 39 stands under the mask alone
    assert torch.equal(grad[39], torch.zeros(16, dtype=grad.dtype))
    assert (grad[example["input_ids"][0]].abs().amax(-1) > 0).all()


def test_logits_are_computed_for_the_last_places_alone_when_asked(make_model, example):
    model = make_model()
    labels = example.pop("labels").clamp(min=0)
    whole = model(**example, decoder_input_ids=labels).logits
    assert torch.equal(model(**example, decoder_input_ids=labels, logits_to_keep=2).logits, whole[:, -2:])


def test_assisted_decoding_equals_greedy(mixer, make_model, batch):
    model, helper = make_model(torch.float32, decoder_mixer=mixer), make_model(torch.float32, encoder_mixer="rnn")
    source, settings = batch["source"][0][None], {"max_new_tokens": 12, "do_sample": False}
    greedy = model.generate(source, **settings)
    assert torch.equal(model.generate(source, **settings, prompt_lookup_num_tokens=3), greedy)
    assert torch.equal(model.generate(source, **settings, assistant_model=helper), greedy)


def test_sampling_is_the_same_with_and_without_cache(mixer, make_model, batch):
    model = make_model(torch.float32, decoder_mixer=mixer)
    drawn = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        drawn.append(model.generate(batch["source"][0][None], do_sample=True, max_new_tokens=10, use_cache=use_cache))
    assert torch.equal(*drawn)
    assert len(set(drawn[0][0].tolist())) > 3


def test_a_static_cache_gives_the_same_tokens(on_a_side, make_model, batch, pad):
    model = make_model(torch.float32, **on_a_side)
    source, mask = pad(batch["source"])
    prompt, prompt_mask = pad([batch["target"][0][:2], batch["target"][1][:3], batch["target"][2][:1]], "left")
    prompts = {"decoder_input_ids": prompt, "decoder_attention_mask": prompt_mask}
    for settings in ({}, {"num_beams": 3}, prompts):
        settings = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, **settings}
        static = model.generate(source, cache_implementation="static", **settings)
        assert torch.equal(static, model.generate(source, **settings))


def test_a_cache_made_for_keys_and_values_is_refused_by_a_mixer_with_a_state(make_model, batch):
    model = make_model(torch.float32, decoder_mixer="rnn")
    source = batch["source"][0][None]
    with pytest.raises(ValueError, match="cache_implementation='static'.*decoder_mixer='rnn'"):
        model.generate(source, cache_implementation="static", max_new_tokens=3)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with pytest.raises(TypeError, match=r"make_cache\(config\)"):
        model(input_ids=source, decoder_input_ids=source, past_key_values=cache)
    with pytest.raises(TypeError, match="EncoderDecoderCache, got DynamicCache"):
        model(input_ids=source, decoder_input_ids=source, past_key_values=DynamicCache())


def test_a_cache_follows_its_rows(mixer, make_model, batch):
    """`batch_repeat_interleave`, `batch_select_indices` and `reset` act on states as on keys and values."""
    model = make_model(decoder_mixer=mixer)
    source, target = (
        torch.stack([batch["source"][0]] * 2),
        torch.stack([batch["target"][1], batch["target"][1].flip(0)]),
    )
    full = model(input_ids=source, decoder_input_ids=target).logits
    cache = make_cache(model.config)
    model(input_ids=source, decoder_input_ids=target[:, :3], past_key_values=cache)
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([3, 0]))
    out = model(input_ids=source, decoder_input_ids=target.flip(0)[:, 3:], past_key_values=cache)
    torch.testing.assert_close(out.logits, full.flip(0)[:, 3:])
    cache.reset()
    assert cache.get_seq_length() == 0
    again = model(input_ids=source, decoder_input_ids=target, past_key_values=cache)
    torch.testing.assert_close(again.logits, full)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo looks at inputs
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated")  # dynamo does so
def test_the_compiled_forward_pass_gives_the_same_loss(mixer, make_model, example):
    model = make_model(torch.float32, encoder_mixer=mixer, decoder_mixer=mixer)
    expected = model(**example)
    whole = mixer != "rnn"  # dynamo does not enter torch's own LSTM; what else would break the graph raises
    got = torch.compile(model, backend="eager", fullgraph=whole)(**example)
    torch.testing.assert_close(got.loss, expected.loss)
    torch.testing.assert_close(got.logits, expected.logits)
    torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch compiles uses torch.jit
@pytest.mark.skipif(shutil.which("g++") is None, reason="flex_attention on a CPU is compiled, and there is no g++")
def test_flex_attention_equals_eager_with_a_bias(make_model, example):
    model = make_model(torch.float32, position_encoding="t5")
    expected = model(**example).logits
    model.set_attn_implementation("flex_attention")
    torch.testing.assert_close(model(**example).logits, expected, atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("switches", [{"position_encoding": "alibi"}, {"attention_score": "additive"}])
def test_a_bias_that_an_attention_implementation_would_lose_is_refused(make_model, example, switches):
    AttentionInterface.register("biasless", eager_attention)
    AttentionMaskInterface.register("biasless", sdpa_mask)
    assert make_model(position_encoding="rope")._supports_flash_attn
    model = make_model(**switches)
    assert not model._supports_flash_attn
    model.config._attn_implementation = "biasless"
    with pytest.raises(ValueError, match="biasless.*does not add a bias"):
        model(**example)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_ids": torch.full((3, 7), 40)}, ["input_ids must be from 0 to 39", "got 40"]),
        ({"input_ids": torch.full((3, 7), -1)}, ["got -1"]),
        ({"labels": torch.full((3, 6), 77)}, ["labels must be from 0 to 39", "77"]),
        ({"input_ids": torch.zeros(3, 0, dtype=torch.long)}, ["at least one token", "(3, 0)"]),
        ({"input_ids": torch.zeros(7, dtype=torch.long)}, ["at least one token", "(7,)"]),
        ({"labels": torch.zeros(3, 0, dtype=torch.long)}, ["labels are rows", "(3, 0)"]),
        ({"labels": torch.full((2, 6), 5), "decoder_input_ids": torch.full((3, 4), 5)}, ["(3, 4)", "(2, 6)"]),
        ({"label_smoothing": 2.0}, ["label_smoothing is a share", "2.0"]),
        ({"input_ids": None}, ["neither", "inputs_embeds"]),
        ({"attention_mask": torch.ones(3, 5)}, ["attention_mask", "(3, 7)", "(3, 5)"]),
        ({"attention_mask": torch.ones(3, 1, 7, 7)}, ["attention_mask", "(3, 7)"]),
        ({"labels": None}, ["decoder_input_ids", "labels", "generate()"]),
        ({"input_ids": torch.full((3, 33), 5), "attention_mask": None}, ["knows 32 places", "33 tokens"]),
        ({"labels": torch.full((3, 40), 5)}, ["knows 32 places", "40 tokens"]),
    ],
)
def test_bad_input_is_named_with_its_rule(make_model, example, change, words):
    model = make_model(position_encoding="learned")
    with pytest.raises(ValueError) as error:
        model(**{**example, **change})
    for word in words:
        assert word in str(error.value)


def test_a_misspelt_argument_is_not_swallowed(make_model, example):
    with pytest.raises(TypeError, match="atention_mask"):
        make_model()(input_ids=example["input_ids"], atention_mask=example["attention_mask"], labels=example["labels"])


def test_a_misspelt_argument_is_not_swallowed_beside_the_encoders_output_and_a_cache(make_model, example):
    model = make_model()
    states = model.get_encoder()(example["input_ids"], example["attention_mask"])
    with pytest.raises(TypeError, match="decoder_attention_maks"):
        model(encoder_outputs=states, decoder_input_ids=example["input_ids"], decoder_attention_maks=None)
    from_list = model(encoder_outputs=list(states.to_tuple()), decoder_input_ids=example["input_ids"])
    whole = model(encoder_outputs=states, decoder_input_ids=example["input_ids"])
    assert torch.equal(from_list.logits, whole.logits)


def test_maps_that_an_attention_implementation_does_not_have_are_asked_for_with_a_warning(make_model, example, caplog):
    logging.enable_propagation()
    try:
        out = make_model()(**example, output_attentions=True)
    finally:
        logging.disable_propagation()
    assert out.encoder_attentions == ()
    assert "set_attn_implementation('eager')" in caplog.text


@torch.no_grad()
def test_tables_that_wait_on_a_disk_give_the_same_logits(on_a_side, make_model, with_trees, example, tmp_path):
    model = make_model(torch.float32, tie_word_embeddings=False, **on_a_side)
    model.save_pretrained(tmp_path / "model")
    places = {"model.encoder": "disk", "model.decoder": "disk", "lm_head": "cpu"}
    offloaded = SelfAttnForConditionalGeneration.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk"
    )
    with_trees(offloaded)
    torch.testing.assert_close(offloaded(**example).logits, model(**example).logits, atol=2e-6, rtol=1e-5)


def test_a_bounded_table_counts_places_and_not_padding(make_model):
    model = make_model(position_encoding="learned")
    ids, mask = torch.full((1, 40), 5), torch.ones(1, 40, dtype=torch.long)
    mask[:, :10] = 0
    model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :3])
    mask[:, :10] = 1
    with pytest.raises(ValueError, match="knows 32 places"):
        model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :3])


def test_labels_need_a_start_token(make_config, example):
    model = SelfAttnForConditionalGeneration(make_config(decoder_start_token_id=None))
    with pytest.raises(ValueError, match="decoder_start_token_id is needed"):
        model(**example)


def test_an_open_future_generates_without_cache_and_refuses_one(make_model, batch):
    model = make_model(torch.float32, future_mask=False)
    source = batch["source"][0][None]
    assert model.generate(source, max_new_tokens=3).shape[1] <= 4
    with pytest.raises(ValueError, match="future_mask"):
        model(input_ids=source, decoder_input_ids=source, past_key_values=make_cache(model.config))


@pytest.mark.parametrize("use", ["forward", "labels", "generate"])
def test_a_config_that_asks_for_tuples_gets_them(use, make_model, batch, pad):
    model = make_model(return_dict=False)
    source, mask = pad(batch["source"])
    target, _ = pad(batch["target"])
    if use == "generate":
        wanted = make_model().generate(source, attention_mask=mask, max_new_tokens=4)
        assert torch.equal(model.generate(source, attention_mask=mask, max_new_tokens=4), wanted)
        return
    given = {"input_ids": source, "attention_mask": mask, {"forward": "decoder_input_ids"}.get(use, use): target}
    found = model(**given)
    assert isinstance(found, tuple)
    torch.testing.assert_close(found[0], model(**given, return_dict=True)[0])
