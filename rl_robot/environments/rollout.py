"""Whole episodes of a policy in an environment."""

from dataclasses import dataclass

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.policies import Policy
from rl_robot.tasks import Start


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went; ``total`` is the undiscounted sum of rewards."""

    start: Start
    success: bool
    steps: int
    total: float


def run_episode(
    env: RobotEnv, policy: Policy, split: str, index: int, *, seed: int = 0, explore: bool = False
) -> EpisodeResult:
    """Run ``policy`` from start ``index`` of ``split``; the same seed repeats the episode.

    Raises:
        UserError: no such start.
    """
    _, info = env.reset(seed=seed, options={"split": split, "index": index})
    start = Start(info["start"])
    policy.reset(seed)
    steps, total, over = 0, 0.0, False
    while not over:
        action = policy.act(info["observation"], explore=explore)
        _, reward, terminated, truncated, info = env.step(action)
        steps, total, over = steps + 1, total + reward, terminated or truncated
    return EpisodeResult(start, bool(info["success"]), steps, total)
