"""Whole episodes of a policy in an environment."""

from dataclasses import dataclass, field

import numpy as np

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.policies import Policy
from rl_robot.tasks import Start


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went; ``total`` is the undiscounted sum of rewards.

    ``transitions`` is the episode as a learner takes it.
    """

    start: Start
    success: bool
    steps: int
    total: float
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
    observations, proposed, executed, rewards = [flat], [], [], []
    over = False
    while not over:
        proposed.append(policy.act(info["observation"], explore=explore))
        flat, reward, terminated, truncated, info = env.step(proposed[-1])
        observations.append(flat)
        executed.append(info["executed"])
        rewards.append(reward)
        over = terminated or truncated
    transitions = EpisodeTransitions(
        observations=np.array(observations),
        proposed=np.array(proposed),
        executed=np.array(executed),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=terminated,
    )
    return EpisodeResult(start, bool(info["success"]), len(rewards), sum(rewards), transitions)
