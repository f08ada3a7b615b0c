"""A set is seen where theory says so, and nowhere else; states are matched word by word."""

import dataclasses

import pytest
import torch

from selfattn_hf import SelfAttnEncoderModel, SelfAttnForCausalLM
from selfattn_hf.insight import pair_of, shuffle_words
from selfattn_hf.insight.order import shuffled_places

ORDER = [3, 0, 5, 2, 4, 1, 7, 6, 8]  # 2 before 1, which hang on one word


def test_without_order_every_word_keeps_its_state(make_model, make_pair):
    model = make_model()
    found = shuffle_words(model, make_pair(model), ORDER)
    assert found.is_set
    assert found.agrees
    assert max(max(layer) for layer in found.state_change) < 1e-12
    assert max(found.output_change) < 1e-12
    assert not any(found.other_choice)


def test_every_mixer_and_position_sees_a_set_where_theory_says_so_alone(
    make_model, make_pair, with_order, mixer, position
):
    try:
        model = make_model(encoder_mixer=mixer, **with_order(position))
    except ValueError:
        pytest.skip(f"{mixer} has no affinities for {position}")
    found = shuffle_words(model, make_pair(model), ORDER)
    assert found.is_set == (mixer == "self_attention" and position in ("none", "tree_depth"))
    assert found.agrees
    assert (found.mean_change[-1] < 1e-9) == found.is_set
    assert (max(found.output_change) < 1e-9) == found.is_set


def test_neighbours_that_are_all_words_are_a_set(make_model, make_pair):
    model = make_model(encoder_mixer=["local_attention", "self_attention", "local_attention"], window_radius=8)
    assert shuffle_words(model, make_pair(model), ORDER).is_set
    assert shuffle_words(model, make_pair(model), ORDER).mean_change[-1] < 1e-12
    assert not shuffle_words(model, make_pair(model, source=10)).is_set


def test_changes_are_those_of_states_and_probabilities_by_hand(make_model, make_pair):
    model = make_model(encoder_mixer="rnn", decoder_mixer="window")
    pair = make_pair(model)
    found = shuffle_words(model, pair, ORDER)
    ids, moved = torch.tensor([pair.source]), torch.tensor([[pair.source[old] for old in ORDER]])
    target = torch.tensor([pair.target])
    with torch.no_grad():
        here, there = (model(input_ids=one, decoder_input_ids=target).logits[0].softmax(-1) for one in (ids, moved))
        states, others = (
            model.get_encoder()(one, output_hidden_states=True).hidden_states[1][0] for one in (ids, moved)
        )
    for place, old in enumerate(ORDER):
        change = (others[place] - states[old]).norm() / states[old].norm()
        assert found.state_change[1][old] == pytest.approx(float(change))
    torch.testing.assert_close(torch.tensor(found.output_change), ((here - there).abs().sum(-1) / 2).float())
    assert found.other_choice == (here.argmax(-1) != there.argmax(-1)).tolist()
    assert found.shuffled_tokens == [pair.source_tokens[old] for old in ORDER]
    assert not any(found.state_change[0])  # nothing tells places apart before the first layer


def test_a_random_order_moves_words_whole_and_leaves_the_end(make_model):
    model = make_model(SelfAttnEncoderModel)
    pair = dataclasses.replace(pair_of(model, list(range(3, 11))), source_words=[0, 0, 1, 2, 2, 2, 3, 4])
    for seed in range(5):
        places = shuffled_places(pair, seed)
        assert sorted(places) == list(range(8))
        assert places[-1] == 7
        assert places != list(range(8))
        assert "0, 1" in str(places) and "3, 4, 5" in str(places)
    assert shuffled_places(pair, 1) == shuffled_places(pair, 1)
    assert shuffled_places(pair_of(model, [5, 2])) == [0, 1]
    found = shuffle_words(model, pair)
    assert found.output_change == []


def test_trees_go_with_their_words(make_model, make_pair):
    model = make_model(encoder_position_encoding=["tree_depth"])
    pair = make_pair(model)
    assert shuffle_words(model, pair, ORDER).mean_change[-1] < 1e-12
    assert shuffle_words(model, pair, ORDER).mean_change[0] == 0


def test_what_cannot_be_shuffled_is_refused(make_model, make_pair):
    model, alone = make_model(), make_model(SelfAttnForCausalLM)
    with pytest.raises(ValueError, match="each of the places 0 to 8 once"):
        shuffle_words(model, make_pair(model), [0, 1, 1])
    with pytest.raises(ValueError, match="has no encoder"):
        shuffle_words(alone, pair_of(alone, target=[4, 5]))
