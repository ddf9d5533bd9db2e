"""Checks of what an arm's drivers publish of its joints: names, values, rate, stamps, limits.

Each takes what was collected and returns a finding. Times are seconds of one clock, the hearer's,
onto which stamps are carried as they are: a driver's clock that is wrong shows in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.hardware.findings import Finding, failed, passed
from rl_robot.hardware.graph_checks import Endpoint, check_publishers
from rl_robot.robots.description import Robot
from rl_robot.robots.urdf import Urdf, UrdfJoint, parse_urdf

Array = NDArray[np.float64]

FEWEST = 20  # samples that a judgement needs
RATE_TOLERANCE = 0.1  # part of the rate that the YAML says
LONGEST_GAP = 10.0  # periods of the joint states; the safety node stops after 25 at 100 Hz
CLOCK_LIMIT = 0.015  # s
SETTLED = 1.0  # s without a smaller age, after which the smallest is believed
SAME_AGE = 0.001  # s
STALE = 0.25  # s: 2.5 control periods, what the safety node relies on
FROZEN_PART = 0.5  # of the stamps that repeat the one before, or go back
_SAME_LIMIT = 1e-3  # rad, m, and the same per s


@dataclass(frozen=True)
class JointSample:
    """One message of the joint states: when it says it was captured, and when it was received."""

    stamp: float
    received: float
    names: tuple[str, ...]
    positions: tuple[float, ...]

    @property
    def age(self) -> float:
        """Seconds from capture to reception, by two clocks if these are two machines."""
        return self.received - self.stamp


def positions_of(robot: Robot, samples: Sequence[JointSample]) -> Array:
    """Return the positions (m, n) of samples in the robot's order; NaN where a joint is missing."""
    rows = np.full((len(samples), len(robot.joint_names)), np.nan)
    columns: list[tuple[int, int]] = []
    names: tuple[str, ...] | None = None
    for row, sample in zip(rows, samples, strict=True):
        if sample.names != names:
            names = sample.names
            place = {name: index for index, name in enumerate(names)}
            columns = [(i, place[n]) for i, n in enumerate(robot.joint_names) if n in place]
        for column, index in columns:
            if index < len(sample.positions):
                row[column] = sample.positions[index]
    return rows


def check_joint_states(
    robot: Robot, samples: Sequence[JointSample], publishers: Sequence[Endpoint]
) -> Finding:
    """Check who publishes the joint states, their names and positions."""
    check, topic = "joint_states", robot.joint_state_topic
    finding = check_publishers(check, topic, "sensor_msgs/msg/JointState", publishers)
    if finding is not None:
        return finding
    if not samples:
        wrong = f"nothing comes on {topic}" + ("" if publishers else ", which nobody publishes")
        right = "start the driver in this ROS domain, or correct joint_states: topic: in the YAML"
        return failed(check, wrong, right)
    names = samples[-1].names
    missing = [name for name in robot.joint_names if name not in names]
    if missing:
        return failed(
            check,
            f"joint {missing[0]} is not published: the driver's names are {', '.join(names)}",
            f"the YAML's are {', '.join(robot.joint_names)}: correct one of them",
        )
    positions = positions_of(robot, samples)
    if not np.isfinite(positions).all():
        column = int(np.argwhere(~np.isfinite(positions))[0][1])
        wrong = f"a position of {robot.joint_names[column]} is missing or not finite"
        return failed(check, wrong, "mend the driver")
    return _check_inside(robot, positions, names)


def _check_inside(robot: Robot, positions: Array, names: Sequence[str]) -> Finding:
    check, slack = "joint_states", 1e-3 * (robot.upper - robot.lower)
    outside = (positions < robot.lower - slack) | (positions > robot.upper + slack)
    if outside.any():
        column = int(np.argwhere(outside)[0][1])
        joint = robot.joints[column]
        value = positions[outside[:, column], column][0]
        return failed(
            check,
            f"{joint.name} is at {value:.4g}, outside its limits {joint.lower:g} to "
            f"{joint.upper:g}",
            "bring it inside by hand, or correct the YAML's limits, units or names",
        )
    own = [name for name in names if name in robot.joint_names]
    order = "the YAML's" if own == list(robot.joint_names) else f"its own ({', '.join(own)})"
    return passed(check, f"{len(own)} joints, order: {order}")


def check_rate(robot: Robot, samples: Sequence[JointSample]) -> Finding:
    """Check rate and gaps by the stamps, which rise and which a busy hearer does not change."""
    check, expected = "rate", robot.joint_state_rate
    limit = f"{expected:g} Hz by {RATE_TOLERANCE:.0%}, gaps up to {LONGEST_GAP / expected:.2g} s"
    if len(samples) < FEWEST:
        return failed(check, f"only {len(samples)} messages came", "mend the driver", limit=limit)
    intervals = np.diff([sample.stamp for sample in samples])
    rate, longest = 1.0 / float(np.median(intervals)), float(intervals.max())
    jitter = float(np.percentile(intervals, 95) - np.percentile(intervals, 5))
    figure = f"{rate:.1f} Hz, jitter {jitter * 1e3:.1f} ms, longest gap {longest * 1e3:.0f} ms"
    if abs(rate - expected) > RATE_TOLERANCE * expected:
        wrong = f"joint states come at {rate:.1f} Hz, the YAML says {expected:g} Hz"
        return failed(check, wrong, "set the driver's rate, or joint_states: rate:", figure, limit)
    if longest > LONGEST_GAP / expected:
        wrong = f"{longest:.3f} s passed between two joint states"
        return failed(check, wrong, "find out what holds the driver up", figure, limit)
    return passed(check, figure, limit)


def check_stamps(samples: Sequence[JointSample]) -> Finding:
    """Check that stamps rise and are recent."""
    check, limit = "stamps", f"rising, at most {STALE:g} s old"
    if len(samples) < FEWEST:
        return failed(check, f"only {len(samples)} messages came", "mend the driver", limit=limit)
    steps = np.diff([sample.stamp for sample in samples])
    age = float(np.median([sample.age for sample in samples]))
    figure = f"median age {age * 1e3:.1f} ms"
    still = float(np.mean(steps <= 0.0))
    right = "each joint state must carry the time at which it was measured"
    if all(sample.stamp == samples[0].stamp for sample in samples):
        return failed(check, "the stamp stands still", right, figure, limit)
    if still > 0.0:
        wrong = f"{still:.0%} of the stamps do not rise"
        return failed(check, wrong, right, figure, limit)
    if abs(age) > STALE:
        where = "in the past" if age > 0.0 else "in the future"
        wrong = f"stale stamps: joint states are stamped {abs(age):.2f} s {where}"
        return failed(check, wrong, f"{right}; synchronise the clocks", figure, limit)
    return passed(check, figure, limit)


def clock_settled(samples: Sequence[JointSample]) -> bool:
    """Whether waiting longer would hardly change what `check_clock` says.

    It would not once the smallest age is inside the limit, or did not get smaller for a while.
    """
    if len(samples) < FEWEST:
        return False
    since = samples[-1].received - SETTLED
    before = [sample.age for sample in samples if sample.received <= since]
    lately = [sample.age for sample in samples if sample.received > since]
    if abs(min([*before, *lately])) < CLOCK_LIMIT:
        return True
    return len(before) >= FEWEST and min(lately) > min(before) - SAME_AGE


def check_clock(samples: Sequence[JointSample]) -> Finding:
    """Check the driver's clock against this machine's.

    Every age, reception less stamp, is latency less the driver's lead. Latency is never negative
    and of many messages at least one has next to none, however busy the machine is: so the
    *smallest* age estimates the offset, and the others only say how busy it was. It is what NTP's
    clock filter does with round trips (Mills, "Internet time synchronization: the Network Time
    Protocol", IEEE Transactions on Communications, 1991), one way. A negative one proves that the
    driver's clock is ahead by at least as much; a large one is a clock that is behind, or a driver
    that never is quicker, and one way the two can't be told apart.
    """
    check, limit = "clock", f"{CLOCK_LIMIT * 1e3:.0f} ms"
    if len(samples) < FEWEST:
        return failed(check, f"only {len(samples)} messages came", "mend the driver", limit=limit)
    ages = np.array([sample.age for sample in samples])
    offset, median = float(ages.min()), float(np.median(ages))
    figure = f"smallest age {offset * 1e3:.1f} ms (median {median * 1e3:.1f}) of {len(ages)}"
    right = "synchronise the machines' clocks (chrony, PTP)"
    if offset < -CLOCK_LIMIT:
        wrong = f"clock offset: the driver's clock is at least {-offset * 1e3:.0f} ms ahead"
        return failed(check, wrong, right, figure, limit)
    if offset > CLOCK_LIMIT:
        wrong = (
            f"clock offset: the driver's clock is {offset * 1e3:.0f} ms behind, or no joint state "
            "comes sooner than that after it was measured"
        )
        return failed(check, wrong, right, figure, limit)
    return passed(check, figure, limit)


def check_limits(robot: Robot, description: str | None) -> Finding | None:
    """Check the YAML's limits against those in the URDF that the driver publishes.

    None where it publishes none: then there is nothing to check.
    """
    check = "limits"
    if description is None:
        return None
    try:
        urdf = parse_urdf(description, "robot_description")
    except UserError as error:
        return failed(check, str(error), "mend what publishes robot_description")
    own = parse_urdf(robot.urdf_xml, robot.urdf_path.name)
    missing = [name for name in robot.joint_names if name not in urdf.joints]
    if missing:
        wrong = f"the driver's robot_description has no joint {missing[0]}"
        return failed(check, wrong, "use one URDF for the driver and the YAML")
    swapped = _swapped(robot, own, urdf)
    if swapped:
        one, other = (f"{name} {_range(urdf.joints[name])}" for name in swapped)
        ours = ", ".join(f"{name} {_range(own.joints[name])}" for name in swapped)
        return failed(
            check,
            f"swapped limits: the driver's robot_description has {one}, {other}",
            f"{robot.urdf_path.name} has {ours}: correct one of them",
        )
    for joint in robot.joints:
        theirs = urdf.joints[joint.name]
        for key, beyond in (
            ("lower", theirs.lower - joint.lower),
            ("upper", joint.upper - theirs.upper),
            ("velocity", joint.velocity - theirs.velocity),
        ):
            if beyond > _SAME_LIMIT:
                return failed(
                    check,
                    f"{joint.name}: {key} {getattr(joint, key):g} in {robot.source.name} "
                    f"({robot.urdf_path.name}: {getattr(own.joints[joint.name], key):g}) is wider "
                    f"than the driver's {getattr(theirs, key):g} (robot_description)",
                    f"narrow it to {getattr(theirs, key):g} in {robot.source.name}",
                )
    sources = f"{robot.source.name}, {robot.urdf_path.name}, robot_description"
    return passed(check, f"{len(robot.joints)} joints agree: {sources}")


def _swapped(robot: Robot, own: Urdf, driver: Urdf) -> tuple[str, str] | None:
    """Return two joints whose limits the driver has under each other's names."""
    for one, other in combinations(robot.joint_names, 2):
        differ = not _same(own.joints[one], own.joints[other])
        crossed = _same(own.joints[one], driver.joints[other])
        if differ and crossed and _same(own.joints[other], driver.joints[one]):
            return one, other
    return None


def _same(one: UrdfJoint, other: UrdfJoint) -> bool:
    return bool(
        np.allclose(
            [one.lower, one.upper, one.velocity],
            [other.lower, other.upper, other.velocity],
            rtol=0.0,
            atol=_SAME_LIMIT,
        )
    )


def _range(joint: UrdfJoint) -> str:
    return f"{joint.lower:g} to {joint.upper:g} ({joint.velocity:g}/s)"
