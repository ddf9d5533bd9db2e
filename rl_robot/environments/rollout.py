"""Whole episodes of a policy in an environment."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.policies import Policy
from rl_robot.tasks import Start


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went; ``total`` is the undiscounted sum of rewards.

    ``squared_jerk`` is the mean square of the jerk that the arm's joints were commanded
    (rad^2/s^6), ``transitions`` is the episode as a learner takes it.
    """

    start: Start
    success: bool
    steps: int
    total: float
    squared_jerk: float
    transitions: EpisodeTransitions = field(compare=False, repr=False)


def run_episode(
    env: RobotEnv, policy: Policy, split: str, index: int, *, seed: int = 0, explore: bool = False
) -> EpisodeResult:
    """Run ``policy`` from start ``index`` of ``split``; the same seed repeats the episode.

    Raises:
        UserError: no such start.
    """
    flat, info = env.reset(seed=seed, options={"split": split, "index": index})
    start = Start(info["start"])
    policy.reset(seed)
    observations, proposed, executed, rewards, path = [flat], [], [], [], []
    over = False
    while not over:
        proposed.append(policy.act(info["observation"], explore=explore))
        flat, reward, terminated, truncated, info = env.step(proposed[-1])
        observations.append(flat)
        executed.append(info["executed"])
        rewards.append(reward)
        path.append(info["path"][:, : len(env.robot.arm_joints)])
        over = terminated or truncated
    transitions = EpisodeTransitions(
        observations=np.array(observations),
        proposed=np.array(proposed),
        executed=np.array(executed),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=terminated,
    )
    return EpisodeResult(
        start,
        bool(info["success"]),
        len(rewards),
        sum(rewards),
        mean_squared_jerk(np.concatenate(path), env.task.period / len(path[0])),
        transitions,
    )


def mean_squared_jerk(path: npt.NDArray[np.float64], interval: float) -> float:
    """Return the mean square, over time and joints, of the third derivative of a path.

    Args:
        path: positions (H, n), H > 3.
        interval: s from one to the next.
    """
    return float(np.mean(np.square(np.diff(path, n=3, axis=0)))) / interval**6
