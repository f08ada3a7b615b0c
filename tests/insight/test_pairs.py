"""A pair is what the model reads: start token first, its own answer where no target is given, words of its tokens."""

import dataclasses
import json

import pytest
import torch

from selfattn_hf import SelfAttnEncoderModel, SelfAttnForCausalLM, SelfAttnForSequenceClassification
from selfattn_hf.data import DataSettings, Syntax, Tokenizers, load_splits, train_tokenizers
from selfattn_hf.insight import Probed, load_for_probing, pair_of
from selfattn_hf.insight.passes import stack_of, states_heard, still


def test_a_target_is_read_behind_the_start_token_and_written_one_place_later(make_model):
    model = make_model()
    pair = pair_of(model, [5, 6, 2], [7, 8, 2])
    assert pair.target == [1, 7, 8]
    assert pair.written_tokens == ["7", "8", "2"]
    assert pair.source_words == [0, 1, 2]
    assert json.loads(json.dumps(pair.to_dict())) == dataclasses.asdict(pair)


def test_without_a_target_the_model_answers_greedily(make_model):
    model = make_model(max_position_embeddings=8, decoder_mixer="dense").train()
    pair = pair_of(model, [5, 6, 2])
    logits = model.eval()(input_ids=torch.tensor([pair.source]), decoder_input_ids=torch.tensor([pair.target])).logits
    assert [str(best) for best in logits[0].argmax(-1).tolist()] == pair.written_tokens


def test_a_model_that_answers_stays_in_training(make_model):
    model = make_model(max_position_embeddings=8, decoder_mixer="dense").train()
    pair_of(model, [5, 6, 2])
    assert all(part.training for part in model.modules())


def test_one_stack_alone_has_one_side(make_model):
    alone, encoder = make_model(SelfAttnForCausalLM), make_model(SelfAttnEncoderModel)
    assert pair_of(alone, target=[4, 5, 6]).written_tokens == ["5", "6", ""]
    assert pair_of(encoder, [4, 5]).target == []
    with pytest.raises(ValueError, match="has no encoder"):
        pair_of(alone, [4], [4, 5])
    with pytest.raises(ValueError, match="reads a source, and none was given"):
        pair_of(encoder)
    with pytest.raises(ValueError, match="has no decoder"):
        pair_of(encoder, [4], [5])
    with pytest.raises(ValueError, match="nothing was given"):
        pair_of(alone)
    with pytest.raises(ValueError, match="has no decoder, its stacks are: encoder"):
        stack_of(encoder, "decoder")
    with pytest.raises(ValueError, match="encoder and decoder, got 'both'"):
        stack_of(encoder, "both")


@pytest.mark.parametrize("switches", [{}, {"share_layers": True}, {"norm": "none"}], ids=str)
def test_states_are_those_of_every_layer(make_model, switches):
    model = make_model(**switches)
    encoder, ids = model.get_encoder(), torch.tensor([[5, 6, 7, 2]])
    with still(model), states_heard(encoder) as states:
        last = encoder(ids).last_hidden_state
    assert len(states) == 4
    torch.testing.assert_close(states[0], encoder.embed_tokens(ids) * 4)
    torch.testing.assert_close(last, states[-1] if encoder.norm is None else encoder.norm(states[-1]))
    recorded = encoder(ids, output_hidden_states=True).hidden_states  # of the last layer, its normed states
    for own, other in zip(states[:-1], recorded[:-1], strict=True):
        torch.testing.assert_close(own, other)


@pytest.fixture
def tokenizers(tmp_path):
    (tmp_path / "train.csv").write_text("source,target\nthe old cats,old cat\nthe dogs sleep,dog\n")
    settings = DataSettings(
        dataset=[str(tmp_path / "train.csv")], source_column="source", target_column="target", tokenizer_vocab_size=300
    )
    return train_tokenizers(settings, load_splits(settings)["train"])


@pytest.mark.parametrize("kind", [None, SelfAttnForCausalLM, SelfAttnForSequenceClassification])
def test_a_saved_model_of_any_class_is_loaded_and_reads_texts(make_model, tokenizers, tmp_path, kind):
    kinds = {} if kind is None else {"kind": kind}
    model = make_model(vocab_size=tokenizers.vocab_size, dtype=torch.float32, **kinds)
    model.save_pretrained(tmp_path / "model")
    tokenizers.save(tmp_path / "model")
    probed = load_for_probing(tmp_path / "model")
    assert type(probed.model) is type(model)
    if kind is SelfAttnForCausalLM:
        assert "".join(probed.read(target="the old cats").target_tokens) == "theoldcats</s>"
        return
    pair = probed.read("the old cats", None if kind else "old dog")
    assert pair.source_tokens[-1] == "</s>"
    assert pair.source_words[-1] == 3
    assert pair.source_words == sorted(pair.source_words)
    assert (pair.written_tokens[-1:] == ["</s>"]) == (kind is None)


def test_trees_are_made_as_the_tokenizers_say(make_model, tokenizers):
    model = make_model(vocab_size=tokenizers.vocab_size, encoder_position_encoding="tree_depth", dtype=torch.float32)
    pair = Probed(model, Tokenizers(tokenizers.source, tokenizers.target, Syntax("chain"))).read("old cats", "dog")
    assert pair.heads[-1] == -1
    assert pair.heads[:2] == [0, 0]


def test_a_folder_of_a_class_that_is_not_known_is_refused(make_model, tokenizers, tmp_path):
    model = make_model(vocab_size=tokenizers.vocab_size, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Other"]}))
    with pytest.raises(ValueError, match="names the class 'Other'"):
        load_for_probing(tmp_path)
