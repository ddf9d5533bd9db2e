"""A synthetic session: real serialized messages on the graph's topics, made without a graph."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rl_robot.bags import EpisodeMetadata, EpisodeWriter, typestore
from rl_robot.experience.runs import RunFolder

PERIOD_NS = 100_000_000
JOINTS = [f"joint_{i}" for i in range(1, 7)] + ["gripper"]
TYPES = {
    "clock": "rosgraph_msgs/msg/Clock",
    "joint_states": "sensor_msgs/msg/JointState",
    "camera/image_raw": "sensor_msgs/msg/Image",
    "camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "perception/image": "sensor_msgs/msg/Image",
    "perception/ages": "sensor_msgs/msg/JointState",
    "perception/block/pose": "geometry_msgs/msg/PoseStamped",
    "policy/action": "sensor_msgs/msg/JointState",
    "policy/command": "trajectory_msgs/msg/JointTrajectory",
    "safety/command": "trajectory_msgs/msg/JointTrajectory",
    "arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "safety/margins": "sensor_msgs/msg/JointState",
    "safety/interventions": "sensor_msgs/msg/JointState",
    "reward": "sensor_msgs/msg/JointState",
    "episode": "diagnostic_msgs/msg/DiagnosticArray",
    "diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    "robot_description": "std_msgs/msg/String",
}
CONTROLLERS = ("arm_controller/joint_trajectory",)


class Sent(NamedTuple):
    """A message as it leaves its node."""

    topic: str
    raw: bytes
    stamp_ns: int
    publish_ns: int


def _make(message_type: str, **fields: object) -> object:
    return typestore().types[message_type](**fields)


def header(stamp_ns: int, frame: str = "") -> object:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = _make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return _make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def serialize(topic: str, **fields: object) -> bytes:
    message = _make(TYPES[topic], **fields)
    return bytes(typestore().serialize_cdr(message, TYPES[topic]))


def numbers(topic: str, stamp_ns: int, values: dict[str, float]) -> bytes:
    """A JointState that carries named numbers in its positions."""
    empty = np.zeros(0)
    return serialize(
        topic,
        header=header(stamp_ns),
        name=list(values),
        position=np.array(list(values.values()), dtype=float),
        velocity=empty,
        effort=empty,
    )


def image(topic: str, stamp_ns: int, pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return serialize(
        topic,
        header=header(stamp_ns, "camera_optical_frame"),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=pixels.reshape(-1),
    )


def trajectory(topic: str, stamp_ns: int, source: str, positions: np.ndarray) -> bytes:
    empty = np.zeros(0)
    points = [
        _make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=positions,
            velocities=empty,
            accelerations=empty,
            effort=empty,
            time_from_start=_make(
                "builtin_interfaces/msg/Duration", sec=0, nanosec=20_000_000 * (i + 1)
            ),
        )
        for i in range(5)
    ]
    return serialize(topic, header=header(stamp_ns, source), joint_names=JOINTS, points=points)


def pose(topic: str, stamp_ns: int, x: float, y: float, z: float) -> bytes:
    return serialize(
        topic,
        header=header(stamp_ns, "base_link"),
        pose=_make(
            "geometry_msgs/msg/Pose",
            position=_make("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=_make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
    )


def status(topic: str, stamp_ns: int, name: str, message: str, values: dict[str, str]) -> bytes:
    pairs = [_make("diagnostic_msgs/msg/KeyValue", key=k, value=v) for k, v in values.items()]
    return serialize(
        topic,
        header=header(stamp_ns),
        status=[
            _make(
                "diagnostic_msgs/msg/DiagnosticStatus",
                level=0,
                name=name,
                message=message,
                hardware_id="",
                values=pairs,
            )
        ],
    )


@cache
def _noise() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 1.5, (300, 400, 3))
    return np.clip(np.rint(noise + 8), 0, 16).astype(np.uint8)


def frame(progress: float, *, grasped: bool) -> np.ndarray:
    """(240, 320, 3) picture of an arm that comes down on a block and lifts it, with noise."""
    picture = np.full((240, 320, 3), (196, 190, 180), np.uint8)
    cv2.rectangle(picture, (0, 0), (320, 60), (228, 230, 232), -1)
    reach = min(progress / 0.6, 1.0)
    lift = max(progress - 0.6, 0.0) / 0.4 * 70
    tool = np.array([160 + 30 * reach, 60 + 100 * reach - lift])
    block = tool + np.array([0, 26]) if grasped and lift > 0 else np.array([190, 186])
    cv2.rectangle(picture, *_corners(block, 12, 12), (206, 62, 44), -1)
    cv2.line(picture, (160, -10), _point(tool), (70, 74, 84), 18, cv2.LINE_AA)
    opening = 18 if progress < 0.58 else 14
    for side in (-1, 1):
        finger = tool + np.array([side * opening, 12])
        cv2.rectangle(picture, *_corners(finger, 3, 15), (40, 42, 48), -1)
    cv2.rectangle(picture, *_corners(tool, 22, 5), (40, 42, 48), -1)
    row, column = np.random.default_rng(int(progress * 1000)).integers(0, (60, 80))
    return cv2.subtract(
        cv2.add(picture, _noise()[row : row + 240, column : column + 320]),
        np.full_like(picture, 8),
    )


def _point(xy: np.ndarray) -> tuple[int, int]:
    return int(xy[0]), int(xy[1])


def _corners(centre: np.ndarray, *half: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return _point(centre - np.array(half)), _point(centre + np.array(half))


def step_messages(
    start_ns: int, step: int, steps: int, wall_ns: int, *, grasped: bool, latency_ns: int
) -> Iterator[Sent]:
    """What the graph says at one control tick, in the order in which its nodes publish."""
    now = start_ns + step * PERIOD_NS
    last = step == steps
    picture = frame(step / steps, grasped=grasped)
    positions = np.linspace(0.0, 0.1 * step, len(JOINTS))

    for i in range(10 if step else 1):
        stamp = now - (9 - i if step else 0) * PERIOD_NS // 10
        yield Sent("joint_states", _joint_state(stamp, positions), stamp, wall_ns - 400_000)
    sec, nanosec = divmod(now, 1_000_000_000)
    clock = _make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    yield Sent("clock", serialize("clock", clock=clock), now, wall_ns - 300_000)
    yield Sent("camera/image_raw", image("camera/image_raw", now, picture), now, wall_ns)
    yield Sent("camera/camera_info", _camera_info(now), now, wall_ns + 10_000)
    seen = min(step, steps // 2)  # afterwards the tool hides the block: the pose is held
    ages = numbers("perception/ages", now, {"block": (step - seen) * 0.1})
    yield Sent(
        "perception/block/pose",
        pose("perception/block/pose", start_ns + seen * PERIOD_NS, 0.4, 0.02, 0.02),
        now,
        wall_ns + 900_000,
    )
    yield Sent("perception/ages", ages, now, wall_ns + 950_000)
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    yield Sent("perception/image", image("perception/image", now, small), now, wall_ns + 980_000)
    if step:
        success = last and grasped
        terms = {"total": -0.1 + success, "step": -0.1, "success": float(success)}
        yield Sent(
            "reward",
            numbers("reward", now, terms | {"terminated": float(success)}),
            now,
            wall_ns + 1_100_000,
        )
    if not last:
        yield from _commands(now, wall_ns, positions, step, latency_ns)


def small_step(now: int, wall_ns: int) -> list[Sent]:
    """One control tick with pictures of a few pixels, for tests of the order of things."""
    tiny = np.full((4, 4, 3), now // PERIOD_NS % 256, np.uint8)
    positions = np.full(len(JOINTS), now * 1e-9)
    sent = [
        Sent("joint_states", _joint_state(stamp, positions), stamp, wall_ns - 400_000)
        for stamp in range(now - 9 * PERIOD_NS // 10, now + 1, PERIOD_NS // 10)
    ]
    for topic, delay in (("camera/image_raw", 0), ("perception/image", 980_000)):
        sent.append(Sent(topic, image(topic, now, tiny), now, wall_ns + delay))
    held = pose("perception/block/pose", 7_000_000_000, now * 1e-9, 0.0, 0.02)
    sent.append(Sent("perception/block/pose", held, now, wall_ns + 900_000))
    ages = numbers("perception/ages", now, {"block": 3.0})
    sent.append(Sent("perception/ages", ages, now, wall_ns + 950_000))
    reward = numbers("reward", now, {"total": 0.1})
    sent.append(Sent("reward", reward, now, wall_ns + 1_100_000))
    return sent + list(_commands(now, wall_ns, positions, 3, 3_000_000))


def _commands(
    now: int, wall_ns: int, positions: np.ndarray, step: int, latency_ns: int
) -> Iterator[Sent]:
    action = {"x": 0.1, "y": 0.0, "z": -1.0, "yaw": 0.0, "gripper": 1.0, "version": 3.0}
    proposed = wall_ns + latency_ns * 2 // 3
    executed = wall_ns + latency_ns
    yield Sent("policy/action", numbers("policy/action", now, action), now, proposed)
    command = trajectory("policy/command", now, "policy", positions)
    yield Sent("policy/command", command, now, proposed + 30_000)
    yield Sent(
        "safety/command", trajectory("safety/command", now, "policy", positions), now, executed
    )
    controller = CONTROLLERS[0]
    yield Sent(controller, trajectory(controller, 0, "", positions), now, executed + 20_000)
    margins = {"position/joint_1": 0.7, "velocity/joint_1": 0.4}
    yield Sent("safety/margins", numbers("safety/margins", now, margins), now, executed + 40_000)
    limited = {"velocity/joint_2": 0.12} if step % 7 == 3 else {}
    if step % 11 == 5:
        limited["acceleration/joint_1"] = 0.4
    interventions = numbers("safety/interventions", now, limited)
    yield Sent("safety/interventions", interventions, now, executed + 60_000)


def _joint_state(stamp_ns: int, positions: np.ndarray) -> bytes:
    zero = np.zeros(len(JOINTS))
    return serialize(
        "joint_states",
        header=header(stamp_ns),
        name=JOINTS,
        position=positions,
        velocity=zero,
        effort=zero,
    )


def _camera_info(stamp_ns: int) -> bytes:
    intrinsics = np.array([300.0, 0, 160, 0, 300, 120, 0, 0, 1])
    return serialize(
        "camera/camera_info",
        header=header(stamp_ns, "camera_optical_frame"),
        height=240,
        width=320,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=intrinsics,
        r=np.eye(3).reshape(-1),
        p=np.array([300.0, 0, 160, 0, 0, 300, 120, 0, 0, 0, 1, 0]),
        binning_x=0,
        binning_y=0,
        roi=_make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


def episode_messages(
    start_ns: int, steps: int, *, wall_ns: int, grasped: bool = True, seed: int = 0
) -> Iterator[Sent]:
    """Everything said from the first tick to the last, as the recorder should keep it."""
    random = np.random.default_rng(seed)
    description = serialize("robot_description", data="<robot name='arm'/>")
    yield Sent("robot_description", description, start_ns, wall_ns - 5_000_000_000)
    phase = {"id": "0", "split": "test"}
    running = status("episode", start_ns, "episode", "running", phase)
    yield Sent("episode", running, start_ns, wall_ns - 500_000)
    for step in range(steps + 1):
        tick = wall_ns + step * 6_000_000
        latency = int(random.gamma(9.0, 450_000))
        yield from step_messages(start_ns, step, steps, tick, grasped=grasped, latency_ns=latency)
    end_ns = start_ns + steps * PERIOD_NS
    ended = status("episode", end_ns, "episode", "ended", phase)
    yield Sent("episode", ended, end_ns, wall_ns + steps * 6_000_000 + 1_500_000)


def metadata(index: int, outcome: str, steps: int, **changes: object) -> EpisodeMetadata:
    values: dict[str, object] = {
        "episode": index,
        "robot": "arm",
        "task": "grasp",
        "start": json.dumps({"block": [0.4, 0.02, 0.1]}),
        "split": "test",
        "index": index,
        "policy": "script",
        "policy_version": "1",
        "seed": 0,
        "outcome": outcome,
        "steps": steps,
    }
    return EpisodeMetadata(**(values | changes))  # type: ignore[arg-type]


def write_episode(
    path: Path, meta: EpisodeMetadata, *, start_ns: int = 10_000_000_000, wall_ns: int = 10**18
) -> Path:
    """One bag of a synthetic episode."""
    writer = EpisodeWriter(path, TYPES)
    messages = episode_messages(
        start_ns,
        meta.steps,
        wall_ns=wall_ns,
        grasped=meta.outcome == "success",
        seed=meta.episode,
    )
    for sent in messages:
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    return writer.close(meta)


def write_run(run: RunFolder, outcomes: list[tuple[str, str, int]]) -> None:
    """A run of episodes given as (outcome, reason, steps)."""
    start_ns, wall_ns = 10_000_000_000, 10**18
    for index, (outcome, reason, steps) in enumerate(outcomes):
        meta = metadata(index, outcome, steps, reason=reason)
        write_episode(run.episode_path(index), meta, start_ns=start_ns, wall_ns=wall_ns)
        start_ns += (steps + 25) * PERIOD_NS
        wall_ns += (steps + 25) * 6_000_000
