"""What hypothesis draws: few examples in a test run, always the same ones; many in a long run, new each time.

python -m pytest tests/fuzz --hypothesis-profile=long
"""

import pytest

from ..model.conftest import legal_stacks, name_of, tiny_model


def pytest_generate_tests(metafunc):
    if "stacks" in metafunc.fixturenames:
        metafunc.parametrize("stacks", list(legal_stacks()), ids=name_of)


@pytest.fixture(scope="module")
def models():
    """A tiny model of some stacks and a number format, made once."""
    made = {}

    def model(stacks, dtype):
        key = name_of(stacks), dtype
        if key not in made:
            made.clear()  # they are asked for one after the other
            made[key] = tiny_model(dtype, **stacks)
        return made[key]

    return model
