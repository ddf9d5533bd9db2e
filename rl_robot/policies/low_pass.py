"""A first-order low-pass on what a policy asks for: without state, and the same for its learner.

It starts from the action that was *executed* last, which is part of the observation. So the process
stays Markov, what safety changed is taken up, and a learner filters whole batches by the same code:
what it values is what will be done.
"""

import math
from itertools import accumulate

import torch

from rl_robot.policies.policy import ACTION_HISTORY, PolicySpec


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
        history = spec.observation.get(ACTION_HISTORY)
        if history is None or history.shape[1:] != (actions,) or not history.shape[0]:
            raise ValueError(
                f"a low-pass needs an observation {ACTION_HISTORY} of (steps, {actions})"
            )
        if (history.low, history.high) != (-1.0, 1.0):
            raise ValueError(
                f"{ACTION_HISTORY} ranges from {history.low} to {history.high}, not -1 to 1"
            )
        ends = accumulate(math.prod(entry.shape) for entry in spec.observation.values())
        end = dict(zip(spec.observation, ends, strict=True))[ACTION_HISTORY]
        self._last = slice(end - actions, end)

    def __call__(self, actions: torch.Tensor, observations: torch.Tensor) -> torch.Tensor:
        """Return what ``actions`` (..., A), asked for at flat ``observations`` (..., D), become."""
        if not len(self._gains):
            return actions
        return torch.lerp(observations[..., self._last], actions, self._gains)
