"""The learner's side of one control step, the same in a graph's nodes and in an environment.

One step, at tick t_k: ``observe`` what was captured until t_k, let a policy choose an action,
``propose`` the motion it stands for, have the safety filter make of it what is executed, note
that as ``executed``; one period later, ``judge`` what came of it.
"""

import numpy as np
import numpy.typing as npt

from rl_robot.experience.alignment import Snapshot
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.tasks import Observation, Reward, Task

Action = npt.NDArray[np.float32]


class ControlLoop:
    """Keeps what links the steps of an episode: the motion executed last, history, memory."""

    def __init__(self, task: Task, robot: Robot) -> None:
        """Make a loop for ``task`` on ``robot``; ``reset`` starts each episode."""
        self._task = task
        self._map = task.action_map(robot)
        self.reset(robot.home_positions)

    def reset(self, reference: npt.NDArray[np.float64]) -> None:
        """Start an episode from the joint positions (n,) last commanded, robot at rest."""
        self.reference = np.array(reference, dtype=np.float64)
        self._history = self._task.initial_history()
        self._memory = self._task.new_memory()

    def observe(self, snapshot: Snapshot) -> Observation:
        """Return the task's observation of ``snapshot``, with the executed actions so far."""
        return self._task.observation(snapshot, self._history)

    def propose(self, action: Action) -> Motion:
        """Return the joint motion that ``action`` (5,) in [-1, 1] asks for."""
        return self._map.to_motion(self.reference, action)

    def executed(self, motion: Motion) -> Action:
        """Note the motion that went to the robot; return it as the learner's action (5,)."""
        action = np.asarray(self._map.to_action(self.reference, motion), dtype=np.float32)
        self.reference = np.array(motion.positions[-1], dtype=np.float64)
        self._history = [*self._history[1:], action]
        return action

    def judge(self, snapshot: Snapshot, action: Action) -> Reward:
        """Return the reward of the state that the executed ``action`` led to."""
        return self._task.reward(self._memory, snapshot, action)
