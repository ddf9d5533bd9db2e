"""A robot's cameras: intrinsics and extrinsics, by calibration, checked against the URDF."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.robots.section import Section
from rl_robot.robots.urdf import Urdf

Array = NDArray[np.float64]

# A calibration agrees with the URDF's nominal frame to within these, or one of them is wrong.
EXTRINSICS_TOLERANCE = 0.002  # m
EXTRINSICS_ANGLE_TOLERANCE = math.radians(0.3)


@dataclass(frozen=True)
class Camera:
    """A camera and its calibration.

    ``position`` (3,) in metres and ``quaternion`` (x, y, z, w) place the optical frame (z forward,
    x right, y down) in the robot's base frame; ``fx``, ``fy``, ``cx``, ``cy`` are in pixels, with
    the centre of the first pixel at (0, 0); ``distortion`` is plumb_bob (k1, k2, p1, p2, k3).
    ``topic`` is the one of its driver's pictures, by default ``<name>/image_raw``: in the graph
    they have that name, and a driver's other one is remapped. ``calibrated``: whether the figures
    were measured, or are placeholders.
    """

    name: str
    width: int
    height: int
    rate: float
    frame_id: str
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]
    topic: str = ""
    calibrated: bool = True

    @cached_property
    def matrix(self) -> Array:
        """Intrinsic matrix K (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @cached_property
    def pose(self) -> Array:
        """Transform (4, 4) from the optical frame to the base frame."""
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(self.quaternion).as_matrix()
        pose[:3, 3] = self.position
        return pose


def parse_cameras(section: Section, urdf: Urdf) -> tuple[Camera, ...]:
    """Return the cameras of the YAML's section.

    Raises:
        UserError: figures that are no camera's, a pose that is not the URDF's, a topic used twice.
    """
    cameras = tuple(_camera(section.section(name), name, urdf) for name in section.names())
    for topic in (topics := [camera.topic for camera in cameras]):
        if topics.count(topic) > 1:
            raise section.error(f"topic {topic} is used by more than one camera")
    return cameras


def _camera(section: Section, name: str, urdf: Urdf) -> Camera:
    x, y, z = section.numbers("position", 3)
    qx, qy, qz, qw = section.numbers("quaternion", 4)
    camera = Camera(
        name=name,
        width=section.whole("width"),
        height=section.whole("height"),
        rate=section.positive("rate"),
        frame_id=section.text("frame_id"),
        position=(x, y, z),
        quaternion=(qx, qy, qz, qw),
        fx=section.positive("fx"),
        fy=section.positive("fy"),
        cx=section.number("cx"),
        cy=section.number("cy"),
        distortion=section.numbers("distortion", 5),
        topic=section.topic("topic") if "topic" in section else f"{name}/image_raw",
        calibrated=section.truth("calibrated") if "calibrated" in section else True,
    )
    section.refuse_others()
    norm = math.hypot(*camera.quaternion)
    if abs(norm - 1.0) > 1e-3:
        raise section.error(f"quaternion has length {norm:.4g}, it must have length 1 (x, y, z, w)")
    if not (0.0 <= camera.cx <= camera.width and 0.0 <= camera.cy <= camera.height):
        raise section.error(f"cx, cy ({camera.cx:g}, {camera.cy:g}) lie outside the image")
    _check_extrinsics(section, camera, urdf)
    return camera


def _check_extrinsics(section: Section, camera: Camera, urdf: Urdf) -> None:
    if camera.frame_id not in urdf.links:
        return  # a camera that only the calibration knows
    nominal = urdf.fixed_pose(camera.frame_id)
    if nominal is None:
        raise section.error(f"frame_id {camera.frame_id} moves: cameras must be fixed to the base")
    offset = float(np.linalg.norm(camera.pose[:3, 3] - nominal[:3, 3]))
    turn = Rotation.from_matrix(nominal[:3, :3].T @ camera.pose[:3, :3]).magnitude()
    if offset > EXTRINSICS_TOLERANCE or turn > EXTRINSICS_ANGLE_TOLERANCE:
        raise section.error(
            f"its pose is {offset * 1000:.1f} mm and {math.degrees(turn):.2f} degrees from the "
            f"URDF's frame {camera.frame_id}: calibrate, then correct one of them"
        )
