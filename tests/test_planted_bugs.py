"""The tests can fail: each bug below is planted on purpose, and the test that it names must find it.

All of the named tests run in one nested session of pytest, each with its own bug in place. That they pass without it is
what the rest of the test run shows.
"""

import contextlib
import copy
import dataclasses
import io
from pathlib import Path

import pytest
import torch
from transformers import Seq2SeqTrainer
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.data import preparing, sampling
from selfattn_hf.model import (
    attend,
    causal_lm,
    contracts,
    decoding,
    local_attention,
    loss,
    masking,
    modeling_selfattn,
    positions_affinity,
    positions_embed,
    recurrence,
    stacks,
    switches,
    trees,
    window,
)
from selfattn_hf.training import checkpoints, trainer, yaml_files

ROOT = Path(__file__).parent.parent
RULES = "tests/model/test_rules_of_all.py::test_"
BUGS = {}


def found_by(test):
    """Note a bug: a function that plants it by monkeypatching, and the test that must find it, or all of its cases."""

    def note(plant):
        assert test not in BUGS, f"{test} is named by two bugs"
        BUGS[test] = plant
        return plant

    return note


@found_by(f"{RULES}step_by_step_equals_the_full_pass[self_attention-self_attention-rope-token_by_token]")
def the_offset_of_the_cache_is_forgotten(patch):
    count = contracts.Places.count.__func__

    def forgetful(cls, shape, device, padding=None, past=0, visible=None, packed=None):
        places = count(cls, shape, device, padding, past, visible, packed)
        return dataclasses.replace(places, queries=places.queries - past)

    patch.setattr(contracts.Places, "count", classmethod(forgetful))


@found_by(f"{RULES}step_by_step_equals_the_full_pass[window-window-none-split_prefill]")
def a_window_forgets_the_newest_input(patch):
    behind = window.WindowMixer._behind

    def forgetful(self, x, layer):
        result = behind(self, x, layer)
        layer.keys = layer.keys.roll(1, 1)
        return result

    patch.setattr(window.WindowMixer, "_behind", forgetful)


@found_by(f"{RULES}greedy_and_beam_search_agree_with_and_without_cache[rnn-rnn-sinusoidal]")
def beams_keep_the_state_of_their_neighbours(patch):
    patch.setattr(contracts.StateCacheLayer, "reorder_cache", lambda self, beam_idx: None)


@found_by("tests/model/test_decoding.py::test_its_logits_are_those_of_the_whole_text_however_beams_are_reordered[2]")
def a_hypothesis_keeps_the_past_of_its_neighbour(patch):
    patch.setattr(decoding.DecodingState, "reorder_cache", lambda self, beam_idx: None)


@found_by("tests/model/test_decoding.py::test_it_writes_what_the_layers_write[all beams]")
def slots_are_given_up_in_another_order(patch):
    keep = decoding._LayerStep.keep
    patch.setattr(decoding._LayerStep, "keep", lambda self, slots: keep(self, slots.flip(1)))


@found_by(f"{RULES}the_future_never_leaks[self_attention-self_attention-sinusoidal]")
def the_mask_is_off_by_one(patch):
    def off_by_one(**given):
        return create_causal_mask(**given, or_mask_function=lambda row, head, query, key: key == query + 1)

    patch.setattr(masking, "create_causal_mask", off_by_one)


@found_by(f"{RULES}padding_never_matters[self_attention-self_attention-sinusoidal-left]")
def padding_is_not_masked(patch):
    patch.setattr(masking, "create_bidirectional_mask",
                  lambda **given: create_bidirectional_mask(**{**given, "attention_mask": None}))  # fmt: skip


@found_by(f"{RULES}padding_never_matters[rnn-rnn-sinusoidal-right]")
def a_recurrent_network_reads_padding(patch):
    read = recurrence.RecurrentMixer._read
    patch.setattr(recurrence.RecurrentMixer, "_read", lambda self, x, mask: read(self, x, None))


@found_by(f"{RULES}padding_never_matters[window-window-sinusoidal-whole]")
def a_window_reads_padding(patch):
    patch.setattr(window.WindowMixer, "make_mask", staticmethod(lambda *given: None))


@found_by("tests/model/test_citizen.py::test_padding_gets_no_gradient")
def padding_takes_part_in_the_loss(patch):
    patch.setattr(stacks.Stack, "finish", lambda self, x, places, padding: places.lay_out(self.norm(x)))
    patch.setattr(stacks, "pack", lambda padding: None)
    patch.setattr(stacks, "cross_mask", lambda *given: None)


@found_by(f"{RULES}a_row_without_one_source_token_stays_finite_and_leaves_the_others_alone"
          "[self_attention-self_attention-none]")  # fmt: skip
def a_query_that_sees_nothing_reads_something(patch):
    forward = attend.Attend.forward

    def blind(self, query, key, value, mask, bias=None):
        """As `forward`, with a mask that it does not know to be one."""
        interface = attend.ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, attend.eager_attention
        )
        if bias is not None:
            return forward(self, query, key, value, mask, bias)
        context, weights = interface(self, query, key, value, mask, scaling=self.scaling, dropout=0.0)
        return context.flatten(2), weights

    patch.setattr(attend.Attend, "forward", blind)


@found_by(f"{RULES}eager_equals_sdpa[self_attention-self_attention-t5]")
def one_way_of_attention_loses_the_bias(patch):
    eager = attend.eager_attention
    patch.setattr(attend, "eager_attention", lambda *given, **more: eager(*given, **{**more, "position_bias": None}))


@found_by("tests/model/test_local_attention.py::test_it_is_self_attention_under_a_band[none-True-left-sdpa]")
def a_band_is_one_too_wide(patch):
    make_band = local_attention.make_band

    def wide(config, *given):
        config = copy.copy(config)
        object.__setattr__(config, "window_radius", config.window_radius + 1)
        return make_band(config, *given)

    patch.setattr(local_attention, "make_band", wide)


@found_by("tests/model/test_oracles.py::test_t5_buckets_equal_transformers")
def buckets_are_off_by_one(patch):
    bucket = positions_affinity.T5Positions.bucket
    patch.setattr(positions_affinity.T5Positions, "bucket", lambda self, distances: bucket(self, distances + 1))


@found_by("tests/model/test_oracles.py::test_rope_equals_llama")
def rope_turns_backwards(patch):
    rotate = positions_affinity.RotaryPositions.rotate

    def backwards(self, heads, places):
        return rotate(self, heads, dataclasses.replace(places, queries=-places.queries))

    patch.setattr(positions_affinity.RotaryPositions, "rotate", backwards)


@found_by("tests/model/test_oracles.py::test_sinusoidal_equals_the_formula_in_a_loop")
def places_are_counted_from_one(patch):
    counted = positions_embed.counted
    patch.setattr(positions_embed, "counted", lambda places: counted(places) + 1)


@found_by("tests/model/test_citizen.py::test_a_bounded_table_counts_places_and_not_padding")
def a_table_is_clamped(patch):
    counted = positions_embed.counted
    patch.setattr(positions_embed, "counted", lambda places: counted(places).clamp(max=31))


@found_by("tests/model/test_trees.py::test_depth_distance_and_branch_equal_a_walk_from_node_to_node")
def a_distance_in_a_tree_has_no_sign(patch):
    distance = trees.Tree.distance.func
    patch.setattr(trees.Tree, "distance", property(lambda self: distance(self).abs()))


@found_by("tests/model/test_citizen.py::test_accumulated_gradients_equal_those_of_one_batch")
def the_loss_is_a_mean_batch_by_batch(patch):
    plain = loss.sequence_loss
    patch.setattr(modeling_selfattn, "sequence_loss", lambda logits, labels, *given, **more: plain(logits, labels))


@found_by("tests/model/test_oracles.py::test_loss_equals_torch_with_smoothing_and_ignored_labels")
def the_ignored_label_counts(patch):
    patch.setattr(loss, "IGNORED", -101)


@found_by("tests/model/test_head_loss.py::test_loss_and_gradients_equal_those_of_all_logits")
def the_last_rows_of_a_loss_are_forgotten(patch):
    patch.setattr(loss, "head_loss", lambda head, states, labels, *given, **more: loss.sequence_loss(
        head(states[:, :-1]), labels[:, :-1], *given, **more))  # fmt: skip


@found_by("tests/model/test_classification_loss.py::test_the_loss_of_a_language_model_is_that_of_transformers")
def labels_are_not_shifted(patch):
    patch.setattr(causal_lm.nn.functional, "pad", lambda wanted, *given, value=0, **more: torch.nn.functional.pad(
        wanted, (1, 0), value=value))  # fmt: skip


@found_by("tests/data/test_collating.py::test_the_decoder_reads_what_the_model_would_shift_itself")
def the_decoder_reads_what_it_is_to_write(patch):
    patch.setattr(SelfAttnForConditionalGeneration, "prepare_decoder_input_ids_from_labels",
                  lambda self, labels: labels.masked_fill(labels == -100, 0))  # fmt: skip


@found_by("tests/model/test_suitcase.py::test_tied_weights_are_stored_once[True]")
def a_tie_is_lost(patch):
    patch.setattr(SelfAttnForConditionalGeneration, "_tied_weights_keys", {})


@found_by("tests/model/test_config.py::test_a_saved_config_comes_back_equal_and_names_every_class")
def a_folder_names_the_class_alone_that_was_saved(patch):
    patch.setattr(SelfAttnConfig, "_served", lambda self: {"AutoConfig": "configuration_selfattn.SelfAttnConfig"})


@found_by("tests/model/test_config.py::test_an_unknown_field_in_a_saved_config_is_refused")
def a_misspelt_field_is_taken(patch):
    patch.setattr(SelfAttnConfig, "_refuse_unknown", lambda self, given: None)


@found_by("tests/model/test_config.py::test_what_cannot_work_is_refused_with_field_rule_and_way_out")
def a_switch_may_do_nothing(patch):
    patch.setattr(switches, "idle_fields", lambda config: {})


@found_by("tests/model/test_citizen.py::test_bad_input_is_named_with_its_rule")
def ids_are_not_checked(patch):
    patch.setattr(stacks, "check_ids", lambda *given: None)


@found_by("tests/training/test_checkpoints.py::test_every_damage_of_every_file_is_found_by_name")
def a_checkpoint_is_believed(patch):
    patch.setattr(checkpoints, "_sha256", lambda path: "0" * 64)


@found_by("tests/training/test_training_runs.py::test_resumed_equals_never_stopped[length groups]")
def a_resumed_run_begins_with_a_fresh_optimizer(patch):
    patch.setattr(Seq2SeqTrainer, "_load_optimizer_and_scheduler", lambda self, checkpoint: None)


@found_by("tests/training/test_training_runs.py::test_a_loss_that_is_no_number_stops_the_run_at_its_step")
def a_loss_that_is_no_number_is_trained_on(patch):
    patch.setattr(trainer.torch, "isfinite", lambda loss: torch.tensor(True))


@found_by("tests/training/test_yaml_files.py::test_what_surprises_is_refused_by_name")
def a_settings_file_is_read_as_yaml_allows(patch):
    patch.setattr(yaml_files, "_Loader", yaml_files.yaml.SafeLoader)


@found_by("tests/data/test_preparing.py::test_rows_without_text_are_dropped_and_counted_by_reason")
def dropped_rows_are_not_counted(patch):
    patch.setattr(preparing.Preparer, "_drop_or_refuse", lambda self, *given: None)


@found_by("tests/data/test_sampling.py::test_every_row_comes_once_and_no_batch_is_over_the_budget")
def a_batch_is_over_its_budget(patch):
    make = sampling.TokenBudgetBatchSampler.__init__

    def generous(self, lengths, budget, *given, **more):
        make(self, lengths, 2 * budget, *given, **more)

    patch.setattr(sampling.TokenBudgetBatchSampler, "__init__", generous)


class Planter:
    """Plants the bug of every test that runs, and notes how each of them ended."""

    def __init__(self):
        self.ends = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        with pytest.MonkeyPatch.context() as patch:
            self.named(item.nodeid)[1](patch)
            return (yield)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed:
            self.ends.setdefault(self.named(report.nodeid)[0], []).append(report)

    def named(self, nodeid):
        return next((test, plant) for test, plant in BUGS.items() if nodeid == test or nodeid.startswith(f"{test}["))


@pytest.fixture(scope="module")
def ends():
    """Named test -> the reports of its cases, each with the bug in place."""
    planter = Planter()
    arguments = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c",
                 str(ROOT / "setup.cfg")]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*arguments, *(str(ROOT / test) for test in BUGS)], plugins=[planter])
    assert code == pytest.ExitCode.TESTS_FAILED, said.getvalue()
    return planter.ends


@pytest.mark.parametrize("test", BUGS, ids=[plant.__name__ for plant in BUGS.values()])
def test_a_planted_bug_is_found_by_the_test_that_is_named(test, ends):
    assert any(report.failed for report in ends[test]), f"{BUGS[test].__name__} is not found by {test}"


def test_there_are_bugs_of_at_least_sixteen_kinds():
    assert len(BUGS) >= 16
