"""What a policy is, whatever is inside: a script, a network, a planner, a person."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.tasks import ObservationSpec, Task

Action = npt.NDArray[np.float32]

LEARNED = "learned"  # the policy of the weights that a trainer publishes
ACTION_HISTORY = "action_history"  # the observation that holds executed actions, the last one last


@dataclass(frozen=True)
class PolicySpec:
    """What a policy was made for, and by what.

    ``version`` counts the trainer's updates, 0 for a script; ``learner`` names what trained it.
    How smoothly a learned policy acts is part of it, so that it is deployed as it was trained:

    Attributes:
        noise_correlation: part of the exploration noise that stays from one control step to the
            next, 0 for white noise. At 10 steps per second 0.7 correlates it over 0.3 s: smooth
            enough for a real arm, and it gets somewhere.
        low_pass: for each component of the action the part of the way to it that is gone from the
            action executed last (`low_pass_gains`); empty for all of it.
    """

    robot: str
    task: str
    task_version: int
    observation: dict[str, ObservationSpec]
    action_names: tuple[str, ...]
    version: int = 0
    learner: str = ""
    noise_correlation: float = 0.7
    low_pass: tuple[float, ...] = ()

    @classmethod
    def of(cls, task: Task, robot: Robot, version: int = 0, learner: str = "") -> "PolicySpec":
        """Return the specification of a policy for ``task`` on ``robot``."""
        return cls(
            robot=robot.name,
            task=task.name,
            task_version=task.version,
            observation=task.observation_spec,
            action_names=task.action_names,
            version=version,
            learner=learner,
        )

    def to_json(self) -> str:
        """Return the specification as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PolicySpec":
        """Read what ``to_json`` wrote; ValueError, TypeError or KeyError when it is not that."""
        fields: dict[str, Any] = json.loads(text)
        fields["observation"] = {
            name: ObservationSpec(**{key: _tupled(value) for key, value in entry.items()})
            for name, entry in fields["observation"].items()
        }
        for name in ("action_names", "low_pass"):
            fields[name] = tuple(fields.get(name, ()))
        spec = cls(**fields)
        if type(spec.version) is not int or not 0 <= spec.version < 2**53:
            raise ValueError(f"version {spec.version!r} is no count of updates")
        if not 0.0 <= spec.noise_correlation < 1.0:
            raise ValueError(f"noise_correlation {spec.noise_correlation!r} is no part below 1")
        return spec

    def require(self, task: Task, robot: Robot, what: str) -> None:
        """Refuse a policy (called ``what``) that was made for something else.

        Raises:
            UserError: it is for another task, task version, robot, or has other observations.
        """
        wanted = PolicySpec.of(task, robot)
        for field, made_for, needed in (
            ("task", self.task, wanted.task),
            (f"version of task {wanted.task}", self.task_version, wanted.task_version),
            ("robot", self.robot, wanted.robot),
            ("action", self.action_names, wanted.action_names),
        ):
            if made_for != needed:
                raise UserError(
                    f"{what} was made for {field} {_words(made_for)}, this is {_words(needed)}"
                )
        for name in {**wanted.observation, **self.observation}:
            made, need = self.observation.get(name), wanted.observation.get(name)
            if made != need:
                raise UserError(
                    f"{what} was made for observation {name} {made or 'absent'}, "
                    f"this is {need or 'absent'}"
                )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def low_pass_gains(task: Task, cutoff: float) -> tuple[float, ...]:
    """Return the part of the way to each component of an action that one control step goes.

    The step response of a first-order low-pass of ``cutoff`` Hz, sampled once per control period. A
    cut-off of 0 stands for no low-pass: no gains. Binary components are not filtered: gain 1.

    Raises:
        UserError: the cut-off is negative or not finite, or the task does not observe its executed
            actions.
    """
    if not 0.0 <= cutoff < math.inf:
        raise UserError(f"action_cutoff {cutoff}: expected a frequency in Hz, or 0 for no low-pass")
    if cutoff == 0.0:
        return ()
    if ACTION_HISTORY not in task.observation_spec:
        raise UserError(
            f"a low-pass on actions needs task {task.name} to observe {ACTION_HISTORY}: add it to "
            "its observations, or give action_cutoff 0"
        )
    gain = 1.0 - math.exp(-math.tau * cutoff * task.period)
    return tuple(1.0 if binary else gain for binary in task.binary_actions)


class Policy(Protocol):
    """Maps named observations to the task's normalized action.

    One whose `act` may be asked again and again for the same control step, each time for another
    sample of its exploration, says so by an attribute ``resamples`` that is True."""

    @property
    def spec(self) -> PolicySpec:
        """What the policy was made for."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode: forget its state, and repeat exactly under the same ``seed``."""
        ...

    def act(self, observation: Mapping[str, npt.NDArray[np.float32]], *, explore: bool) -> Action:
        """Return the action (5,) in [-1, 1]; ``explore`` adds the policy's own exploration."""
        ...


class RandomPolicy:
    """Uniformly random actions: the floor that every policy has to beat."""

    resamples = True

    def __init__(self, task: Task, robot: Robot) -> None:
        """Make a random policy for ``task`` on ``robot``."""
        self.spec = PolicySpec.of(task, robot)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same actions."""
        self._generator = np.random.default_rng(seed)

    def act(self, observation: Mapping[str, npt.NDArray[np.float32]], *, explore: bool) -> Action:
        """Return a random action, whatever is observed."""
        size = len(self.spec.action_names)
        return self._generator.uniform(-1.0, 1.0, size).astype(np.float32)
