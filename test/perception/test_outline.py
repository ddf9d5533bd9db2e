import cv2
import numpy as np
import pytest

from rl_robot.perception.outline import outline_points


def disc(radius: float, blur: float) -> np.ndarray:
    """A disc's strength (64, 64), its middle between four pixels."""
    v, u = np.mgrid[0:640, 0:640] / 10 - 0.45
    fine = (np.hypot(u - 31.5, v - 31.5) < radius).astype(np.float32) * 200
    coarse = cv2.resize(fine, (64, 64), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(coarse, (0, 0), blur) if blur else coarse)


@pytest.mark.parametrize("blur", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("threshold", [60, 100, 140])
def test_the_border_is_where_the_disc_ends_wherever_the_region_is_cut(
    blur: float, threshold: int
) -> None:
    strength = disc(20.3, blur)
    points, _ = outline_points(strength > threshold, strength, np.ones((64, 64), bool))
    radii = np.hypot(*(points - 31.5).T)
    assert len(points) > 100
    assert radii.mean() == pytest.approx(20.3, abs=0.1)
    assert np.abs(radii - 20.3).max() < 0.8


def test_points_say_what_lies_outside() -> None:
    strength = disc(12.0, 0.0)
    beside = np.zeros((64, 64), bool)
    beside[:, :32] = True
    points, flags = outline_points(strength > 100, strength, beside)
    assert (flags == (points[:, 0] < 31.5)).all()


def test_no_region_no_points() -> None:
    nothing = np.zeros((20, 20), bool)
    points, flags = outline_points(nothing, np.zeros((20, 20), np.float32), nothing)
    assert points.shape == (0, 2)
    assert flags.shape == (0,)
