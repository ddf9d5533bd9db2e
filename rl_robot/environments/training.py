"""A learner trained in an environment, in one process, without a graph.

What tests and benchmarks of learning run. The order is the graph's: whole episodes, and after each
as many updates as it had control steps, times a ratio.
"""

import math
from collections.abc import Iterable, Sequence

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import EpisodeResult, run_episode
from rl_robot.experience.sources import DEMONSTRATION, ONLINE, Source
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.learners import Learner, Metrics, new_replay, samples
from rl_robot.policies import Policy

_TOGETHER = 10  # batches that are drawn at a time


def run_episodes(
    env: RobotEnv, policy: Policy, split: str, indices: Iterable[int], *, explore: bool = False
) -> list[EpisodeResult]:
    """Run ``policy`` from the starts ``indices`` of ``split``; each index is its own seed."""
    return [
        run_episode(env, policy, split, index, seed=index, explore=explore) for index in indices
    ]


def time_ratio(results: Sequence[EpisodeResult], others: Sequence[EpisodeResult]) -> float:
    """Return the ratio of the steps of ``results`` to those of ``others`` where both succeeded.

    Both are episodes from the same starts in the same order. NaN when no start is common to both.
    """
    pairs = [
        (own.steps, other.steps)
        for own, other in zip(results, others, strict=True)
        if own.success and other.success
    ]
    if not pairs:
        return math.nan
    return sum(own for own, _ in pairs) / sum(other for _, other in pairs)


class Training:
    """One learner in one environment: demonstrations first, then experience of its own."""

    def __init__(
        self,
        env: RobotEnv,
        learner: Learner,
        demonstrations: Sequence[EpisodeTransitions] = (),
        *,
        seed: int = 0,
    ) -> None:
        """Begin with ``demonstrations``, taken to come from the first training starts."""
        self.env = env
        self.learner = learner
        self.replay = new_replay(learner.config, env.task, seed)
        self.updates = 0
        self.steps = 0
        self.metrics: Metrics = {}
        self._seed = seed
        self._next_start = len(demonstrations)
        self._owed = 0.0
        for episode in demonstrations:
            self._add(DEMONSTRATION, episode)

    def update(self, count: int) -> None:
        """Make ``count`` updates on what there is."""
        for begin in range(0, count, _TOGETHER):
            these = min(_TOGETHER, count - begin)
            for batch in samples(self.learner.config, self.replay, these):
                self.metrics |= self.learner.update(batch)
        self.updates += count

    def explore(self, steps: int, updates_per_step: float = 1.0) -> list[EpisodeResult]:
        """Gather ``steps`` control steps or a few more, in whole episodes, and learn from each."""
        results = []
        until = self.steps + steps
        while self.steps < until:
            policy = self.learner.explorer(self.updates)
            seed = self._seed * 100_000 + self._next_start
            result = run_episode(
                self.env, policy, "train", self._next_start, seed=seed, explore=True
            )
            self._add(ONLINE, result.transitions)
            results.append(result)
            self._next_start += 1
            self.steps += result.steps
            self._owed += result.steps * updates_per_step
            self.update(int(self._owed))
            self._owed -= int(self._owed)
        return results

    def _add(self, kind: str, episode: EpisodeTransitions) -> None:
        self.replay.store.add(Source(kind, self.env.robot.name, self.env.task.name), episode)
