"""The calibrator node: takes pictures of a robot at rest, keeps them, ends when they are enough."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rehearsals import Rehearsed, rehearse
from sensor_msgs.msg import CompressedImage

from rl_robot.bags.cdr import image_bytes
from rl_robot.bags.pictures import compress
from rl_robot.cli import main
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import image_message, joint_state_message

ROBOT = load_robot("arm")
SECOND = 1_000_000_000
STEP = SECOND // 50
ENOUGH = 10  # of the rehearsed poses: they cover the picture


@pytest.fixture(scope="module")
def rehearsed() -> Rehearsed:
    return rehearse()


class Rig:
    """A robot's drivers, as fast as the node takes what they say."""

    def __init__(self, bench: Any, folder: Path, **parameters: object) -> None:
        self.bench = bench
        self.folder = folder
        self.stamp = SECOND
        self.images = bench.publisher(topics.IMAGE_RAW, camera="camera")
        self.states = bench.publisher(topics.JOINT_STATES)
        self.process = bench.start("calibrator", folder=folder, **parameters)
        for publisher in (self.images, self.states):
            bench.until(lambda one=publisher: one.get_subscription_count() == 1)

    def kept(self) -> int:
        return len(list(self.folder.glob("*.png")))

    def rest(self, joints: np.ndarray, picture: np.ndarray, *, taken: bool = True) -> None:
        """Rest for a second, of stamps, with a picture in it."""
        before = self.kept()
        for step in range(40):  # as many as the node's queue holds, and more
            self.stamp += STEP
            self.states.publish(joint_state_message(ROBOT.arm_joints, self.stamp, joints))
            if step == 30:
                self.images.publish(image_message(picture, self.stamp, "camera_optical_frame"))
        if taken:
            self.bench.until(lambda: self.kept() > before or self.process.poll() is not None)


def test_it_takes_what_is_enough_says_so_and_ends_and_that_calibrates(
    bench: Any, rehearsed: Rehearsed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    rig = Rig(bench, folder, robot="arm", enough=ENOUGH)
    for joints, picture in zip(rehearsed.joints[:ENOUGH], rehearsed.pictures, strict=False):
        rig.rest(joints, picture)
    assert rig.process.wait(timeout=60) == 0
    rows = json.loads((folder / "joints.json").read_text())
    assert len(rows) == rig.kept() == ENOUGH
    np.testing.assert_allclose(list(rows[3]["joints"].values()), rehearsed.joints[3])
    said = bench.log("calibrator")
    assert f"still missing: {ENOUGH - 1} more pictures" in said
    assert "that is enough" in said
    assert main(["calibrate", "all", str(folder), "robot:=arm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["extrinsics"]["camera"]["position"]
    np.testing.assert_allclose(found, ROBOT.cameras[0].position, atol=1e-3)


def test_it_says_why_it_waits_and_keeps_what_it_has_when_stopped(
    bench: Any, rehearsed: Rehearsed, tmp_path: Path
) -> None:
    rig = Rig(bench, tmp_path / "pictures", robot="arm")
    rig.rest(rehearsed.joints[0], rehearsed.pictures[0])
    rig.rest(rehearsed.joints[0], rehearsed.pictures[0], taken=False)
    bench.until(lambda: "waiting: pose seen before" in bench.log("calibrator"))
    rig.rest(rehearsed.joints[1], np.zeros((480, 640, 3), np.uint8), taken=False)
    bench.until(lambda: "waiting: board not found" in bench.log("calibrator"))
    rig.process.send_signal(signal.SIGINT)
    assert rig.process.wait(timeout=60) == 0
    assert cv2.imread(str(tmp_path / "pictures" / "000.png")) is not None
    assert len(json.loads((tmp_path / "pictures" / "joints.json").read_text())) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_it_hears_a_camera_that_speaks_by_best_effort(
    bench: Any, rehearsed: Rehearsed, tmp_path: Path, compressed: bool
) -> None:
    raw = image_bytes(rehearsed.pictures[0], SECOND, "camera")
    kind, name = topics.IMAGE_RAW.type, "camera/image_raw"
    if compressed:
        raw, kind, name = compress(raw, "jpeg"), CompressedImage, f"{name}/compressed"
    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    images = bench.node.create_publisher(kind, name, quality)
    bench.start("calibrator", folder=tmp_path / "pictures")
    kept = tmp_path / "pictures" / "000.png"
    # What is sent by best effort may be lost: a driver goes on speaking too.
    bench.until(kept.exists, doing=lambda: images.publish(raw))
    grey = cv2.cvtColor(rehearsed.pictures[0], cv2.COLOR_RGB2GRAY)
    difference = np.abs(cv2.imread(str(kept), cv2.IMREAD_GRAYSCALE).astype(int) - grey)
    assert difference.mean() < 3.0


def test_a_topic_of_something_else_is_refused(bench: Any, tmp_path: Path) -> None:
    bench.node.create_publisher(topics.JOINT_STATES.type, "camera/image_raw", 1)
    process = bench.start("calibrator", folder=tmp_path / "pictures")
    bench.until(lambda: process.poll() is not None)
    assert process.returncode == 2
    said = bench.log("calibrator")
    assert "Traceback" not in said
    assert "Exception" not in said
    line = said.splitlines()[-1]
    told = "error: /camera/image_raw carries sensor_msgs/msg/JointState, expected sensor_msgs/msg/"
    assert line.startswith(told)


def test_a_folder_that_holds_something_is_refused(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "000.png").write_bytes(b"precious")
    process = bench.start("calibrator", folder=tmp_path / "pictures")
    assert process.wait(timeout=60) == 2
    assert "is not empty: name a new folder" in bench.log("calibrator")
    assert (tmp_path / "pictures" / "000.png").read_bytes() == b"precious"


def test_the_command_calibrates_from_what_a_live_capture_took_until_ctrl_c(
    bench: Any, rehearsed: Rehearsed, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "rl_robot.cli", "calibrate", "intrinsics", "live"]
    command += ["--json", "--keep", str(folder), "--topic", "/front/rgb"]
    images = bench.node.create_publisher(topics.IMAGE_RAW.type, "/front/rgb", 5)
    live = subprocess.Popen(
        command,
        env=os.environ | {"ROS_DOMAIN_ID": str(bench.domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a group of its own, for Ctrl-C
        text=True,
    )
    try:
        bench.until(lambda: images.get_subscription_count() == 1)
        for i, picture in enumerate(rehearsed.pictures[:8], start=1):
            images.publish(image_message(picture, i * SECOND, "camera"))
            bench.until(lambda i=i: len(list(folder.glob("*.png"))) == i)
        os.killpg(live.pid, signal.SIGINT)
        output, _ = live.communicate(timeout=60)
    finally:
        if live.poll() is None:
            os.killpg(live.pid, signal.SIGKILL)
            live.wait()
    assert live.returncode == 0
    assert json.loads(output)["pictures"]["with_board"] == 8
