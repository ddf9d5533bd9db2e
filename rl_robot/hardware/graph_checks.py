"""Checks of what else of an arm is in the graph: its controllers' topics and its cameras."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.findings import Finding, failed, passed
from rl_robot.robots.description import Camera, Robot

FEWEST_PICTURES = 5
CAMERA_RATE_TOLERANCE = 0.2  # part of the rate that the YAML says
OLDEST_PICTURE = 0.15  # s, of the quickest one: a busy machine makes others late, never this one
EARLIEST_PICTURE = -0.015  # s: so far may the camera's clock be ahead, as the joints' may
_BLACK, _FLAT = 4.0, 1.0  # mean and spread of the pixels of a picture that shows nothing
_SAME_FOCAL = 0.01  # part of a focal length
_SAME_PIXEL = 1.0
_SAME_DISTORTION = 0.01


@dataclass(frozen=True)
class Endpoint:
    """Somebody who publishes or subscribes to a topic, or an action's server.

    Attributes:
        type: of the messages, or the action.
        best_effort: offers or asks for no more than best effort.
        latched: offers or asks for transient local durability.
        deadline: s that it offers or asks for, 0 for none.
    """

    type: str
    best_effort: bool = False
    latched: bool = False
    deadline: float = 0.0


def check_publishers(
    check: str, topic: str, expected: str, publishers: Sequence[Endpoint]
) -> Finding | None:
    """Return what is wrong with who publishes a sensor's topic, None if nothing is.

    That nobody does is for others to say, who know whether messages came.
    """
    others = [one.type for one in publishers if one.type != expected]
    if others:
        return failed(check, f"{topic} is published as {others[0]}", f"expected {expected}")
    if len(publishers) > 1:
        wrong = f"{len(publishers)} nodes publish {topic}"
        return failed(check, wrong, "stop all but the driver")
    if any(one.best_effort for one in publishers):
        # DDS then connects nobody who asks for reliable delivery, as our nodes do.
        wrong = f"{topic} is published best effort: nobody who wants it reliably hears it"
        return failed(check, wrong, "set the driver's QoS to reliable")
    return None


def check_controllers(
    robot: Robot,
    endpoints: Mapping[str, Sequence[Endpoint]],
    publishers: Mapping[str, Sequence[Endpoint]],
) -> Finding:
    """Check that what the safety node sends, and nothing else, reaches each controller.

    Args:
        robot: the robot.
        endpoints: who hears each topic, by the topic's name in the YAML.
        publishers: who publishes each, likewise; the safety node is one.
    """
    check = "controllers"
    for interface in robot.interfaces:
        heard = endpoints.get(interface.topic, ())
        if not heard:
            return failed(
                check,
                f"{interface.name}: nobody hears {interface.topic}",
                "activate the controller (ros2 control list_controllers), or correct topic: or "
                "the namespace",
            )
        right = [one for one in heard if one.type == interface.type]
        if not right:
            wrong = f"{interface.name}: {interface.topic} is heard as {heard[0].type}"
            return failed(check, wrong, f"the YAML says {interface.type}: correct one of them")
        if len(heard) > 1:
            # The safety node is the only writer; a second controller would move the robot as well.
            wrong = f"{interface.name}: {len(heard)} nodes hear {interface.topic}"
            return failed(check, wrong, "leave only the controller")
        if right[0].latched or right[0].deadline > 0.0:
            asks = "durability transient local" if right[0].latched else "a deadline"
            wrong = f"{interface.name}: the controller's QoS asks for {asks}"
            return failed(check, wrong, "commands are reliable and volatile, without a deadline")
        others = len(publishers.get(interface.topic, ())) - 1
        if others > 0:
            wrong = (
                f"{interface.name}: {others} more than the safety node publish {interface.topic}"
            )
            return failed(check, wrong, "end whatever else moves the robot, past the safety node")
    return passed(check, f"{len(robot.interfaces)} topics heard, types and QoS fit, one writer")


@dataclass(frozen=True)
class Picture:
    """What counts of a camera's picture. Times are s of the hearer's clock."""

    stamp: float
    received: float
    width: int
    height: int
    mean: float
    spread: float
    digest: int  # of the pixels: the same for the same picture


@dataclass(frozen=True)
class Calibration:
    """What a camera_info message says; ``k`` (9,) row by row."""

    width: int
    height: int
    k: tuple[float, ...]
    d: tuple[float, ...]
    frame_id: str


def picture_of(
    stamp: float, received: float, pixels: NDArray[np.uint8], size: tuple[int, int]
) -> Picture:
    """Return what counts of a picture of ``size`` (width, height), given its bytes."""
    sampled = pixels[:: max(1, pixels.size // 4096)]
    return Picture(
        stamp=stamp,
        received=received,
        width=size[0],
        height=size[1],
        mean=float(sampled.mean()) if sampled.size else 0.0,
        spread=float(sampled.std()) if sampled.size else 0.0,
        digest=hash(pixels.tobytes()),
    )


def check_camera(
    camera: Camera,
    pictures: Sequence[Picture],
    calibration: Calibration | None,
    publishers: Sequence[Endpoint] = (),
) -> Finding:
    """Check size, rate, age and content of a camera's pictures, and its camera_info."""
    check = f"camera {camera.name}"
    topic = camera.topic
    limit = f"{camera.rate:g} Hz by {CAMERA_RATE_TOLERANCE:.0%}, {OLDEST_PICTURE * 1e3:.0f} ms old"
    finding = check_publishers(check, topic, "sensor_msgs/msg/Image", publishers)
    if finding is not None:
        return finding
    if len(pictures) < FEWEST_PICTURES:
        wrong = f"{len(pictures) or 'no'} pictures came on {topic}"
        return failed(check, wrong, "start its driver, or correct topic: in the YAML", limit=limit)
    last = pictures[-1]
    if (last.width, last.height) != (camera.width, camera.height):
        wrong = f"pictures are {last.width}x{last.height}"
        right = f"the calibration is for {camera.width}x{camera.height}: set the driver to that"
        return failed(check, wrong, right)
    stamps = np.array([picture.stamp for picture in pictures])
    intervals = np.diff(stamps)
    rate = 1.0 / max(float(np.median(intervals)), 1e-9)
    # As of the joints' clock: the smallest is what it takes, or what its clock is behind.
    age = min(picture.received - picture.stamp for picture in pictures)
    figure = f"{last.width}x{last.height}, {rate:.1f} Hz, {age * 1e3:.0f} ms old"
    if np.any(intervals <= 0.0):
        return failed(check, "its stamps do not rise", "stamp each with its capture", figure, limit)
    if abs(rate - camera.rate) > CAMERA_RATE_TOLERANCE * camera.rate:
        wrong = f"pictures come at {rate:.1f} Hz, the YAML says {camera.rate:g} Hz"
        return failed(check, wrong, "correct one of them", figure, limit)
    if not EARLIEST_PICTURE <= age <= OLDEST_PICTURE:
        wrong = f"stale pictures: by their stamps none is less than {age:.3f} s old when it comes"
        if age < 0.0:
            wrong = f"its clock is {-age:.3f} s ahead: pictures come before their stamps"
        return failed(check, wrong, "stamp each with its capture; synchronise", figure, limit)
    content = _check_content(check, pictures)
    if content is not None:
        return content
    wrong = _calibration_problem(camera, calibration)
    if wrong:
        right = "calibrate, and use the same figures in the driver and the YAML"
        return failed(check, wrong, right, figure, limit)
    return passed(check, figure, limit)


def _check_content(check: str, pictures: Sequence[Picture]) -> Finding | None:
    if len({picture.digest for picture in pictures}) == 1:
        wrong = f"frozen: {len(pictures)} pictures are the same to the last pixel"
        return failed(check, wrong, "a live picture always has noise: restart its driver")
    if all(picture.mean < _BLACK and picture.spread < _FLAT for picture in pictures):
        return failed(check, "black pictures", "take the cap off, or see to its exposure")
    return None


def _calibration_problem(camera: Camera, calibration: Calibration | None) -> str:
    """Return how a camera_info disagrees with the YAML, empty if it does not."""
    if calibration is None:
        return "no camera_info comes"
    if (calibration.width, calibration.height) != (camera.width, camera.height):
        return f"camera_info is for {calibration.width}x{calibration.height}"
    if calibration.frame_id != camera.frame_id:
        return f"camera_info is in frame {calibration.frame_id}, the YAML says {camera.frame_id}"
    k = calibration.k
    for name, value, expected, tolerance in (
        ("fx", k[0], camera.fx, _SAME_FOCAL * camera.fx),
        ("fy", k[4], camera.fy, _SAME_FOCAL * camera.fy),
        ("cx", k[2], camera.cx, _SAME_PIXEL),
        ("cy", k[5], camera.cy, _SAME_PIXEL),
    ):
        if not abs(value - expected) <= tolerance:
            return f"camera_info: {name} is {value:g}, the YAML says {expected:g}"
    given = np.zeros(len(camera.distortion))
    known = np.array(calibration.d[: len(given)], dtype=float)
    given[: len(known)] = known
    if not np.all(np.abs(given - camera.distortion) <= _SAME_DISTORTION):
        return f"camera_info: distortion is {list(given)}, the YAML says {list(camera.distortion)}"
    return ""
