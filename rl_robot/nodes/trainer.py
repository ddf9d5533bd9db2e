"""trainer: learns from the bags of a running session; weights to the policy, files to the run.

Training runs in a thread of its own, and the process gives way to the graph's other nodes. It
reads nothing but closed bags, so that it may come and go: killed, it goes on from its checkpoint.

Offline there is no robot: it trains on the bags there are, writes the policies and ends.
"""

import contextlib
import os
import sys
import threading
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from std_msgs.msg import UInt8MultiArray

from rl_robot.errors import UserError
from rl_robot.experience.bag_map import load_bag_map
from rl_robot.experience.disk_room import is_full, write_failure
from rl_robot.experience.runs import RunFolder, RunLock
from rl_robot.experience.sources import parse_mixture
from rl_robot.learners import SacConfig
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.progress import StatusLine, time_left
from rl_robot.tasks import load_task
from rl_robot.training.trainer import Trainer, TrainingPlan

STATUS_PERIOD = 0.25  # s between two reports
IDLE = 0.1  # s between two looks for bags
PROGRESS_PERIOD = 5.0  # s between two lines, offline
PATIENCE = 2.0  # s that are waited at the end for a slice of training


@dataclass(frozen=True)
class Parameters:
    """Parameters of the trainer node; those of `TrainingPlan` and `SacConfig` mean what they do."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"
    run: str = ""  # the run's folder
    learner: str = "sac"
    seed: int = 0
    bags: str = ""  # more to learn from, with commas: runs, folders of bags, or bags
    mixture: str = ""  # what batches are made of, as pattern=weight with commas
    map: str = ""  # YAML that says what the topics of those bags mean
    demonstrations: int = TrainingPlan.demonstrations
    imitation_updates: int = TrainingPlan.imitation_updates
    pretraining_updates: int = TrainingPlan.pretraining_updates
    updates_per_step: float = TrainingPlan.updates_per_step
    block_steps: int = TrainingPlan.block_steps
    blocks: int = TrainingPlan.blocks
    publish_every: int = TrainingPlan.publish_every
    noise_correlation: float = SacConfig.noise_correlation
    action_cutoff: float = SacConfig.action_cutoff
    offline: bool = False
    updates: int = 5000  # offline: how many
    nice: int = 10  # at real time: how far the process gives way to others, 0 to 19


class TrainerNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("trainer")
        self._given = given = read_parameters(self, Parameters)
        self._robot = load_robot(given.robot)
        self._task = load_task(given.task)
        self._plan = _plan(given)
        if not given.run:
            raise UserError("trainer: parameter 'run' is missing: the folder to train in")
        self._folder = RunFolder.create(Path(given.run)).path
        (self._folder / "trainer").mkdir(exist_ok=True)
        self._lock = RunLock(self._folder / "trainer")
        _give_way(given)
        torch.set_num_threads(1)
        self._trainer: Trainer | None = None
        self._failure: Exception | None = None
        self._said: list[str] = []
        self._version = 0
        self._status_at = float("-inf")
        self._milestones: tuple[object, ...] = ()
        self._stop = threading.Event()
        self._weights = self.publisher(topics.POLICY_WEIGHTS)
        self._status = self.publisher(topics.TRAINER_STATUS)
        self._worker = threading.Thread(target=self._work, name="training", daemon=True)
        self._worker.start()
        self.every(0.05, self._watch)

    # --- the worker's thread ---------------------------------------------------------------

    def _work(self) -> None:
        try:
            # Here, because to go on without the replay of before all bags are read again.
            self._trainer = trainer = Trainer(
                self._folder,
                self._task,
                self._robot,
                self._plan,
                learner=self._given.learner,
                seed=self._given.seed,
                overrides={
                    "noise_correlation": self._given.noise_correlation,
                    "action_cutoff": self._given.action_cutoff,
                    "mixture": parse_mixture(self._given.mixture),
                },
                bags=[Path(name.strip()) for name in self._given.bags.split(",") if name.strip()],
                bag_map=load_bag_map(self._given.map) if self._given.map else None,
                say=self._said.append,
            )
            if self._given.offline:
                self._train_offline(trainer)
            else:
                while not self._stop.is_set():
                    if not trainer.step():
                        self._stop.wait(IDLE)
            trainer.close()
        except Exception as error:  # it must end the node, not only this thread
            self._failure = error

    def _train_offline(self, trainer: Trainer) -> None:
        line, said_at = StatusLine(), 0.0
        for _ in trainer.run_offline():
            if self._stop.is_set():
                break
            if time.monotonic() - said_at > PROGRESS_PERIOD:
                said_at = time.monotonic()
                line.write(_progress(trainer, self._given.updates))
        else:
            line.write(_progress(trainer, self._given.updates))
        line.end()

    # --- the executor's thread -------------------------------------------------------------

    def _watch(self) -> None:
        while self._said:
            self.get_logger().info(self._said.pop(0))
        failure: object = self._failure
        if isinstance(failure, OSError) and is_full(failure):
            failure = UserError(write_failure(self._folder, failure))
        if isinstance(failure, UserError):  # one line, where rclpy would print a traceback
            print(f"error: {failure}", file=sys.stderr, flush=True)
            self.exit_code = 2
            return
        if self._failure is not None:
            raise self._failure
        trainer = self._trainer
        if trainer is not None:
            self._report(trainer)
        if self._given.offline and not self._worker.is_alive():
            self.exit_code = 0

    def _report(self, trainer: Trainer) -> None:
        version, weights = trainer.version, trainer.weights
        if version != self._version:
            self._version = version
            self._weights.publish(UInt8MultiArray(data=array("B", weights)))
        now = time.monotonic()
        milestones = (trainer.stage, version, trainer.imitated, trainer.milestone)
        if milestones == self._milestones and now - self._status_at < STATUS_PERIOD:
            return
        self._milestones, self._status_at = milestones, now
        values = _values(trainer)
        self.health.update(values)
        stamp = self.get_clock().now().nanoseconds
        self._status.publish(status_message(stamp, "trainer", trainer.stage, values))

    def close(self) -> None:
        """Have the worker write its checkpoint, and end it."""
        self._stop.set()
        self._worker.join(timeout=PATIENCE)
        self._lock.release()


def _give_way(given: Parameters) -> None:
    """Leave the cores to the nodes that somebody waits for.

    Paced, everyone waits for the graph: the trainer then has what is left, and a core on which only
    it runs counts as free for whoever wakes up. At real time it goes on, at a lower priority.
    """
    if parse_pace(given.pace) is None and not given.offline:
        with contextlib.suppress(OSError):  # some systems allow nobody to change it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(given.nice)
        # Linux may share the cores out between sessions first, within which alone nice counts then;
        # the bare runner starts each node in a session of its own.
        if os.getsid(0) == os.getpid():
            with contextlib.suppress(OSError):  # it does not, or allows nobody to change it
                Path("/proc/self/autogroup").write_text(str(given.nice))


def _plan(given: Parameters) -> TrainingPlan:
    if given.offline:
        return TrainingPlan.offline(given.updates, given.imitation_updates)
    names = [field.name for field in fields(TrainingPlan)]
    return TrainingPlan(**{name: getattr(given, name) for name in names})


def _values(trainer: Trainer) -> dict[str, str]:
    values: Mapping[str, object] = {
        "stage": trainer.stage,
        "updates": trainer.updates,
        "updates_due": trainer.updates_due,
        "updates_per_second": f"{trainer.updates_per_second:.1f}",
        "transitions": trainer.transitions,
        "demonstrations": trainer.demonstrations,
        "exploration_steps": trainer.exploration_steps,
        "version": trainer.version,
        "imitated": int(trainer.imitated),
        "milestone": trainer.milestone,
        "bags": trainer.bags,
        "skipped": trainer.skipped,
    }
    return {name: str(value) for name, value in {**trainer.metrics, **values}.items()}


def _progress(trainer: Trainer, updates: int) -> str:
    parts = [
        f"{trainer.stage}   {trainer.bags} bags, {trainer.transitions} transitions",
        f"updates {trainer.updates}/{updates}",
    ]
    if trainer.updates_per_second:
        speed = trainer.updates_per_second
        parts.append(f"{speed:.0f} updates/s   {time_left((updates - trainer.updates) / speed)}")
    return "   ".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(TrainerNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
