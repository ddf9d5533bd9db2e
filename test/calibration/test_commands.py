"""The ``rl_robot calibrate`` commands: what they print and write, one line for each mistake."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from known_views import BOARD, LENS, difference
from rehearsals import Rehearsed
from scipy.spatial.transform import Rotation

from rl_robot.calibration.folder import FolderWriter
from rl_robot.calibration.views import transform
from rl_robot.cli import main
from rl_robot.resources import resource_path
from rl_robot.robots.description import load_robot


@pytest.fixture(scope="session")
def pictures(rehearsed: Rehearsed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the calibrator node leaves it; not to be changed."""
    folder = tmp_path_factory.mktemp("calibration") / "pictures"
    writer = FolderWriter(folder, load_robot("arm").arm_joints)
    for stamp, (joints, picture) in enumerate(
        zip(rehearsed.joints, rehearsed.pictures, strict=True), start=1
    ):
        writer.add(stamp, picture, joints)
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The YAML of a user's own robot, whose camera is where its maker said, more or less."""
    text = resource_path("config/robots/arm.yaml").read_text()
    text = text.replace("../../urdf/arm.urdf", "arm.urdf").replace("fx: 500.0", "fx: 790.0")
    text = text.replace("position: [0.18, 0.42, 0.60]", "position: [0.181, 0.42, 0.60]")
    (tmp_path / "mine.yaml").write_text(text)
    shutil.copy(resource_path("urdf/arm.urdf"), tmp_path / "arm.urdf")
    return tmp_path / "mine.yaml"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line with which bad input was refused."""
    capsys.readouterr()
    assert main(["calibrate", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    [line] = told.err.splitlines()
    return line.removeprefix("rl_robot: ")


def test_all_from_a_folder_is_reported_drawn_and_written(
    pictures: Path,
    mine: Path,
    rehearsed: Rehearsed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plot = tmp_path / "plot.png"
    arguments = ["calibrate", "all", str(pictures), f"robot:={mine}", "--plot", str(plot)]
    assert main([*arguments, "--write"]) == 0
    told = capsys.readouterr()
    assert cv2.imread(str(plot)) is not None
    camera = load_robot(str(mine)).cameras[0]
    np.testing.assert_allclose([camera.fx, camera.fy], LENS.values[:2], rtol=0.003)
    millimetres, degrees = difference(camera.pose, rehearsed.camera.pose)
    assert millimetres < 1.0
    assert degrees < 0.1
    assert f"as it was before: {mine}.bak" in told.err
    assert "fx: 790.0" in (tmp_path / "mine.yaml.bak").read_text()
    entry = yaml.safe_load(told.out[told.out.index("cameras:") :])
    written = yaml.safe_load(mine.read_text())["cameras"]["camera"]
    assert entry["cameras"]["camera"].items() <= written.items()
    assert re.search(r"used +20", told.out)
    assert "from where the YAML has the camera" in told.out


def test_intrinsics_need_no_robot_and_come_as_json(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "intrinsics", str(pictures), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["intrinsics"]["fx"] == pytest.approx(LENS.values[0], rel=0.003)
    assert figures["extrinsics"] is None
    assert figures["pictures"]["with_board"] == 20
    assert set(figures["entry"]) == {"width", "height", "fx", "fy", "cx", "cy", "distortion"}


def test_a_camera_on_the_hand_is_placed_in_its_frame(
    pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The same pictures, told the other way round: the base is what moves before the camera."""
    robot = load_robot("arm")
    shutil.copytree(pictures, tmp_path / "hand")
    rows = json.loads((tmp_path / "hand" / "joints.json").read_text())
    from rl_robot.calibration.gathering import hand_of
    from rl_robot.calibration.views import inverse

    hand = hand_of(robot)
    poses = []
    for row in rows:
        pose = inverse(hand(np.array([row["joints"][name] for name in robot.arm_joints])))
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
        poses.append({"file": row["file"], "position": pose[:3, 3].tolist(), "quaternion": turn})
    (tmp_path / "hand" / "joints.json").unlink()
    (tmp_path / "hand" / "poses.json").write_text(json.dumps(poses))
    command = ["calibrate", "all", str(tmp_path / "hand"), "robot:=arm", "--mount", "hand"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["extrinsics"]["camera"]
    pose = transform(
        Rotation.from_quat(found["quaternion"]).as_matrix(), np.array(found["position"])
    )
    assert difference(pose, robot.cameras[0].pose)[0] < 1.0
    assert "no place for a camera on the hand" in refused(capsys, *command[1:], "--write")


def test_intrinsics_that_nobody_measured_are_no_ground_for_extrinsics(
    pictures: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    shutil.copytree(pictures, few, ignore=shutil.ignore_patterns("01?.png"))
    text = mine.read_text().replace("    fx: 790.0", "    calibrated: false\n    fx: 790.0")
    text = text.replace("width: 320", "width: 640").replace("height: 240", "height: 480")
    mine.write_text(text)
    line = refused(capsys, "extrinsics", few, f"robot:={mine}")
    assert "of camera camera were not measured (calibrated: false): calibrate all" in line
    assert main(["calibrate", "intrinsics", str(few), f"robot:={mine}", "--write"]) == 0
    assert not load_robot(str(mine)).cameras[0].calibrated  # where it is nobody measured yet
    assert main(["calibrate", "all", str(few), f"robot:={mine}", "--write"]) == 0
    assert load_robot(str(mine)).cameras[0].calibrated


def test_a_corner_astray_is_counted_in_the_report(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small piece of the board moved by a pixel."""
    shutil.copytree(pictures, tmp_path / "moved")
    path = tmp_path / "moved" / "004.png"
    image = cv2.imread(str(path))
    corners = BOARD.find(image)
    assert corners is not None
    column, row = np.rint(corners.pixels[5]).astype(int)
    around = image[row - 4 : row + 5, column - 4 : column + 5]
    around[:] = np.roll(around, 1, axis=1)
    cv2.imwrite(str(path), image)
    assert main(["calibrate", "intrinsics", str(tmp_path / "moved")]) == 0
    assert re.search(
        r"corners left out, contradicting their picture +1 for the lens", capsys.readouterr().out
    )


def test_the_board_is_written_with_what_to_calibrate_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.pdf"
    assert main(["calibrate", "board", "--pdf", str(path), "--square", "30"]) == 0
    assert path.read_bytes().startswith(b"%PDF")
    assert "--squares 7x5 --square 30 --marker 22.5" in capsys.readouterr().out


def test_squares_of_another_size_are_named(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "all", pictures, "robot:=arm", "--square", "38")
    assert "squares are 36.0" in line
    assert "say --square 36.0, with --marker 27.0" in line


def test_a_board_of_other_squares_is_not_found(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "intrinsics", pictures, "--dictionary", "7X7_50")
    assert line.startswith("no picture shows the board (ChArUco 7x5 squares")
    assert "20 board not found" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all", "none", "robot:=arm"], "there is no bag at none"),
        (["all", "none"], "calibrate all needs the robot"),
        (["all", "none", "robot:=leg"], "unknown robot 'leg'"),
        (["all", "none", "robot:=arm", "--robot", "arm"], "the robot is given twice"),
        (["all", "none", "task:=reach", "robot:=arm"], "the only argument of this form is robot:="),
        (["all", "robot:=arm"], "what to calibrate from?"),
        (["all", "none", "robot:=arm", "--camera", "wrist"], "has no camera wrist"),
        (["intrinsics", "none", "--camera", "wrist"], "say --robot too"),
        (["all", "none", "robot:=arm", "--write"], "belongs to rl_robot: copy it"),
        (["intrinsics", "none", "--write"], "say robot:= with its path"),
        (["all", "none", "robot:=arm", "--frame", "a"], "--frame is for --write"),
        (["all", "none", "robot:=arm", "--poses", "9"], "are for the source live"),
        (["all", "live", "live", "robot:=arm"], "live is given twice"),
        (["all", "live", "robot:=arm", "--poses", "0"], "count of 1 to 200"),
        (["all", "none", "robot:=arm", "--speed", "nan"], "positive number"),
        (["all", "none", "robot:=arm", "--squares", "seven"], "such as 7x5"),
        (["all", "none", "robot:=arm", "--mount", "wall"], "invalid choice: 'wall'"),
        (["extrinsics", "none", "robot:=arm", "--k3"], "--k3"),
        (["all", "none", "robot:=arm", "--plot", "x.doc"], "ends in .png, .svg, .pdf"),
        (["all", "none", "robot:=arm", "--plot", "no/x.png"], "there is no folder no"),
        (["board"], "one of the arguments --png --pdf is required"),
        (["board", "--png", "x.png", "--paper", "a5"], "give one of a4, a3, letter"),
        (["board", "--png", "x.png", "--square", "60"], "does not fit on a4"),
    ],
)
def test_what_could_not_work_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *arguments)
