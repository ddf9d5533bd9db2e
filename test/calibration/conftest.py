"""Rendered pictures for all tests of calibration."""

import pytest
from rehearsals import Rehearsed, rehearse


@pytest.fixture(scope="session")
def rehearsed() -> Rehearsed:
    """The built-in robot holds a board before a camera with a lens that is known."""
    return rehearse()
