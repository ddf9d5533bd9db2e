"""An arm with its drivers that is not there: controllers, drives and encoders, and their faults."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.hardware import faults
from rl_robot.hardware.controllers import (
    ForwardController,
    JointTrajectoryController,
    Trajectory,
)
from rl_robot.hardware.servo import LAG, LONGEST_STEP, RESERVE, Servo
from rl_robot.hardware.twists import Twist, TwistController
from rl_robot.robots.description import CommandInterface, Robot
from rl_robot.robots.interfaces import (
    FLOAT64_MULTI_ARRAY,
    JOINT_TRAJECTORY,
    POSITION,
    TWIST_STAMPED,
    VELOCITY,
)

Array = NDArray[np.float64]
Controller = JointTrajectoryController | ForwardController | TwistController
Command = Trajectory | Twist | Sequence[float]

_MOST_BEHIND_NS = 1_000_000_000  # longer gaps are skipped, as a real clock would not wait
_RUNAWAY_NS = 1_500_000_000  # how long a driver goes on that ignores a stop


@dataclass(frozen=True)
class Sample:
    """What the drivers publish of the joints; ``positions`` and ``velocities`` as ``names``."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: Array
    velocities: Array


class StandIn:
    """Behaves as the robot's drivers would, at the times that it is told.

    Joints are published sorted by name, as joint_state_broadcaster does in Jazzy where it has the
    robot's description: in an order that is not the robot YAML's. Each controller obeys as its own
    class says; a JointTrajectory's end is its timeout, and ``cmd_timeout`` the interface's.
    """

    def __init__(
        self, robot: Robot, now_ns: int, *, fault: str = faults.NONE, lag: float = LAG
    ) -> None:
        """Stand at home at ``now_ns``, with one of ``faults.FAULTS``.

        Raises:
            UserError: no such fault, or one that this robot cannot have, or an interface whose
                controller is not imitated.
        """
        self._robot = robot
        self._fault = faults.check_fault(fault)
        if fault == "ignores_timeout" and all(_holds_by_itself(one) for one in robot.interfaces):
            raise UserError(
                f"fault 'ignores_timeout': robot {robot.name} is sent positions, and stands at the "
                "last one whatever its driver does"
            )
        able = RESERVE * robot.acceleration
        self._servo = Servo(robot.home_positions, robot.velocity, able, lag=lag)
        self._names = tuple(sorted(robot.joint_names))
        self._columns = [robot.joint_names.index(name) for name in self._shown_names()]
        factors = faults.joint_factors(robot, fault)
        self._factors = np.array([factors.get(name, 1.0) for name in self._names])
        rate = robot.joint_state_rate * (0.5 if fault == "slow_rate" else 1.0)
        self._period_ns = round(1e9 / rate)
        self._steps = int(np.ceil(self._period_ns * 1e-9 / LONGEST_STEP))
        self._begun_ns = self._now_ns = now_ns
        self._drives = {one.name: _Drive(robot, one, fault) for one in robot.interfaces}
        self._waiting: deque[tuple[int, Callable[[int], None]]] = deque()

    @property
    def positions(self) -> Array:
        """Where the joints are (n,), in the robot's order."""
        return self._servo.positions.copy()

    @property
    def robot_description(self) -> str:
        """The URDF as the driver publishes it."""
        swapped = self._fault == "swapped_limits"
        return faults.swap_limits(self._robot) if swapped else self._robot.urdf_xml

    def command(self, interface: str, command: Command, now_ns: int) -> None:
        """Hand a controller what it was sent, of the kind that it takes.

        Raises:
            Rejected: the controller does not execute it.
        """
        drive = self._drives[interface]
        if self._fault == "latency":
            due = now_ns + round(faults.LATENCY * 1e9)
            self._waiting.append((due, lambda now: drive.take(command, now, self._servo)))
        else:
            drive.take(command, now_ns, self._servo)

    def stop_pressed(self, now_ns: int) -> None:
        """Hear that an emergency stop was pressed; only a driver with a fault cares.

        What stops a sound one is what the safety node sends.
        """
        if self._fault == "ignores_stop":
            for drive in self._drives.values():
                drive.run_away(now_ns + _RUNAWAY_NS)

    def advance(self, now_ns: int) -> list[Sample]:
        """Move on to ``now_ns``; return the samples that were due until then."""
        if now_ns - self._now_ns > _MOST_BEHIND_NS:
            self._now_ns = now_ns - self._period_ns
        samples = []
        while self._now_ns + self._period_ns <= now_ns:
            self._advance_one()
            samples.append(self._sample())
        return samples

    @property
    def _here(self) -> Array:
        return self._servo.positions

    def _advance_one(self) -> None:
        step_ns = self._period_ns // self._steps
        for number in range(self._steps):
            now = self._now_ns + (number + 1) * step_ns
            while self._waiting and self._waiting[0][0] <= now:
                self._waiting.popleft()[1](now)
            reference = np.empty_like(self._servo.positions)
            for drive in self._drives.values():
                reference[drive.columns] = drive.reference(now, self._here, step_ns * 1e-9)
            reference = np.clip(reference, self._robot.lower, self._robot.upper)
            self._servo.advance(reference, step_ns * 1e-9)
        self._now_ns += self._period_ns

    def _shown_names(self) -> list[str]:
        """Return whose position is published under each of the names."""
        shown = {name: name for name in self._names}
        if self._fault == "wrong_joint_order":
            one, other = faults.confused_joints(self._robot)
            shown |= {one: other, other: one}
        return list(shown.values())

    def _sample(self) -> Sample:
        offset = {
            "clock_ahead": faults.CLOCK_OFFSET,
            "clock_behind": -faults.CLOCK_OFFSET,
            "stale_stamps": -faults.STALENESS,
        }.get(self._fault, 0.0)
        stamp = self._begun_ns if self._fault == "frozen_stamps" else self._now_ns
        prefix = "arm0_" if self._fault == "unknown_names" else ""
        return Sample(
            stamp_ns=stamp + round(offset * 1e9),
            names=tuple(prefix + name for name in self._names),
            positions=self._servo.positions[self._columns] * self._factors,
            velocities=self._servo.velocities[self._columns] * self._factors,
        )


class _Drive:
    """A controller in its place in the arm, and what its driver does wrong."""

    def __init__(self, robot: Robot, interface: CommandInterface, fault: str) -> None:
        self._ignores_timeout = fault == "ignores_timeout"
        self._controller = _controller(robot, interface, endless=self._ignores_timeout)
        joints = self._controller.joints
        self.columns = np.array([robot.joint_names.index(name) for name in joints])
        here = robot.home_positions[self.columns]
        self._taken_ns: int | None = None
        self._reference = here.copy()
        self._rates = np.zeros(len(here))
        self._runaway_until_ns = 0

    def take(self, command: Command, now_ns: int, servo: Servo) -> None:
        controller = self._controller
        if isinstance(controller, JointTrajectoryController):
            assert isinstance(command, Trajectory)
            here, speeds = servo.positions[self.columns], servo.velocities[self.columns]
            controller.take(command, now_ns, here, speeds)
        elif isinstance(controller, TwistController):
            assert isinstance(command, Twist)
            controller.take(command)
        else:
            assert not isinstance(command, Trajectory | Twist)
            controller.take(command, now_ns)
        self._taken_ns = now_ns

    def run_away(self, until_ns: int) -> None:
        """Go on as now, whatever comes."""
        self._runaway_until_ns = until_ns

    def reference(self, now_ns: int, here: Array, step: float) -> Array:
        silence = 0 if self._taken_ns is None else now_ns - self._taken_ns
        endless = self._ignores_timeout and silence > _SILENT_NS
        if now_ns < self._runaway_until_ns or endless:
            self._reference = self._reference + self._rates * step
            return self._reference
        reference = self._controller.reference(now_ns, here[self.columns], step)
        if silence < _KNOWN_NS:
            # Smoothed: a trajectory that begins at the measured state begins with a step back.
            part = min(1.0, step / _SMOOTHED)
            self._rates += part * ((reference - self._reference) / step - self._rates)
        self._reference = reference
        return reference


_SMOOTHED = 0.01  # s
_SILENT_NS = 120_000_000  # commands come every 0.1 s, or as a stream
_KNOWN_NS = 90_000_000  # until then a trajectory does not brake for want of another


def _holds_by_itself(interface: CommandInterface) -> bool:
    """Whether silence stops it: a stream of positions ends with the one that came last."""
    return interface.streamed and interface.mode == POSITION


def _controller(robot: Robot, interface: CommandInterface, *, endless: bool) -> Controller:
    here = np.array([robot.home[name] for name in interface.joints])
    if interface.type == JOINT_TRAJECTORY:
        return JointTrajectoryController(interface.joints, here, cmd_timeout=interface.timeout)
    if interface.type == FLOAT64_MULTI_ARRAY:
        timeout = np.inf if endless else interface.timeout
        velocity = interface.mode == VELOCITY
        return ForwardController(interface.joints, here, velocity=velocity, timeout=timeout)
    if interface.type == TWIST_STAMPED:
        arm = np.array([robot.home[name] for name in robot.arm_joints])
        return TwistController(robot, arm, timeout=interface.timeout)
    raise UserError(
        f"robot {robot.name}: the stand-in has no controller that takes {interface.type}"
    )
