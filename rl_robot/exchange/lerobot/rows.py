"""An aligned episode as the rows of a LeRobotDataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.layout import Feature
from rl_robot.experience.aligned import AlignedEpisode

_STATES = ("state", "joint_states")
_FPS_TOLERANCE = 0.1
_ENOUGH_STEPS = 3


@dataclass(frozen=True)
class EpisodeRows:
    """N rows.

    Attributes:
        features: of the columns and pictures, by their names in the dataset.
        columns: (N, n) each.
        pictures: uint8 (N, H, W, 3) RGB each.
        observations: name in the dataset -> name of the observation in the episode.
    """

    features: Mapping[str, Feature]
    columns: Mapping[str, npt.NDArray[Any]]
    pictures: Mapping[str, npt.NDArray[np.uint8]]
    observations: Mapping[str, str]


def episode_rows(
    episode: AlignedEpisode, *, state: str | None = None, keep_last: bool = False
) -> EpisodeRows:
    """The rows of an episode of T >= 1 steps: T of them, or T + 1 with the last observation.

    Raises:
        UserError: an observation is neither vector nor picture, ``state`` is none of them, or two
            would have one name.
    """
    rows = len(episode) + keep_last
    features: dict[str, Feature] = {}
    columns: dict[str, npt.NDArray[Any]] = {}
    pictures: dict[str, npt.NDArray[np.uint8]] = {}
    observations: dict[str, str] = {}
    state = _state(episode, state)
    for name, values in episode.observations.items():
        picture = values.ndim == 4 and values.shape[-1] == 3 and values.dtype == np.uint8
        if not picture and values.ndim != 2:
            raise UserError(
                f"{_of(episode)}: observation {name} has the shape {values.shape[1:]} per tick; a "
                "LeRobotDataset takes vectors (n,) and RGB pictures (height, width, 3)"
            )
        key = _key(name, picture=picture, state=state)
        if key in observations or key in layout.INDEX_FEATURES or key == layout.AGES:
            raise UserError(f"observation {name} would be a second feature {key}: rename it")
        observations[key] = name
        if picture:
            pictures[key] = values[:rows]
            features[key] = Feature("video", values.shape[1:], ("height", "width", "channels"))
        else:
            columns[key] = values[:rows].astype(np.float32, copy=False)
            features[key] = _numbers(values.shape[1], episode.components.get(name), key)
    for key, (feature, column) in _steps(episode, rows).items():
        features[key], columns[key] = feature, column
    for key, column in columns.items():
        if not column.shape[1]:
            raise UserError(f"{_of(episode)}: {observations.get(key, key)} has no components")
    return EpisodeRows(features, columns, pictures, observations)


def check_rate(episode: AlignedEpisode, fps: float) -> None:
    """Check that the ticks are about 1 / fps apart, where there are enough to tell.

    Raises:
        UserError: they are not, with the rate that they have.
    """
    periods = np.diff(episode.ticks_ns)[~np.isin(np.arange(len(episode)), episode.gaps)]
    if len(periods) < _ENOUGH_STEPS:
        return
    period = float(np.median(periods)) * 1e-9
    if not abs(period * fps - 1) <= _FPS_TOLERANCE:
        raise UserError(
            f"{_of(episode)}: its ticks are {period:.4g} s apart, not 1/{fps:g} s: "
            f"give fps={1 / period if period > 0 else 0:.4g}"
        )


def _state(episode: AlignedEpisode, wanted: str | None) -> str | None:
    vectors = [name for name, values in episode.observations.items() if values.ndim == 2]
    if wanted is not None:
        if wanted not in vectors:
            raise UserError(
                f"{_of(episode)} has no vector observation {wanted}: one of {', '.join(vectors)}"
            )
        return wanted
    usual = [name for name in _STATES if name in vectors]
    if usual:
        return usual[0]
    return vectors[0] if len(vectors) == 1 else None


def _key(name: str, *, picture: bool, state: str | None) -> str:
    if picture:
        return layout.picture_key(name)
    return layout.STATE if name == state else layout.vector_key(name)


def _numbers(size: int, names: tuple[str, ...] | None, key: str) -> Feature:
    stem = key.rsplit(".", 1)[-1]
    if names is None or len(names) != size:
        names = tuple(f"{stem}_{i}" for i in range(size))
    return Feature("float32", (size,), names)


def _steps(episode: AlignedEpisode, rows: int) -> dict[str, tuple[Feature, npt.NDArray[Any]]]:
    """What is not an observation: feature and (rows, n) column by name."""
    steps = len(episode)
    last = np.arange(rows) >= steps - 1
    succeeded = episode.metadata is not None and episode.metadata.outcome == "success"
    actions = Feature("float32", (len(episode.action_names),), episode.action_names)
    columns: dict[str, tuple[Feature, npt.NDArray[Any]]] = {
        layout.ACTION: (actions, _repeat_last(episode.action, rows)),
        layout.TICK: (Feature("int64", (1,)), episode.ticks_ns[:rows]),
        layout.REWARD: (Feature("float32", (1,)), _filled(episode.rewards, rows, 0.0)),
        layout.LATENCY: (Feature("float32", (1,)), _filled(episode.latencies, rows, np.nan)),
        layout.DONE: _flags(last & (episode.terminated or episode.truncated)),
        layout.TRUNCATED: _flags(last & episode.truncated),
        layout.SUCCESS: _flags(last & succeeded),
        layout.GAP: _flags(np.isin(np.arange(rows), episode.gaps)),
    }
    if episode.proposed.shape[1]:  # nothing is known of it otherwise
        width = episode.proposed.shape[1]
        names = episode.action_names if width == len(episode.action_names) else None
        proposed = _numbers(width, names, layout.PROPOSED)
        columns[layout.PROPOSED] = proposed, _repeat_last(episode.proposed, rows)
    if episode.ages:
        ages = np.stack([age[:rows] for age in episode.ages.values()], axis=1)
        named = Feature("float32", (len(episode.ages),), tuple(episode.ages))
        columns[layout.AGES] = named, ages.astype(np.float32)
    if rows > steps:
        columns[layout.LAST] = _flags(np.arange(rows) == steps)
    return {
        name: (feature, column.reshape(rows, -1)) for name, (feature, column) in columns.items()
    }


def _flags(values: npt.NDArray[np.bool_]) -> tuple[Feature, npt.NDArray[np.bool_]]:
    return Feature("bool", (1,)), values


def _repeat_last(values: npt.NDArray[np.float32], rows: int) -> npt.NDArray[np.float32]:
    return values[np.minimum(np.arange(rows), len(values) - 1)]


def _filled(values: npt.NDArray[np.float32], rows: int, fill: float) -> npt.NDArray[np.float32]:
    return np.append(values, np.full(rows - len(values), fill, np.float32)).astype(np.float32)


def _of(episode: AlignedEpisode) -> str:
    return episode.origin or "the episode"
