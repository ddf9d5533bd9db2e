"""A first-order low-pass on what a policy asks for: without state, and the same for its learner.

It starts from the action that was *executed* last, which is part of the observation. So the process
stays Markov, what safety changed is taken up, and a learner filters whole batches by the same code:
what it values is what will be done.
"""

import math
from itertools import accumulate

import torch

from rl_robot.errors import UserError
from rl_robot.policies.policy import PolicySpec
from rl_robot.tasks import Task

_HISTORY = "action_history"  # the observation that holds the executed actions, the last one last


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
    if _HISTORY not in task.observation_spec:
        raise UserError(
            f"a low-pass on actions needs task {task.name} to observe {_HISTORY}: add it to its "
            "observations, or give action_cutoff 0"
        )
    gain = 1.0 - math.exp(-math.tau * cutoff * task.period)
    return tuple(1.0 if binary else gain for binary in task.binary_actions)


class LowPass:
    """The low-pass of a policy's specification; it changes nothing where that has no gains."""

    def __init__(self, spec: PolicySpec) -> None:
        """Make the low-pass of the policy that ``spec`` is of.

        Raises:
            ValueError: gains that are none, not as many as actions, or no history of actions in
                [-1, 1] to start from.
        """
        self._gains = torch.tensor(spec.low_pass, dtype=torch.float32)
        self._last = slice(0)
        if not spec.low_pass:
            return
        actions = len(spec.action_names)
        if len(spec.low_pass) != actions or not all(0.0 < gain <= 1.0 for gain in spec.low_pass):
            raise ValueError(f"low_pass {spec.low_pass} is no {actions} parts of a way")
        history = spec.observation.get(_HISTORY)
        if history is None or history.shape[1:] != (actions,) or not history.shape[0]:
            raise ValueError(f"a low-pass needs an observation {_HISTORY} of (steps, {actions})")
        if (history.low, history.high) != (-1.0, 1.0):
            raise ValueError(f"{_HISTORY} ranges from {history.low} to {history.high}, not -1 to 1")
        ends = accumulate(math.prod(entry.shape) for entry in spec.observation.values())
        end = dict(zip(spec.observation, ends, strict=True))[_HISTORY]
        self._last = slice(end - actions, end)

    def __call__(self, actions: torch.Tensor, observations: torch.Tensor) -> torch.Tensor:
        """Return what ``actions`` (..., A), asked for at flat ``observations`` (..., D), become."""
        if not len(self._gains):
            return actions
        return torch.lerp(observations[..., self._last], actions, self._gains)
