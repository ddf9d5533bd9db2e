"""Bring the tool to a goal above the table: a second task, to show that a task is data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rl_robot.experience.alignment import Snapshot
from rl_robot.rewards import closeness
from rl_robot.tasks.task import (
    HISTORY,
    Box,
    Memory,
    Observation,
    ObservationSpec,
    Reward,
    ScriptStrength,
    Start,
    Task,
)


@dataclass(frozen=True)
class Reach(Task):
    """Hold the tool within 2 cm of a goal."""

    name: str = "reach"
    has_goal: bool = True
    workspace: Box = ((0.25, -0.18, 0.06), (0.55, 0.18, 0.30))
    start_area: Box = ((0.30, -0.10, 0.10), (0.50, 0.10, 0.25))
    tolerance: float = 0.02  # m
    weak_script: ScriptStrength = field(default=ScriptStrength(noise=0.5, offset=(0.0, 0.01, 0.0)))

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """Shapes, units and ranges, base frame."""
        return {
            "tool_position": ObservationSpec((3,), "m", *self.workspace),
            "goal_relative": ObservationSpec((3,), "m", -0.3, 0.3),
            "joint_age": ObservationSpec((1,), "s", 0.0, 0.2),
            "action_history": ObservationSpec((HISTORY, 5), "1"),
        }

    def start(self, split: str, index: int) -> Start:
        """Return the goal: anywhere in a box above the table."""
        return Start({"goal": self._draw(split, index, self.start_area)})

    def observation(
        self, snapshot: Snapshot, action_history: Sequence[npt.NDArray[np.float32]]
    ) -> Observation:
        """Return the named observation; units and ranges are in ``observation_spec``."""
        assert snapshot.goal is not None
        values = {
            "tool_position": snapshot.tool_position,
            "goal_relative": snapshot.goal - snapshot.tool_position,
            "joint_age": [snapshot.joint_age],
            "action_history": action_history,
        }
        return {name: np.array(value, dtype=np.float32) for name, value in values.items()}

    def reward(self, memory: Memory, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> Reward:
        """Charge for time, less the nearer the goal is, and for jerk; pay 1 for success.

        Success ends the episode.
        """
        assert snapshot.goal is not None
        distance = float(np.linalg.norm(snapshot.goal - snapshot.tool_position))
        memory.streak = memory.streak + 1 if distance <= self.tolerance else 0
        success = memory.streak >= self.success_steps
        terms = {
            "time": -0.1,
            "jerk": self.jerk_charge(memory, action),
            "reach": 0.1 * closeness(distance, 0.1),
            "success": 1.0 * success,
        }
        return Reward(terms=terms, success=success, terminated=success)
