"""Scripted experts: they see what a learned policy sees, and nothing else."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.policies.policy import Action, Policy, PolicySpec
from rl_robot.robots.description import Robot
from rl_robot.tasks import ScriptStrength, Task

Observed = Mapping[str, npt.NDArray[np.float32]]

_OPEN, _CLOSE = 1.0, -1.0


class _Script(ABC):
    """What the scripts share: proportional motion towards a target, weakened as asked."""

    def __init__(self, task: Task, robot: Robot, strength: ScriptStrength) -> None:
        self.spec = PolicySpec.of(task, robot)
        self._strength = strength
        self._offset = np.array(strength.offset)
        self._step = task.max_speed * task.period
        self._turn = task.max_yaw_rate * task.period
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same noise."""
        self._generator = np.random.default_rng(seed)

    @abstractmethod
    def act(self, observation: Observed, *, explore: bool) -> Action:
        """Return the next action (5,); the strength's noise is all the exploration there is."""

    def _action(self, error: npt.NDArray[np.float64], turn: float, gripper: float) -> Action:
        """Return the action that closes most of ``error`` (3,) in m and ``turn`` in rad."""
        motion = 0.7 * np.array([*(error / self._step), turn / self._turn])
        motion = np.clip(motion, -1.0, 1.0) * self._strength.speed
        motion += self._generator.normal(0.0, 1.0, 4) * self._strength.noise
        return np.clip([*motion, gripper], -1.0, 1.0).astype(np.float32)


class GraspScript(_Script):
    """Go above the block, descend as the alignment allows, close, lift; look again if empty.

    While the hand hides the block, the observation holds the pose last seen.
    """

    HOVER: ClassVar[float] = 0.06  # m above the block's centre
    LOOK: ClassVar[float] = 0.12  # m above the block's centre, where the hand hides nothing
    FRESH: ClassVar[float] = 0.15  # s, age of a pose that counts as just seen
    CLOSING_STEPS: ClassVar[int] = 6  # time that the fingers have to find the block

    def reset(self, seed: int) -> None:
        """Start an episode with the gripper open."""
        super().reset(seed)
        self._closing = 0  # steps since the gripper was told to close; 0 while open
        self._looking = False

    def act(self, observation: Observed, *, explore: bool) -> Action:
        """Return the next action (5,)."""
        block = self._block(observation)
        turn = math.atan2(observation["block_yaw"][1], observation["block_yaw"][0]) / 4.0
        if self._closing:
            self._closing += 1
            if observation["block_held"][0]:
                return self._action(np.array([0.0, 0.0, 2.0 * self._step]), 0.0, _CLOSE)
            if self._closing <= self.CLOSING_STEPS:
                return self._action(np.zeros(3), 0.0, _CLOSE)
            self._closing, self._looking = 0, True  # closed on nothing
        if self._looking:
            fresh = observation["block_age"][0] < self.FRESH
            self._looking = not fresh and block[2] > 0.01 - self.LOOK
            if self._looking:
                return self._action(np.array([0.0, 0.0, block[2] + self.LOOK]), 0.0, _OPEN)
        return self._approach(block, turn)

    def _approach(self, block: npt.NDArray[np.float64], turn: float) -> Action:
        """Go to the ``block`` (3,), m from the tool, and close when there."""
        aside = math.hypot(block[0], block[1])
        if aside < 0.006 and abs(turn) < 0.08 and abs(block[2]) < 0.006:
            self._closing = 1
            return self._action(np.zeros(3), 0.0, _CLOSE)
        # down a funnel: the worse the alignment, the higher the tool stays
        misaligned = max(aside / 0.02, abs(turn) / 0.2) - 0.3
        hover = self.HOVER * min(max(misaligned, 0.0), 1.0)
        return self._action(block + np.array([0.0, 0.0, hover]), turn, _OPEN)

    def _block(self, observation: Observed) -> npt.NDArray[np.float64]:
        """Return the block's position relative to the tool along the base frame's axes."""
        x, y, z = observation["block_relative"]
        cos, sin = observation["tool_yaw"]
        return np.array([cos * x - sin * y, sin * x + cos * y, z]) + self._offset


class ReachScript(_Script):
    """Straight to the goal."""

    def act(self, observation: Observed, *, explore: bool) -> Action:
        """Return the next action (5,)."""
        return self._action(observation["goal_relative"] + self._offset, 0.0, _OPEN)


_SCRIPTS: dict[str, type[_Script]] = {"grasp": GraspScript, "reach": ReachScript}


def script(task: Task, robot: Robot, strength: ScriptStrength | None = None) -> Policy:
    """Return the scripted expert of a task, at full strength unless told otherwise.

    Raises:
        UserError: nobody wrote a script for this task.
    """
    if task.name not in _SCRIPTS:
        known = ", ".join(sorted(_SCRIPTS))
        raise UserError(
            f"task {task.name} has no scripted expert, only {known} have one: "
            "give your own policy as module:Class"
        )
    return _SCRIPTS[task.name](task, robot, strength or ScriptStrength())
