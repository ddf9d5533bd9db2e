"""Runs the stages of a session one after the other, and keeps the table of what each took."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rl_robot.supervision.session import Done, Session
from rl_robot.supervision.stages import Stage, take_best
from rl_robot.tasks import Task


@dataclass
class StageRecord:
    """What a stage took: a row of session.json.

    ``steps`` are the control steps of its episodes, ``control_steps`` those with the resets.
    ``wall_seconds`` run from its first episode to its last; ``waited_seconds`` is what came before,
    while the trainer had not yet written what the stage needs.
    """

    name: str
    role: str
    policy: str
    split: str
    policy_version: str = "0"
    episodes: int = 0
    successes: int = 0
    steps: int = 0
    control_steps: int = 0
    wall_seconds: float = 0.0
    waited_seconds: float = 0.0
    lost_periods: int = 0


class Programme:
    """The stages, the session of the present one, and the records of all so far."""

    def __init__(
        self,
        stages: Sequence[Stage],
        task: Task,
        *,
        first_id: int = 0,
        done: Mapping[str, Done] | None = None,
        records: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Begin, or go on: ``done`` counts closed bags by stage, ``records`` are earlier rows."""
        self.stages = list(stages)
        self._task = task
        self._done = dict(done or {})
        self._earlier = {row["name"]: row for row in records}
        self.records: list[StageRecord] = []
        self.chosen = ""  # the milestone that did best in validation
        self._index = -1
        self._open(0, first_id)
        while self.session.finished and not self.finished:
            self.go_on()

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self.stages[self._index]

    @property
    def record(self) -> StageRecord:
        """The present stage's row."""
        return self.records[-1]

    @property
    def finished(self) -> bool:
        """True when nothing is left to be run, or a person is needed."""
        last = self._index == len(self.stages) - 1
        return bool(self.session.gave_up) or (last and self.session.finished)

    def go_on(self) -> None:
        """Begin the next stage."""
        self._open(self._index + 1, self.session.next_id)

    def prepare(self) -> str:
        """Get the present stage ready; return the name of what it still waits for, or nothing."""
        needed = self.stage.needs
        if needed is None:
            return ""
        if self.stage.best_of and not self.chosen:
            self.chosen = take_best(self.stage, self.stages, self._done)
        return "" if needed.exists() else needed.name

    def settle(self, *, kept: bool) -> None:
        """Count the ended episode; see `Session.settle`."""
        self.session.settle(kept=kept)
        session, record = self.session, self.record
        record.episodes, record.successes = session.done, session.successes
        record.steps, record.lost_periods = session.steps, session.lost_periods
        self._done[self.stage.name] = Done(
            session.done, session.successes, session.steps, session.lost_periods
        )

    def table(self) -> list[dict[str, Any]]:
        """Return the rows of the stages so far."""
        return [asdict(record) for record in self.records]

    def steps_left(self) -> float:
        """Estimate the control steps that are left, resets included."""
        return sum(self._steps_of(stage) for stage in self.stages[self._index :])

    def _steps_of(self, stage: Stage) -> float:
        plan, done = stage.plan, self._done.get(stage.name, Done())
        length, reset = self._episode_length(stage), self._reset_length()
        if plan.steps:
            left = max(plan.steps - done.steps, 0)
            return left * (1.0 + reset / length)
        return max(plan.episodes - done.episodes, 0) * (length + reset)

    def _reset_length(self) -> float:
        """Control steps of a reset."""
        episodes = sum(row.episodes for row in self.records)
        spent = sum(row.control_steps - row.steps for row in self.records)
        return max(spent / episodes, 0.0) if episodes else 0.0

    def _episode_length(self, stage: Stage) -> float:
        """Control steps of an episode: of this policy, else of any, else half of the longest."""
        rows = [row for row in self.records if row.episodes]
        same = [row for row in rows if row.policy == stage.plan.policy]
        known = same or rows
        episodes = sum(row.episodes for row in known)
        if not episodes:
            return 0.5 * self._task.max_steps
        return max(sum(row.steps for row in known) / episodes, 1.0)

    def _open(self, index: int, first_id: int) -> None:
        self._index = index
        plan = self.stages[index].plan
        done = self._done.get(plan.stage, Done())
        self.session = Session(plan, self._task, first_id=first_id, done=done)
        fresh = StageRecord(plan.stage, plan.role, plan.policy, plan.split)
        earlier = self._earlier.get(plan.stage)
        # What the bags say counts; only what they do not know is taken from the table.
        kept = replace(fresh, **dict(earlier)) if earlier else fresh
        self.records.append(
            replace(
                kept,
                episodes=done.episodes,
                successes=done.successes,
                steps=done.steps,
                lost_periods=done.lost_periods,
            )
        )
