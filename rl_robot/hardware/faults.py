"""What can be wrong with an arm's drivers, planted in the stand-in to see that it is found."""

import xml.etree.ElementTree as ElementTree
from itertools import combinations

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot

NONE = "none"
FAULTS = {
    NONE: "everything as it should be",
    "wrong_joint_order": "two joints' positions are published under each other's names",
    "inverted_joint": "a joint's position is published with the other sign",
    "scaled_joint": "a joint's position is published twice as large",
    "unknown_names": "joints are published under names with a prefix",
    "stale_stamps": "joint states are stamped 3 s in the past",
    "frozen_stamps": "the stamp of the joint states stands still",
    "clock_ahead": "the driver's clock is 30 ms ahead",
    "clock_behind": "the driver's clock is 30 ms behind",
    "swapped_limits": "robot_description holds two joints' limits under each other's names",
    "dead_stop": "the stop button says nothing when pressed",
    "ignores_stop": "the driver goes on moving after a stop, whatever it is sent",
    "slow_rate": "joint states come at half their rate",
    "missing_camera": "no pictures",
    "frozen_camera": "the same picture again and again",
    "late_pictures": "pictures are stamped 0.2 s before they are taken",
    "ignores_timeout": "the driver goes on moving when commands end",
    "latency": "commands are obeyed 0.3 s late",
}

CLOCK_OFFSET = 0.03  # s
STALENESS = 3.0  # s
LATENCY = 0.3  # s
PICTURES_LATE = 0.2  # s


def check_fault(name: str) -> str:
    """Return the name of a fault.

    Raises:
        UserError: there is no such fault.
    """
    if name not in FAULTS:
        raise UserError(f"fault '{name}': expected one of {', '.join(FAULTS)}")
    return name


def confused_joints(robot: Robot) -> tuple[str, str]:
    """Return the two arm joints whose exchange shows least before something moves.

    Raises:
        UserError: the arm has a single joint.
    """
    pairs = list(combinations(robot.arm_joints, 2))
    if not pairs:
        raise UserError(f"robot {robot.name} has one joint only: there is none to confuse it with")
    return min(pairs, key=lambda pair: abs(robot.home[pair[0]] - robot.home[pair[1]]))


def joint_factors(robot: Robot, fault: str) -> dict[str, float]:
    """Return what a joint's published position is multiplied by, where that is not 1.

    It is the joint of the arm whose home is nearest to 0: it shows least before something moves.
    """
    factors = {"inverted_joint": -1.0, "scaled_joint": 2.0}
    if fault not in factors:
        return {}
    return {min(robot.arm_joints, key=lambda joint: abs(robot.home[joint])): factors[fault]}


def swap_limits(robot: Robot) -> str:
    """Return the robot's URDF with the limits of the two arm joints exchanged that differ most.

    Raises:
        UserError: all its arm joints have the same limits.
    """
    root = ElementTree.fromstring(robot.urdf_xml)
    limits = {
        str(joint.get("name")): limit.attrib
        for joint in root.findall("joint")
        if joint.get("name") in robot.arm_joints
        and (limit := joint.find("limit")) is not None
        and {"lower", "upper"} <= set(limit.attrib)
    }

    def difference(pair: tuple[str, str]) -> float:
        one, other = (limits[name] for name in pair)
        return sum(abs(float(one[key]) - float(other[key])) for key in ("lower", "upper"))

    pairs = list(combinations(limits, 2))
    first, second = max(pairs, key=difference, default=("", ""))
    if not first or difference((first, second)) == 0.0:
        raise UserError(f"robot {robot.name}: its arm joints have the same limits")
    one, other = dict(limits[first]), dict(limits[second])
    limits[first].update(other)
    limits[second].update(one)
    return ElementTree.tostring(root, encoding="unicode")
