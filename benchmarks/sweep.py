"""A task without an end, and a policy that never stands still: for what stops a robot in motion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl_robot.experience.alignment import Snapshot
from rl_robot.policies import Action, PolicySpec
from rl_robot.robots.description import Robot
from rl_robot.tasks import Memory, Observation, ObservationSpec, Reward, Start, Task
from rl_robot.tasks.task import Box

TASK = "sweep:Sweep"
POLICY = "sweep:SweepPolicy"
_MARGIN = 0.04  # m before a wall of the workspace at which the tool turns back
_TURN = 1.2  # rad of yaw either way


@dataclass(frozen=True)
class Sweep(Task):
    """Keep moving: no object, no goal, no reward."""

    name: str = "sweep"
    max_steps: int = 100
    max_speed: float = 0.25
    workspace: Box = ((0.25, -0.18, 0.06), (0.55, 0.18, 0.30))

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """Shapes, units and ranges, base frame."""
        return {
            "tool_position": ObservationSpec((3,), "m", *self.workspace),
            "tool_yaw": ObservationSpec((1,), "rad", -np.pi, np.pi),
        }

    def start(self, split: str, index: int) -> Start:
        """Return a start with nothing to be placed."""
        return Start({})

    def observation(
        self, snapshot: Snapshot, action_history: Sequence[npt.NDArray[np.float32]]
    ) -> Observation:
        """Return the named observation; units and ranges are in ``observation_spec``."""
        return {
            "tool_position": snapshot.tool_position.astype(np.float32),
            "tool_yaw": np.array([snapshot.tool_yaw], dtype=np.float32),
        }

    def reward(self, memory: Memory, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> Reward:
        """Never end."""
        return Reward(terms={}, success=False, terminated=False)


class SweepPolicy:
    """Full speed along every axis and in yaw, each turning back at a wall of its own."""

    def __init__(self, task: Task, robot: Robot) -> None:
        """Make the policy for a task with the observations of ``Sweep``."""
        self.spec = PolicySpec.of(task, robot)
        low, high = np.array(task.workspace)
        self._low = np.append(low + _MARGIN, -_TURN)
        self._high = np.append(high - _MARGIN, _TURN)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Set out anew, towards the far, left, upper corner."""
        self._heading = np.ones(4)

    def act(self, observation: Mapping[str, npt.NDArray[np.float32]], *, explore: bool) -> Action:
        """Return full speed ahead; the gripper stays open."""
        place = np.append(observation["tool_position"], observation["tool_yaw"])
        self._heading = np.where(place > self._high, -1.0, self._heading)
        self._heading = np.where(place < self._low, 1.0, self._heading)
        return np.append(self._heading, 1.0).astype(np.float32)
