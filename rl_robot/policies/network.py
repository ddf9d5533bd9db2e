"""A neural-network policy, kept in a safetensors file whose header says what it is for.

Never pickled: weights travel over a network, and unpickling runs what it is given.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from rl_robot.errors import UserError
from rl_robot.policies.low_pass import LowPass
from rl_robot.policies.policy import Action, PolicySpec
from rl_robot.tasks import flat_size, flatten

_FORMAT = "rl_robot policy 1"
_MOST_LAYERS = 8
# What reading bytes that somebody else made up may raise.
_MALFORMED = (
    SafetensorError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def encode(observations: torch.Tensor) -> torch.Tensor:
    """Return flat observations (..., D) with a magnified view of them: (..., 2 D).

    A position relative to the tool ranges over decimetres and decides by millimetres. A network
    that sees only the former takes several times as long to learn the latter.
    """
    return torch.cat([observations, torch.tanh(10.0 * observations)], dim=-1)


class Actor(nn.Module):
    """Tanh-squashed Gaussian policy (Haarnoja et al., 2018): MLP with LayerNorm and ReLU."""

    LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0

    def __init__(self, inputs: int, actions: int, hidden: tuple[int, ...] = (128, 128)) -> None:
        """Make an actor from flat observations (batch, inputs) to actions (batch, actions)."""
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((2 * inputs, *hidden)):
            layers += [nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden[-1], 2 * actions)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log standard deviation (batch, actions) before the tanh."""
        mean, log_std = self.head(self.body(encode(observations))).chunk(2, dim=-1)
        return mean, log_std.clamp(self.LOG_STD_MIN, self.LOG_STD_MAX)


class NetworkPolicy:
    """Acts by an ``Actor``: its mean, or a sample when exploring, through the spec's low-pass.

    Samples are smooth in time (Korenkevych et al., 2019; Eberhard et al., 2023): each by itself is
    distributed as the actor says, but the noise behind them is an autoregressive process of the
    spec's ``noise_correlation``.
    """

    resamples = True

    def __init__(self, spec: PolicySpec, hidden: tuple[int, ...] = (128, 128)) -> None:
        """Make a policy with freshly initialized weights."""
        self.spec = spec
        self.hidden = hidden
        self.actor = Actor(flat_size(spec.observation), len(spec.action_names), hidden)
        self._low_pass = LowPass(spec)
        self._generator = torch.Generator()
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same exploration."""
        self._generator.manual_seed(seed)
        self._noise = self._normal()

    @torch.inference_mode()
    def act(self, observation: Mapping[str, npt.NDArray[np.float32]], *, explore: bool) -> Action:
        """Return the action (5,) in [-1, 1] for named observations."""
        flat = torch.from_numpy(flatten(self.spec.observation, observation))[None]
        mean, log_std = self.actor(flat)
        if explore:
            mean = mean + log_std.exp() * self._noise
            kept = self.spec.noise_correlation
            self._noise = kept * self._noise + math.sqrt(1.0 - kept**2) * self._normal()
        action: Action = self._low_pass(torch.tanh(mean), flat)[0].numpy()
        return action

    def to_bytes(self) -> bytes:
        """Return the policy as the contents of a safetensors file."""
        header = {
            "format": _FORMAT,
            "spec": self.spec.to_json(),
            "hidden": ",".join(str(width) for width in self.hidden),
        }
        weights = {name: value.contiguous() for name, value in self.actor.state_dict().items()}
        return bytes(save(weights, metadata=header))

    @classmethod
    def from_bytes(cls, data: bytes, what: str = "policy") -> "NetworkPolicy":
        """Read what ``to_bytes`` wrote; ``what`` names the source in messages.

        Raises:
            UserError: damaged, or not a policy of this package.
        """
        try:
            header = _metadata(data)
            spec = PolicySpec.from_json(header["spec"])
            hidden = tuple(int(width) for width in header["hidden"].split(","))
            weights = load(data)
            _require_fit(spec, hidden, weights)
            policy = cls(spec, hidden)
            policy.actor.load_state_dict(weights)
        except _MALFORMED as error:
            raise UserError(
                f"{what} is not a policy or is damaged: expected a .safetensors file that rl_robot "
                f"wrote ({type(error).__name__})"
            ) from error
        if not all(bool(value.isfinite().all()) for value in policy.actor.state_dict().values()):
            raise UserError(f"{what} holds weights that are not finite: train it again")
        return policy

    def save(self, path: Path) -> None:
        """Write the policy to ``path``, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_bytes(self.to_bytes())
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> "NetworkPolicy":
        """Read a policy file.

        Raises:
            UserError: missing, damaged, or not a policy of this package.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"policy file {path} can't be read: {error.strerror}") from error
        return cls.from_bytes(data, f"policy file {path}")

    def _normal(self) -> torch.Tensor:
        return torch.randn(len(self.spec.action_names), generator=self._generator)

    def adopt(self, other: "NetworkPolicy") -> None:
        """Act by the weights of another policy from now on, sharing them."""
        self.spec, self.hidden, self.actor = other.spec, other.hidden, other.actor
        self._low_pass = other._low_pass

    def with_version(self, version: int) -> "NetworkPolicy":
        """Return this policy under another version, sharing its weights."""
        renewed = NetworkPolicy(replace(self.spec, version=version), self.hidden)
        renewed.actor = self.actor
        return renewed


def _require_fit(
    spec: PolicySpec, hidden: tuple[int, ...], weights: Mapping[str, torch.Tensor]
) -> None:
    """Refuse a header that speaks of another network than the weights, before any is allocated.

    Raises:
        ValueError: it does.
    """
    if len(hidden) > _MOST_LAYERS or min(hidden) < 1:
        raise ValueError(f"hidden layers {hidden[: _MOST_LAYERS + 1]}")
    with torch.device("meta"):  # shapes alone
        actor = Actor(flat_size(spec.observation), len(spec.action_names), hidden)
    expected = {name: (value.shape, value.dtype) for name, value in actor.state_dict().items()}
    if {name: (value.shape, value.dtype) for name, value in weights.items()} != expected:
        raise ValueError("the weights are not of the network that the header describes")


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata in a safetensors header, which its Python API reads from files only."""
    size = int.from_bytes(data[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + size])
    metadata = header["__metadata__"]
    if metadata["format"] != _FORMAT:
        raise ValueError(metadata["format"])
    return metadata
