"""A folder of pictures, with a file that says where the robot was for each of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.bags.pictures import decode_picture
from rl_robot.calibration.collector import DAMAGED, NO_BOARD, Collector, Taken
from rl_robot.calibration.views import View, transform
from rl_robot.errors import UserError
from rl_robot.robots.description import Robot

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg")
JOINTS_FILE = "joints.json"
TABLES = (JOINTS_FILE, "joints.csv", "poses.json", "poses.csv")
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_LARGEST_TABLE = 16 * 1024 * 1024  # bytes
_LARGEST_PICTURE = 256 * 1024 * 1024


def has_pictures(folder: Path) -> bool:
    """Whether this is a folder of pictures."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def read_folder(
    folder: Path,
    collector: Collector,
    robot: Robot | None,
    hand: Callable[[Array], Array] | None,
    *,
    with_robot: bool,
) -> None:
    """Give the collector all pictures of a folder in which the board is found.

    They are all used: somebody chose them. A picture that can't be read, or that the table lacks,
    is counted and named.

    Raises:
        UserError: the table is missing or says something that can't be.
    """
    table = _read_table(folder) if with_robot else {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        pose = None
        if with_robot:
            if path.name not in table:
                collector.refused["not in the folder's table"] += 1
                collector.damaged.append(f"{path.name}: {folder} does not say where the robot was")
                continue
            pose = _hand(table[path.name], f"{folder}: {path.name}", robot, hand)
        try:
            if path.stat().st_size > _LARGEST_PICTURE:
                raise ValueError("the file is too large to be a picture")
            image = np.asarray(decode_picture(path.read_bytes(), cv2.IMREAD_GRAYSCALE), np.uint8)
        except (OSError, ValueError) as error:
            collector.refused[DAMAGED] += 1
            collector.damaged.append(f"{path.name}: {error}")
            continue
        corners = collector.board.find(image)
        if corners is None:
            collector.refused[NO_BOARD] += 1
            continue
        size = (image.shape[1], image.shape[0])
        view = View(path.name, corners, pose)
        collector.taken.append(Taken(0, size, None, view, np.zeros(0)))


class FolderWriter:
    """Keeps pictures in a folder that `read_folder` reads, as they come."""

    def __init__(self, folder: Path, joints: Sequence[str]) -> None:
        """Make the folder.

        Args:
            folder: new, or empty.
            joints: the arm's joints.

        Raises:
            UserError: it holds something, or can't be made.
        """
        self._folder = folder
        self._joints = tuple(joints)
        self._rows: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UserError(f"{folder} is not empty: name a new folder for the pictures")
        except OSError as error:
            raise UserError(f"{folder}: no pictures can be kept there ({error})") from None

    def add(self, stamp_ns: int, image: Image, joints: Array) -> None:
        """Write a picture, and the table anew.

        Args:
            stamp_ns: when it was captured.
            image: (H, W) or (H, W, 3) RGB.
            joints: (n,) positions of the arm's joints; empty where they do not matter.

        Raises:
            UserError: the disk does not take it.
        """
        name = f"{len(self._rows):03}.png"
        positions = dict(zip(self._joints, joints.tolist(), strict=True))
        self._rows.append({"file": name, "stamp_ns": stamp_ns, "joints": positions})
        blue_first = image if image.ndim == 2 else image[..., ::-1]
        table = self._folder / JOINTS_FILE
        beside = table.with_suffix(".new")
        try:
            (self._folder / name).write_bytes(cv2.imencode(".png", blue_first)[1].tobytes())
            beside.write_text(json.dumps(self._rows, indent=1), encoding="utf-8")
            beside.replace(table)
        except OSError as error:
            raise UserError(f"{self._folder}: a picture can't be kept ({error})") from None


def _read_table(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return what the folder's table says of each picture by its file's name."""
    path = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{folder} does not say where the robot was: one of {', '.join(TABLES)} is needed in it"
        )
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise UserError(f"{path}: larger than {_LARGEST_TABLE >> 20} MB")
        text = path.read_text(encoding="utf-8")
        rows = (
            json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
        )
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("file"), str) for row in rows
    ):
        raise UserError(f"{path}: expected a row for each picture, with its name as file")
    return {row["file"]: row for row in rows}


def _hand(
    row: Mapping[str, Any],
    where: str,
    robot: Robot | None,
    hand: Callable[[Array], Array] | None,
) -> Array:
    """Return the hand's pose (4, 4): as the row says it, or of the joints that it says."""
    pose = _pose_of(row)
    if pose is not None:
        values = _numbers(pose, _POSE, where)
        length = float(np.linalg.norm(values[3:]))
        if abs(length - 1.0) > 1e-3:
            raise UserError(f"{where}: the quaternion x y z w has length {length:.4g}, not 1")
        return transform(Rotation.from_quat(values[3:]).as_matrix(), values[:3])
    joints = row.get("joints", row)
    if robot is None or hand is None:
        raise UserError(f"{where}: joints need the robot: say --robot")
    if not isinstance(joints, Mapping):
        raise UserError(f"{where}: joints is {joints!r}, it must be positions by name")
    return hand(_numbers(joints, robot.arm_joints, where))


def _pose_of(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the row's x, y, z, qx, qy, qz, qw, if it has a pose."""
    if "position" in row and "quaternion" in row:
        position, quaternion = row["position"], row["quaternion"]
        if isinstance(position, list) and isinstance(quaternion, list):
            return dict(zip(_POSE, [*position, *quaternion], strict=False))
    return row if "qw" in row else None


def _numbers(values: Mapping[str, Any], names: Sequence[str], where: str) -> Array:
    found = []
    for name in names:
        if values.get(name) is None:
            raise UserError(f"{where}: {name} is missing; {', '.join(names)} are needed")
        try:
            number = float(values[name])
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{where}: {name} is {values[name]!r}, it must be a finite number")
        found.append(number)
    return np.array(found)
