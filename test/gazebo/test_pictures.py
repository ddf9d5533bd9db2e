"""What Gazebo's camera shows of a scene beside MuJoCo's: calibration, places, colours, light."""

from dataclasses import replace

import numpy as np
import pytest

from rl_robot.robots.description import Robot, load_robot
from rl_robot.simulation.simulators import GAZEBO, MUJOCO, make_simulation
from rl_robot.simulation.world import load_scene

PERIOD = 0.1  # s
SCENE = replace(load_scene("table"), camera_noise=0.0)


def picture(simulator: str, robot: Robot, block: tuple[float, float, float]) -> np.ndarray:
    simulation = make_simulation(simulator, robot, SCENE, seed=0, picture_period=PERIOD)
    try:
        simulation.reset({"block": block})
        simulation.advance(PERIOD)
        return simulation.render("camera").astype(int)
    finally:
        simulation.close()


@pytest.mark.parametrize(
    ("robot_name", "lens"),
    [
        ("arm", {}),
        ("arm7", {}),
        # What only <intrinsics> can say: a principal point aside, pixels that are not square.
        ("arm", {"cx": 140.0, "cy": 100.0, "fy": 450.0}),
    ],
)
def test_gazebos_picture_is_mujocos(installation, robot_name: str, lens: dict[str, float]) -> None:
    robot = load_robot(robot_name)
    robot = replace(robot, cameras=(replace(robot.camera("camera"), **lens),))
    block = (0.43, -0.03, 0.3)
    gazebo, mujoco = (picture(name, robot, block) for name in (GAZEBO, MUJOCO))
    apart = np.abs(gazebo - mujoco).max(axis=-1)
    # Gazebo's edges are smoothed, so what differs is lines one pixel wide.
    assert (apart > 4).mean() < 0.025
    assert apart.mean() < 1.0
    elsewhere = picture(MUJOCO, robot, (0.43, -0.025, 0.3))
    assert np.abs(gazebo - mujoco).sum() < np.abs(gazebo - elsewhere).sum()
