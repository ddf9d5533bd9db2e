from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.perception.camera import CameraModel
from rl_robot.robots.description import Camera, load_robot


def camera(distortion: tuple[float, ...] = (0.0,) * 5) -> Camera:
    return replace(load_robot("arm").cameras[0], distortion=distortion)


LENSES = [(0.0,) * 5, (-0.2, 0.05, 0.001, -0.002, 0.0), (0.1, -0.05, 0.0, 0.0)]


@pytest.mark.parametrize("lens", LENSES)
@settings(deadline=None)
@given(u=st.floats(0, 319), v=st.floats(0, 239), reach=st.floats(0.05, 5.0))
def test_a_pixel_s_ray_projects_back_onto_the_pixel(
    lens: tuple[float, ...], u: float, v: float, reach: float
) -> None:
    model = CameraModel(camera(lens))
    origin, directions = model.ray([(u, v)])
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1.0)
    assert model.project(origin + reach * directions)[0] == pytest.approx((u, v), abs=1e-3)


def test_the_optical_axis_meets_the_principal_point() -> None:
    view = camera()
    model = CameraModel(view)
    ahead = np.asarray(view.position) + 0.5 * view.pose[:3, 2]
    assert model.project(ahead)[0] == pytest.approx((view.cx, view.cy))
    # x is to the right in the image, y is down.
    aside = model.project([ahead + 0.01 * view.pose[:3, 0], ahead + 0.01 * view.pose[:3, 1]])
    assert aside[0] == pytest.approx((view.cx + view.fx * 0.02, view.cy))
    assert aside[1] == pytest.approx((view.cx, view.cy + view.fy * 0.02))


def test_points_behind_the_camera_have_no_pixel() -> None:
    view = camera()
    behind = np.asarray(view.position) - 0.5 * view.pose[:3, 2]
    assert np.isnan(CameraModel(view).project(behind)).all()


def test_rays_meet_the_table_where_the_point_was() -> None:
    model = CameraModel(camera())
    point = np.array([[0.37, -0.05, 0.02]])
    assert model.on_plane(model.project(point), 0.02) == pytest.approx(point)


def test_rays_upwards_never_meet_the_table() -> None:
    model = CameraModel(camera())
    assert np.isnan(model.on_plane([(160.0, 120.0)], 5.0)).all()
