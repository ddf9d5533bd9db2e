"""An episode as a table: at each control tick what was observed, and what was done until the next.

Wider than `EpisodeTransitions`: observations have names, shapes and ages of their own, and nothing
is scaled. It is what data sets are exported from, and what bags of any origin become.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import EpisodeMetadata


@dataclass(frozen=True)
class AlignedEpisode:
    """T control steps between T + 1 ticks.

    Attributes:
        ticks_ns: (T + 1,) int64, ns on the clock of the capture stamps.
        observations: by name (T + 1, ...): vectors float32 (SI units), pictures uint8
            (T + 1, H, W, 3) RGB. Each is the newest captured at or before its tick.
        components: names of a vector observation's components, where they are known.
        ages: by name of the observation (T + 1,) s, from its capture to the tick.
        action: (T, A) float32, as executed, between this tick and the next.
        proposed: (T, A) float32, what the policy had asked for; NaN where that is unknown.
        action_names: A names.
        rewards: (T,) float32, of the observation that each step led to; NaN where unknown.
        latencies: (T,) s of wall time from the tick's observation to its action; NaN where unknown.
        terminated: the last observation was a true terminal.
        truncated: the episode was cut off there by a time limit or because something broke.
        gaps: the steps that are none, because ticks are missing between their observations.
        counts: what had to be done to the data, by kind: see `docs/bags.md`.
        metadata: of the bag; None for one that we did not record.
        origin: of the bag, a path or a name.
    """

    ticks_ns: npt.NDArray[np.int64]
    observations: Mapping[str, npt.NDArray[Any]]
    ages: Mapping[str, npt.NDArray[np.float64]]
    action: npt.NDArray[np.float32]
    proposed: npt.NDArray[np.float32]
    action_names: tuple[str, ...]
    rewards: npt.NDArray[np.float32]
    latencies: npt.NDArray[np.float32]
    terminated: bool
    truncated: bool
    gaps: tuple[int, ...] = ()
    components: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    metadata: EpisodeMetadata | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        ticks = len(self.ticks_ns)
        per_tick = {
            **self.observations,
            **{f"age of {name}": age for name, age in self.ages.items()},
        }
        per_step = {
            "action": self.action,
            "proposed": self.proposed,
            "rewards": self.rewards,
            "latencies": self.latencies,
        }
        for name, values in per_tick.items():
            if len(values) != ticks:
                raise ValueError(f"{name}: {len(values)} rows for {ticks} ticks")
        for name, values in per_step.items():
            if len(values) != ticks - 1:
                raise ValueError(f"{name}: {len(values)} rows for {ticks - 1} steps")

    def __len__(self) -> int:
        return len(self.action)

    def with_vectors(self) -> "AlignedEpisode":
        """Return the episode with every observation a vector or a picture: a row for each tick."""
        flat = {
            name: values if values.dtype == np.uint8 else values.reshape(len(values), -1)
            for name, values in self.observations.items()
        }
        return replace(self, observations=flat)
