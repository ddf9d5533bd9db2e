"""What a data set says of itself, checked: nothing in it is taken at its word."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rl_robot.errors import UserError
from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.layout import Feature

_JSON_BYTES = 256 << 20
_FEATURES = 1000
_ROW_NUMBERS = 1 << 20  # of one feature in one row
_SIDE = 1 << 14  # pixels
_ROWS = 1 << 24  # of an episode
_EPISODE_BYTES = 4 << 30  # of an episode's numbers, 8 bytes each
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,200}")
_NUMBERS = {
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
}
_PICTURES = {"video", "image"}


@dataclass(frozen=True)
class EpisodeEntry:
    """Where an episode is: its rows in a table, and for each video (file, seconds in it)."""

    index: int
    task: str
    length: int
    data: Path
    videos: Mapping[str, tuple[Path, float]]


@dataclass(frozen=True)
class Description:
    """A data set without its rows.

    Attributes:
        folder: of the data set.
        fps: rows per second.
        robot_type: name of the robot; "" when there is none.
        features: columns and pictures, without LeRobot's own indices.
        observations: feature -> name of the observation, where our exporter kept it.
        ours: by episode, what our exporter kept of it.
    """

    folder: Path
    fps: float
    robot_type: str
    features: Mapping[str, Feature]
    observations: Mapping[str, str] = field(default_factory=dict)
    ours: tuple[Mapping[str, Any], ...] = ()

    @property
    def cameras(self) -> list[str]:
        """Features that are pictures."""
        return [key for key, feature in self.features.items() if feature.dtype in _PICTURES]

    @property
    def columns(self) -> list[str]:
        """Features that are numbers."""
        return [key for key, feature in self.features.items() if feature.dtype in _NUMBERS]

    @property
    def texts(self) -> list[str]:
        """Features that are texts."""
        return [key for key, feature in self.features.items() if feature.dtype == "string"]

    @property
    def most_rows(self) -> int:
        """How many rows an episode may have."""
        numbers = sum(math.prod(self.features[key].shape) for key in self.columns)
        return min(_ROWS, _EPISODE_BYTES // (8 * max(1, numbers)))

    def entries(self) -> Iterator[EpisodeEntry]:
        """The episodes, in order.

        Raises:
            UserError: their table is missing or damaged.
        """
        files = sorted((self.folder / layout.EPISODES).glob("*/*.parquet"))
        if not files:
            raise UserError(f"{self.folder / layout.EPISODES} holds no table of episodes")
        videos = [key for key in self.cameras if self.features[key].dtype == "video"]
        wanted = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
        for key in videos:
            wanted += [f"videos/{key}/{what}" for what in ("chunk_index", "file_index")]
            wanted.append(f"videos/{key}/from_timestamp")
        expected = 0
        for path in files:
            for batch in table_batches(path, wanted):
                for row in batch.to_pylist():
                    entry = self._entry(row, videos, path)
                    if entry.index != expected:
                        raise UserError(f"{path}: episode {expected} is missing")
                    expected += 1
                    yield entry

    def _entry(self, row: Mapping[str, Any], videos: list[str], path: Path) -> EpisodeEntry:
        try:
            length = _whole(row["length"], 1, self.most_rows)
            return EpisodeEntry(
                index=_whole(row["episode_index"], 0, 1 << 31),
                task="; ".join(str(task)[:1000] for task in row["tasks"][:10]),
                length=length,
                data=self._file(layout.DATA_PATH, row["data/chunk_index"], row["data/file_index"]),
                videos={key: self._video(row, key) for key in videos},
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: an episode is described wrongly ({error})") from None

    def _video(self, row: Mapping[str, Any], key: str) -> tuple[Path, float]:
        chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
        start = float(row[f"videos/{key}/from_timestamp"])
        if not 0 <= start < 1e9:
            raise ValueError(f"it begins at {start} s of its video {key}")
        return self._file(layout.VIDEO_PATH, chunk, file, key), start

    def _file(self, pattern: str, chunk: Any, file: Any, key: str = "") -> Path:
        chunk, file = _whole(chunk, 0, 1 << 20), _whole(file, 0, 1 << 20)
        return self.folder / pattern.format(chunk_index=chunk, file_index=file, video_key=key)


def read_description(folder: Path) -> Description:
    """Read and check ``meta/info.json``, and what our exporter left beside it.

    Raises:
        UserError: this is no LeRobotDataset v3.0, or what it says makes no sense.
    """
    path = folder / layout.INFO
    if not path.is_file():
        raise UserError(f"{folder} is no LeRobotDataset: it has no {layout.INFO}")
    info = _json(path)
    version = str(info.get("codebase_version"))
    if version != layout.VERSION:
        raise UserError(
            f"{path}: the version is {version}, and only {layout.VERSION} is read: convert it "
            "with lerobot's own convert_dataset_v21_to_v30"
        )
    fps, features = info.get("fps"), info.get("features")
    if not isinstance(fps, (int, float)) or not 0 < fps <= 1e5:
        raise UserError(f"{path}: fps is {fps!r}: it must be a number above 0")
    if not isinstance(features, dict) or len(features) > _FEATURES:
        raise UserError(f"{path}: features must be a table of at most {_FEATURES}")
    _check_paths(info, path)
    parsed = {key: _feature(key, value, path) for key, value in features.items()}
    for key in layout.INDEX_FEATURES:
        if parsed.pop(key, None) is None:
            raise UserError(f"{path}: the feature {key} is missing")
    observations, episodes = _read_ours(folder, parsed)
    robot_type = info.get("robot_type")
    return Description(
        folder, float(fps), str(robot_type or "")[:200], parsed, observations, episodes
    )


def table_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The table's columns, some rows at a time.

    Raises:
        UserError: there is no such table, it is damaged, or a column is missing.
    """
    if not path.is_file():
        raise UserError(f"there is no table {path}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as table:
            missing = set(columns) - set(table.schema_arrow.names)
            if missing:
                raise UserError(f"{path}: the column {min(missing)} is missing")
            yield from table.iter_batches(batch_size=1024, columns=columns)
    except UserError:
        raise
    except Exception as error:  # a damaged table makes pyarrow fail in many ways
        raise UserError(f"{path} is damaged ({_line(error)})") from None


def _check_paths(info: Mapping[str, Any], path: Path) -> None:
    """Patterns of one's own would be a way to files anywhere on this machine."""
    for name, usual in (("data_path", layout.DATA_PATH), ("video_path", layout.VIDEO_PATH)):
        if info.get(name) not in (usual, None):
            raise UserError(f"{path}: {name} is {info[name]!r}, and only {usual!r} is read")


def _feature(key: str, value: Any, path: Path) -> Feature:
    if not _NAME.fullmatch(key):
        raise UserError(
            f"{path}: {key[:80]!r} is no name for a feature: letters, digits, '_', '.' and '-'"
        )
    try:
        dtype = str(value["dtype"])
        shape = tuple(_whole(size, 1, _ROW_NUMBERS) for size in value["shape"])
        names = value.get("names")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: the feature {key} is described wrongly ({error})") from None
    if dtype in _PICTURES:
        return Feature(dtype, _picture_shape(key, shape, names, path))
    if dtype != "string" and dtype not in _NUMBERS:
        raise UserError(f"{path}: the feature {key} is of the unknown type {dtype[:80]!r}")
    size = math.prod(shape)
    if size > _ROW_NUMBERS or len(shape) > 5:
        raise UserError(f"{path}: the feature {key} has {size} numbers per row: too many")
    return Feature(dtype, shape, _component_names(names, size))


def _picture_shape(key: str, shape: tuple[int, ...], names: Any, path: Path) -> tuple[int, ...]:
    """(H, W, 3), whichever order the feature has; older data sets have channels first."""
    if len(shape) == 3 and isinstance(names, list) and names[:1] in (["channel"], ["channels"]):
        shape = (*shape[1:], shape[0])
    if len(shape) != 3 or shape[2] != 3 or max(shape) > _SIDE:
        raise UserError(f"{path}: {key} has the shape {shape}, not (height, width, 3)")
    return shape


def _component_names(names: Any, size: int) -> tuple[str, ...] | None:
    """Names of the components: LeRobot has lists, nested lists, and tables of lists."""
    flat: list[str] = []
    waiting = [names]
    while waiting and len(flat) <= size:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif item is not None:
            flat.append(str(item)[:200])
    return tuple(flat) if len(flat) == size and len(set(flat)) == size else None


def _read_ours(
    folder: Path, features: Mapping[str, Feature]
) -> tuple[dict[str, str], tuple[Mapping[str, Any], ...]]:
    path = folder / layout.OURS
    if not path.is_file():
        return {}, ()
    document = _json(path)
    observations, episodes = document.get("observations"), document.get("episodes")
    if not isinstance(observations, dict) or not isinstance(episodes, list):
        raise UserError(f"{path}: observations must be a table, and episodes a list")
    if not all(isinstance(episode, dict) for episode in episodes):
        raise UserError(f"{path}: each of its episodes must be a table")
    known = {key: str(name)[:200] for key, name in observations.items() if key in features}
    return known, tuple(episodes)


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _JSON_BYTES:
        raise UserError(f"{path} has {path.stat().st_size} bytes: too many")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({_line(error)})") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold a table of names and values")
    return document


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r} is no whole number from {least} to {most}")
    return value


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
