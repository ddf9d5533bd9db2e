"""Refuses commands that must not reach the safety filter, and says exactly why.

Everything fails closed: an age that is not a number, or negative where it can't be, is refused too.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion

Array = npt.NDArray[np.float64]

MAX_POINTS = 1000
MAX_DURATION = 60.0  # s


@dataclass(frozen=True)
class RawCommand:
    """A command as it came over the network: nothing about it may be trusted.

    Attributes:
        source: who sent it.
        stamp_ns: capture time of the newest observation that it is based on.
        names: joint names, in the sender's order.
        times: seconds from the start of the motion, one per point.
        positions: one row per point, one column per name; rad or m.
    """

    source: str
    stamp_ns: int
    names: Sequence[str]
    times: Any
    positions: Any


class CommandRefused(Exception):  # noqa: N818  (an outcome, named for what it says)
    """A command was refused.

    Attributes:
        reason: "empty", "unknown_joint", "duplicate_joint", "missing_joint", "shape", "non_finite",
            "times", "future" or "stale".
        text: the same in words, with the offending values.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def check_command(
    command: RawCommand,
    *,
    joints: Sequence[str],
    now_ns: int,
    received_age: float,
    max_age: float,
    max_received_age: float,
    max_future: float,
) -> Motion:
    """Return the command as motion of ``joints``, in their order.

    Args:
        command: what came in.
        joints: names of the robot's joints; the command must name each once and no other.
        now_ns: present time on the clock of the command's stamp.
        received_age: seconds since the command arrived, on the steady clock.
        max_age: greatest age in s of the capture that the command is based on.
        max_received_age: greatest ``received_age`` in s.
        max_future: how far in s a stamp may lie ahead of ``now_ns`` (clock skew between machines).

    Raises:
        CommandRefused: with the first reason found, in about the order of ``reason``'s list.
    """
    order = _joint_order(command.names, joints)
    times = _numbers(command.times, "its times")
    positions = _numbers(command.positions, "its positions")
    _check_shapes(times, positions, len(joints))
    for what, values in (("time", times), ("position", positions)):
        if not np.isfinite(values).all():
            value = values[~np.isfinite(values)][0]
            raise CommandRefused("non_finite", f"it holds a {what} that is {value}")
    _check_times(times)
    _check_ages(command.stamp_ns, now_ns, received_age, max_age, max_received_age, max_future)
    return Motion(tuple(joints), times, positions[:, order])


def _joint_order(names: Sequence[str], joints: Sequence[str]) -> list[int]:
    """Return where in ``names`` each of ``joints`` stands."""
    if not len(names):
        raise CommandRefused("empty", "it names no joints")
    unknown = [name for name in names if not (isinstance(name, str) and name in joints)]
    if unknown:
        raise CommandRefused("unknown_joint", f"no joint is called {_some(unknown)}")
    place = {name: index for index, name in enumerate(names)}
    if len(place) < len(names):
        twice = [name for index, name in enumerate(names) if place[name] != index]
        raise CommandRefused("duplicate_joint", f"it names {_some(twice)} more than once")
    missing = [name for name in joints if name not in place]
    if missing:
        raise CommandRefused("missing_joint", f"it lacks {_some(missing)}")
    return [place[name] for name in joints]


def _some(names: Sequence[Any]) -> str:
    text = ", ".join(repr(name)[:40] for name in names[:5])
    return text if len(names) <= 5 else f"{text} and {len(names) - 5} more"


def _numbers(values: Any, what: str) -> Array:
    """Return an array of numbers, as it stands: nothing that isn't a number is made one."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise CommandRefused("shape", f"{what} are not a regular array") from None
    if array.size == 0:
        raise CommandRefused("empty", "it holds no points")
    if array.dtype.kind not in "fiu":
        raise CommandRefused("shape", f"{what} are not numbers")
    return array.astype(np.float64)


def _check_shapes(times: Array, positions: Array, joints: int) -> None:
    if times.ndim != 1 or positions.shape != (len(times), joints):
        raise CommandRefused(
            "shape",
            f"positions {positions.shape} do not fit times {times.shape} and {joints} joints",
        )
    if len(times) > MAX_POINTS:
        raise CommandRefused("shape", f"it holds {len(times)} points, more than {MAX_POINTS}")


def _check_times(times: Array) -> None:
    if times[0] < 0.0:
        raise CommandRefused("times", f"it starts {-times[0]:g} s before now")
    if (np.diff(times) <= 0.0).any():
        raise CommandRefused("times", "its times do not increase")
    if not 0.0 < times[-1] <= MAX_DURATION:
        raise CommandRefused(
            "times", f"it lasts {times[-1]:g} s, which is not in (0, {MAX_DURATION:g}]"
        )


def _check_ages(
    stamp_ns: int,
    now_ns: int,
    received_age: float,
    max_age: float,
    max_received_age: float,
    max_future: float,
) -> None:
    try:
        age = (operator.index(now_ns) - operator.index(stamp_ns)) * 1e-9
    except (TypeError, OverflowError):
        raise CommandRefused("stale", "its stamp is not a time in nanoseconds") from None
    # written so that a comparison with NaN refuses
    if not age >= -max_future:
        raise CommandRefused("future", f"its stamp lies {-age:.3f} s in the future")
    if not age <= max_age:
        raise CommandRefused(
            "stale", f"it is based on a capture {age:.3f} s ago, more than {max_age:g} s"
        )
    if not 0.0 <= received_age <= max_received_age:
        raise CommandRefused(
            "stale", f"it arrived {received_age:.3f} s ago, more than {max_received_age:g} s"
        )
