"""Writes aligned episodes as a LeRobotDataset v3.0, one at a time."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rl_robot.errors import UserError
from rl_robot.exchange.folders import whole_folder
from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.files import ParquetFiles, VideoFiles
from rl_robot.exchange.lerobot.layout import Feature
from rl_robot.exchange.lerobot.rows import EpisodeRows, check_rate, episode_rows
from rl_robot.exchange.lerobot.statistics import (
    Statistics,
    column_statistics,
    combine,
    picture_statistics,
    to_json,
)
from rl_robot.experience.aligned import AlignedEpisode

_EPISODES_AT_ONCE = 100  # rows of the table of episodes that are held before they are written


def write_dataset(
    episodes: Iterable[AlignedEpisode],
    folder: Path,
    *,
    task: str,
    fps: float,
    robot_type: str,
    state: str | None,
    keep_last: bool,
    crf: int,
    progress: Callable[[int], None] | None,
) -> tuple[int, int, tuple[str, ...]]:
    """See `rl_robot.exchange.export_lerobot`; returns episodes, rows, and what was skipped."""
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"fps is {fps}: it must be a number above 0")
    if not 0 <= crf <= 51:
        raise UserError(f"crf is {crf}: it must be from 0 (lossless) to 51")
    skipped: list[str] = []
    with whole_folder(folder) as part:
        writer = DatasetWriter(part, task=task, fps=fps, robot_type=robot_type, crf=crf)
        try:
            for episode in episodes:
                if not len(episode):
                    skipped.append(episode.origin)
                    continue
                check_rate(episode, fps)
                rows = episode_rows(episode, state=state, keep_last=keep_last)
                writer.add(episode, rows)
                if progress:
                    progress(writer.episodes)
            if not writer.episodes:
                raise UserError("there is no episode with a step to write")
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    return writer.episodes, writer.rows, tuple(skipped)


class DatasetWriter:
    """Writes the files of a data set into an empty folder."""

    def __init__(self, folder: Path, *, task: str, fps: float, robot_type: str, crf: int) -> None:
        """Begin; what the columns are is taken from the first episode."""
        self.episodes = 0
        self.rows = 0
        self._folder = folder
        self._task = task
        self._fps = int(fps) if float(fps).is_integer() else fps
        self._robot_type = robot_type
        self._crf = crf
        self._first: EpisodeRows | None = None
        self._statistics: dict[str, Statistics] = {}
        self._data = ParquetFiles(folder, layout.DATA_PATH)
        self._table = ParquetFiles(folder, layout.EPISODES_PATH)
        self._pending: list[dict[str, Any]] = []
        self._videos: dict[str, VideoFiles] = {}
        self._ours: list[dict[str, Any]] = []

    def add(self, episode: AlignedEpisode, rows: EpisodeRows) -> None:
        """Write one episode.

        Raises:
            UserError: it has other observations or actions than the first.
        """
        self._check(episode, rows)
        count = len(rows.columns[layout.ACTION])
        index = self.episodes
        entry: dict[str, Any] = {"episode_index": index, "tasks": [self._task], "length": count}
        columns = {**rows.columns, **self._index_columns(count)}
        table = pa.table({name: _arrow(values) for name, values in columns.items()})
        chunk, file = self._data.write(table)
        entry |= {"data/chunk_index": chunk, "data/file_index": file}
        entry |= {"dataset_from_index": self.rows, "dataset_to_index": self.rows + count}
        for key, pictures in rows.pictures.items():
            entry |= self._videos[key].write(pictures)
        described = {key: column_statistics(values) for key, values in columns.items()}
        described |= {key: picture_statistics(values) for key, values in rows.pictures.items()}
        for key, statistics in described.items():
            self._statistics[key] = combine(self._statistics.get(key), statistics)
            entry |= {f"stats/{key}/{name}": v for name, v in to_json(statistics).items()}
        self._pending.append(entry)
        if len(self._pending) >= _EPISODES_AT_ONCE:
            self._write_pending()
        self._ours.append(_what_lerobot_has_no_place_for(episode))
        self.episodes += 1
        self.rows += count

    def finish(self) -> None:
        """Write what is left, and the descriptions."""
        self._write_pending()
        for files in self._files:
            files.close()
        _write_tasks(self._folder / layout.TASKS, self._task)
        statistics = {key: to_json(value) for key, value in self._statistics.items()}
        _write_json(self._folder / layout.STATISTICS, statistics)
        _write_json(self._folder / layout.INFO, self._info())
        first = self._first
        _write_json(
            self._folder / layout.OURS,
            {"observations": first.observations if first else {}, "episodes": self._ours},
        )

    @property
    def _files(self) -> list[ParquetFiles | VideoFiles]:
        return [self._data, self._table, *self._videos.values()]

    def abort(self) -> None:
        """Let go of the files, whatever state they are in."""
        for files in self._files:
            files.abort()

    def _check(self, episode: AlignedEpisode, rows: EpisodeRows) -> None:
        if self._first is None:
            # Only what later episodes are compared with: not the numbers and pictures.
            self._first = EpisodeRows(rows.features, {}, {}, rows.observations)
            self._videos = {
                key: VideoFiles(self._folder, key, rows.features[key], self._fps, self._crf)
                for key in rows.pictures
            }
            return
        for key in sorted(self._first.features.keys() | rows.features.keys()):
            ours, theirs = self._first.features.get(key), rows.features.get(key)
            if ours != theirs:
                raise UserError(
                    f"{episode.origin or f'episode {self.episodes}'}: its {key} is "
                    f"{_described(theirs)}, that of the first episode {_described(ours)}: "
                    "export them apart"
                )

    def _index_columns(self, count: int) -> dict[str, npt.NDArray[Any]]:
        """LeRobot's own columns (count, 1) of the episode that is being written."""
        columns: dict[str, npt.NDArray[Any]] = {
            "timestamp": (np.arange(count) / self._fps).astype(np.float32),
            "frame_index": np.arange(count),
            "episode_index": np.full(count, self.episodes),
            "index": np.arange(self.rows, self.rows + count),
            "task_index": np.zeros(count, np.int64),
        }
        return {name: values[:, None] for name, values in columns.items()}

    def _write_pending(self) -> None:
        if self._pending:
            # Where its own description lies is part of each episode's description.
            chunk, file = self._table.place()
            where = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
            self._table.write(pa.Table.from_pylist([entry | where for entry in self._pending]))
            self._pending = []

    def _info(self) -> dict[str, Any]:
        features = self._first.features if self._first else {}
        described = {key: f.to_json() for key, f in {**features, **layout.INDEX_FEATURES}.items()}
        for key, files in self._videos.items():
            described[key]["info"] = files.info
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._robot_type,
            "total_episodes": self.episodes,
            "total_frames": self.rows,
            "total_tasks": 1,
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": layout.DATA_MEGABYTES,
            "video_files_size_in_mb": layout.VIDEO_MEGABYTES,
            "fps": self._fps,
            "splits": {"train": f"0:{self.episodes}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._videos else None,
            "features": described,
        }


def _arrow(values: npt.NDArray[Any]) -> pa.Array:
    """One number per row as such, more as a list of fixed size: what LeRobot reads them as."""
    if values.shape[1] == 1:
        return pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _what_lerobot_has_no_place_for(episode: AlignedEpisode) -> dict[str, Any]:
    return {
        "origin": episode.origin,
        "last_tick_ns": int(episode.ticks_ns[-1]),
        "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated),
        "counts": dict(episode.counts),
        "metadata": None if episode.metadata is None else episode.metadata.to_strings(),
    }


def _described(feature: Feature | None) -> str:
    if feature is None:
        return "missing"
    names = f" ({', '.join(feature.names)})" if feature.names else ""
    return f"{feature.dtype} {feature.shape}{names}"


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")


def _write_tasks(path: Path, task: str) -> None:
    """The table of tasks, whose index is the text: so pandas is told, by which LeRobot reads it."""
    index = "__index_level_0__"
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            _pandas_column("task_index", "int64"),
            _pandas_column(None, "unicode", field_name=index),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array([0], pa.int64()), index: pa.array([task])})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _pandas_column(
    name: str | None, pandas_type: str, field_name: str | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": field_name or name,
        "pandas_type": pandas_type,
        "numpy_type": "object" if pandas_type == "unicode" else pandas_type,
        "metadata": None,
    }
