"""The world as SDF, held against kinematics and against MuJoCo's model of the same robot."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError
from rl_robot.robots.bodies import SMALLEST_MASS
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.simulation.gazebo.sdf import classic_world
from rl_robot.simulation.world import Block, Mat, Scene, build_model, load_scene

Array = NDArray[np.float64]
CRANE = str(Path(__file__).parents[1] / "robots" / "crane.yaml")
ROBOTS = ("arm", "arm7", "ur5e", "fr3", "iiwa", CRANE)
SCENE = load_scene("table")


def world_of(robot: Robot, scene: Scene = SCENE, **options: object) -> Element:
    world = ElementTree.fromstring(classic_world(robot, scene, **options)).find("world")
    assert world is not None
    return world


def model_of(world: Element, name: str) -> Element:
    (model,) = (m for m in world.findall("model") if m.get("name") == name)
    return model


def numbers(element: Element, path: str) -> Array:
    return np.array([float(text) for text in element.findtext(path, "").split()])


def pose_of(element: Element) -> Array:
    pose = np.eye(4)
    if element.find("pose") is not None:
        values = numbers(element, "pose")
        pose[:3, 3] = values[:3]
        pose[:3, :3] = Rotation.from_euler("xyz", values[3:]).as_matrix()
    return pose


def motion(joint: Element, position: float) -> Array:
    """Return the transform (4, 4) of a joint's child away from where it stands at zero."""
    pose = np.eye(4)
    axis = numbers(joint, "axis/xyz") * position
    if joint.get("type") == "prismatic":
        pose[:3, 3] = axis
    else:
        pose[:3, :3] = Rotation.from_rotvec(axis).as_matrix()
    return pose


def poses_at(model: Element, positions: dict[str, float]) -> dict[str, Array]:
    """Return every link's and frame's pose (4, 4), as a reader of SDF composes them."""
    zero = {link.get("name"): pose_of(link) for link in model.findall("link")}
    joints = {j.findtext("child"): j for j in model.findall("joint")}
    poses: dict[str, Array] = {}

    def pose(link: str) -> Array:
        joint = joints[link]
        parent = joint.findtext("parent")
        if parent == "world":
            return zero[link]
        mounted = np.linalg.inv(zero[parent]) @ zero[link]
        return pose(parent) @ mounted @ motion(joint, positions.get(joint.get("name"), 0.0))

    for name in zero:
        poses[name] = pose(name)
    for frame in model.findall("frame"):
        poses[frame.get("name")] = poses[frame.get("attached_to")] @ pose_of(frame)
    return poses


def mimicked(model: Element, positions: dict[str, float]) -> dict[str, float]:
    """Return positions with those joints added that the plugin is told to couple."""
    coupled = {
        mimic.get("name"): positions[mimic.findtext("joint")]
        * float(mimic.findtext("multiplier", ""))
        + float(mimic.findtext("offset", ""))
        for mimic in model.findall("plugin/mimic")
    }
    return positions | coupled


@settings(max_examples=40)
@given(name=st.sampled_from(ROBOTS), data=st.data())
def test_links_stand_where_kinematics_says_for_any_joint_positions(name, data) -> None:
    robot = load_robot(name)
    model = model_of(world_of(robot), robot.name)
    q = {j.name: data.draw(st.floats(j.lower, j.upper), label=j.name) for j in robot.joints}
    tool = poses_at(model, q)[robot.tool_frame]
    position, rotation = Kinematics(robot).tool_pose([q[name] for name in robot.arm_joints])
    assert np.allclose(tool[:3, 3], position, atol=1e-8)
    assert np.allclose(tool[:3, :3], rotation, atol=1e-7)


@pytest.mark.parametrize("name", ROBOTS)
def test_every_link_of_the_urdf_stands_where_mujoco_has_it(name: str) -> None:
    robot = load_robot(name)
    reference = build_model(robot, SCENE)
    state = mujoco.MjData(reference)
    random = np.random.default_rng(1)
    q = dict(zip(robot.joint_names, random.uniform(robot.lower, robot.upper), strict=True))
    model = model_of(world_of(robot), robot.name)
    q = mimicked(model, q)
    for joint, position in q.items():
        state.qpos[reference.joint(joint).qposadr[0]] = position
    mujoco.mj_kinematics(reference, state)
    poses = poses_at(model, q)
    links = [element.get("name") for element in ElementTree.fromstring(robot.urdf_xml).iter("link")]
    assert set(poses) == {link for link in links if link}
    for link, pose in poses.items():
        body = reference.body(link).id
        assert np.allclose(pose[:3, 3], state.xpos[body], atol=1e-8), link
        assert np.allclose(pose[:3, :3], state.xmat[body].reshape(3, 3), atol=1e-7), link


def mass_matrix_of(model: Element, positions: dict[str, float]) -> tuple[float, Array, Array]:
    """Return the robot's mass, its centre (3,) and its inertia (3, 3) about the base's origin."""
    poses = poses_at(model, positions)
    total, moment, inertia = 0.0, np.zeros(3), np.zeros((3, 3))
    for link in model.findall("link"):
        inertial = link.find("inertial")
        mass = float(inertial.findtext("mass"))
        pose = poses[link.get("name")] @ pose_of(inertial)
        tensor = inertial.find("inertia")
        value = {
            key: float(tensor.findtext(key)) for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
        }
        local = np.array(
            [
                [value["ixx"], value["ixy"], value["ixz"]],
                [value["ixy"], value["iyy"], value["iyz"]],
                [value["ixz"], value["iyz"], value["izz"]],
            ]
        )
        rotation, arm = pose[:3, :3], pose[:3, 3]
        total += mass
        moment += mass * arm
        inertia += rotation @ local @ rotation.T
        inertia += mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return total, moment / total, inertia


@pytest.mark.parametrize("name", ROBOTS)
def test_mass_and_inertia_are_those_of_mujocos_model(name: str) -> None:
    robot = load_robot(name)
    reference = build_model(robot, SCENE)
    state = mujoco.MjData(reference)
    model = model_of(world_of(robot), robot.name)
    q = mimicked(model, dict(robot.home))
    for joint, position in q.items():
        state.qpos[reference.joint(joint).qposadr[0]] = position
    mujoco.mj_kinematics(reference, state)
    total, moment, inertia = 0.0, np.zeros(3), np.zeros((3, 3))
    for body in range(1, reference.nbody):
        if reference.body(body).name in SCENE.objects:
            continue
        mass, arm = reference.body_mass[body], state.xipos[body]
        if mass == SMALLEST_MASS:  # what MuJoCo adds to massless links stands somewhere else
            arm = state.xpos[body]
        rotation = state.ximat[body].reshape(3, 3)
        total += mass
        moment += mass * arm
        inertia += rotation @ np.diag(reference.body_inertia[body]) @ rotation.T
        inertia += mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    mass, centre, tensor = mass_matrix_of(model, q)
    assert mass == pytest.approx(total, rel=1e-9)
    assert np.allclose(centre, moment / total, atol=1e-9)
    assert np.allclose(tensor, inertia, rtol=1e-6, atol=1e-8)


def test_joints_keep_the_limits_that_the_yaml_narrowed(tmp_path: Path) -> None:
    text = Path(load_robot("arm").source).read_text()
    text = text.replace("../../urdf/arm.urdf", str(load_robot("arm").urdf_path))
    narrowed = "elbow: {lower: 0.5, upper: 2.0, effort: 30.0, acceleration"
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("elbow: {acceleration", narrowed))
    model = model_of(world_of(load_robot(str(own))), "arm")
    (elbow,) = (j for j in model.findall("joint") if j.get("name") == "elbow")
    (told,) = (j for j in model.findall("plugin/joint") if j.get("name") == "elbow")
    for element, path in ((elbow, "axis/limit/"), (told, "")):
        limits = [float(element.findtext(path + key)) for key in ("lower", "upper", "effort")]
        assert limits == [0.5, 2.0, 30.0]
    (mimic,) = (j for j in model.findall("joint") if j.get("name") == "right_finger")
    assert float(mimic.findtext("axis/limit/upper")) == 0.0435


def test_the_plugin_is_told_what_it_drives() -> None:
    robot = load_robot("arm")
    (plugin,) = model_of(world_of(robot), "arm").findall("plugin")
    assert plugin.get("filename") == "librl_robot_joints.so"
    assert plugin.findtext("base_link") == "base_link"
    assert tuple(joint.get("name") for joint in plugin.findall("joint")) == robot.joint_names
    (mimic,) = plugin.findall("mimic")
    assert (mimic.get("name"), mimic.findtext("joint")) == ("right_finger", "gripper")
    assert not model_of(world_of(robot, plugin=None), "arm").findall("plugin")


def test_a_continuous_joint_turns_within_the_yamls_limits() -> None:
    robot = load_robot(CRANE)
    (turn,) = (
        j for j in model_of(world_of(robot), robot.name).findall("joint") if j.get("name") == "turn"
    )
    assert turn.get("type") == "revolute"
    assert float(turn.findtext("axis/limit/upper")) == robot.joint("turn").upper


def test_the_robot_is_fixed_weightless_and_touches_all_but_the_table_with_its_base() -> None:
    world = world_of(load_robot("arm"))
    model = model_of(world, "arm")
    (base,) = (j for j in model.findall("joint") if j.get("type") == "fixed")
    assert (base.findtext("parent"), base.findtext("child")) == ("world", "base_link")
    assert {link.findtext("gravity") for link in model.findall("link")} == {"false"}
    bits = {
        collision.get("name"): int(collision.findtext("surface/contact/collide_bitmask"), 0)
        for collision in world.iter("collision")
    }
    base, finger = bits["base_link_0_collision"], bits["left_finger_link_0_collision"]
    assert not bits["table_collision"] & base
    assert bits["table_collision"] & finger
    assert bits["block_collision"] & base


@pytest.mark.parametrize("name", ROBOTS)
def test_no_two_things_of_one_parent_share_a_name(name: str) -> None:
    world = world_of(load_robot(name))
    for parent in world.iter():
        if parent.tag != "plugin":  # what is in there is not SDF's
            names = [child.get("name") for child in parent if child.get("name")]
            assert len(names) == len(set(names)), parent.get("name")


def geometry(element: Element) -> tuple[str, tuple[float, ...]]:
    (shape,) = element.find("geometry")
    return shape.tag, tuple(float(v) for child in shape for v in child.text.split())


def half_sizes(kind: str, values: tuple[float, ...]) -> list[float]:
    """Return an SDF primitive's size as MuJoCo says it."""
    if kind == "box":
        return [value / 2.0 for value in values]
    return [values[0], values[1] / 2.0, 0.0] if kind == "cylinder" else [values[0], 0.0, 0.0]


@pytest.mark.parametrize("name", ["arm", "arm7"])
def test_every_geometry_of_mujocos_robot_is_there_with_its_colour(name: str) -> None:
    robot = load_robot(name)
    reference = build_model(robot, SCENE)
    state = mujoco.MjData(reference)
    mujoco.mj_kinematics(reference, state)  # at zero positions
    expected = []
    for geom in range(reference.ngeom):
        body = reference.body(reference.geom_bodyid[geom]).name
        if body == "world" or body in SCENE.objects:
            continue
        visible = not reference.geom_contype[geom]
        colour = reference.geom_rgba[geom] if visible else []
        expected.append((visible, *reference.geom_size[geom], *state.geom_xpos[geom], *colour))
    found = []
    model = model_of(world_of(robot), robot.name)
    for link in model.findall("link"):
        for tag in ("collision", "visual"):
            for element in link.findall(tag):
                pose = pose_of(link) @ pose_of(element)
                colour = numbers(element, "material/diffuse")
                found.append(
                    (tag == "visual", *half_sizes(*geometry(element)), *pose[:3, 3], *colour)
                )
    assert len(found) == len(expected)
    for one, other in zip(sorted(found), sorted(expected), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_cameras_stand_where_the_calibration_says() -> None:
    robot = load_robot("arm")
    camera = robot.camera("camera")
    model = model_of(world_of(robot), "camera")
    pose = pose_of(model)
    assert np.allclose(pose[:3, 3], camera.position)
    # x forward, y left, z up of Gazebo's camera, in axes of the optical frame
    for axis, column in ((pose[:3, 0], 2), (-pose[:3, 1], 0), (-pose[:3, 2], 1)):
        assert np.allclose(axis, camera.pose[:3, column], atol=1e-9)
    sensor = model.find("link/sensor")
    assert sensor.get("name") == "camera"
    assert float(sensor.findtext("update_rate")) == camera.rate
    fov = float(sensor.findtext("camera/horizontal_fov"))
    assert camera.width / (2.0 * np.tan(fov / 2.0)) == pytest.approx(camera.fx)
    assert sensor.findtext("camera/image/width") == "320"
    assert sensor.find("camera/lens") is None


@pytest.mark.parametrize("change", [{"cx": 150.0}, {"cy": 100.5}, {"fy": 480.0}])
def test_what_the_field_of_view_cannot_say_becomes_intrinsics(change: dict[str, float]) -> None:
    robot = load_robot("arm")
    camera = replace(robot.camera("camera"), **change)
    world = world_of(replace(robot, cameras=(camera,)))
    intrinsics = world.find("model/link/sensor/camera/lens/intrinsics")
    assert [float(intrinsics.findtext(key)) for key in ("fx", "fy", "cx", "cy")] == [
        camera.fx,
        camera.fy,
        camera.cx + 0.5,
        camera.cy + 0.5,
    ]


def test_a_scene_of_several_objects_and_mats_is_all_there() -> None:
    ball = Block(0.05, 0.2, (0.1, 0.2, 0.9), (0.3, 0.1, 0.7))
    scene = replace(
        SCENE,
        objects=SCENE.objects | {"other": ball},
        mats=(*SCENE.mats, Mat((0.1, 0.1), (0.1, 0.2), (1.0, 0.0, 0.0))),
    )
    world = world_of(load_robot("arm"), scene)
    other = model_of(world, "other")
    assert other.find("static") is None
    assert np.allclose(numbers(other, "pose"), [0.3, 0.1, 0.025, 0.0, 0.0, 0.7])
    assert float(other.findtext("link/inertial/mass")) == 0.2
    for key in ("ixx", "iyy", "izz"):
        moment = float(other.findtext(f"link/inertial/inertia/{key}"))
        assert moment == pytest.approx(0.2 * 0.05**2 / 6.0)
    assert geometry(other.find("link/collision")) == ("box", (0.05, 0.05, 0.05))
    table = model_of(world, "table")
    assert table.findtext("static") == "true"
    heights = [
        pose_of(visual)[2, 3] + geometry(visual)[1][2] / 2.0
        for visual in table.findall("link/visual")
    ]
    assert len(heights) == 4
    assert all(low < high for low, high in pairwise(heights))
    assert len(table.findall("link/collision")) == 1  # mats are seen, not felt


def test_light_is_that_of_the_scene() -> None:
    world = world_of(load_robot("arm"))
    assert world.findtext("scene/ambient") == "0.38 0.38 0.38 1"
    assert world.findtext("scene/shadows") == "false"
    lights = world.findall("light")
    assert len(lights) == len(SCENE.lights)
    for element, light in zip(lights, SCENE.lights, strict=True):
        direction = numbers(element, "direction")
        assert np.allclose(np.cross(direction, light.direction), 0.0, atol=1e-9)
        assert direction @ light.direction > 0.0
        assert np.allclose(numbers(element, "diffuse")[:3], light.brightness)


def with_urdf(change: tuple[str, str]) -> Robot:
    robot = load_robot("arm")
    assert change[0] in robot.urdf_xml
    return replace(robot, urdf_xml=robot.urdf_xml.replace(*change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('<box size="0.05 0.13 0.04"/>', '<mesh filename="hand.stl"/>'),
            "link gripper_link: collision: hand.stl can't be simulated here, expected box",
        ),
        (('<box size="0.05 0.13 0.04"/>', ""), "link gripper_link: collision: empty geometry"),
        (('size="0.05 0.13 0.04"', 'size="0.05 0 0.04"'), "a box of 0.05 x 0 x 0.04 m"),
        (('radius="0.075"', 'radius="wide"'), "radius: 'wide' must be a finite number"),
        (('<mass value="4"/>', ""), "link base_link: mass value"),
        (('rgba="0.88 0.89 0.91 1"', 'rgba="red"'), "material shell: 'red' must be 4 finite"),
        (('name="gripper_mount" type="fixed"', 'name="gripper_mount" type="planar"'), "is planar"),
        (('"elbow"', '"tool"'), "tool: Gazebo needs a name that nothing"),
        (('"wrist_2_link"', '"wrist 2"'), "'wrist 2': Gazebo needs a name of letters"),
    ],
)
def test_what_gazebo_cannot_be_told_is_named(change, message) -> None:
    with pytest.raises(UserError, match=message):
        classic_world(with_urdf(change), SCENE)


def test_a_link_that_can_be_touched_needs_a_mass() -> None:
    robot = load_robot("arm")
    root = ElementTree.fromstring(robot.urdf_xml)
    link = root.find("link")
    link.remove(link.find("inertial"))
    with pytest.raises(UserError, match="link base_link can be touched"):
        classic_world(replace(robot, urdf_xml=ElementTree.tostring(root, "unicode")), SCENE)


@pytest.mark.parametrize(
    ("name", "message"),
    [("arm", "arm: Gazebo needs a name that"), ("camera", "camera: "), ("a::b", "'a::b': Gazebo")],
)
def test_models_need_names_of_their_own(name: str, message: str) -> None:
    scene = replace(SCENE, objects={name: SCENE.objects["block"]})
    with pytest.raises(UserError, match=message):
        classic_world(load_robot("arm"), scene)


@pytest.mark.parametrize("step", [0.0, -0.001, float("nan"), 1.0])
def test_a_physics_step_that_cannot_be_is_refused(step: float) -> None:
    with pytest.raises(UserError, match="physics step"):
        classic_world(load_robot("arm"), SCENE, physics_step=step)


def test_a_robot_without_visual_geometry_is_seen_by_what_can_be_touched() -> None:
    model = model_of(world_of(load_robot(CRANE)), "crane")
    visuals = [geometry(visual) for visual in model.iter("visual")]
    assert visuals == [geometry(collision) for collision in model.iter("collision")]
    assert visuals
