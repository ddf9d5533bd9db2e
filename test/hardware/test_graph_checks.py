"""What is found in who hears the controllers' topics, and in pictures."""

from dataclasses import replace

import numpy as np
import pytest

from rl_robot.hardware.findings import FAIL, PASS
from rl_robot.hardware.graph_checks import (
    Calibration,
    Endpoint,
    Picture,
    check_camera,
    check_controllers,
    picture_of,
)
from rl_robot.robots.description import load_robot

ROBOT = load_robot("arm")
CAMERA = ROBOT.cameras[0]
KIND = "trajectory_msgs/msg/JointTrajectory"
ARM, GRIPPER = (interface.topic for interface in ROBOT.interfaces)
HEARD = {ARM: [Endpoint(KIND)], GRIPPER: [Endpoint(KIND)]}
CALIBRATION = Calibration(
    width=CAMERA.width,
    height=CAMERA.height,
    k=(CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0),
    d=CAMERA.distortion,
    frame_id=CAMERA.frame_id,
)


def test_controllers_that_hear_pass() -> None:
    assert check_controllers(ROBOT, HEARD, HEARD).status == PASS


def test_whoever_moves_the_robot_past_the_safety_node_is_found() -> None:
    finding = check_controllers(ROBOT, HEARD, HEARD | {ARM: [Endpoint(KIND)] * 2})
    assert finding.status == FAIL
    assert f"1 more than the safety node publish {ARM}" in finding.wrong


@pytest.mark.parametrize(
    ("gripper", "words"),
    [
        ([], "nobody hears gripper_controller/joint_trajectory"),
        (
            [Endpoint("std_msgs/msg/Float64MultiArray")],
            "is heard as std_msgs/msg/Float64MultiArray",
        ),
        ([Endpoint(KIND), Endpoint(KIND)], "2 nodes hear"),
        ([Endpoint(KIND, latched=True)], "transient local"),
        ([Endpoint(KIND, deadline=0.1)], "a deadline"),
    ],
)
def test_a_controller_that_would_not_hear_is_named(gripper: list[Endpoint], words: str) -> None:
    finding = check_controllers(ROBOT, HEARD | {GRIPPER: gripper}, HEARD)
    assert finding.status == FAIL
    assert words in finding.wrong
    assert "gripper_controller" in finding.wrong


def pictures(**changes: object) -> list[Picture]:
    made = [
        Picture(0.1 * i, 0.1 * i + 0.03, CAMERA.width, CAMERA.height, 90.0, 20.0, i)
        for i in range(12)
    ]
    return [replace(one, **changes) for one in made]  # type: ignore[arg-type]


def late(by: float) -> list[Picture]:
    return [replace(one, stamp=one.stamp - by) for one in pictures()]


def test_pictures_that_a_busy_machine_hears_late_pass() -> None:
    given = [replace(one, received=one.received + 0.4) for one in pictures()[:-1]]
    assert check_camera(CAMERA, [*given, pictures()[-1]], CALIBRATION).status == PASS


def test_a_sound_camera_passes() -> None:
    finding = check_camera(CAMERA, pictures(), CALIBRATION)
    assert finding.status == PASS
    assert finding.figure == "320x240, 10.0 Hz, 30 ms old"


@pytest.mark.parametrize(
    ("given", "calibration", "words"),
    [
        ([], CALIBRATION, "no pictures came on camera/image_raw"),
        (pictures(width=640), CALIBRATION, "pictures are 640x240"),
        (pictures(stamp=0.0), CALIBRATION, "stamps do not rise"),
        (pictures()[::2], CALIBRATION, "5.0 Hz, the YAML says 10"),
        (pictures(received=9.0), CALIBRATION, "stale pictures"),
        (late(0.2), CALIBRATION, "none is less than 0.230 s old"),
        (late(-0.06), CALIBRATION, "its clock is 0.030 s ahead"),
        (pictures(digest=1), CALIBRATION, "frozen"),
        (pictures(mean=0.5, spread=0.3), CALIBRATION, "black"),
        (pictures(), None, "no camera_info"),
        (pictures(), replace(CALIBRATION, width=640), "camera_info is for 640x240"),
        (pictures(), replace(CALIBRATION, frame_id="lens"), "frame lens"),
        (pictures(), replace(CALIBRATION, k=(400.0, *CALIBRATION.k[1:])), "fx is 400"),
        (pictures(), replace(CALIBRATION, d=(0.2, 0.0)), "distortion is"),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(
    given: list[Picture], calibration: Calibration | None, words: str
) -> None:
    finding = check_camera(CAMERA, given, calibration)
    assert finding.status == FAIL
    assert words in f"{finding.wrong} {finding.right}"


def test_pictures_of_a_best_effort_camera_reach_nobody_and_it_is_said() -> None:
    finding = check_camera(CAMERA, [], None, [Endpoint("sensor_msgs/msg/Image", best_effort=True)])
    assert "best effort" in finding.wrong


def test_what_counts_of_a_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 255, 64 * 48 * 3, dtype=np.uint8)
    one = picture_of(1.0, 1.1, noise, (64, 48))
    assert one.digest == picture_of(2.0, 2.1, noise, (64, 48)).digest
    other = noise.copy()
    other[5] ^= 1
    assert one.digest != picture_of(1.0, 1.1, other, (64, 48)).digest
    assert one.mean == pytest.approx(127.0, abs=5.0)
    assert picture_of(0.0, 0.0, np.empty(0, np.uint8), (0, 0)).mean == 0.0
