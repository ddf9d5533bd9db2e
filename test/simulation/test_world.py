"""Scenes and the MuJoCo models made from them."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import yaml

from rl_robot.errors import UserError
from rl_robot.resources import resource_path
from rl_robot.robots.description import load_robot
from rl_robot.simulation.world import available_scenes, build_model, load_scene


def test_the_table_loads_with_its_block() -> None:
    assert "table" in available_scenes()
    scene = load_scene("table")
    assert scene.objects["block"].size == 0.04
    assert scene.objects["block"].mass == 0.06


def test_the_model_has_the_robots_joints_objects_and_cameras() -> None:
    robot, scene = load_robot("arm"), load_scene("table")
    model = build_model(robot, scene)
    assert tuple(model.actuator(i).name for i in range(model.nu)) == robot.joint_names
    assert model.body_mass[model.body("block").id] == pytest.approx(0.06)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    assert model.opt.timestep == 0.005
    camera = robot.camera("camera")
    assert tuple(model.cam_resolution[model.camera("camera").id]) == (camera.width, camera.height)
    for joint in robot.joints:
        assert np.allclose(model.joint(joint.name).range, [joint.lower, joint.upper])


def test_the_models_links_weigh_what_the_urdf_says() -> None:
    model = build_model(load_robot("arm"), load_scene("table"))
    assert model.body_mass[model.body("upper_arm_link").id] == pytest.approx(2.0)
    assert np.allclose(model.body_mass[model.body("left_finger_link").id], 0.04)


def test_unknown_scenes_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(UserError, match="unknown scene 'desk': give one of table"):
        load_scene("desk")


def _broken(path: Path, change: Any) -> str:
    values = yaml.safe_load(resource_path("config/scenes/table.yaml").read_text())
    change(values)
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: scene.pop("table"),
        lambda scene: scene["table"].update(size=[1.0]),
        lambda scene: scene["objects"]["block"].update(mass=float("nan")),
        lambda scene: scene["objects"]["block"].update(size=-0.04),
        lambda scene: scene.update(lights=None),
        lambda scene: scene.update(camera_noise="much"),
    ],
)
def test_malformed_scenes_are_refused(tmp_path: Path, change: Any) -> None:
    with pytest.raises(UserError, match="malformed scene"):
        load_scene(_broken(tmp_path / "own.yaml", change))


def test_damaged_scene_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("table: [")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_scene(str(tmp_path / "own.yaml"))
