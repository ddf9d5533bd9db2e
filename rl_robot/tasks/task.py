"""What every task is: a Markov decision process written as data and a few pure functions."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot
from rl_robot.rewards import squared_jerk
from rl_robot.robots.cartesian import CartesianAction
from rl_robot.robots.description import Robot

Observation = dict[str, npt.NDArray[np.float32]]
Box = tuple[tuple[float, ...], tuple[float, ...]]

HISTORY = 2  # executed actions that an observation holds
SPLITS = ("train", "validation", "test")
_SPLIT_OF_CELL = ("test", "validation") + ("train",) * 8
_CELL = 0.01  # m
_REST = np.zeros(1, np.float32)  # of any number of components


@dataclass(frozen=True)
class ObservationSpec:
    """Shape, unit and range of one observation; low and high are numbers or nested as the shape."""

    shape: tuple[int, ...]
    unit: str
    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0


@dataclass(frozen=True)
class Start:
    """Where an episode starts: object -> (x, y, yaw) in m and rad, or goal -> (x, y, z) in m."""

    values: dict[str, tuple[float, ...]]

    def to_json(self) -> str:
        """Return the start as a JSON object."""
        return json.dumps({name: list(values) for name, values in self.values.items()})

    @classmethod
    def from_json(cls, text: str) -> "Start":
        """Read what ``to_json`` wrote.

        Raises:
            UserError: not a JSON object of lists of finite numbers.
        """
        try:
            values = {
                str(name): tuple(float(value) for value in numbers)
                for name, numbers in json.loads(text).items()
            }
        except (ValueError, TypeError, AttributeError):
            raise UserError(f'a start is like {{"block": [0.4, 0.0, 0.0]}}, not {text}') from None
        if not all(math.isfinite(value) for numbers in values.values() for value in numbers):
            raise UserError(f"a start needs finite numbers, not {text}")
        return cls(values)


@dataclass(frozen=True)
class Reward:
    """Reward of one step: its terms by name, and what the step meant for the episode."""

    terms: dict[str, float]
    success: bool
    terminated: bool

    @property
    def total(self) -> float:
        """The sum of the terms."""
        return sum(self.terms.values())


@dataclass
class Memory:
    """What the reward remembers within an episode, at first of a robot at rest.

    Attributes:
        streak: for how many steps success has lasted.
        moved: the tool's velocities in the last two steps, as components of the action.
    """

    streak: int = 0
    moved: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] = (_REST, _REST)


@dataclass(frozen=True)
class ScriptStrength:
    """What weakens a scripted expert; the defaults are full strength.

    Attributes:
        speed: fraction of the error that a step tries to close, and of the top speed.
        noise: standard deviation of Gaussian noise on each motion component of the action.
        offset: fixed error (m), base frame, of where the expert believes its target to be.
    """

    speed: float = 1.0
    noise: float = 0.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Task(ABC):
    """A task: observation, action, reward, starts. Subclasses are frozen dataclasses.

    Attributes:
        period: control period in s.
        workspace: corners (low, high) in m, base frame, of the box that the tool is kept inside.
        start_area: corners (low, high), in m and rad, of the box that starts are drawn from.
        objects: names of the objects whose poses the task needs from perception.
        has_goal: whether the observation holds a goal.
        weak_script: the parameters of the ``weak_script`` policy.
        jerk_weight: what `jerk_charge` charges for a squared jerk of 1.
    """

    name: str
    version: int = 1
    period: float = 0.1
    max_steps: int = 60
    scene: str = "table"
    discount: float = 0.97
    objects: tuple[str, ...] = ()
    has_goal: bool = False
    max_speed: float = 0.2
    max_yaw_rate: float = 2.0
    workspace: Box = ((0.25, -0.18, 0.015), (0.55, 0.18, 0.30))
    start_area: Box = ((0.30, -0.10), (0.50, 0.10))
    success_steps: int = 3
    weak_script: ScriptStrength = field(default_factory=ScriptStrength)
    jerk_weight: float = 0.0

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the action's components, each in [-1, 1]."""
        return tuple(CartesianAction.names)

    @property
    def binary_actions(self) -> tuple[bool, ...]:
        """Of which of the action's components only the sign counts; executed, these are -1 or 1."""
        return tuple(CartesianAction.binary)

    @property
    def period_ns(self) -> int:
        """Control period in ns."""
        return round(self.period * 1e9)

    @property
    @abstractmethod
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """Shapes, units and ranges of the observations by name."""

    @abstractmethod
    def start(self, split: str, index: int) -> Start:
        """Return the start numbered ``index`` of "train", "validation" or "test".

        The same split and index always give the same start, and the splits are disjoint.

        Raises:
            UserError: no such split, or a negative index.
        """

    @abstractmethod
    def observation(
        self, snapshot: Snapshot, action_history: Sequence[npt.NDArray[np.float32]]
    ) -> Observation:
        """Return the observation; ``action_history``: the last HISTORY executed actions (5,)."""

    @abstractmethod
    def reward(self, memory: Memory, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> Reward:
        """Judge the state that the executed ``action`` (5,) led to; advances ``memory``."""

    def jerk_charge(self, memory: Memory, action: npt.NDArray[np.float32]) -> float:
        """Return what the jerk of the executed ``action`` (5,) costs; advances ``memory``.

        It is the squared jerk of the tool's motion, yaw included, in units of the top speed per
        control period squared (`squared_jerk`), times ``jerk_weight``, and negative.
        """
        moving = action[~np.array(self.binary_actions)]
        before, last = memory.moved
        memory.moved = (last, moving)
        return 0.0 - self.jerk_weight * squared_jerk(before, last, moving)

    def new_memory(self) -> Memory:
        """Return the reward's memory for a new episode."""
        return Memory()

    def initial_history(self) -> list[npt.NDArray[np.float32]]:
        """Return the history of a robot at rest with its gripper open."""
        return [np.array([0, 0, 0, 0, 1], dtype=np.float32) for _ in range(HISTORY)]

    def action_map(self, robot: Robot) -> CartesianAction:
        """Return the mapping between this task's action and the motion of ``robot``."""
        low, high = (np.array(corner) for corner in self.workspace)
        return CartesianAction(
            robot,
            max_speed=self.max_speed,
            max_yaw_rate=self.max_yaw_rate,
            period=self.period,
            workspace=(low, high),
        )

    def _draw(self, split: str, index: int, area: Box) -> tuple[float, ...]:
        """Draw from ``area`` uniformly, but only where the floor cell belongs to ``split``.

        The floor of the area is a board of 1 cm cells; one in ten is held out for test and one
        for validation, spread evenly. So no training start is even near the same spot and yaw.
        """
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if index < 0:
            raise UserError(f"a start's index is 0 or more, not {index}")
        low, high = (np.array(corner) for corner in area)
        key = [*self.name.encode(), SPLITS.index(split), index]
        generator = np.random.default_rng(key)
        while True:
            values = np.round(generator.uniform(low, high), 6)
            column, row = ((values[:2] - low[:2]) // _CELL).astype(int)
            if _SPLIT_OF_CELL[(column + 3 * row) % len(_SPLIT_OF_CELL)] == split:
                return tuple(values.tolist())


def flat_size(spec: Mapping[str, ObservationSpec]) -> int:
    """Return the number of values in a flat observation."""
    return sum(math.prod(entry.shape) for entry in spec.values())


def flatten(
    spec: Mapping[str, ObservationSpec], observation: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Return a named observation as one vector, each value scaled from its range to [-1, 1].

    Values beyond the range of their specification are clipped to it.
    """
    rows = {name: np.asarray(observation[name])[None] for name in spec}
    return flatten_rows(spec, rows)[0]


def flatten_rows(
    spec: Mapping[str, ObservationSpec], observations: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Return n named observations, each (n, ...), as vectors (n, D), like `flatten`."""
    parts = []
    for name, entry in spec.items():
        low, high = np.asarray(entry.low), np.asarray(entry.high)
        scaled = np.clip(2.0 * (observations[name] - low) / (high - low) - 1.0, -1.0, 1.0)
        parts.append(scaled.reshape(len(scaled), -1))
    return np.concatenate(parts, axis=1).astype(np.float32)
