"""A calibration as the ``cameras:`` entry of a robot's YAML: printed, or written into the file.

Only the lines of the camera's own values are changed, so comments and order stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.views import Lens, inverse
from rl_robot.errors import UserError
from rl_robot.resources import resource_files
from rl_robot.robots.description import Camera, Robot, load_robot
from rl_robot.robots.urdf import parse_urdf

Array = NDArray[np.float64]
Values = dict[str, Any]

_BY_HAND = "write the entry that was printed into it by hand"
_KEY_LINE = re.compile(r"^(?P<indent> +)(?P<key>\w+):(?P<gap>[ ]*)(?P<rest>.*)$")


def camera_values(lens: Lens | None, pose: Array | None) -> Values:
    """Return the values of a camera's entry.

    Args:
        lens: the intrinsics, where they were calibrated.
        pose: (4, 4) of the optical frame in the base frame, where that was.
    """
    values: Values = {}
    if lens is not None:
        fx, fy, cx, cy = (round(value, 4) for value in lens.values[:4])
        values |= {"width": lens.width, "height": lens.height}
        values |= {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
        values["distortion"] = [round(value, 7) for value in lens.values[4:]]
    if pose is not None:
        values["position"] = [round(float(value), 6) for value in pose[:3, 3]]
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
        values["quaternion"] = [round(float(value), 9) for value in quaternion]
    return values


def entry_text(name: str, values: Mapping[str, Any]) -> str:
    """Return the entry as lines of YAML."""
    return _section_text({name: values})


def _section_text(cameras: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["cameras:"]
    for name, values in cameras.items():
        lines += [f"  {name}:", *(f"    {key}: {_text(value)}" for key, value in values.items())]
    return "\n".join(lines)


def write_entry(robot: Robot, camera: str, values: Mapping[str, Any]) -> Path:
    """Write values into the camera's entry of the robot's YAML; the old file stays as ``.bak``.

    Args:
        robot: loaded from the file that is changed.
        camera: the camera's name.
        values: the new values by their keys.

    Returns:
        Where the old file is kept.

    Raises:
        UserError: the file belongs to the package, its entry is not written line by line, the
            robot could not be loaded from the new file, or it can't be written.
    """
    path = robot.source
    check_own_file(path)
    try:
        old = path.read_bytes().decode("utf-8")  # with its own ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    new = _changed(old, robot, camera, values, path)
    candidate = path.with_name(f".{path.stem}.calibrated.yaml")
    backup = _free_name(path)
    try:
        candidate.write_bytes(new.encode("utf-8"))
        _check_loads(candidate, robot, camera, values)
        backup.write_bytes(old.encode("utf-8"))
        candidate.chmod(path.stat().st_mode)
        os.replace(candidate, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from None
    finally:
        candidate.unlink(missing_ok=True)
    return backup


def check_own_file(path: Path) -> None:
    """Refuse to change a YAML that comes with the package.

    Raises:
        UserError: it does.
    """
    if path.resolve() in [file.resolve() for file in resource_files("config/robots", ".yaml")]:
        raise UserError(
            f"{path} belongs to rl_robot: copy it, give the copy's path as robot:=, and calibrate "
            "that"
        )


def _changed(text: str, robot: Robot, camera: str, values: Mapping[str, Any], path: Path) -> str:
    """Return the file's text with the values in it.

    Raises:
        UserError: its lines can't be replaced so that everything else stays.
    """
    document = yaml.safe_load(text)
    expected = deepcopy(document)
    if "cameras" in document:
        new = _replaced(text, camera, values, path)
        expected["cameras"][camera].update(values)
    else:  # a variant of another robot, whose cameras it takes over as they are
        cameras = {one.name: _values_of(one) for one in robot.cameras}
        cameras[camera].update(values)
        expected["cameras"] = cameras
        new = text.rstrip() + f"\n\n{_section_text(cameras)}\n"
    try:
        same = yaml.safe_load(new) == expected
    except yaml.YAMLError:
        same = False
    if not same:
        raise UserError(f"{path}: its lines can't be replaced safely: {_BY_HAND}")
    return new


def _values_of(camera: Camera) -> Values:
    """Return a camera's entry, complete."""
    values = {field.name: getattr(camera, field.name) for field in fields(camera)}
    del values["name"]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _replaced(text: str, camera: str, values: Mapping[str, Any], path: Path) -> str:
    """Return the text with the values' lines in the camera's block replaced, or added to it."""
    lines = text.splitlines(keepends=True)
    block = _block(lines, ["cameras", camera])
    contents = [i for i in block or () if _is_content(lines[i])]
    if not contents:
        raise UserError(
            f"{path}: cameras: {camera} does not have its values on lines of their own: {_BY_HAND}"
        )
    inner = _indent(lines[contents[0]])
    left = dict(values)
    for i in contents:
        found = _KEY_LINE.match(lines[i].rstrip("\r\n"))
        if found is None or len(found["indent"]) != inner or found["key"] not in left:
            continue
        end = lines[i][len(lines[i].rstrip("\r\n")) :]
        value = _text(left.pop(found["key"]))
        start = f"{found['indent']}{found['key']}:{found['gap'] or ' '}"
        lines[i] = f"{start}{value}{_comment(found['rest'])}{end}"
    added = "".join(f"{' ' * inner}{key}: {_text(value)}\n" for key, value in left.items())
    lines[contents[-1]] = lines[contents[-1]].rstrip("\n") + "\n" + added
    return "".join(lines)


def _block(lines: Sequence[str], keys: Sequence[str]) -> range | None:
    """Return the lines below nested block keys."""
    inside = range(len(lines))
    for depth, key in enumerate(keys):
        head = next(
            (
                i
                for i in inside
                if re.match(rf" *[\"']?{re.escape(key)}[\"']?:\s*(#.*)?$", lines[i].rstrip("\r\n"))
                and (depth > 0 or _indent(lines[i]) == 0)
            ),
            None,
        )
        if head is None:
            return None
        last = next(
            (
                i
                for i in range(head + 1, inside.stop)
                if _is_content(lines[i]) and _indent(lines[i]) <= _indent(lines[head])
            ),
            inside.stop,
        )
        inside = range(head + 1, last)
    return inside


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _comment(rest: str) -> str:
    """Return a line's comment, with the blanks before it; these values hold no ``#``."""
    found = re.search(r"\s+#.*$", rest)
    return found[0] if found else ""


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    digits = f"{value:.9f}".rstrip("0")  # not 1e-05, which YAML 1.1 takes for text
    return digits + "0" if digits.endswith(".") else digits


def _check_loads(candidate: Path, robot: Robot, camera: str, values: Mapping[str, Any]) -> None:
    try:
        load_robot(str(candidate))
    except UserError as error:
        text = str(error).replace(str(candidate), str(robot.source))
        advice = urdf_advice(robot, camera, values)
        raise UserError(f"not written: {text}{advice}") from None


def urdf_advice(robot: Robot, camera: str, values: Mapping[str, Any]) -> str:
    """Return what to change where the calibration is not where the URDF has the camera's frame."""
    frame = robot.camera(camera).frame_id
    urdf = parse_urdf(robot.urdf_xml, str(robot.urdf_path))
    joint = next((joint for joint in urdf.joints.values() if joint.child == frame), None)
    if "position" not in values or joint is None or joint.type != "fixed":
        return ""
    parent = urdf.fixed_pose(joint.parent)
    if parent is None:
        return ""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(values["quaternion"]).as_matrix()
    pose[:3, 3] = values["position"]
    origin = inverse(parent) @ pose
    xyz = " ".join(f"{value:.6f}" for value in origin[:3, 3])
    turns = Rotation.from_matrix(origin[:3, :3]).as_euler("xyz")
    rpy = " ".join(f"{round(turn, 6) + 0.0:.6f}" for turn in turns)  # never -0
    return (
        f'. Either the URDF is off: give its joint {joint.name} <origin xyz="{xyz}" rpy="{rpy}"/>; '
        "or its frame is another one: --frame NAME writes a frame_id that the URDF does not have"
    )


def _free_name(path: Path) -> Path:
    """Return a name for the old file: what was kept earlier stays."""
    name = path.with_name(f"{path.name}.bak")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.bak{number}")
    return name
