"""A robot's YAML and URDF: what loads, and every contradiction that is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml

from rl_robot.errors import UserError
from rl_robot.resources import resource_path
from rl_robot.robots.description import Robot, available_robots, load_robot
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, GRIPPER_COMMAND, TWIST_STAMPED

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def arm() -> Robot:
    return load_robot("arm")


def test_arm_loads_with_joints_in_the_conventional_order(arm: Robot) -> None:
    assert arm.joint_names == (*arm.arm_joints, "gripper")
    assert len(arm.arm_joints) == 6
    assert arm.gripper is not None
    assert arm.gripper.open * 2 >= 0.07
    assert np.all(arm.lower < arm.home_positions + 1e-12)
    assert np.all(arm.home_positions <= arm.upper)
    assert [name for interface in arm.interfaces for name in interface.joints] == list(
        arm.joint_names
    )


def test_the_second_arm_is_redundant_and_its_limits_are_binding() -> None:
    arm7 = load_robot("arm7")
    assert len(arm7.arm_joints) == 7
    for joint in arm7.joints:  # the jerk limit decides how long full acceleration takes to build up
        assert joint.acceleration / joint.jerk >= 0.02, joint.name


def test_camera_pose_and_matrix_agree_with_their_parts(arm: Robot) -> None:
    camera = arm.camera("camera")
    assert np.allclose(camera.pose[:3, :3] @ camera.pose[:3, :3].T, np.eye(3))
    assert np.allclose(camera.pose[:3, 3], camera.position)
    assert camera.pose[2, 2] < -0.5  # the optical axis points steeply down
    assert camera.matrix[0, 0] == camera.fx
    assert camera.matrix[1, 2] == camera.cy


def test_every_available_robot_loads() -> None:
    assert "arm" in available_robots()
    for name in available_robots():
        # A variant, robot_controllers.yaml, is the same robot: what was learnt on one is for all.
        assert load_robot(name).name in (name, name.partition("_")[0])


def test_a_users_own_robot_loads_from_its_path() -> None:
    crane = load_robot(str(HERE / "crane.yaml"))
    assert crane.gripper is None
    assert crane.cameras == ()
    assert crane.joint_names == crane.arm_joints == ("travel", "lift", "turn")
    assert crane.joint("travel").velocity == 0.4  # narrowed in the YAML
    assert crane.joint("lift").velocity == 0.5  # the URDF's
    assert (crane.joint("turn").lower, crane.joint("turn").upper) == (-3.0, 3.0)


def test_unknown_names_are_refused_with_the_valid_ones(arm: Robot) -> None:
    with pytest.raises(UserError, match="unknown robot 'amr': give one of arm, arm7"):
        load_robot("amr")
    with pytest.raises(UserError, match="no joint elbo; it has shoulder_pan"):
        arm.joint("elbo")
    with pytest.raises(UserError, match="no camera front; it has camera"):
        arm.camera("front")
    with pytest.raises(UserError, match="no interface legs; it has arm_controller"):
        arm.interface("legs")


@pytest.mark.parametrize(("name", "solid"), [("arm", 10), ("arm7", 11)])
def test_inertias_are_those_of_the_collision_primitives(name: str, solid: int) -> None:
    links = ET.parse(resource_path(f"urdf/{name}.urdf")).getroot().findall("link")
    checked = 0
    for link in links:
        inertial, collision = link.find("inertial"), link.find("collision")
        if inertial is None or collision is None:
            assert inertial is None
            assert collision is None
            continue
        assert _attributes(inertial, "origin") == _attributes(collision, "origin")
        mass = float(_attributes(inertial, "mass")["value"])
        shape = collision.find("geometry")
        assert shape is not None
        expected = mass * _inertia_per_mass(shape[0])
        inertia = {key: float(text) for key, text in _attributes(inertial, "inertia").items()}
        found = [inertia[key] for key in ("ixx", "iyy", "izz")]
        assert np.allclose(found, expected, rtol=1e-6), link.get("name")
        assert inertia["ixy"] == inertia["ixz"] == inertia["iyz"] == 0.0
        checked += 1
    assert checked == solid


def _attributes(element: ET.Element, tag: str) -> dict[str, str]:
    child = element.find(tag)
    assert child is not None
    return child.attrib


def _inertia_per_mass(shape: ET.Element) -> np.ndarray:
    if shape.tag == "box":
        x, y, z = (float(side) for side in shape.attrib["size"].split())
        return np.array([y**2 + z**2, x**2 + z**2, x**2 + y**2]) / 12.0
    assert shape.tag == "cylinder"
    radius, length = float(shape.attrib["radius"]), float(shape.attrib["length"])
    across = (3.0 * radius**2 + length**2) / 12.0
    return np.array([across, across, radius**2 / 2.0])


# --- contradictions --------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def _set(value: Any, *path: str) -> Change:
    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


def _drop(*path: str) -> Change:
    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


def _command_twice(values: dict[str, Any]) -> None:
    values["interfaces"]["gripper_controller"]["joints"] = ["gripper", "elbow"]


def _same_topic(values: dict[str, Any]) -> None:
    topic = values["interfaces"]["arm_controller"]["topic"]
    values["interfaces"]["gripper_controller"]["topic"] = topic


def _interface(path: tuple[str, str], **changes: Any) -> Change:
    def change(values: dict[str, Any]) -> None:
        values[path[0]][path[1]] |= changes

    return change


ARM = ("interfaces", "arm_controller")
GRIPPER = ("interfaces", "gripper_controller")
CAMERA = ("cameras", "camera")

CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "no urdf": (_set("none.urdf", "urdf"), "its urdf .*none.urdf cannot be read"),
    "base frame": (_set("base", "base_frame"), "base_frame is base, but the URDF has only"),
    "base not root": (_set("tool", "base_frame"), "the URDF's root link is base_link"),
    "tool frame": (_set("tol", "tool_frame"), "tool_frame is tol, but the URDF has only"),
    "fixed tool": (_set("camera_link", "tool_frame"), "is not moved by arm joint shoulder_pan"),
    "tool on finger": (_set("left_finger_link", "tool_frame"), "moved by gripper, which is no arm"),
    "extra joint": (
        _set({"acceleration": 1.0, "jerk": 1.0}, "joints", "elbow_2"),
        "elbow_2 is no moving joint of the URDF; it has shoulder_pan",
    ),
    "mimic joint": (
        _set({"acceleration": 1.0, "jerk": 1.0}, "joints", "right_finger"),
        "right_finger is no moving joint",
    ),
    "missing joint": (_drop("joints", "elbow"), "the URDF's joint elbow is missing"),
    "no acceleration": (_drop("joints", "elbow", "acceleration"), "elbow: acceleration is missing"),
    "negative jerk": (_set(-1.0, "joints", "elbow", "jerk"), "jerk is -1, it must be above 0"),
    "wider upper": (_set(9.0, "joints", "elbow", "upper"), "upper 9 is wider than the URDF's 2.75"),
    "wider lower": (_set(-9.0, "joints", "elbow", "lower"), "lower -9 is wider than the URDF's"),
    "faster": (_set(9.0, "joints", "elbow", "velocity"), "velocity 9 is wider"),
    "stronger": (_set(999.0, "joints", "elbow", "effort"), "effort 999 is wider"),
    "empty range": (_set(2.75, "joints", "elbow", "lower"), "lower 2.75 must be below upper 2.75"),
    "no speed": (_set(0.0, "joints", "elbow", "velocity"), "velocity is 0, it must be above 0"),
    "nan": (_set(float("nan"), "joints", "elbow", "acceleration"), "it must be finite"),
    "infinite": (_set(float("inf"), "joint_states", "rate"), "rate is inf, it must be finite"),
    "text": (_set("fast", "joints", "elbow", "velocity"), "velocity is 'fast', it must be a num"),
    "truth": (_set(True, "joints", "elbow", "velocity"), "velocity is True, it must be a number"),
    "misspelled": (_set(1.0, "joints", "elbow", "velocty"), "unknown key velocty; known are"),
    "misspelled top": (_set(1.0, "camera"), "unknown key camera; known are"),
    "no name": (_drop("name"), "name is missing"),
    "list": (_set([1, 2], "joints"), "joints: expected a mapping"),
    "gripper joint": (_set("grip", "gripper", "joint"), "unknown joint grip; joints are"),
    "gripper range": (_set(0.1, "gripper", "open"), "open is 0.1, outside joint gripper's limits"),
    "gripper ends": (_set(0.04, "gripper", "closed"), "closed 0.04 must be below open 0.04"),
    "no home": (_drop("home", "elbow"), "home: elbow is missing"),
    "home joint": (_set(0.0, "home", "knee"), "home: unknown joint knee"),
    "home range": (_set(0.0, "home", "elbow"), "elbow is 0, outside joint elbow's limits"),
    "interface joint": (_set(["grip"], *GRIPPER, "joints"), "unknown joint grip"),
    "commanded twice": (_command_twice, "elbow is commanded twice, by arm_controller and gripper_"),
    "not commanded": (_drop(*GRIPPER), "no interface commands joint gripper"),
    "topic twice": (_same_topic, "is used by more than one interface"),
    "interface type": (_set("std_msgs/msg/String", *GRIPPER, "type"), "type is std_msgs/msg/Str"),
    "interface mode": (_set("velocity", *GRIPPER, "mode"), "mode is velocity, it must be position"),
    "array mode": (
        _interface(ARM, type=FLOAT64_MULTI_ARRAY, mode="effort"),
        "mode is effort, it must be position or velocity",
    ),
    "twist mode": (_interface(ARM, type=TWIST_STAMPED), "mode is position, it must be twist"),
    "no frame": (_interface(ARM, type=TWIST_STAMPED, mode="twist"), "frame is missing"),
    "twist frame": (
        _interface(ARM, type=TWIST_STAMPED, mode="twist", frame="elbow_link"),
        "frame is elbow_link, it must be base_link or tool",
    ),
    "twist of some": (
        _interface(ARM, type=TWIST_STAMPED, mode="twist", frame="tool", joints=["elbow"]),
        "joints are .elbow., a twist moves all of the arm's: .shoulder_pan",
    ),
    "frame without twist": (_interface(ARM, frame="tool"), "unknown key frame; known are"),
    "rate without stream": (_interface(ARM, rate=50.0), "unknown key rate; known are"),
    "rate": (
        _interface(ARM, type=FLOAT64_MULTI_ARRAY, rate=5000.0),
        "rate is 5000, it must be at most 1000 Hz",
    ),
    "stream too slow": (
        _interface(ARM, type=FLOAT64_MULTI_ARRAY, rate=5.0),
        "timeout 0.25 s is too short for a stream of 5 Hz",
    ),
    "lag of positions": (_interface(ARM, lag=0.05), "lag is for velocities and twists"),
    "long lag": (
        _interface(ARM, type=FLOAT64_MULTI_ARRAY, mode="velocity", rate=100.0, lag=1.0),
        "lag is 1, it must be at most 0.3 s",
    ),
    "arm by gripper": (
        _interface(ARM, type=GRIPPER_COMMAND),
        "a GripperCommand's is one: it must be .gripper.",
    ),
    "gripper velocity": (
        _interface(GRIPPER, type=GRIPPER_COMMAND, mode="velocity"),
        "mode is velocity, it must be position",
    ),
    "source": (_set(7, "joints", "source"), "joints: source is 7, it must be text"),
    "calibrated": (_set("no", *CAMERA, "calibrated"), "calibrated is 'no', it must be true or fal"),
    "camera topic": (_set(3, *CAMERA, "topic"), "topic is 3, it must be text"),
    "topic's name": (_set("arm commands", *CAMERA, "topic"), "topic is 'arm commands', it must be"),
    "raw commands": (_interface(ARM, topic="/policy/command"), "is the graph's own: give the cont"),
    "heard and said": (
        _interface(ARM, topic="/joint_states"),
        "topic /joint_states is used by both joint_states and interface arm_controller",
    ),
    "on timeout": (_set("relax", *GRIPPER, "on_timeout"), "on_timeout is relax, it must be hold"),
    "timeout": (_set(0.0, *GRIPPER, "timeout"), "timeout is 0, it must be above 0"),
    "no joints": (_set([], *GRIPPER, "joints"), "it must be a list of names"),
    "camera place": (_set([0.2, 0.42, 0.6], *CAMERA, "position"), "20.0 mm and 0.00 degrees from"),
    "camera turn": (_set([0.0, 0.0, 0.0, 1.0], *CAMERA, "quaternion"), "degrees from the URDF's"),
    "quaternion": (_set([1.0, 1.0, 0.0, 0.0], *CAMERA, "quaternion"), "length 1.414, it must have"),
    "moving camera": (_set("tool", *CAMERA, "frame_id"), "frame_id tool moves"),
    "focal length": (_set(-500.0, *CAMERA, "fx"), "fx is -500, it must be above 0"),
    "centre": (_set(900.0, *CAMERA, "cx"), "lie outside the image"),
    "width": (_set(320.5, *CAMERA, "width"), "width is 320.5, it must be a whole number"),
    "distortion": (_set([0.0], *CAMERA, "distortion"), "it must be a list of 5 numbers"),
}


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_in_one_clear_line(
    tmp_path: Path, change: Change, message: str
) -> None:
    path = tmp_path / "arm.yaml"
    shutil.copy(resource_path("urdf/arm.urdf"), tmp_path / "arm.urdf")
    values = yaml.safe_load(resource_path("config/robots/arm.yaml").read_text())
    values["urdf"] = "arm.urdf"
    path.write_text(yaml.safe_dump(values))
    load_robot(str(path))  # loads as long as nothing is wrong
    change(values)
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message) as caught:
        load_robot(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)  # says which file


# --- what a YAML may say beside that -----------------------------------------------------------


def _load_changed(folder: Path, *changes: Change) -> Robot:
    values = yaml.safe_load(resource_path("config/robots/arm.yaml").read_text())
    values["urdf"] = "package://rl_robot/urdf/arm.urdf"
    for change in changes:
        change(values)
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))
    return load_robot(str(folder / "mine.yaml"))


def test_a_stream_is_as_quick_as_joint_states_unless_the_yaml_says_otherwise(
    tmp_path: Path,
) -> None:
    default = _load_changed(tmp_path, _interface(ARM, type=FLOAT64_MULTI_ARRAY, mode="velocity"))
    arm, gripper = default.interfaces
    assert (arm.mode, arm.streamed, arm.rate) == ("velocity", True, default.joint_state_rate)
    assert (gripper.streamed, gripper.rate) == (False, 0.0)
    quick = _load_changed(
        tmp_path, _interface(ARM, type=TWIST_STAMPED, mode="twist", frame="tool", rate=250.0)
    )
    assert (quick.interfaces[0].frame, quick.interfaces[0].rate) == ("tool", 250.0)


def test_limits_carry_their_sources(tmp_path: Path) -> None:
    assert load_robot("arm").joint("elbow").source == ""
    said = _load_changed(
        tmp_path,
        _set("the data sheet", "joints", "source"),
        _set("measured", "joints", "elbow", "source"),
    )
    assert said.joint("elbow").source == "measured"
    assert said.joint("wrist_1").source == "the data sheet"


def test_a_camera_may_have_a_topic_of_its_own_and_wait_for_its_calibration(tmp_path: Path) -> None:
    camera = load_robot("arm").cameras[0]
    assert (camera.topic, camera.calibrated) == ("camera/image_raw", True)
    changes = (_set("front/color/image_raw", *CAMERA, "topic"), _set(False, *CAMERA, "calibrated"))
    camera = _load_changed(tmp_path, *changes).cameras[0]
    assert (camera.topic, camera.calibrated) == ("front/color/image_raw", False)


def test_a_variant_says_only_what_is_different(tmp_path: Path) -> None:
    shutil.copy(HERE / "crane.yaml", tmp_path)
    shutil.copy(HERE / "crane.urdf", tmp_path)
    (tmp_path / "variants").mkdir()
    variant = tmp_path / "variants" / "quick.yaml"
    states = "joint_states: {topic: joints, rate: 200.0}"
    variant.write_text(f"extends: ../crane.yaml\n{states}\n")
    crane, quick = load_robot(str(tmp_path / "crane.yaml")), load_robot(str(variant))
    assert (quick.joint_state_topic, quick.joint_state_rate) == ("joints", 200.0)
    assert (quick.name, quick.joints, quick.urdf_path) == (
        crane.name,
        crane.joints,
        crane.urdf_path,
    )
    assert quick.source == variant
    second = tmp_path / "second.yaml"
    second.write_text("extends: variants/quick.yaml\nname: other\n")
    other = load_robot(str(second))
    assert (other.name, other.joint_state_rate) == ("other", 200.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: gone.yaml", "gone.yaml, which is no file"),
        ("extends: mine.yaml", "leads back here"),
        ("extends: 3", "extends is 3, it must be text"),
        ("extends: list.yaml", "list.yaml: expected a mapping"),
        ("extends: crane.yaml\nhome: {travel: 9.0}", "mine.yaml: home: lift is missing"),
        ("extends: crane.yaml\nhoem: {}", "unknown key hoem; known are"),
    ],
)
def test_a_variant_of_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    shutil.copy(HERE / "crane.yaml", tmp_path)
    shutil.copy(HERE / "crane.urdf", tmp_path)
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_robot(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["joints: [", "\0", "- 1", "", "name: arm", "\xff"])
def test_damaged_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "arm.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"arm\.yaml"):
        load_robot(str(path))


def test_the_packages_urdf_can_be_named_by_package(tmp_path: Path) -> None:
    values = yaml.safe_load(resource_path("config/robots/arm.yaml").read_text())
    values["urdf"] = "package://rl_robot/urdf/arm.urdf"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    robot = load_robot(str(tmp_path / "mine.yaml"))
    assert robot.urdf_path == resource_path("urdf/arm.urdf")


def test_a_continuous_joint_needs_limits_in_the_yaml(tmp_path: Path) -> None:
    shutil.copy(HERE / "crane.urdf", tmp_path)
    values = yaml.safe_load((HERE / "crane.yaml").read_text())
    del values["joints"]["turn"]["upper"]
    (tmp_path / "crane.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="turn: the URDF's joint is continuous: give finite"):
        load_robot(str(tmp_path / "crane.yaml"))


DAMAGED_URDFS = {
    "not xml": ("<robot", "not well-formed XML"),
    "not a urdf": ("<model/>", "the root element is <model>"),
    "no link": ("<robot/>", "one tree"),
    "two roots": ("<robot><link name='a'/><link name='b'/></robot>", "one tree"),
    "same link twice": ("<robot><link name='a'/><link name='a'/></robot>", "more than once"),
    "nameless": ("<robot><link/></robot>", "<link> needs a name"),
    "absent link": (
        "<robot><link name='a'/><joint name='j' type='fixed'><parent link='a'/>"
        "<child link='b'/></joint></robot>",
        "joint j names a link b that is absent",
    ),
    "loop": (
        "<robot><link name='a'/><link name='b'/><link name='c'/>"
        "<joint name='j' type='fixed'><parent link='b'/><child link='c'/></joint>"
        "<joint name='k' type='fixed'><parent link='c'/><child link='b'/></joint></robot>",
        "links in a loop",
    ),
    "no parent": (
        "<robot><link name='a'/><joint name='j' type='fixed'/></robot>",
        "joint j: <parent> is missing",
    ),
    "no limit": (
        "<robot><link name='a'/><link name='b'/><joint name='j' type='revolute'>"
        "<parent link='a'/><child link='b'/></joint></robot>",
        "a revolute joint needs a <limit>",
    ),
    "bad limit": (
        "<robot><link name='a'/><link name='b'/><joint name='j' type='revolute'>"
        "<parent link='a'/><child link='b'/><limit lower='low'/></joint></robot>",
        "lower is 'low', it must be a finite number",
    ),
    "bad origin": (
        "<robot><link name='a'/><link name='b'/><joint name='j' type='fixed'>"
        "<parent link='a'/><child link='b'/><origin xyz='1 2'/></joint></robot>",
        "'1 2' must be three finite numbers",
    ),
}


@pytest.mark.parametrize(("xml", "message"), DAMAGED_URDFS.values(), ids=DAMAGED_URDFS)
def test_damaged_urdfs_are_refused(tmp_path: Path, xml: str, message: str) -> None:
    shutil.copy(HERE / "crane.yaml", tmp_path)
    (tmp_path / "crane.urdf").write_text(xml)
    with pytest.raises(UserError, match=message):
        load_robot(str(tmp_path / "crane.yaml"))
