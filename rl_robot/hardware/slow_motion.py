"""Slow motions of one joint, small and clear of everything, and what is judged of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.findings import Finding, failed, passed
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.urdf import parse_urdf
from rl_robot.safety.filter import SafetyFilter

Array = NDArray[np.float64]

TURN = 0.04  # rad, about 2.3 degrees
SHIFT = 0.005  # m
DURATION = 0.8  # s, there and back
STEADY_SPEED = 3.0  # times as far as that in a second, for a motion that is to be stopped
STEADY_LENGTH = 2.0  # s that there must be room for it
LAG_LIMIT = 0.2  # s: two control periods
AMOUNT_TOLERANCE = 0.3  # part of the motion commanded
STILL_PART = 0.2  # of it that another joint may move, or that counts as not moving
_SPEED_PART = 0.25  # of a joint's velocity limit, at most
_SUBSTEPS = 5
_LAGS = np.arange(0.0, 0.6, 0.005)


@dataclass(frozen=True)
class SlowMotion:
    """A joint's way there and back, ``height`` (rad or m) far, from the positions ``start`` (n,).

    ``sin^2`` of the time: at rest at both ends. ``steady`` is one that goes on and on instead, at
    ``height`` per ``duration`` (s), for stops to end.
    """

    joint: int
    start: Array
    height: float
    duration: float = DURATION
    steady: bool = False

    def at(self, times: Array) -> Array:
        """Return the positions (m, n) at times (m,) in s from the start."""
        times = np.asarray(times, dtype=float)
        if self.steady:
            # gently into constant speed: t^2 / 2T up to T = 0.2 s
            ramp = 0.2
            travelled = np.where(times < ramp, times**2 / (2.0 * ramp), times - ramp / 2.0)
            part = np.maximum(travelled, 0.0) / self.duration
        else:
            part = np.sin(np.pi * np.clip(times / self.duration, 0.0, 1.0)) ** 2
        positions = np.tile(self.start, (len(times), 1))
        positions[:, self.joint] += self.height * part
        return positions

    def command(self, names: Sequence[str], time: float, period: float) -> Motion:
        """Return the motion of the control period (s) that begins at ``time``."""
        times = period * np.arange(1, _SUBSTEPS + 1) / _SUBSTEPS
        return Motion(tuple(names), times, self.at(time + times))


def choose_motion(
    robot: Robot, safety: SafetyFilter, start: Array, joint: int, *, steady: bool = False
) -> SlowMotion | None:
    """Return a slow motion of a joint that the filter lets pass unhindered, None if there is none.

    The side with more room to the joint's limits is tried first.
    """
    low, high = start[joint] - robot.lower[joint], robot.upper[joint] - start[joint]
    for side in (1.0, -1.0) if high >= low else (-1.0, 1.0):
        for part in (1.0, 0.5):
            size = part * _size(robot, joint) * (STEADY_SPEED if steady else 1.0)
            speed = np.pi * size / DURATION
            slower = max(1.0, speed / (_SPEED_PART * robot.velocity[joint]))
            motion = SlowMotion(joint, start, side * size, DURATION * slower, steady)
            if _is_free(safety, motion, robot.joint_names):
                return motion
    return None


def _size(robot: Robot, joint: int) -> float:
    """Return how far a joint is moved; a short one, such as a gripper's, a fifth of its range."""
    shifts = robot.joint_names[joint] in _prismatic(robot.urdf_xml)
    return min(SHIFT if shifts else TURN, 0.2 * (robot.upper[joint] - robot.lower[joint]))


@lru_cache(8)
def _prismatic(urdf: str) -> frozenset[str]:
    joints = parse_urdf(urdf, "URDF").joints.values()
    return frozenset(joint.name for joint in joints if joint.type == "prismatic")


def _is_free(safety: SafetyFilter, motion: SlowMotion, names: Sequence[str]) -> bool:
    """Whether the filter lets a motion pass as it is, but for being smoothed."""
    safety.reset(motion.start)
    length = STEADY_LENGTH if motion.steady else motion.duration
    for number in range(int(np.ceil(length / safety.period))):
        wanted = motion.command(names, number * safety.period, safety.period)
        given = safety.step(wanted).motion.positions[-1]
        if np.any(np.abs(given - wanted.positions[-1]) > 0.2 * abs(motion.height)):
            return False
    return True


@dataclass(frozen=True)
class Track:
    """What the safety node sent and what the joints did, on one clock.

    ``sent_times`` (k,) and ``sent`` (k, n) are the way that was commanded, ``times`` (m,) and
    ``positions`` (m, n) what was measured; s, rad or m.
    """

    sent_times: Array
    sent: Array
    times: Array
    positions: Array


def excursion(positions: Array) -> Array:
    """Return how far (n,) each joint went from where it was first, signed, at the furthest."""
    moved = positions - positions[0]
    return np.asarray(moved[np.abs(moved).argmax(axis=0), np.arange(moved.shape[1])])


def lag(track: Track, joint: int) -> float:
    """Return by how many s a joint followed later than it was told, by least squares."""
    errors = [
        float(
            np.mean(
                (
                    np.interp(track.times - late, track.sent_times, track.sent[:, joint])
                    - track.positions[:, joint]
                )
                ** 2
            )
        )
        for late in _LAGS
    ]
    return float(_LAGS[int(np.argmin(errors))])


def others_moved(robot: Robot, motion: SlowMotion, track: Track) -> list[int]:
    """Return the joints that moved without being told to."""
    if len(track.times) < 2 or len(track.sent_times) < 2:
        return []
    moved = np.abs(excursion(track.positions)) - np.abs(excursion(track.sent))
    return [
        other
        for other in range(len(moved))
        if other != motion.joint and moved[other] > STILL_PART * _size(robot, other)
    ]


def check_motion(robot: Robot, motion: SlowMotion, track: Track) -> Finding:
    """Check that the joint that was told to move did, and no other."""
    joint, name = motion.joint, robot.joint_names[motion.joint]
    check = f"motion {name}"
    if len(track.times) < 2 or len(track.sent_times) < 2:
        wrong = "no joint states came" if len(track.times) < 2 else "safety sent nothing"
        return failed(check, wrong, "see the log of the safety node")
    commanded = float(excursion(track.sent)[joint])
    if abs(commanded) < 0.5 * abs(motion.height):
        wrong = f"safety sent {commanded:.4f} of the {motion.height:.4f} that were asked for"
        return failed(check, wrong, "see the log of the safety node")
    moved = excursion(track.positions)
    strange = others_moved(robot, motion, track)
    unit = "m" if name in _prismatic(robot.urdf_xml) else "rad"
    figure = f"{moved[joint]:+.4f} of {commanded:+.4f} {unit}"
    if abs(moved[joint]) < STILL_PART * abs(commanded):
        return _check_other(robot, check, strange, moved, figure)
    if moved[joint] * commanded < 0.0:
        wrong = f"{name} moves the wrong way: {moved[joint]:+.4f}, commanded {commanded:+.4f}"
        return failed(check, wrong, "correct the joint's sign in driver or URDF", figure)
    if strange:
        other = robot.joint_names[strange[0]]
        wrong = f"{other} moves by {moved[strange[0]]:+.4f} while only {name} is told to"
        return failed(check, wrong, "check the joints' order in driver and YAML", figure)
    if abs(moved[joint] - commanded) > AMOUNT_TOLERANCE * abs(commanded):
        wrong = f"{name} moves by {moved[joint]:+.4f}, commanded {commanded:+.4f}"
        return failed(check, wrong, "check its units and gear ratio", figure)
    late = lag(track, joint)
    figure += f", lag {late * 1e3:.0f} ms"
    limit = f"{LAG_LIMIT * 1e3:.0f} ms"
    if late > LAG_LIMIT:
        wrong = f"{name} follows {late * 1e3:.0f} ms late"
        return failed(check, wrong, "find the latency in driver or network", figure, limit)
    return passed(check, figure, limit)


def _check_other(
    robot: Robot, check: str, strange: Sequence[int], moved: Array, figure: str
) -> Finding:
    name = check.removeprefix("motion ")
    if not strange:
        wrong = f"{name} does not move"
        right = "is the controller active, the arm released, the program on its pendant running?"
        return failed(check, wrong, right, figure)
    other = robot.joint_names[strange[0]]
    return failed(
        check,
        f"wrong joint order: {name} is told to move and {other} moves, by {moved[strange[0]]:+.4f}",
        f"{name} and {other} have each other's place in the driver's joint states or commands",
        figure,
    )


def check_standing(robot: Robot, positions: Array, check: str, told: str) -> Finding:
    """Check that no joint moved in positions (m, n) while nothing was told to.

    ``told`` says what was going on.
    """
    if len(positions) < 2:
        return failed(check, "no joint states came", "see the driver's log")
    moved = excursion(positions)
    units = np.array([_size(robot, index) for index in range(len(moved))])
    worst = int(np.argmax(np.abs(moved) / units))
    figure = f"at most {abs(moved[worst]):.4f} ({robot.joint_names[worst]})"
    if abs(moved[worst]) <= STILL_PART * units[worst]:
        return passed(check, figure)
    exchanged = _exchanged(positions, moved, units)
    if exchanged is not None:
        one, other = (robot.joint_names[index] for index in exchanged)
        wrong = f"wrong joint order: {one} and {other} go where the other one was, {told}"
        right = f"{one} and {other} have each other's place in the driver's joint states"
        return failed(check, wrong, right, figure)
    wrong = f"{robot.joint_names[worst]} moves by {moved[worst]:+.4f} {told}"
    return failed(check, wrong, "nothing but the safety node may move the robot", figure)


def _exchanged(positions: Array, moved: Array, units: Array) -> tuple[int, int] | None:
    """Return two joints each of which went towards where the other one was."""
    for one in range(len(moved)):
        for other in range(one + 1, len(moved)):
            apart = positions[0, other] - positions[0, one]
            far = abs(apart) > 2.0 * STILL_PART * max(units[one], units[other])
            ways = np.array([moved[one], -moved[other]])
            if (
                far
                and np.all(ways * apart > 0.0)
                and np.all(np.abs(ways) > STILL_PART * units[one])
            ):
                return one, other
    return None


def still(robot: Robot) -> Array:
    """Return how far (n,) a joint that counts as at rest may go to and fro, rad or m."""
    return 0.03 * np.array([_size(robot, joint) for joint in range(len(robot.joint_names))])


def rest_time(times: Array, positions: Array, tolerance: Array) -> float | None:
    """Return when (s) the joints had come to rest; None if they still move at the end.

    At rest is whoever stays within ``tolerance`` (n,) of where it is at the end, over at least the
    last fifth of the time.
    """
    away = np.any(np.abs(positions - positions[-1]) > tolerance, axis=1)
    if not away.any():
        return float(times[0])
    last = int(np.flatnonzero(away)[-1])
    if times[last] > times[-1] - 0.2 * (times[-1] - times[0]):
        return None
    return float(times[last + 1])


def check_rest(
    robot: Robot,
    check: str,
    track: tuple[Array, Array],
    limit: float,
    *,
    told: str,
    right: str,
) -> Finding:
    """Check that the joints come to rest within ``limit`` s, by ``track`` (times, positions).

    Times count from what should end the motion, ``told`` in words; ``right`` says what to do.
    """
    times, positions = track
    bound = f"{limit:.2f} s"
    if len(times) < 2:
        return failed(check, f"no joint states came after {told}", "see the driver's log")
    rested = rest_time(times, positions, still(robot))
    if rested is None:
        worst = int(np.argmax(np.abs(positions[-1] - positions[0])))
        wrong = f"{robot.joint_names[worst]} still moves {times[-1]:.1f} s after {told}"
        return failed(check, wrong, right, limit=bound)
    figure = f"at rest after {max(rested, 0.0):.2f} s"
    if rested > limit:
        return failed(
            check, f"the robot comes to rest {rested:.2f} s after {told}", right, figure, bound
        )
    return passed(check, figure, bound)
