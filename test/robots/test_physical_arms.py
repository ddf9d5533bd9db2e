"""The physical arms that come along agree with themselves, and with what is published of them."""

from xml.etree import ElementTree as ET

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rl_robot.robots.commands import check_simulated
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND, TWIST, VELOCITY
from rl_robot.robots.kinematics import Kinematics
from rl_robot.simulation.world import build_model, load_scene

ARMS = ("ur5e", "fr3", "iiwa")
VARIANTS = ("ur5e_servo", "fr3_gripper_action", "fr3_trajectory")


@pytest.fixture(params=ARMS)
def robot(request: pytest.FixtureRequest) -> Robot:
    return load_robot(request.param)


def test_every_limit_says_where_it_is_from(robot: Robot) -> None:
    assert all(len(joint.source) > 20 for joint in robot.joints)


def test_cameras_wait_for_their_calibration(robot: Robot) -> None:
    assert [camera.calibrated for camera in robot.cameras] == [False]
    assert robot.cameras[0].topic == "camera/color/image_raw"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_the_same_robot_through_other_controllers(name: str) -> None:
    variant, base = load_robot(name), load_robot(name.partition("_")[0])
    assert (variant.name, variant.joints, variant.home) == (base.name, base.joints, base.home)
    assert variant.interfaces != base.interfaces


def test_each_kind_of_controller_is_there() -> None:
    kinds = {name: load_robot(name).interfaces for name in (*ARMS, *VARIANTS)}
    assert kinds["ur5e_servo"][0].mode == TWIST
    assert kinds["fr3"][0].mode == VELOCITY
    assert kinds["fr3_gripper_action"][1].type == GRIPPER_COMMAND
    for name in ("ur5e", "iiwa", "fr3_trajectory"):
        check_simulated(load_robot(name))


def test_nothing_touches_at_home(robot: Robot) -> None:
    """Else the simulated servos push against it; a base that stands still counts too."""
    model = build_model(robot, load_scene("table"))
    data = mujoco.MjData(model)
    for name, position in robot.home.items():
        data.qpos[model.joint(name).qposadr[0]] = position
    mujoco.mj_forward(model, data)
    touching = {model.body(model.geom_bodyid[contact.geom1]).name for contact in data.contact}
    touching |= {model.body(model.geom_bodyid[contact.geom2]).name for contact in data.contact}
    assert touching <= {"world", "block"}


def test_inertias_are_those_of_the_collision_shapes(robot: Robot) -> None:
    checked = 0
    for link in ET.fromstring(robot.urdf_xml).findall("link"):
        inertial, shapes = link.find("inertial"), link.findall("collision")
        assert (inertial is None) == (not shapes), link.get("name")
        if inertial is None:
            continue
        mass = float(_attribute(inertial, "mass", "value"))
        centre, tensor = _composite(mass, shapes)
        np.testing.assert_allclose(_numbers(inertial, "origin", "xyz"), centre, atol=1e-9)
        found = {key: float(_attribute(inertial, "inertia", key)) for key in INERTIA}
        wanted = {key: tensor[place] for key, place in INERTIA.items()}
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9), link.get("name")
        checked += 1
    assert checked >= 8


INERTIA = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}


def _attribute(element: ET.Element, tag: str, name: str) -> str:
    child = element.find(tag)
    assert child is not None
    return child.attrib[name]


def _numbers(element: ET.Element, tag: str, name: str) -> np.ndarray:
    return np.array([float(text) for text in _attribute(element, tag, name).split()])


def _composite(mass: float, shapes: list[ET.Element]) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and tensor about it of shapes of one density, overlaps counted twice."""
    volumes, centres, tensors = [], [], []
    for shape in shapes:
        geometry = shape.find("geometry")
        assert geometry is not None
        turn = Rotation.from_euler("xyz", _numbers(shape, "origin", "rpy")).as_matrix()
        volume, diagonal = _solid(geometry[0])
        volumes.append(volume)
        centres.append(_numbers(shape, "origin", "xyz"))
        tensors.append(turn @ np.diag(diagonal) @ turn.T)
    parts = mass * np.array(volumes) / sum(volumes)
    centre = parts @ np.array(centres) / mass
    tensor = np.zeros((3, 3))
    for part, one, about in zip(parts, centres, tensors, strict=True):
        arm = one - centre
        tensor += part * (about + (arm @ arm) * np.eye(3) - np.outer(arm, arm))
    return centre, tensor


def _solid(shape: ET.Element) -> tuple[float, list[float]]:
    """Return the volume and the inertia per mass."""
    if shape.tag == "box":
        x, y, z = (float(side) for side in shape.attrib["size"].split())
        return x * y * z, [(y**2 + z**2) / 12, (x**2 + z**2) / 12, (x**2 + y**2) / 12]
    assert shape.tag == "cylinder"
    radius, length = float(shape.attrib["radius"]), float(shape.attrib["length"])
    across = (3.0 * radius**2 + length**2) / 12.0
    return np.pi * radius**2 * length, [across, across, radius**2 / 2.0]


# --- against what is published -----------------------------------------------------------------


def test_the_ur5e_reaches_as_far_as_its_parameters_say() -> None:
    """By its Denavit-Hartenberg parameters, stretched out along x at zero."""
    position, rotation = Kinematics(load_robot("ur5e")).tool_pose(np.zeros(6))
    tool = 0.147  # beyond the flange, along the flange's axis: y here
    wanted = [0.425 + 0.3922, 0.1333 + 0.0996 + tool, 0.1625 - 0.0997]
    np.testing.assert_allclose(position, wanted, atol=1e-9)
    np.testing.assert_allclose(rotation[:, 2], [0.0, 1.0, 0.0], atol=1e-9)


def test_the_fr3_stands_as_its_parameters_say() -> None:
    """In the posture in which its driver begins: 0, -45, 0, -135, 0, 90 and 45 degrees."""
    ready = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
    position, rotation = Kinematics(load_robot("fr3")).tool_pose(ready)
    assert rotation[2, 2] == pytest.approx(-1.0)
    # In the plane of x and z: upper arm back and up, the elbow's two offsets, forearm forward,
    # the wrist's offset, flange and hand down.
    back, aside = 0.316 * np.sqrt(0.5), 0.0825 * np.sqrt(0.5)
    x = -0.15 - back + aside + 0.384 + 0.088
    z = 0.333 + back + aside + 0.0825 - 0.107 - 0.1034
    np.testing.assert_allclose(position, [x, 0.0, z], atol=1e-9)


def test_the_iiwa_is_as_high_as_its_axes_say() -> None:
    position, _ = Kinematics(load_robot("iiwa")).tool_pose(np.zeros(7))
    np.testing.assert_allclose(position, [-0.2, 0.0, 0.36 + 0.42 + 0.40 + 0.126], atol=1e-9)


# Upper speeds by position q of the FR3's joints: each min(most, max(0, sqrt(factor * (end - q)) -
# offset)), and the lower ones likewise. The robot computes them, and not each system version alike.
FR3_SPEEDS = {
    # libfranka 0.15, include/franka/rate_limiting.h
    "older": [
        (2.62, 0.30, 12.0, 2.7501, -2.7501),
        (2.62, 0.20, 5.17, 1.7918, -1.7918),
        (2.62, 0.20, 7.00, 2.9065, -2.9065),
        (2.62, 0.30, 8.00, -0.1458, -3.0481),
        (5.26, 0.35, 34.0, 2.8101, -2.8101),
        (4.18, 0.35, 11.0, 4.5205, 0.54092),
        (5.26, 0.35, 34.0, 3.0196, -3.0196),
    ],
    # frankarobotics/docs, source/control-parameters-joint-fr3.csv; factor = 2 * deceleration
    "today's": [
        (2.62, 0.6599, 12.0, 2.9007, -2.9007),
        (2.62, 0.2517, 5.17, 1.8361, -1.8361),
        (2.62, 0.2000, 7.00, 2.9007, -2.9007),
        (2.62, 0.3533, 8.00, -0.1169, -3.0770),
        (5.26, 0.5757, 34.0, 2.8763, -2.8763),
        (4.18, 0.4878, 11.0, 4.6216, 0.4398),
        (5.26, 0.4628, 34.0, 3.0508, -3.0508),
    ],
}


@pytest.mark.parametrize("version", FR3_SPEEDS)
def test_the_fr3s_speeds_are_allowed_wherever_it_may_be(version: str) -> None:
    robot = load_robot("fr3")
    for name, (most, offset, factor, upper, lower) in zip(
        robot.arm_joints, FR3_SPEEDS[version], strict=True
    ):
        joint = robot.joint(name)
        places = np.linspace(joint.lower, joint.upper, 101)
        room = np.minimum(upper - places, places - lower)  # at the nearer end it is slower
        allowed = np.minimum(most, np.sqrt(factor * room) - offset)
        assert np.all(joint.velocity <= allowed + 2e-3), name  # they round to three digits
        assert joint.acceleration <= 10.0
        assert joint.jerk <= 5000.0
