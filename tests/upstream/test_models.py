"""transformers' own tests of configs and models, run on this project's.

A test class is a variant of the model and a group of heads, `rnn_encoder` for example. A test that is skipped here and
run by BART or T5 fails, unless cases.py gives a reason.
"""

import unittest

import pytest

from selfattn_hf import SelfAttnConfig

from .cases import make_cases
from .fetching import find, load, report_missing
from .variants import TINY, VARIANTS

folder, missing = find()


def test_the_tests_of_transformers_are_here():
    report_missing(missing)


@pytest.mark.skipif(bool(missing), reason="the tests of transformers are not here")
@pytest.mark.parametrize("switches", [*VARIANTS["seq2seq"].values(), {"is_encoder_decoder": False}], ids=str)
def test_a_config_is_one_of_transformers(switches):
    tester = load(folder, "test_configuration_common").ConfigTester
    tester(unittest.TestCase(), config_class=SelfAttnConfig, **TINY | switches).run_common_tests()


if not missing:
    globals().update(make_cases(load(folder, "test_modeling_common")))
