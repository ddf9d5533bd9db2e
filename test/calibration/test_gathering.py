"""Pictures and robot poses from bags and folders, of ours and anyone's, whole and damaged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foreign import Said, write_mcap, write_rosbag2
from known_views import BOARD
from rosbags.rosbag2 import StoragePlugin

from rl_robot.bags.cdr import image_bytes, joint_state_bytes
from rl_robot.bags.pictures import COMPRESSED_IMAGE, IMAGE, compress
from rl_robot.calibration.gathering import Gathered, Topics, gather, hand_of
from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot

ROBOT = load_robot("arm")
SECOND = 1_000_000_000
JOINT_STATE = "sensor_msgs/msg/JointState"
POSES = [ROBOT.home_positions[:6] + 0.2 * i for i in range(3)]


def page(shift: int = 0) -> np.ndarray:
    image = np.full((240, 320, 3), 255, np.uint8)
    image[20:170, 20 + shift : 230 + shift] = BOARD.drawn(30)[..., None]
    return image


def recorded(
    *, topic: str = "/camera/image_raw", kind: str = "", states: str = "/joint_states"
) -> list[Said]:
    """A robot that moves for a second, then rests for two, in each pose; pictures at 5 Hz."""
    messages = []
    began = 1000 * SECOND
    last = POSES[0] - 0.2
    for i, pose in enumerate(POSES):
        start = began + 3 * i * SECOND
        for step in range(150):
            part = min(1.0, step / 50)
            stamp = start + step * SECOND // 50
            raw = joint_state_bytes(ROBOT.arm_joints, stamp, last + part * (pose - last))
            messages.append(Said(states, JOINT_STATE, stamp + 1000, raw))
            if step % 10 == 5:
                image = image_bytes(page(10 * i), stamp, "camera")
                said = compress(image, "png") if kind == COMPRESSED_IMAGE else image
                messages.append(Said(topic, kind or IMAGE, stamp + 20_000_000, said))
        last = pose
    return sorted(messages, key=lambda message: message.log_ns)


def read(place: Path, **options: Any) -> Gathered:
    asked: dict[str, Any] = {
        "topics": Topics("camera/image_raw"),
        "camera_asked": False,
        "speed": 0.01,
        "with_robot": True,
    }
    return gather([str(place)], BOARD, ROBOT, **asked | options)


def check(found: Gathered) -> None:
    assert found.size == (320, 240)
    assert len(found.views) == 3
    hand = hand_of(ROBOT)
    for view, pose in zip(found.views, POSES, strict=True):
        np.testing.assert_allclose(view.hand, hand(pose), atol=1e-6)
        assert len(view.corners.ids) == 24
    assert found.refused["robot in motion"] > 0
    assert found.refused["pose seen before"] > 0


def test_pictures_at_rest_are_used_each_pose_once(tmp_path: Path) -> None:
    check(read(write_mcap(tmp_path / "bag.mcap", recorded())))


def test_compressed_pictures_of_a_database_are_used_too(tmp_path: Path) -> None:
    topic = "/camera/image_raw/compressed"
    messages = recorded(topic=topic, kind=COMPRESSED_IMAGE)
    check(read(write_rosbag2(tmp_path / "bag", messages, storage=StoragePlugin.SQLITE3)))


def test_topics_of_other_names_are_said(tmp_path: Path) -> None:
    messages = recorded(topic="/front/rgb", states="/left/joint_states")
    bag = write_mcap(tmp_path / "bag.mcap", messages)
    check(read(bag, topics=Topics("front/rgb", "left/joint_states"), camera_asked=True))
    with pytest.raises(UserError, match=r"--joint-states with one of /?left/joint_states"):
        read(bag)
    with pytest.raises(UserError, match=r"pictures on side: say --topic with one of /?front/rgb"):
        read(bag, topics=Topics("side", "left/joint_states"), camera_asked=True)


def test_without_a_robot_a_moving_board_is_enough(tmp_path: Path) -> None:
    bag = write_mcap(tmp_path / "bag.mcap", recorded())
    found = gather(
        [str(bag)],
        BOARD,
        None,
        topics=Topics(),
        camera_asked=False,
        speed=0.01,
        with_robot=False,
    )
    assert len(found.views) == 3
    assert found.views[0].hand is None


def test_a_bag_of_another_robot_is_refused(tmp_path: Path) -> None:
    messages = [
        message._replace(raw=joint_state_bytes(["a", "b"], 1, [0.0, 0.0]))
        if message.type == JOINT_STATE
        else message
        for message in recorded()
    ]
    bag = write_mcap(tmp_path / "bag.mcap", messages)
    with pytest.raises(UserError, match=r"never holds all of shoulder_pan.*a bag of arm"):
        read(bag)


def test_a_damaged_picture_in_a_bag_is_counted_and_named(tmp_path: Path) -> None:
    topic = "/camera/image_raw/compressed"
    messages = recorded(topic=topic, kind=COMPRESSED_IMAGE)
    at = next(
        i
        for i, message in enumerate(messages)
        if message.type == COMPRESSED_IMAGE and message.log_ns > 1001.45 * SECOND
    )
    raw = bytearray(messages[at].raw)
    began = raw.index(b"\x89PNG")
    raw[began : began + 30] = bytes(30)
    messages[at] = messages[at]._replace(raw=bytes(raw))
    found = read(write_mcap(tmp_path / "bag.mcap", messages))
    assert len(found.views) == 3
    assert found.refused["damaged"] == 1
    assert "no PNG or JPEG" in found.damaged[0]


def folder(place: Path, rows: Sequence[dict[str, Any]] | None = None, name: str = "") -> Path:
    place.mkdir()
    for i in range(3):
        cv2.imwrite(str(place / f"{i}.png"), page(10 * i))
    if rows is not None:
        (place / (name or "joints.json")).write_text(json.dumps(rows))
    return place


def joint_rows() -> list[dict[str, Any]]:
    return [
        {"file": f"{i}.png", "joints": dict(zip(ROBOT.arm_joints, pose.tolist(), strict=True))}
        for i, pose in enumerate(POSES)
    ]


def test_a_folder_with_joints(tmp_path: Path) -> None:
    found = read(folder(tmp_path / "pictures", joint_rows()))
    hand = hand_of(ROBOT)
    for view, pose in zip(found.views, POSES, strict=True):
        np.testing.assert_allclose(view.hand, hand(pose))


def test_a_folder_with_joints_as_csv(tmp_path: Path) -> None:
    place = folder(tmp_path / "pictures")
    lines = [",".join(["file", *ROBOT.arm_joints])]
    lines += [",".join([f"{i}.png", *map(str, pose)]) for i, pose in enumerate(POSES)]
    (place / "joints.csv").write_text("\n".join(lines))
    np.testing.assert_allclose(read(place).views[2].hand, hand_of(ROBOT)(POSES[2]))


@pytest.mark.parametrize("as_csv", [False, True])
def test_a_folder_with_poses_needs_no_robot(tmp_path: Path, as_csv: bool) -> None:
    place = folder(tmp_path / "pictures")
    numbers = [0.1, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8]
    if as_csv:
        head = "file,x,y,z,qx,qy,qz,qw"
        rows = [f"{i}.png,{','.join(map(str, numbers))}" for i in range(3)]
        (place / "poses.csv").write_text("\n".join([head, *rows]))
    else:
        said = [
            {"file": f"{i}.png", "position": numbers[:3], "quaternion": numbers[3:]}
            for i in range(3)
        ]
        (place / "poses.json").write_text(json.dumps(said))
    found = gather(
        [str(place)],
        BOARD,
        None,
        topics=Topics(),
        camera_asked=False,
        speed=0.01,
        with_robot=True,
    )
    hand = found.views[0].hand
    assert hand is not None
    np.testing.assert_allclose(hand[:3, 3], numbers[:3])
    np.testing.assert_allclose(hand[:3, 0], [0.28, 0.96, 0.0])


def test_damaged_pictures_and_those_without_a_row_are_named_and_the_rest_used(
    tmp_path: Path,
) -> None:
    place = folder(tmp_path / "pictures", joint_rows())
    (place / "0.png").write_bytes((place / "0.png").read_bytes()[:300])
    (place / "3.jpg").write_bytes(b"no picture")
    (place / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 40)
    rows = [*joint_rows(), joint_rows()[0] | {"file": "4.png"}]
    (place / "joints.json").write_text(json.dumps(rows))
    found = read(place)
    assert [view.name for view in found.views] == ["1.png", "2.png"]
    assert found.refused == {"damaged": 2, "not in the folder's table": 1}
    assert [text.split(":")[0] for text in found.damaged] == ["0.png", "3.jpg", "4.png"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "does not say where the robot was"),
        ("[", "cannot be read"),
        ({"a": 1}, "expected a row for each picture"),
        ([{"file": 3}], "expected a row for each picture"),
        ([{"file": "0.png", "joints": {"elbow": 1.0}}], "shoulder_pan is missing"),
        ([{"file": "0.png", "joints": [1.0]}], "must be positions by name"),
        (
            [{"file": "0.png", "joints": dict.fromkeys(ROBOT.arm_joints, "left")}],
            "'left', it must be a finite number",
        ),
        (
            [{"file": "0.png", "position": [0, 0, 0], "quaternion": [0, 0, 0, 2]}],
            "has length 2, not 1",
        ),
        (
            [{"file": "0.png", "position": [0, 0, "inf"], "quaternion": [0, 0, 0, 1]}],
            "z is 'inf', it must be a finite number",
        ),
    ],
)
def test_a_table_that_cannot_be_is_one_line(tmp_path: Path, rows: Any, said: str) -> None:
    place = folder(tmp_path / "pictures", None if isinstance(rows, str) else rows)
    if isinstance(rows, str):
        (place / "joints.json").write_text(rows)
    with pytest.raises(UserError, match=said) as caught:
        read(place)
    assert "\n" not in str(caught.value)


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "pictures", joint_rows())
    cv2.imwrite(str(place / "1.png"), cv2.resize(page(), (640, 480)))
    with pytest.raises(UserError, match="of 640x480 pixels, those before are of 320x240"):
        read(place)


def test_pictures_of_two_folders_keep_apart_and_one_given_twice_is_refused(tmp_path: Path) -> None:
    places = [folder(tmp_path / name, joint_rows()) for name in ("one", "two")]
    options: dict[str, Any] = {"topics": Topics(), "camera_asked": False, "speed": 0.01}
    found = gather([str(p) for p in places], BOARD, ROBOT, with_robot=True, **options)
    assert len({view.name for view in found.views}) == 6
    with pytest.raises(UserError, match="is given twice"):
        gather([str(places[0])] * 2, BOARD, ROBOT, with_robot=True, **options)


def test_nothing_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no bag at"):
        read(tmp_path / "none")
