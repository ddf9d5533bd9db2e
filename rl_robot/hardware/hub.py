"""What a checkup sees of the graph that an arm is in, and does in it."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.graph_checks import Calibration, Endpoint, Picture
from rl_robot.hardware.joint_checks import JointSample
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot

Array = NDArray[np.float64]
T = TypeVar("T")

Steps = Generator[None, None, T]  # each yield waits for the next tick


@dataclass(frozen=True)
class Sent:
    """What the safety node sent: positions (H, n) at ``times`` (H,), s of the hearer's clock."""

    time: float
    times: Array
    positions: Array


@dataclass
class Reply:
    """A service's answer, once it is ``done``."""

    done: bool = False
    success: bool = False
    text: str = ""


class Hub(Protocol):
    """What a checkup sees of the graph and does in it. Times are s of one clock."""

    robot: Robot
    period: float  # of control, s

    @property
    def joints(self) -> Sequence[JointSample]:
        """The newest joint states, in the order in which they came."""
        ...

    @property
    def sent(self) -> Sequence[Sent]:
        """All that the safety node sent."""
        ...

    @property
    def pictures(self) -> Mapping[str, Sequence[Picture]]:
        """The newest pictures of each camera."""
        ...

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """The newest camera_info of each camera that has one."""
        ...

    @property
    def robot_description(self) -> str | None:
        """The URDF that is published, if any is."""
        ...

    def close_eyes(self) -> None:
        """Hear of no more pictures: they cost what timing needs."""
        ...

    def now(self) -> float:
        """Return the time."""
        ...

    def publishers(self, topic: str) -> Sequence[Endpoint]:
        """Return who publishes a topic, by its name in the YAML."""
        ...

    def endpoints(self) -> Mapping[str, Sequence[Endpoint]]:
        """Return who hears each command topic."""
        ...

    def enable(self, wanted: bool) -> Reply:
        """Ask the safety node to enable, or to disable, motion."""
        ...

    def clear(self) -> Reply:
        """Ask the safety node to clear an emergency stop."""
        ...

    def press_stop(self) -> None:
        """Press the emergency stop."""
        ...

    def stopped(self) -> bool:
        """Return whether the safety node says that it is stopped."""
        ...

    def command(self, motion: Motion) -> None:
        """Command a motion, through the safety node."""
        ...

    def pause_safety(self, paused: bool) -> str:
        """Halt the safety node's process, or let it go on; return why it can't be, if so."""
        ...

    def ask(self, question: str) -> bool | None:
        """Return a person's answer, None while there is none; say False where nobody can answer."""
        ...
