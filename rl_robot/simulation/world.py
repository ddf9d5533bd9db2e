"""The MuJoCo model of a robot in a scene, made in code from the URDF and a scene description."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError
from rl_robot.resources import resource_files, resource_path
from rl_robot.robots.description import Camera, Joint, Robot
from rl_robot.robots.model import compile_model, robot_spec

Colour = tuple[float, float, float]

# The fingers' servo and the contacts were tuned together: with more solver effort or more
# friction relative to the normal force, the block is thrown out of the closing fingers.
_FINGER_STIFFNESS = 600.0  # N/m
_FINGER_DAMPING = 30.0  # N s/m
_FRICTION = (1.0, 0.005, 0.0001)  # sliding, torsional (m), rolling (m)
_CONTACT_DIMENSION = 4
# What a geared motor's rotor adds to its joint's inertia: kg m^2 for rotation, kg for translation.
_ROTOR_INERTIA = 0.05
_FINGER_ROTOR_INERTIA = 0.1
_SERVO_FREQUENCY = 60.0  # rad/s, natural frequency of the arm's critically damped servos
_TABLE_NAME = "table"
MAT_HALF_THICKNESS = 0.0001  # m; later mats lie on earlier ones, only to be seen
_SCENE_GROUP = 1  # the group of the URDF's visual geometry, which is what cameras see
_BOX, _CAMERA_AXES = mujoco.mjtGeom.mjGEOM_BOX, np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Table:
    """A box whose top is at z = 0: ``centre`` (x, y) and ``size`` (x, y, thickness) in m."""

    centre: tuple[float, float]
    size: tuple[float, float, float]
    colour: Colour


@dataclass(frozen=True)
class Mat:
    """A coloured rectangle on the table: ``centre`` (x, y) and ``size`` (x, y) in m."""

    centre: tuple[float, float]
    size: tuple[float, float]
    colour: Colour


@dataclass(frozen=True)
class Block:
    """A uniformly coloured cube: edge ``size`` in m, ``mass`` in kg, start ``pose`` x, y, yaw."""

    size: float
    mass: float
    colour: Colour
    pose: tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A directional light: ``direction`` (3,) in which it shines, ``brightness`` in 0 to 1."""

    direction: tuple[float, float, float]
    brightness: float


@dataclass(frozen=True)
class Scene:
    """What stands around a robot, and how its cameras see it."""

    table: Table
    mats: tuple[Mat, ...]
    objects: dict[str, Block]
    lights: tuple[Light, ...]
    ambient: float
    background: Colour
    camera_noise: float


def available_scenes() -> list[str]:
    """Names of the scenes that come with the package."""
    return [path.stem for path in resource_files("config/scenes", ".yaml")]


def load_scene(name_or_path: str) -> Scene:
    """Load a scene that comes with the package by name, or one's own by the path of its YAML.

    Raises:
        UserError: unknown scene, or a malformed description.
    """
    path = _scene_file(name_or_path)
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _scene(values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: malformed scene ({error!r}); compare it with table.yaml"
        ) from None


def _scene_file(name_or_path: str) -> Path:
    if name_or_path in available_scenes():
        return resource_path(f"config/scenes/{name_or_path}.yaml")
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    raise UserError(
        f"unknown scene {name_or_path!r}: give one of {', '.join(available_scenes())}, "
        "or the path of a scene's YAML file"
    )


def _scene(values: dict[str, Any]) -> Scene:
    table = values["table"]
    return Scene(
        table=Table(_pair(table["centre"]), _triple(table["size"]), _triple(table["colour"])),
        mats=tuple(
            Mat(_pair(mat["centre"]), _pair(mat["size"]), _triple(mat["colour"]))
            for mat in values["mats"]
        ),
        objects={str(name): _block(block) for name, block in values["objects"].items()},
        lights=tuple(
            Light(_triple(light["direction"]), _number(light["brightness"]))
            for light in values["lights"]
        ),
        ambient=_number(values["ambient"]),
        background=_triple(values["background"]),
        camera_noise=_number(values["camera_noise"]),
    )


def _block(values: dict[str, Any]) -> Block:
    block = Block(
        size=_number(values["size"]),
        mass=_number(values["mass"]),
        colour=_triple(values["colour"]),
        pose=_triple(values["pose"]),
    )
    if block.size <= 0.0 or block.mass <= 0.0:
        raise ValueError("a block's size and mass must be above 0")
    return block


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _numbers(values: Any, count: int) -> list[float]:
    numbers = [_number(value) for value in values]
    if len(numbers) != count:
        raise ValueError(f"{values!r} must be {count} numbers")
    return numbers


def _pair(values: Any) -> tuple[float, float]:
    a, b = _numbers(values, 2)
    return a, b


def _triple(values: Any) -> tuple[float, float, float]:
    a, b, c = _numbers(values, 3)
    return a, b, c


def build_model(
    robot: Robot,
    scene: Scene,
    *,
    physics_step: float = 0.005,
    add: Callable[[mujoco.MjSpec], None] | None = None,
) -> mujoco.MjModel:
    """Return the model of the robot in the scene: one position actuator per commanded joint.

    Actuators carry their joint's name, objects and cameras their own; ``add`` may add more.

    Raises:
        UserError: MuJoCo cannot build the robot's URDF.
    """
    spec = robot_spec(robot)
    _set_options(spec, physics_step)
    _add_scene(spec, scene)
    for camera in robot.cameras:
        _add_camera(spec, camera)
    _prepare_robot(spec, robot, scene)
    if add is not None:
        add(spec)
    inertias = _joint_inertias(compile_model(spec, robot), robot)
    for joint in robot.joints:
        gripper = robot.gripper is not None and joint.name == robot.gripper.joint
        _add_servo(spec, joint, inertias[joint.name], gripper=gripper)
    return compile_model(spec, robot)


def _set_options(spec: mujoco.MjSpec, physics_step: float) -> None:
    option = spec.option
    option.timestep = physics_step
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 1.0
    # Full-scene antialiasing and shadows cost twenty times the rest of the picture on a CPU.
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    # Lights are directional and faces flat, so that finer quads and slices show nothing more.
    spec.visual.quality.numquads = 1
    spec.visual.quality.numslices = 16
    spec.visual.map.znear = 0.01
    spec.stat.extent = 1.0
    spec.stat.center = [0.0, 0.0, 0.0]


def _add_scene(spec: mujoco.MjSpec, scene: Scene) -> None:
    world = spec.worldbody
    spec.add_texture(
        name="background",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=scene.background,
        width=8,
        height=8,
    )
    spec.visual.headlight.ambient = [scene.ambient] * 3
    spec.visual.headlight.diffuse = [0.0] * 3
    spec.visual.headlight.specular = [0.0] * 3
    for light in scene.lights:
        world.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=[0.0, 0.0, 2.0],
            dir=light.direction,
            diffuse=[light.brightness] * 3,
            specular=[0.0] * 3,
            castshadow=False,
        )
    half = np.array(scene.table.size) / 2.0
    world.add_geom(
        name=_TABLE_NAME,
        type=_BOX,
        size=half,
        pos=[*scene.table.centre, -half[2]],
        rgba=[*scene.table.colour, 1.0],
        group=_SCENE_GROUP,
        condim=_CONTACT_DIMENSION,
        friction=_FRICTION,
    )
    for layer, mat in enumerate(scene.mats, start=1):
        world.add_geom(
            type=_BOX,
            size=[mat.size[0] / 2.0, mat.size[1] / 2.0, MAT_HALF_THICKNESS],
            pos=[*mat.centre, MAT_HALF_THICKNESS * (2 * layer - 1)],
            rgba=[*mat.colour, 1.0],
            group=_SCENE_GROUP,
            contype=0,
            conaffinity=0,
        )
    for name, block in scene.objects.items():
        body = world.add_body(name=name, pos=[block.pose[0], block.pose[1], block.size / 2.0])
        body.add_freejoint(name=name)
        body.add_geom(
            name=name,
            type=_BOX,
            size=[block.size / 2.0] * 3,
            mass=block.mass,
            rgba=[*block.colour, 1.0],
            group=_SCENE_GROUP,
            condim=_CONTACT_DIMENSION,
            friction=_FRICTION,
        )


def _add_camera(spec: mujoco.MjSpec, camera: Camera) -> None:
    # MuJoCo's cameras look along -z with y up; optical frames along z with y down.
    rotation = Rotation.from_matrix(camera.pose[:3, :3] @ _CAMERA_AXES)
    centre = (camera.width - 1) / 2.0, (camera.height - 1) / 2.0
    spec.worldbody.add_camera(
        name=camera.name,
        pos=camera.position,
        quat=rotation.as_quat()[[3, 0, 1, 2]],
        resolution=[camera.width, camera.height],
        sensor_size=[0.001 * camera.width, 0.001 * camera.height],
        focal_pixel=[camera.fx, camera.fy],
        principal_pixel=[centre[0] - camera.cx, centre[1] - camera.cy],
    )
    spec.visual.global_.offwidth = max(spec.visual.global_.offwidth, camera.width)
    spec.visual.global_.offheight = max(spec.visual.global_.offheight, camera.height)


def _prepare_robot(spec: mujoco.MjSpec, robot: Robot, scene: Scene) -> None:
    """Compensate gravity as drivers do, add rotor inertia, and set the contacts' friction."""
    commanded = {joint.name: joint for joint in robot.joints}
    for body in spec.bodies:
        if body.name in scene.objects or body.name == "world":
            continue
        body.gravcomp = 1.0
        for geom in body.geoms:
            if geom.contype:
                geom.condim = _CONTACT_DIMENSION
                geom.friction = _FRICTION
    for equality in spec.equalities:  # URDF's mimic joints: coupled as by a stiff gear
        equality.solref = [2.0 * spec.option.timestep, 1.0]
    for joint in spec.joints:
        slides = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
        if joint.type == mujoco.mjtJoint.mjJNT_FREE:
            continue
        joint.armature = _FINGER_ROTOR_INERTIA if slides else _ROTOR_INERTIA
        if joint.name in commanded:
            joint.range = [commanded[joint.name].lower, commanded[joint.name].upper]
            joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
            # as stiff as the physics step allows: a mechanical stop
            joint.solref_limit = [2.0 * spec.option.timestep, 1.0]


def _joint_inertias(model: mujoco.MjModel, robot: Robot) -> dict[str, float]:
    """Return each commanded joint's inertia at home, rotor included: kg m^2 or kg."""
    data = mujoco.MjData(model)
    for joint in robot.joints:
        data.qpos[model.joint(joint.name).qposadr[0]] = robot.home[joint.name]
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, mass)
    diagonal = np.diag(mass)
    return {joint.name: diagonal[model.joint(joint.name).dofadr[0]] for joint in robot.joints}


def _add_servo(spec: mujoco.MjSpec, joint: Joint, inertia: float, *, gripper: bool) -> None:
    stiffness = inertia * _SERVO_FREQUENCY**2
    damping = 2.0 * inertia * _SERVO_FREQUENCY
    if gripper:
        stiffness, damping = _FINGER_STIFFNESS, _FINGER_DAMPING
    actuator = spec.add_actuator(
        name=joint.name,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        target=joint.name,
        forcerange=[-joint.effort, joint.effort],
        forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
    )
    actuator.set_to_position(kp=stiffness, kv=damping)
