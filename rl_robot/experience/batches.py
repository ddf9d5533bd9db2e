"""What a batch is, and how it comes of the rows that were found: returns over n steps, histories.

A row's neighbours come with it, as a window: K rows before it and n after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rl_robot.experience.mapped import Array
from rl_robot.experience.ring import Layout, links

Floats = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """B transitions over up to n steps, float32 but for ``demonstration`` and pictures.

    What was not asked for is None or empty. A history of K is in the order of time. Where the
    episode, or the stretch after a gap, is not that old yet, its first observation or picture is
    repeated, and actions before it are zero.

    Attributes:
        observations: (B, D), flat.
        actions: (B, A), as executed.
        returns: (B,), discounted sum of the rewards of the n steps.
        discounts: (B,), what the value of the next observation counts: discount**n, 0 when the
            episode truly ended on the way.
        next_observations: (B, D), n steps later, or the last before the episode or stretch ended.
        demonstration: (B,), bool.
        observation_history: (B, K, D), the last of them ``observations``.
        next_observation_history: (B, K, D), the last of them ``next_observations``.
        action_history: (B, K, A), executed before ``actions``.
        next_action_history: (B, K, A), executed before ``next_observations``.
        pictures: (B, K, H, W, C) uint8 by name, as of the observation history.
        next_pictures: (B, K, H, W, C) uint8 by name.
        proposed: (B, A), what the policy had asked for in place of ``actions``; NaN: nothing.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    returns: torch.Tensor
    discounts: torch.Tensor
    next_observations: torch.Tensor
    demonstration: torch.Tensor
    observation_history: torch.Tensor | None = None
    next_observation_history: torch.Tensor | None = None
    action_history: torch.Tensor | None = None
    next_action_history: torch.Tensor | None = None
    pictures: Mapping[str, torch.Tensor] = {}
    next_pictures: Mapping[str, torch.Tensor] = {}
    proposed: torch.Tensor | None = None

    def split(self, size: int) -> list["Batch"]:
        """Return this as batches of ``size``, without copies."""
        begins = range(0, len(self.observations), size)
        return [Batch(*(_part(v, slice(at, at + size)) for v in self)) for at in begins]


def _part(values: Any, own: slice) -> Any:
    """Return part of a field of a batch."""
    if isinstance(values, torch.Tensor):
        return values[own]
    return None if values is None else {name: these[own] for name, these in values.items()}


@dataclass(frozen=True)
class Found:
    """Transitions as they were found.

    Attributes:
        windows: (M, K + 1 + n, W), rows as `Ring.windows` gives them.
        rows: (B,), which of the M are meant.
        numbers: (B,), of what they were drawn for, in ascending order.
        demonstrated: (B,), bool.
        pictures: (B, 2 K, H, W, C) by name: up to each row, and up to its next; K is 1 at least.
    """

    windows: Floats
    rows: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    demonstrated: npt.NDArray[np.bool_]
    pictures: Mapping[str, npt.NDArray[np.uint8]]

    def only(self, kept: Array) -> "Found":
        """Return those of the B that ``kept`` says, by bools or in this order."""
        return Found(
            self.windows,
            self.rows[kept],
            self.numbers[kept],
            self.demonstrated[kept],
            {name: these[kept] for name, these in self.pictures.items()},
        )

    @classmethod
    def join(cls, parts: Sequence["Found"]) -> "Found":
        """Return all of ``parts`` as one."""
        if len(parts) == 1:
            return parts[0]
        numbers = np.concatenate([part.numbers for part in parts])
        joined = cls(
            np.concatenate([part.windows[part.rows] for part in parts]),
            np.arange(len(numbers)),
            numbers,
            np.concatenate([part.demonstrated for part in parts]),
            {
                name: np.concatenate([part.pictures[name] for part in parts])
                for name in parts[0].pictures
            },
        )
        return joined.only(np.argsort(numbers, kind="stable"))


class Assembly:
    """Makes batches of what was found, all for the same discount, steps and history."""

    def __init__(self, layout: Layout, discount: float, n_step: int, history: int) -> None:
        self.back = history
        self.n_step = n_step
        self.width = history + 1 + n_step
        self._columns = {name: layout.column(name) for name in layout.floats}
        self._powers = discount ** np.arange(n_step + 1)

    def batch(self, found: Found) -> Batch:
        """Return the batch of all that was found."""
        windows, rows, back = found.windows, found.rows, self.back
        position, first, last, _ = links(windows[rows, back]).T
        lengths = np.minimum(self.n_step, last - position)
        ended = (self._at("terminal", found, back)[:, 0] > 0) & (position + lengths == last)
        discounts = np.where(ended, 0.0, self._powers[lengths])
        parts = {
            "observations": torch.from_numpy(self._at("observation", found, back)),
            "actions": torch.from_numpy(self._at("action", found, back)),
            "returns": _tensor(self._rewards(found, lengths) @ self._powers[:-1]),
            "discounts": _tensor(discounts),
            "next_observations": torch.from_numpy(self._at("observation", found, back + lengths)),
            "demonstration": torch.from_numpy(found.demonstrated),
        }
        if "proposed" in self._columns:
            parts["proposed"] = torch.from_numpy(self._at("proposed", found, back))
        if back:
            begin = (back - (position - first))[:, None]
            parts |= self._histories("", found, np.full_like(begin, back), begin)
            parts |= self._histories("next_", found, back + lengths[:, None], begin)
        pictures = {name: torch.from_numpy(these) for name, these in found.pictures.items()}
        half = max(back, 1)
        return Batch(
            **parts,
            pictures={name: these[:, :half] for name, these in pictures.items()},
            next_pictures={name: these[:, half:] for name, these in pictures.items()},
        )

    def _at(self, name: str, found: Found, place: int | Array) -> Floats:
        """Return a field of the rows at a place in their windows, (B, size)."""
        return found.windows[found.rows, place, self._columns[name]]

    def _rewards(self, found: Found, lengths: Array) -> npt.NDArray[np.float64]:
        """Return the rewards of the steps that count, (B, n), and 0 for the others."""
        steps = slice(self.back, self.back + self.n_step)
        rewards = found.windows[found.rows, steps, self._columns["reward"].start]
        return np.where(np.arange(self.n_step) < lengths[:, None], rewards.astype(float), 0.0)

    def _histories(
        self, prefix: str, found: Found, present: Array, first: Array
    ) -> dict[str, torch.Tensor]:
        """Return what was observed up to, and done before, the places ``present`` (B, 1)."""
        before = present + np.arange(-self.back, 0)
        seen = np.maximum(before + 1, first)
        rows = found.rows[:, None]
        done = found.windows[rows, before, self._columns["action"]]
        done[before < first] = 0.0
        observed = found.windows[rows, seen, self._columns["observation"]]
        return {
            f"{prefix}observation_history": torch.from_numpy(observed),
            f"{prefix}action_history": torch.from_numpy(done),
        }


def _tensor(values: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
