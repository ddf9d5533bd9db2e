"""The entry in the robot's YAML: only its lines change, and nothing is lost."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rl_robot.calibration.entry import camera_values, entry_text, write_entry
from rl_robot.calibration.views import Lens
from rl_robot.errors import UserError
from rl_robot.resources import resource_path
from rl_robot.robots.description import Robot, load_robot

LENS = Lens(640, 480, (800.5, 801.25, 321.0, 238.5, -0.1, 1e-6, 0.001, 0.0, 0.0))


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    """A robot of the user's own."""
    text = resource_path("config/robots/arm.yaml").read_text()
    text = text.replace("../../urdf/arm.urdf", "arm.urdf")
    (tmp_path / "mine.yaml").write_text(text)
    shutil.copy(resource_path("urdf/arm.urdf"), tmp_path / "arm.urdf")
    return load_robot(str(tmp_path / "mine.yaml"))


def moved(robot: Robot, metres: float) -> dict[str, Any]:
    pose = robot.cameras[0].pose.copy()
    pose[0, 3] += metres
    return camera_values(LENS, pose)


def test_the_entry_is_yaml_that_says_the_values(robot: Robot) -> None:
    values = moved(robot, 0.001)
    assert yaml.safe_load(entry_text("camera", values)) == {"cameras": {"camera": values}}


def test_only_the_cameras_lines_change_and_the_old_file_is_kept(robot: Robot) -> None:
    before = robot.source.read_text()
    backup = write_entry(robot, "camera", moved(robot, 0.001))
    after = robot.source.read_text()
    assert backup.read_text() == before
    changed = [
        (old, new)
        for old, new in zip(before.splitlines(), after.splitlines(), strict=True)
        if old != new
    ]
    keys = {new.split(":")[0].strip() for _, new in changed}
    assert keys <= {"width", "height", "fx", "fy", "cx", "cy", "distortion", "position"} | {
        "quaternion"
    }
    assert "# plumb_bob: k1, k2, p1, p2, k3" in after
    assert "# x, y, z, w" in after
    camera = load_robot(str(robot.source)).cameras[0]
    assert (camera.width, camera.fx, camera.distortion[1]) == (640, 800.5, 1e-6)
    assert camera.position[0] == pytest.approx(robot.cameras[0].position[0] + 0.001)


def test_ends_of_lines_stay_as_they_are(robot: Robot) -> None:
    before = robot.source.read_bytes().replace(b"\n", b"\r\n")
    robot.source.write_bytes(before)
    write_entry(robot, "camera", moved(robot, 0.001))
    after = robot.source.read_bytes()
    assert after.count(b"\r\n") == after.count(b"\n") == before.count(b"\n")


def test_an_earlier_backup_stays(robot: Robot) -> None:
    first = write_entry(robot, "camera", moved(robot, 0.001))
    kept = first.read_text()
    second = write_entry(robot, "camera", moved(robot, 0.0015))
    assert first != second
    assert first.read_text() == kept


def with_another_camera(robot: Robot) -> Robot:
    """Return the robot with a second camera in its file, before the first."""
    text = robot.source.read_text()
    block = re.search(r"  camera:\n(    .*\n)+", text)
    assert block is not None
    other = block[0].replace("  camera:", "  wrist:", 1)
    robot.source.write_text(text.replace(block[0], f"{other}\n{block[0]}"))
    return load_robot(str(robot.source))


def test_the_right_camera_of_several_is_changed(robot: Robot) -> None:
    write_entry(with_another_camera(robot), "camera", moved(robot, 0.001))
    after = load_robot(str(robot.source))
    assert after.camera("wrist").fx == 500.0
    assert after.camera("camera").fx == 800.5


def test_a_key_that_is_not_there_yet_is_added(robot: Robot) -> None:
    text = re.sub(r"    frame_id: .*\n", "", robot.source.read_text())
    robot.source.write_text(text)
    write_entry(robot, "camera", moved(robot, 0.03) | {"frame_id": "seen_by_calibration"})
    assert load_robot(str(robot.source)).cameras[0].frame_id == "seen_by_calibration"


def test_a_pose_away_from_the_urdfs_frame_is_not_written_and_both_ways_out_work(
    robot: Robot,
) -> None:
    before = robot.source.read_text()
    values = moved(robot, 0.03)
    with pytest.raises(UserError, match=r"not written: .* from the URDF's frame") as caught:
        write_entry(robot, "camera", values)
    assert robot.source.read_text() == before
    assert sorted(path.name for path in robot.source.parent.iterdir()) == ["arm.urdf", "mine.yaml"]
    origin = re.search(r'<origin xyz="[^"]*" rpy="[^"]*"/>', str(caught.value))
    assert origin is not None
    assert "its joint camera_optical" in str(caught.value)
    urdf = robot.source.with_name("arm.urdf")
    text = urdf.read_text()
    head, _, tail = text.partition('<joint name="camera_optical" type="fixed">')
    urdf.write_text(
        f'{head}<joint name="camera_optical" type="fixed">'
        + re.sub(r"<origin [^>]*/>", origin[0], tail, count=1)
    )
    write_entry(robot, "camera", values)
    np.testing.assert_allclose(
        load_robot(str(robot.source)).cameras[0].position, values["position"]
    )
    write_entry(robot, "camera", moved(robot, 0.1) | {"frame_id": "elsewhere"})
    assert load_robot(str(robot.source)).cameras[0].frame_id == "elsewhere"


def test_a_variant_of_another_robot_gets_all_cameras_of_its_own(robot: Robot) -> None:
    """Its file has none: what is said there takes the place of what the other file says."""
    both = with_another_camera(robot)
    text = re.sub(r"(?ms)^cameras:.*?(?=^joint_states)", "", robot.source.read_text())
    variant = robot.source.with_name("variant.yaml")
    variant.write_text(text)
    write_entry(dataclasses.replace(both, source=variant), "camera", moved(robot, 0.001))
    assert variant.read_text().startswith(text.rstrip())
    after = load_robot(str(variant))
    assert after.camera("camera").fx == 800.5
    assert after.camera("camera").rate == robot.cameras[0].rate
    assert after.camera("wrist") == both.camera("wrist")


def test_a_robot_that_comes_with_the_package_is_not_changed() -> None:
    arm = load_robot("arm")
    before = arm.source.read_text()
    with pytest.raises(UserError, match="belongs to rl_robot: copy it"):
        write_entry(arm, "camera", moved(arm, 0.0))
    assert arm.source.read_text() == before


def test_an_entry_that_is_not_written_line_by_line_is_left_as_it_is(robot: Robot) -> None:
    text = robot.source.read_text()
    cameras = yaml.safe_load(text)["cameras"]
    without = re.sub(r"(?ms)^cameras:.*?(?=^joint_states)", "", text)
    # JSON is YAML, too.
    robot.source.write_text(f"{without}\ncameras: {json.dumps(cameras)}\n")
    before = robot.source.read_text()
    with pytest.raises(UserError, match="by hand"):
        write_entry(load_robot(str(robot.source)), "camera", moved(robot, 0.0))
    assert robot.source.read_text() == before


def test_a_value_over_several_lines_is_left_as_it_is(robot: Robot) -> None:
    text = robot.source.read_text().replace(
        "position: [0.18, 0.42, 0.60]", "position:\n      [0.18, 0.42, 0.60]"
    )
    robot.source.write_text(text)
    with pytest.raises(UserError, match="by hand"):
        write_entry(load_robot(str(robot.source)), "camera", moved(robot, 0.001))
    assert robot.source.read_text() == text
