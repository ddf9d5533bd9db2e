"""Real nodes over real DDS, each test in a ROS domain of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import Bench, open_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as made:
        yield made
