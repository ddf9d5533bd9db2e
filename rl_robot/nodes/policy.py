"""policy: observations in, the learner's action and its joint motion out.

Inference runs in its own thread behind a slot of depth one, so a slow policy always works on the
newest observation and never delays the taking of messages.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import UInt8MultiArray

from rl_robot.bags.cdr import numbers_bytes, trajectory_bytes
from rl_robot.environments.control_loop import ControlLoop
from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot
from rl_robot.policies import LEARNED, Action, Policy
from rl_robot.policies.shelf import Shelf
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import Executed, Observer
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.ros.slot import LatestSlot
from rl_robot.safety.chain import make_filter
from rl_robot.safety.selection import Choice, SafeSelection
from rl_robot.supervision.session import RUNNING, Episode
from rl_robot.tasks import load_task


@dataclass(frozen=True)
class Parameters:
    """Parameters of the policy node."""

    robot: str = "arm"
    task: str = "grasp"
    policy: str = "script"  # what episodes ask for, loaded in advance
    pace: str = "1.0"
    candidates: int = 1  # actions sampled per control step, of which a safe one is chosen


@dataclass(frozen=True)
class Job:
    """What the policy needs for one action."""

    episode: Episode
    snapshot: Snapshot
    executed: Executed | None
    reference: np.ndarray
    reference_velocities: np.ndarray | None


class PolicyNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("policy")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        self._task = load_task(given.task)
        self._shelf = Shelf(self._task, robot)
        self._shelf.get(given.policy)
        if "trainer" in self.session_nodes:
            # Now, because it takes seconds, and the first weights come in the midst of episodes.
            import rl_robot.policies.network  # noqa: F401
        self._loop = ControlLoop(self._task, robot)
        self._selection: SafeSelection | None = None
        if given.candidates > 1:
            own_filter = make_filter(robot, period=self._task.period)
            self._selection = SafeSelection(own_filter, candidates=given.candidates)
        self._tried = self._rejected = 0
        self._episode_id = -1
        self._acting_in = -1  # the worker's episode: a job that was dropped may have been its first
        self._failure: Exception | None = None
        self._last_tick_ns = 0
        self._acted: deque[float] = deque(maxlen=50)  # wall times of the last actions
        self._slot: LatestSlot[Job] = LatestSlot()
        self._action = self.publisher(topics.POLICY_ACTION)
        self._command = self.publisher(topics.POLICY_COMMAND)
        self.listen(topics.POLICY_WEIGHTS, self._take_weights)
        self._paced = parse_pace(given.pace) is None
        self._observer = Observer(self, robot, self._task, self._on_change, paced=self._paced)
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()
        self.every(0.1, self._watch_worker)

    def _take_weights(self, message: UInt8MultiArray) -> None:
        """Keep the newest weights for the next control step; refuse what is not for this node."""
        try:
            version = self._shelf.take_weights(bytes(message.data))
        except UserError as error:
            self.problem(f"weights refused: {error}")
            return
        self.health["weights"] = str(version)

    def _on_change(self) -> None:
        episode, tick = self._observer.episode, self._observer.tick_ns
        if episode is None or episode.phase != RUNNING:
            return
        if episode.id != self._episode_id:
            self._last_tick_ns = episode.stamp_ns - 1
        if tick <= self._last_tick_ns:
            return
        snapshot, reference = self._observer.snapshot(), self._observer.reference
        if snapshot is None or reference is None:
            return
        if episode.policy == LEARNED and "weights" not in self.health:
            self.problem("no weights have come from a trainer yet")
            return
        self._episode_id, self._last_tick_ns = episode.id, tick
        job = Job(
            episode,
            snapshot,
            self._observer.executed(),
            reference,
            self._observer.reference_velocities,
        )
        if self._paced:
            self._act(job)  # nothing newer comes before this is answered: a thread would only cost
        else:
            self._slot.put(job)

    def _work(self) -> None:
        while (job := self._slot.take()) is not None:
            try:
                self._act(job)
            except Exception as error:  # whatever a policy or task raises ends the node, not only
                self._failure = error  # this thread, where nobody would notice
                return

    def _watch_worker(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _act(self, job: Job) -> None:
        began = time.perf_counter()
        episode = job.episode
        policy = self._shelf.get(episode.policy)
        assert policy is not None
        if episode.id != self._acting_in:
            self._acting_in = episode.id
            policy.reset(episode.seed)
            self._loop.reset(job.reference)
        elif job.executed is not None:
            self._loop.executed(job.executed.motion)
        choice = self._choose(policy, job)
        action, motion = choice.action, choice.motion
        stamp = job.snapshot.time_ns
        numbers = dict(zip(self._task.action_names, action.tolist(), strict=True))
        numbers["version"] = float(policy.spec.version)
        numbers["explore"] = float(episode.explore)
        if self._selection is not None:
            numbers |= {"tried": float(choice.tried), "rejected": float(choice.rejected)}
        self._command.publish(trajectory_bytes(motion, stamp))
        self._action.publish(numbers_bytes(numbers, stamp))
        self._report(job, policy, time.perf_counter() - began)

    def _choose(self, policy: Policy, job: Job) -> Choice[Action]:
        """Return an action and its motion; an exploring policy's, if wished, out of several."""
        observation, explore = self._loop.observe(job.snapshot), job.episode.explore

        def sample() -> Action:
            return policy.act(observation, explore=explore)

        if self._selection is None or not explore or not getattr(policy, "resamples", False):
            action = sample()
            return Choice(action, self._loop.propose(action), 1, 0)
        velocities = job.reference_velocities
        choice = self._selection.choose(
            sample,
            self._loop.propose,
            job.reference,
            np.zeros_like(job.reference) if velocities is None else velocities,
        )
        self._tried += choice.tried
        self._rejected += choice.rejected
        self.health["tried"], self.health["rejected"] = str(self._tried), str(self._rejected)
        return choice

    def _report(self, job: Job, policy: Policy, seconds: float) -> None:
        self.health["version"] = str(policy.spec.version)
        self._acted.append(time.monotonic())
        spread = self._acted[-1] - self._acted[0]
        self.health["rate_hz"] = f"{(len(self._acted) - 1) / spread:.1f}" if spread else "0"
        self.health["inference_ms"] = f"{1e3 * seconds:.2f}"
        self.health["skipped"] = str(self._slot.dropped)
        self.health["joint_age_s"] = f"{job.snapshot.joint_age:.3f}"
        for name, pose in job.snapshot.objects.items():
            self.health[f"{name}_age_s"] = f"{pose.age:.3f}"

    def close(self) -> None:
        """End the inference thread."""
        self._slot.close()
        self._worker.join(timeout=2.0)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(PolicyNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
