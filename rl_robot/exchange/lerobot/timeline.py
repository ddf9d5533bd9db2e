"""When the rows of a data set happened: ticks, and captures of what was observed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.description import Description
from rl_robot.exchange.lerobot.reader import DatasetEpisode

_NANOSECONDS = 1_000_000_000
_END_NS = (1 << 31) * _NANOSECONDS  # of what a ROS time stamp can say


@dataclass(frozen=True)
class Timeline:
    """N rows and S steps: N of them, or N - 1 where nothing was done on the last row.

    Attributes:
        ticks: (S + 1,) ns: of the rows, and of what the last step led to.
        captures: by the observation's own name (N,) ns, where its ages are known.
        rows: N.
    """

    ticks: npt.NDArray[np.int64]
    captures: Mapping[str, npt.NDArray[np.int64]]
    rows: int

    @property
    def steps(self) -> int:
        """S."""
        return len(self.ticks) - 1

    def captured(self, observation: str) -> npt.NDArray[np.int64]:
        """When the observation of each row was captured (N,), ns: at its tick if that's unknown."""
        return self.captures.get(observation, self.ticks[: self.rows])


def timeline_of(description: Description, episode: DatasetEpisode) -> Timeline:
    """When an episode happened.

    Raises:
        UserError: its time stamps do not ascend.
    """
    ticks = _ticks(description, episode)
    captures = _captures(description, episode, ticks)
    last = episode.columns.get(layout.LAST)
    if last is None or len(ticks) < 2 or not last[-1, 0]:
        end = kept_of(description, episode).get("last_tick_ns")
        if not isinstance(end, int) or not ticks[-1] < end < _END_NS:
            end = int(ticks[-1]) + round(_NANOSECONDS / description.fps)
        ticks = np.append(ticks, end)
    return Timeline(ticks, captures, len(episode))


def _ticks(description: Description, episode: DatasetEpisode) -> npt.NDArray[np.int64]:
    if layout.TICK in episode.columns:
        ticks = episode.columns[layout.TICK][:, 0].astype(np.int64)
    else:
        start = _NANOSECONDS + round(episode.first / description.fps * _NANOSECONDS)
        ticks = start + np.rint(episode.seconds * _NANOSECONDS).astype(np.int64)
    if not (np.diff(ticks) > 0).all() or not 0 <= ticks[0] <= ticks[-1] < _END_NS:
        raise UserError(
            f"{episode.entry.data}: the time stamps of episode {episode.entry.index} do not "
            "ascend, or are beyond what a ROS time can hold"
        )
    return ticks


def _captures(
    description: Description, episode: DatasetEpisode, ticks: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.int64]]:
    """When each observation was captured, by its own name."""
    if layout.AGES not in episode.columns:
        return {}
    ages = episode.columns[layout.AGES].astype(np.float64)
    known = np.isfinite(ages) & (ages >= 0) & (ages * _NANOSECONDS <= ticks[:, None])
    captured = ticks[:, None] - np.rint(np.where(known, ages, 0.0) * _NANOSECONDS).astype(np.int64)
    names = component_names(description, layout.AGES)
    return {name: captured[:, column] for column, name in enumerate(names)}


def component_names(description: Description, key: str) -> tuple[str, ...]:
    """Names of a feature's components, made up where the data set has none."""
    feature = description.features[key]
    size = int(np.prod(feature.shape))
    stem = key.rsplit(".", 1)[-1]
    return feature.names or ((stem,) if size == 1 else tuple(f"{stem}_{i}" for i in range(size)))


def kept_of(description: Description, episode: DatasetEpisode) -> Mapping[str, Any]:
    """What our exporter kept of the episode beside what LeRobot has a place for."""
    index = episode.entry.index
    return description.ours[index] if index < len(description.ours) else {}
