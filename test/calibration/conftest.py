"""Rendered pictures for all tests of calibration: drawn once."""

from collections.abc import Iterator

import pytest
from rehearsals import Rehearsed, rehearse


@pytest.fixture(scope="session")
def rehearsed() -> Iterator[Rehearsed]:
    """The built-in robot holds a board before a camera with a lens that is known."""
    with rehearse() as made:
        yield made
