"""Training beside a session: bags in, policies out. The same work in the same order, every time.

What a trainer does depends on the bags and their order alone, not on when they come: it learns
from a bag all that is due before it takes the next one. So a trainer that was killed goes on from
its checkpoint and comes to the same weights, and a session can be trained again from its bags.
A bag is read once (`training/feeding.py`): its transitions are kept in the replay on disk.

Stages::

    demonstrations  until all are there
    imitation       behaviour cloning on them            -> policies/imitation.safetensors
    pretraining     the learner on demonstrations alone  -> the first weights to explore with
    exploration     updates as exploration comes in      -> policies/milestone_NN.safetensors
    done            the last milestone is written; further bags are not taken
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rl_robot.errors import UserError
from rl_robot.experience.bag_map import BagMap
from rl_robot.experience.runs import IMITATION_FILE, LEARNED_FILE, milestone_file
from rl_robot.experience.store import CAPACITY
from rl_robot.learners import (
    BehaviorCloning,
    Metrics,
    make_learner,
    new_replay,
    samples,
)
from rl_robot.learners.bc import Imitation
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task
from rl_robot.training.checkpoint import CheckpointFile
from rl_robot.training.feeding import Feed
from rl_robot.training.intake import DEMONSTRATION
from rl_robot.training.metrics import MetricsLog

DEMONSTRATIONS = "demonstrations"
IMITATION = "imitation"
PRETRAINING = "pretraining"
EXPLORING = "exploration"
DONE = "done"

_SLICE = 10  # updates between looks at what else is to be done
_METRICS_EVERY = 100  # updates


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How much of what a training is made of. Episodes that broke count for nothing.

    Attributes:
        demonstrations: episodes to wait for before anything is learnt.
        imitation_updates: of behaviour cloning, at most; 0 for none.
        pretraining_updates: on the demonstrations alone, before there are weights to explore with.
        updates_per_step: for each control step of exploration.
        block_steps: control steps of exploration between milestones.
        blocks: milestones in all; 0 for no end and none.
        publish_every: updates from one version of the weights to the next.
    """

    demonstrations: int = 100
    imitation_updates: int = 4000
    pretraining_updates: int = 1000
    updates_per_step: float = 1.0
    block_steps: int = 1000
    blocks: int = 5
    publish_every: int = 50

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 1 if name in ("pretraining_updates", "block_steps", "publish_every") else 0
            if value < least:
                raise UserError(f"{name} is {value}: it should be {least} or more")

    @classmethod
    def offline(cls, updates: int, imitation_updates: int = 4000) -> "TrainingPlan":
        """Return the plan of training on what there is, without a robot that explores."""
        return cls(
            demonstrations=0,
            imitation_updates=imitation_updates,
            pretraining_updates=updates,
            updates_per_step=0.0,
            blocks=0,
        )

    def blocks_done(self, steps: int) -> int:
        """Return how many blocks are complete after ``steps`` control steps of exploration."""
        whole = steps // self.block_steps
        return min(whole, self.blocks)

    def updates_due(self, steps: int) -> int:
        """Return the updates in all that ``steps`` control steps of exploration allow."""
        return self.pretraining_updates + int(self.updates_per_step * steps)


class Trainer:
    """Trains in a run's folder, one `step` at a time. Nothing here knows of ROS.

    Attributes for whoever watches: ``stage``, ``updates``, ``version`` (of ``weights``; counts
    updates, 0 before there are any), ``weights`` (NetworkPolicy.to_bytes, to explore with),
    ``milestone`` (the newest written), ``exploration_steps``, ``demonstrations`` (episodes),
    ``transitions`` (in the replay), ``bags`` (learnt from), ``skipped`` (bags that could not be
    read).
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        robot: Robot,
        plan: TrainingPlan,
        *,
        learner: str = "sac",
        seed: int = 0,
        bags: Sequence[Path] = (),
        bag_map: BagMap | None = None,
        overrides: Mapping[str, Any] | None = None,
        checkpoint_every: float = 5.0,
        capacity: int = CAPACITY,
        say: Callable[[str], None] = print,
    ) -> None:
        """Begin, or go on from the checkpoint in ``folder``.

        Args:
            folder: of the run; policies/ and trainer/ are made in it.
            bags: further bags, folders of bags, or runs, taken before the run's own.
            bag_map: what the topics of those further bags mean, where they are not the graph's.
            overrides: of the learner's configuration.
            checkpoint_every: s of wall time from one checkpoint to the next.
            capacity: control steps of each source that the replay keeps, the newest.
            say: told in one line what a person should know.

        Raises:
            UserError: no such learner, the map lacks what the task observes, the folder holds
                another training, or another process trains in it.
        """
        self.plan = plan
        self._task, self._robot = task, robot
        self._name, self._seed, self._say = learner, seed, say
        self._learner = make_learner(learner, task, robot, seed=seed, **dict(overrides or {}))
        self._imitation: Imitation | None = None
        self._feed = Feed(folder, task, robot, bags=bags, bag_map=bag_map, say=say)
        self._saved = 0  # bags that the checkpoint names
        self._sums: list[Metrics] = []
        self.stage = DEMONSTRATIONS
        self.updates = self.version = self.milestone = 0
        self.imitated = False
        self.updates_per_second = 0.0
        self.weights = b""
        self._policies = folder / "policies"
        home = folder / "trainer"
        for made in (self._policies, home):
            made.mkdir(parents=True, exist_ok=True)
        self._checkpoint = CheckpointFile(home / "checkpoint.safetensors")
        self._checkpoint_every = checkpoint_every
        self._saved_at = time.monotonic()
        self._began = time.time()
        saved = self._read_checkpoint()
        self._feed.open_store(home / "replay", capacity)
        self._replay = new_replay(self._learner.config, task, seed, self._feed.store)
        if saved is None:
            self._feed.begin()
        else:
            self._resume(*saved)
        self._log = MetricsLog(home, self._is_past)

    @property
    def bags(self) -> int:
        """Bags learnt from."""
        return self._feed.taken

    @property
    def skipped(self) -> int:
        """Bags that could not be read."""
        return self._feed.skipped

    @property
    def demonstrations(self) -> int:
        """Episodes of the run that were demonstrated, and not broken."""
        return self._feed.demonstrations

    @property
    def exploration_steps(self) -> int:
        """Control steps of the run's exploration that was not broken."""
        return self._feed.exploration_steps

    @property
    def transitions(self) -> int:
        """Control steps in the replay."""
        return self._feed.transitions

    @property
    def updates_due(self) -> int:
        """Updates that may be made before more has to be explored."""
        if self.stage in (DEMONSTRATIONS, IMITATION):
            return 0
        return self.plan.updates_due(self._feed.explored) - self.updates

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The latest line of metrics.jsonl."""
        return self._log.last

    def step(self) -> bool:
        """Do one slice of work, some tens of milliseconds; False when there is nothing to do."""
        worked = self._work()
        news = worked or self._feed.named > self._saved
        if news and time.monotonic() - self._saved_at > self._checkpoint_every:
            self.save()
        return worked

    def run_offline(self) -> Iterator[None]:
        """Train on the bags that there are, yielding after each slice, and write the policy.

        Raises:
            UserError: there is nothing to learn from.
        """
        while self._feed.take_next():
            yield
        self._require_transitions()
        while self.step():
            yield
        self.policy().save(self._policies / LEARNED_FILE)

    def save(self) -> None:
        """Write the checkpoint."""
        self._feed.store.sync()  # what it says is in the replay is there after a power failure, too
        tensors = {f"learner.{name}": value for name, value in self._learner.state_dict().items()}
        tensors["replay.generator"] = self._replay.generator_state()
        values = {
            "identity": self._identity(),
            "began": self._began,
            "imitated": self.imitated,
            "updates": self.updates,
            "milestone": self.milestone,
            "done": self.stage == DONE,
            **self._feed.to_values(),
        }
        self._checkpoint.write(values, tensors)
        self._saved = self._feed.named
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Write the checkpoint and finish the metrics."""
        self.save()
        self._log.close()
        self._feed.store.close()

    def policy(self) -> NetworkPolicy:
        """Return the learner's policy to be judged by."""
        return self._learner.policy(self.updates)

    def _work(self) -> bool:
        if self.stage == DEMONSTRATIONS:
            if self._feed.others_wait() or self.demonstrations < self.plan.demonstrations:
                return self._feed.take_next()
            self._require_transitions()
            self._begin_imitation()
            return True
        if self.stage == IMITATION:
            return self._imitate()
        if self.stage == DONE:
            return False
        if self.updates_due > 0:
            self._update(min(self.updates_due, _SLICE))
            return True
        if self.stage == PRETRAINING:
            self._publish()
            self.stage = EXPLORING
        if self.milestone < self.plan.blocks_done(self.exploration_steps):
            self._write_milestone()
            return True
        return self._feed.take_next()

    def _require_transitions(self) -> None:
        if not self.transitions:
            raise UserError(
                "there is nothing to train on: no demonstration or exploration from training "
                f"starts was found ({self.skipped} bags could not be read), name others with bags:="
            )

    def _begin_imitation(self) -> None:
        shown = self._feed.store.episodes(DEMONSTRATION)
        if self.imitated or not self.plan.imitation_updates or shown < 2:
            self.stage = PRETRAINING
            return
        cloning = make_learner("bc", self._task, self._robot, seed=self._seed)
        assert isinstance(cloning, BehaviorCloning)
        self._imitation = Imitation(
            cloning,
            self._feed.store,
            self._task,
            seed=self._seed,
            most_updates=self.plan.imitation_updates,
        )
        self.stage = IMITATION

    def _imitate(self) -> bool:
        assert self._imitation is not None
        for _ in range(_SLICE):
            if self._imitation.done:
                self._end_imitation(self._imitation)
                break
            self._note("bc", self._imitation.updates + 1, self._imitation.step())
        return True

    def _end_imitation(self, imitation: Imitation) -> None:
        imitation.policy().save(self._policies / IMITATION_FILE)
        self._imitation = None
        self._sums.clear()
        self.imitated = True
        self.stage = PRETRAINING
        self.save()

    def _update(self, count: int) -> None:
        began = time.perf_counter()
        for batch in samples(self._learner.config, self._replay, count):
            metrics = self._learner.update(batch)
            self.updates += 1
            self._note(self._name, self.updates, metrics)
            if self.stage == EXPLORING and self.updates % self.plan.publish_every == 0:
                self._publish()
        rate = count / (time.perf_counter() - began)
        before = self.updates_per_second or rate
        self.updates_per_second = before + 0.1 * (rate - before)

    def _note(self, learner: str, updates: int, metrics: Metrics) -> None:
        """Log the mean of each metric over the last updates."""
        self._sums.append(metrics)
        if updates % _METRICS_EVERY:
            return
        values: dict[str, float] = {}
        for name in {name for metrics in self._sums for name in metrics}:
            known = [metrics[name] for metrics in self._sums if name in metrics]
            values[name] = float(torch.stack(known).mean())
        self._sums.clear()
        values["transitions"] = self.transitions
        if self._feed.recent:
            successes, returns = zip(*self._feed.recent, strict=True)
            values["success"] = sum(successes) / len(successes)
            values["return"] = sum(returns) / len(returns)
        self._log.write(time.time() - self._began, learner, updates, values)

    def _publish(self) -> None:
        self.weights = self._learner.explorer(self.updates).to_bytes()
        self.version = self.updates

    def _write_milestone(self) -> None:
        self.milestone += 1
        self.policy().save(self._policies / milestone_file(self.milestone))
        if self.milestone == self.plan.blocks:
            self.stage = DONE
        self.save()

    def _identity(self) -> dict[str, Any]:
        return {
            "task": self._task.name,
            "robot": self._robot.name,
            "learner": self._name,
            "seed": self._seed,
        }

    def _is_past(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of metrics is of work that the checkpoint holds."""
        if line["learner"] == "bc":
            return self.imitated
        return bool(line["updates"] <= self.updates)

    def _read_checkpoint(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Give the learner the weights of the checkpoint, if there is one, and return the rest."""
        try:
            values, tensors, problems = self._checkpoint.read()
        except FileNotFoundError:
            return None
        for problem in problems:
            self._say(f"{problem}: going on from the one before")
        if values["identity"] != self._identity():
            raise UserError(
                f"{self._checkpoint.path} is of another training ({values['identity']}), "
                f"this is {self._identity()}: choose another run"
            )
        own = {
            name.removeprefix("learner."): value
            for name, value in tensors.items()
            if name.startswith("learner.")
        }
        try:
            self._learner.load_state_dict(own)
        except ValueError as error:
            raise UserError(f"{self._checkpoint.path}: {error}: choose another run") from error
        return values, tensors

    def _resume(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Go on from a checkpoint."""
        is_rebuilt = self._feed.go_on(values)
        self._replay.set_generator_state(tensors["replay.generator"])
        self._began, self.imitated = values["began"], values["imitated"]
        self.updates, self.milestone = values["updates"], values["milestone"]
        self._restore_stage()
        if is_rebuilt or values.get("done", False) != (self.stage == DONE):
            self.save()  # the old one speaks of the replay that was, or of another plan
        self._say(f"goes on from {self.bags} bags and {self.updates} updates")

    def _restore_stage(self) -> None:
        if not self.updates:
            return  # demonstrations, and what follows from them, come again by themselves
        explores = self.updates >= self.plan.pretraining_updates
        self.stage = EXPLORING if explores else PRETRAINING
        if explores:
            self._publish()
        if self.milestone and self.milestone == self.plan.blocks:
            self.stage = DONE
