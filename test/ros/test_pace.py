"""How time passes."""

import pytest

from rl_robot.errors import UserError
from rl_robot.ros.pace import parse_pace


def test_paced_is_no_factor() -> None:
    assert parse_pace("paced") is None


@pytest.mark.parametrize(("text", "factor"), [("1", 1.0), ("0.5", 0.5), ("20", 20.0)])
def test_a_factor_is_a_number(text: str, factor: float) -> None:
    assert parse_pace(text) == factor


@pytest.mark.parametrize("text", ["", "fast", "0", "-1", "21", "nan", "inf"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="paced"):
        parse_pace(text)
