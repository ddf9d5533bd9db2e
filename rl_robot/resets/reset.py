"""The reset as a pure state machine, ticked once per control period.

In this order: open the gripper, lift the tool if it is low (so that the way home doesn't sweep the
table; a gripper that is jammed opens afterwards), home the arm, ask for the objects to be placed,
and believe that only when perception has seen them there afterwards. Placing is tried again; what
fails for good is said in words.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.experience.alignment import ObjectPose
from rl_robot.resets.joint_move import JointMove
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.tasks.task import Start, Task

Array = npt.NDArray[np.float64]
Placement = dict[str, tuple[float, float, float]]

_LIFT_POINTS = 20
_STANDING = 0.05  # rad/s or m/s, measured
_WRONG_LOOKS = 5  # pictures that must agree that an object is not where it should be
_DOING = {
    "open": "opening the gripper",
    "lift": "lifting the tool",
    "home": "homing the arm",
    "look": "looking for the objects",
}
_FAILED = {
    "open": "the gripper did not open",
    "lift": "the arm did not lift",
    "home": "the arm did not reach home",
}


class ResetView(Protocol):
    """What the reset looks at; a ``Snapshot`` is one. ``objects`` holds those seen so far."""

    @property
    def time_ns(self) -> int:
        """Time of the tick."""

    @property
    def joint_positions(self) -> Array:
        """Measured positions (n,)."""

    @property
    def joint_velocities(self) -> Array:
        """Measured velocities (n,)."""

    @property
    def objects(self) -> Mapping[str, ObjectPose]:
        """Perceived poses by name, with their ages."""


@dataclass(frozen=True)
class ResetStep:
    """What to do in this period.

    Attributes:
        motion: one period of joint motion to send; None when done, failed or blind.
        place: objects to place now, name -> (x, y, yaw) in m and rad; None if there is nothing to.
        status: "working", "done" or "failed".
        reason: what is being done, or why it failed, in words.
        attempt: which attempt at placing the objects is under way, from 1.
    """

    motion: Motion | None
    place: Placement | None
    status: str
    reason: str
    attempt: int


class ResetMachine:
    """Resets one robot for one task."""

    def __init__(
        self,
        robot: Robot,
        task: Task,
        *,
        attempts: int = 3,
        tolerance: float = 0.015,
        joint_tolerance: float = 0.05,
        gripper_tolerance: float = 0.005,
        clearance: float = 0.12,
        pace: float = 0.6,
        settle_ticks: int = 3,
        timeout_ticks: int = 30,
        substeps: int = 5,
    ) -> None:
        """Make a machine for ``robot``; ``task`` names the objects and the control period.

        Args:
            robot: the robot to bring home.
            task: the task whose starts are asked for.
            attempts: how often to place the objects before giving up.
            tolerance: horizontal distance in m between an object's start and where it is seen.
            joint_tolerance: of each arm joint at the end of a motion, in rad.
            gripper_tolerance: of the gripper at the end of a motion, in m.
            clearance: height in m below which the tool is lifted before the arm goes home.
            pace: part of the joints' velocity, acceleration and jerk limits to use.
            settle_ticks: control periods after placing before a picture counts.
            timeout_ticks: control periods to wait for joints to arrive, and for objects to be seen.
            substeps: samples of motion per control period.
        """
        self._robot = robot
        self._objects = task.objects
        self._attempts = attempts
        self._tolerance = tolerance
        self._clearance = clearance
        self._settle_ticks = settle_ticks
        self._timeout_ticks = timeout_ticks
        self._period = task.period
        self._arm = len(robot.arm_joints)
        self._joint_tolerance = np.full(len(robot.joints), joint_tolerance)
        self._joint_tolerance[self._arm :] = gripper_tolerance
        self._kinematics = Kinematics(robot)
        self._move = JointMove(robot, period=task.period, substeps=substeps, pace=pace)
        self._status = "idle"

    def begin(self, start: Start) -> None:
        """Start a reset to ``start``, whatever the robot is doing.

        Raises:
            UserError: the start does not say where one of the task's objects goes.
        """
        self._place: Placement = {}
        for name in self._objects:
            where = start.values.get(name, ())
            if len(where) != 3 or not np.isfinite(where).all():
                raise UserError(f'the start needs "{name}": [x, y, yaw], not {list(where)}')
            self._place[name] = (where[0], where[1], where[2])
        self._status, self._reason = "working", "starting"
        self._attempt = 1
        self._ticks = self._blind_ticks = 0
        self._stage = ""
        self._jammed = False
        self._moves = ["open", "lift", "home"] if self._robot.gripper else ["lift", "home"]

    def tick(
        self, view: ResetView | None, reference: Array, reference_velocities: Array | None = None
    ) -> ResetStep:
        """Advance by one control period.

        Args:
            view: what is measured and perceived now; None while there are no joint states.
            reference: (n,) positions commanded last (measured ones before any command).
            reference_velocities: (n,) velocities commanded last; at rest by default.

        Raises:
            RuntimeError: before the first ``begin``.
        """
        if self._status == "idle":
            raise RuntimeError("begin() a reset first")
        if self._status == "working" and view is None:
            self._wait_for_joints()
        if self._status != "working" or view is None:
            return self._step(None, None)
        self._blind_ticks = 0
        self._ticks += 1
        place = self._progress(view, reference)
        if self._status != "working":
            return self._step(None, None)
        at_rest = np.zeros(len(reference))
        motion = self._move.next(
            reference, at_rest if reference_velocities is None else reference_velocities
        )
        return self._step(motion, place)

    def _step(self, motion: Motion | None, place: Placement | None) -> ResetStep:
        return ResetStep(motion, place, self._status, self._reason, self._attempt)

    def _end(self, status: str, reason: str) -> None:
        self._status, self._reason = status, reason

    def _wait_for_joints(self) -> None:
        self._reason = "waiting for joint states"
        self._blind_ticks += 1
        if self._blind_ticks >= self._timeout_ticks:
            self._end("failed", f"no joint states for {self._timeout:.1f} s")

    @property
    def _timeout(self) -> float:
        return self._timeout_ticks * self._period

    def _progress(self, view: ResetView, reference: Array) -> Placement | None:
        """Leave the present stage when it is over; return what is to be placed, if anything."""
        if self._stage == "look":
            return self._look(view)
        if not self._stage or self._has_arrived(view):
            return self._next_stage(view, reference)
        if self._is_late():
            if self._stage == "open" and not self._jammed:
                # Something may hold the fingers, such as a block they press on: away from it.
                self._jammed = True
                self._moves = ["lift", "open", "home"]
                return self._next_stage(view, reference)
            self._end("failed", f"{_FAILED[self._stage]}: {self._errors(view)}")
        return None

    def _next_stage(self, view: ResetView, reference: Array) -> Placement | None:
        if not self._moves and self._objects:
            return self._ask_for_placing(view)
        if not self._moves:
            self._end("done", "the robot is at home")
            return None
        self._stage = self._moves.pop(0)
        goal = self._goal(reference)
        if goal is None:
            return self._next_stage(view, reference)
        self._reason = _DOING[self._stage]
        self._move.begin(goal)
        self._ticks = 0
        self._deadline: int | None = None
        return None

    def _goal(self, reference: Array) -> Array | None:
        """Return where the joints (n,) are to go in this stage; None if they needn't."""
        if self._stage == "home":
            return self._robot.home_positions
        if self._stage == "lift":
            return self._lifted(reference)
        gripper = self._robot.gripper
        assert gripper is not None
        goal = reference.copy()
        goal[self._robot.joint_names.index(gripper.joint)] = gripper.open
        return goal

    def _lifted(self, reference: Array) -> Array | None:
        """Return the joints (n,) with the tool straight above, at the clearance; None if it is."""
        arm = reference[: self._arm]
        position, rotation = self._kinematics.tool_pose(arm)
        rise = self._clearance - position[2]
        if rise <= 0.0:
            return None
        for height in np.linspace(0.0, rise, _LIFT_POINTS + 1)[1:]:
            above = position + np.array([0.0, 0.0, height])
            step, _ = self._kinematics.step_towards(arm, above, rotation)
            arm = np.clip(
                arm + step, self._robot.lower[: self._arm], self._robot.upper[: self._arm]
            )
        return np.concatenate([arm, reference[self._arm :]])

    def _has_arrived(self, view: ResetView) -> bool:
        # A jammed gripper may stay where it is until it is lifted.
        judged = slice(self._arm if self._jammed and self._stage == "lift" else None)
        errors = np.abs(view.joint_positions - self._move.goal)[judged]
        return bool(
            self._move.remaining == 0.0
            and (errors <= self._joint_tolerance[judged]).all()
            and (np.abs(view.joint_velocities[judged]) <= _STANDING).all()
        )

    def _is_late(self) -> bool:
        """Whether the joints took longer than their first plan and the timeout together."""
        remaining = self._move.remaining
        if self._deadline is None and remaining is not None:
            planned = math.ceil(remaining / self._period)
            self._deadline = self._ticks + planned + self._timeout_ticks
        deadline = self._timeout_ticks if self._deadline is None else self._deadline
        return self._ticks > deadline

    def _errors(self, view: ResetView) -> str:
        """Name the joints that are off their goal, and by how much."""
        errors = np.abs(view.joint_positions - self._move.goal)
        texts = [
            f"{joint.name} {error:.2f} rad" if index < self._arm else f"{joint.name} {error:.3f} m"
            for index, (joint, error) in enumerate(zip(self._robot.joints, errors, strict=True))
            if error > self._joint_tolerance[index]
        ]
        return f"{', '.join(texts)} off" if texts else "it is still moving"

    def _ask_for_placing(self, view: ResetView) -> Placement:
        self._stage = "look"
        self._reason = _DOING["look"]
        self._ticks = 0
        self._settled_ns = view.time_ns
        self._wrong_looks = 0
        return dict(self._place)

    def _look(self, view: ResetView) -> Placement | None:
        """Compare pictures taken after the objects settled with where they were to be placed."""
        if self._ticks <= self._settle_ticks:
            self._settled_ns = view.time_ns
        unseen = [name for name in self._objects if not self._is_fresh(view, name)]
        if unseen and self._ticks > self._settle_ticks + self._timeout_ticks:
            return self._try_again(
                view, f"the {unseen[0]} was not seen within {self._timeout:.1f} s"
            )
        if unseen:
            return None
        distances = {name: self._distance(view, name) for name in self._objects}
        worst = max(distances, key=lambda name: distances[name])
        if distances[worst] <= self._tolerance:
            self._end("done", f"the {worst} is {100 * distances[worst]:.1f} cm from its start")
            return None
        self._wrong_looks += 1
        self._settled_ns = view.time_ns
        if self._wrong_looks < _WRONG_LOOKS:
            return None
        return self._try_again(
            view, f"the {worst} is {100 * distances[worst]:.1f} cm from its start"
        )

    def _is_fresh(self, view: ResetView, name: str) -> bool:
        """Whether the object was seen in a picture taken after it settled, or the last look."""
        seen = view.objects.get(name)
        return seen is not None and seen.age * 1e9 < view.time_ns - self._settled_ns

    def _distance(self, view: ResetView, name: str) -> float:
        x, y, _ = self._place[name]
        position = view.objects[name].position
        return math.hypot(position[0] - x, position[1] - y)

    def _try_again(self, view: ResetView, problem: str) -> Placement | None:
        if self._attempt >= self._attempts:
            attempts = "1 attempt" if self._attempt == 1 else f"{self._attempt} attempts"
            self._end("failed", f"{problem} after {attempts}")
            return None
        self._attempt += 1
        return self._ask_for_placing(view)
