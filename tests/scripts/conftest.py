"""Scripts as modules, and as people call them."""

import pytest

from ..conftest import load_script


@pytest.fixture(scope="module")
def cli():
    return load_script("_cli")
