"""What transformers' own tests need around them."""

import pytest
import transformers
from transformers.utils import logging

from selfattn_hf import MODELS, SelfAttnConfig

from .cases import peers_that_run

MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")


def pytest_configure(config):
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: transformers' own")


@pytest.fixture(autouse=True, scope="module")
def known_by_name():
    """The tests decide by tables of names what a class is, and no public call writes to these tables."""
    with pytest.MonkeyPatch.context() as patch:
        for model in MODELS:
            names = getattr(transformers, model._auto_class)._model_mapping._model_mapping
            patch.setitem(names, SelfAttnConfig.model_type, model.__name__)
        without_head = tuple(model.__name__ for model in MODELS if "For" not in model.__name__)
        patch.setitem(transformers.AutoModel._model_mapping._model_mapping, SelfAttnConfig.model_type, without_head)
        yield


@pytest.fixture(autouse=True, scope="module")
def warned_of_again():
    """What transformers warns of once in a process, it warns of again in the tests that come after these."""
    yield
    logging.warning_once.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that is skipped here without a reason of ours, and that a peer runs, has failed."""
    report = yield
    if report.skipped and hasattr(item.cls, "peers") and (peers := peers_that_run(item.cls, item.name)):
        report.outcome, report.longrepr = "failed", f"skipped, and {' and '.join(peers)} run it: {report.longrepr}"
    return report
