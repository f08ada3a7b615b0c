"""A test that asks for `position` is run for every word of the registry."""

from selfattn_hf.model.positions import POSITIONS


def pytest_generate_tests(metafunc):
    if "position" in metafunc.fixturenames:
        metafunc.parametrize("position", list(POSITIONS))
