"""transformers' own model tests as test classes: one for each group of heads of each variant."""

import functools
import re
import unittest

from .variants import PEERS, ROWS, VARIANTS, WIDTH, ModelTester, config_of, group_of, models_of

WITHOUT_MAPS = {"rnn", "window"}

# Tests that BART and T5 run and some of our models do not: of which variants, and why.
NOT_HERE = {
    "test_generation_tester_mixin_inheritance": (
        lambda config, group: group != "encoder",
        "no source distribution holds the tests of generate(); tests/model has searches, caches and padding",
    ),
    "test_attention_outputs": (
        lambda config, group: group != "encoder" and mixers_of(config, group) & WITHOUT_MAPS,
        "it wants a map of every layer, and rnn and window have none; tests/model/test_citizen.py counts them",
    ),
    "test_inputs_embeds_matches_input_ids": (
        lambda config, group: group == "seq2seq" and not config.tie_word_embeddings,
        "it gives rows of the encoder's table to the decoder, which has its own",
    ),
    "test_load_with_mismatched_shapes": (
        lambda config, group: group == "encoder",
        "it opens the folder of an encoder by AutoModel, the whole model, and half a model is refused",
    ),
    "test_model_weights_reload_no_missing_tied_weights": (
        lambda config, group: True,
        "it takes all weights out of a folder, and such a folder is refused",
    ),
    "test_keep_in_fp32_modules": (
        lambda config, group: group != "decoder",
        "T5 names layers that stay in float32 beside half precision, and nothing here needs it",
    ),
    "test_keep_in_fp32_modules_exist": (
        lambda config, group: group != "decoder",
        "T5 names layers that stay in float32 beside half precision, and nothing here needs it",
    ),
}
# Tests that take long and do not depend on the stack: only the first variant of a group runs them.
ONCE = {
    r"test_bc_torch_dtype": "an older name of an argument of from_pretrained",
    r"test_eager_matches_sdpa_inference_.*_sdpa_kernels": "which of torch's kernels computes",
    r"test_eager_matches_sdpa_inference_.*_fp16_.*": "bf16 asks the same of masks and biases",
    r"test_eager_matches_sdpa_inference_.*_right_no_attn_mask": "without a mask there is no side",
}


def mixers_of(config, group):
    sides = {"seq2seq": ("encoder", "decoder"), "encoder": ("encoder",), "decoder": ("decoder",)}[group]
    return {mixer for side in sides for mixer in config.mixers_of(side)}


def skips(config, group, is_first, tests):
    """Names of tests that are not run, each with the reason."""
    found = {name: why for name, (where, why) in NOT_HERE.items() if where(config, group)}
    if not is_first:
        found |= {name: why for name in tests for pattern, why in ONCE.items() if re.fullmatch(pattern, name)}
    return found


class NoMaps:
    """For stacks of mixers that compare nothing."""

    def test_retain_grad_hidden_states_attentions(self):
        self.has_attentions = False  # the gradients of the states alone
        super().test_retain_grad_hidden_states_attentions()


class EncoderHeads:
    """For heads on the encoder: a test that asks the config whether there is a decoder is told of one.

    It is the config of the whole model, of which these heads take a part.
    """

    def _prepare_for_class(self, inputs, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs, model_class, return_labels)
        mask = inputs.pop("decoder_attention_mask", None)
        inputs.pop("decoder_input_ids", None)
        return inputs if mask is None else inputs | {"attention_mask": mask}

    def recorded(self):
        """Outputs of every head with all that it records."""
        for model_class in self.all_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            model = model_class._from_config(config, attn_implementation="eager")
            yield model(**inputs, output_hidden_states=True, output_attentions=True)

    def test_hidden_states_output(self):
        for outputs in self.recorded():
            assert [states.shape for states in outputs.hidden_states] == [(ROWS, WIDTH, 16)] * 3

    def test_attention_outputs(self):
        with_maps = [mixer for mixer in self.model_tester.config.mixers_of("encoder") if mixer not in WITHOUT_MAPS]
        for outputs in self.recorded():
            assert [weights.shape for weights in outputs.attentions] == [(ROWS, 4, WIDTH, WIDTH)] * len(with_maps)

    def test_retain_grad_hidden_states_attentions(self):
        for outputs in self.recorded():
            asked = [outputs.hidden_states[0], *outputs.attentions[:1]]
            for tensor in asked:
                tensor.retain_grad()
            outputs[0].flatten()[0].backward()
            assert all(tensor.grad is not None for tensor in asked)


def make_case(common, config, models, first=(), **attributes):
    """A test class.

    Args:
        common: transformers' module of model tests.
        config: of all models.
        models: classes of one group.
        first: classes whose methods come before those of transformers.
        attributes: of the class.
    """
    group = group_of(models[0])

    class Case(*first, common.ModelTesterMixin, unittest.TestCase):
        all_model_classes = models
        is_encoder_decoder = group == "seq2seq"
        additional_model_inputs = ["syntax_heads"]

        def setUp(self):
            common.global_rng.seed(0)
            self.model_tester = ModelTester(config, group)

    for name, value in attributes.items():
        setattr(Case, name, value)
    return Case


def make_cases(common):
    """All test classes, by name. Each knows its `peers`, and its `reasons` for what it does not run."""
    tests = [name for name in dir(common.ModelTesterMixin) if name.startswith("test_")]
    cases = {}
    for group, variants in VARIANTS.items():
        peers = {name: make_case(common, *peer) for name, peer in PEERS[group].items()}
        for number, (name, switches) in enumerate(variants.items()):
            config = config_of(switches, group)
            first = [EncoderHeads] if group == "encoder" else []
            if group != "encoder" and mixers_of(config, group) <= WITHOUT_MAPS:
                first = [NoMaps]
            reasons = skips(config, group, number == 0, tests)
            skipped = {test: unittest.skip(why)(lambda self: None) for test, why in reasons.items()}
            cases[f"{name}_{group}"] = make_case(
                common,
                config,
                models_of(group),
                first,
                # The rule for new models: what is missing in a file is drawn as if the model were fresh.
                test_can_init_all_missing_weights_before_2023=True,
                peers=peers,
                reasons=reasons,
                **skipped,
            )
    return cases


def peers_that_run(case, test):
    """Names of the peers that do not skip a test which `case` skips without a reason of ours."""
    return [] if test in case.reasons else [name for name, peer in case.peers.items() if runs(peer, test)]


@functools.cache
def runs(case, test):
    result = unittest.TestResult()
    case(test).run(result)
    return not result.skipped
