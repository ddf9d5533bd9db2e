import numpy as np
import pytest

from rl_robot.perception.resize import policy_image


def test_the_whole_view_is_averaged() -> None:
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[:120, :, 0] = 200
    rgb[:, 160:, 2] = 100
    small = policy_image(rgb)
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    assert (small[:31, :, 0] == 200).all()
    assert (small[33:, :, 0] == 0).all()
    assert (small[:, 33:, 2] == 100).all()
    assert small.mean(axis=(0, 1)) == pytest.approx(rgb.mean(axis=(0, 1)), abs=1)


def test_another_size() -> None:
    assert policy_image(np.zeros((48, 64, 3), np.uint8), size=32).shape == (32, 32, 3)


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (0, 10, 3)])
def test_what_is_no_picture_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RGB uint8"):
        policy_image(np.zeros(shape, np.uint8))
