"""The session's state machine: which episode is in which phase, and what ends it.

Pure: the supervisor node feeds it what it hears and publishes the episode that comes back. All
times are stamps of observations, so a paced session repeats exactly.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from rl_robot.errors import UserError
from rl_robot.tasks import Start, Task

RESETTING = "resetting"
RUNNING = "running"
ENDED = "ended"
PHASES = (RESETTING, RUNNING, ENDED)

SUCCESS = "success"
TERMINATED = "terminated"
TRUNCATED = "truncated"
BROKEN = "broken"

# An episode is said once per tick and hardly changes: what was read or written before is kept.
_CACHED = 1024


@lru_cache(_CACHED, typed=True)
def _to_json(value: str | int | bool) -> str:
    return json.dumps(value)


@lru_cache(_CACHED)
def _from_json(text: str) -> Any:
    return json.loads(text)


@lru_cache(_CACHED)
def _start_from_json(text: str) -> Start:
    return Start.from_json(text)


@dataclass(frozen=True)
class Episode:
    """One episode in one phase: what the topic `episode` carries.

    `stamp_ns` is the observation on which the phase was decided. `terminated` and `truncated`
    have Gymnasium's meaning. `outcome` is empty until the episode ended.
    """

    phase: str
    stamp_ns: int
    id: int
    index: int  # which start of the split
    split: str
    start: Start
    seed: int
    robot: str
    task: str
    policy: str
    policy_version: str = "0"
    explore: bool = False
    role: str = ""
    stage: str = ""
    terminated: bool = False
    truncated: bool = False
    outcome: str = ""
    reason: str = ""
    steps: int = 0
    lost_periods: int = 0

    def to_values(self) -> dict[str, str]:
        """Return the episode as the key-value pairs of a status (phase and stamp go apart)."""
        values = {
            field.name: _to_json(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("phase", "stamp_ns", "start")
        }
        return values | {"start": self.start.to_json()}

    @classmethod
    def from_values(cls, phase: str, stamp_ns: int, values: Mapping[str, str]) -> "Episode":
        """Return the episode that `to_values` wrote.

        Raises:
            ValueError: a value is missing, unknown or not JSON.
        """
        if phase not in PHASES:
            raise ValueError(f"unknown phase '{phase}'")
        try:
            given = {name: _from_json(value) for name, value in values.items() if name != "start"}
            start = _start_from_json(values["start"])
            return cls(phase=phase, stamp_ns=stamp_ns, start=start, **given)
        except (KeyError, TypeError, UserError) as error:
            raise ValueError(f"not an episode: {error}") from error


@dataclass(frozen=True)
class SessionPlan:
    """What a session, or one stage of it, is asked to do.

    It ends after `episodes`, or with the episode that completes `steps` control steps; 0: no such
    limit. `role` and `stage` tell what its bags are for.
    """

    robot: str
    policy: str
    episodes: int = 20
    steps: int = 0
    explore: bool = False
    role: str = ""
    stage: str = ""
    split: str = "train"
    first: int = 0
    seed: int = 0
    resets_in_a_row: int = 3  # failed resets before a person is asked for
    retries: int = 3  # broken tries of one start before a person is asked for
    lost_in_a_row: int = 10  # control periods without a command after which an episode is broken


@dataclass(frozen=True)
class Done:
    """How far a plan has come: what of it lies in closed bags."""

    episodes: int = 0
    successes: int = 0
    steps: int = 0
    lost_periods: int = 0


class Session:
    """Runs the plan's episodes one after the other.

    A broken episode (a node died, a sensor failed) is closed, marked and run again from the same
    start under a new id, so that an evaluation covers each of its starts once.
    """

    def __init__(
        self, plan: SessionPlan, task: Task, first_id: int = 0, done: Done | None = None
    ) -> None:
        """Begin a plan, or go on with what is `done` of it; `first_id`: of the next episode."""
        done = done or Done()
        self.plan = plan
        self._task = task
        self._next_id = first_id
        self._next_index = plan.first + done.episodes
        self.done = done.episodes
        self.successes = done.successes
        self.steps = done.steps
        self.lost_periods = done.lost_periods
        self.broken = 0
        self.failed_resets = 0
        self._tries = 0
        self.gave_up = ""  # why a person is needed
        self.episode: Episode | None = None
        self._last_reward_ns = 0
        self._start_ns = 0
        self._lost_in_a_row = 0

    @property
    def finished(self) -> bool:
        """True when the plan is done or a person is needed."""
        enough = 0 < self.plan.episodes <= self.done or 0 < self.plan.steps <= self.steps
        return bool(self.gave_up) or enough

    @property
    def next_id(self) -> int:
        """The id of the next episode."""
        return self._next_id

    def begin(self, stamp_ns: int, policy_version: str = "0") -> Episode:
        """Return the next episode, resetting."""
        self.episode = Episode(
            phase=RESETTING,
            stamp_ns=stamp_ns,
            id=self._next_id,
            index=self._next_index,
            split=self.plan.split,
            start=self._task.start(self.plan.split, self._next_index),
            seed=self.plan.seed * 1_000_003 + self._next_index,
            robot=self.plan.robot,
            task=self._task.name,
            policy=self.plan.policy,
            policy_version=policy_version,
            explore=self.plan.explore,
            role=self.plan.role,
            stage=self.plan.stage,
        )
        self._next_id += 1
        return self.episode

    def on_reset(self, stamp_ns: int, status: str, reason: str) -> Episode | None:
        """Take the reset's word for one tick; return the episode when its phase changes."""
        episode = self.episode
        if episode is None or episode.phase != RESETTING:
            return None
        if status == "done":
            self._start_ns = self._last_reward_ns = stamp_ns
            self._lost_in_a_row = 0
            self.failed_resets = 0
            self.episode = replace(episode, phase=RUNNING, stamp_ns=stamp_ns)
            return self.episode
        if status == "failed":
            self.failed_resets += 1
            if self.failed_resets >= self.plan.resets_in_a_row:
                self.gave_up = f"the scene could not be reset: {reason}"
            return self._end(stamp_ns, BROKEN, f"reset: {reason}")
        return None

    def on_reward(self, stamp_ns: int, reward: Mapping[str, float]) -> Episode | None:
        """Take the reward of one tick; return the episode with what was decided for the tick.

        Raises:
            KeyError, ValueError, OverflowError: it does not say what is to be decided on. Then
                nothing is.
        """
        lost, success, terminated = (
            int(reward[name]) for name in ("lost_periods", "success", "terminated")
        )
        episode = self.episode
        if episode is None or episode.phase != RUNNING or stamp_ns <= self._last_reward_ns:
            return None
        self._last_reward_ns = stamp_ns
        elapsed = (stamp_ns - self._start_ns) * 1e-9
        self._lost_in_a_row = self._lost_in_a_row + 1 if lost > episode.lost_periods else 0
        self.episode = replace(
            episode,
            stamp_ns=stamp_ns,
            steps=round(elapsed / self._task.period),
            lost_periods=lost,
        )
        if self._lost_in_a_row >= self.plan.lost_in_a_row:
            return self._end(
                stamp_ns,
                BROKEN,
                f"no command of the policy was executed in {self._lost_in_a_row} periods",
            )
        if success:
            return self._end(stamp_ns, SUCCESS, "", terminated=True)
        if terminated:
            return self._end(stamp_ns, TERMINATED, "ended by the task", terminated=True)
        if self.episode.steps >= self._task.max_steps:
            return self._end(stamp_ns, TRUNCATED, "out of time", truncated=True)
        return self.episode

    def break_off(self, stamp_ns: int, reason: str) -> Episode | None:
        """End the episode because something other than the task ended it."""
        if self.episode is None or self.episode.phase not in (RESETTING, RUNNING):
            return None
        return self._end(max(stamp_ns, self.episode.stamp_ns), BROKEN, reason)

    def _end(
        self,
        stamp_ns: int,
        outcome: str,
        reason: str,
        *,
        terminated: bool = False,
        truncated: bool = False,
    ) -> Episode:
        assert self.episode is not None
        self.episode = replace(
            self.episode,
            phase=ENDED,
            stamp_ns=stamp_ns,
            outcome=outcome,
            reason=reason,
            terminated=terminated,
            truncated=truncated,
        )
        return self.episode

    def settle(self, *, kept: bool = True) -> None:
        """Count the ended episode; `kept` is false when its bag was lost, so it must run again."""
        assert self.episode is not None
        if kept and self.episode.outcome != BROKEN:
            self.done += 1
            self.successes += self.episode.outcome == SUCCESS
            self.steps += self.episode.steps
            self.lost_periods += self.episode.lost_periods
            self._next_index += 1
            self._tries = 0
            return
        reason = self.episode.reason if kept else "its bag was lost"
        self.broken += 1
        self._tries += 1
        if self._tries >= self.plan.retries and not self.gave_up:
            self.gave_up = f"start {self.episode.index} broke {self._tries} times: {reason}"
