"""Reads the episodes of a LeRobotDataset v3.0, one at a time."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rl_robot.bags.pictures import decode_picture
from rl_robot.errors import UserError
from rl_robot.exchange.lerobot.description import Description, EpisodeEntry, table_batches
from rl_robot.exchange.lerobot.layout import Feature
from rl_robot.exchange.lerobot.video import read_frames

_INDICES = ["episode_index", "frame_index", "timestamp", "index"]


@dataclass(frozen=True)
class DatasetEpisode:
    """The N rows of an episode.

    Attributes:
        entry: where it is.
        seconds: (N,) since its beginning, by LeRobot's own time.
        first: index of its first row in the data set.
        columns: (N, n) each.
        texts: N each.
        encoded: PNG files, N of each camera whose pictures are kept in the table.
    """

    entry: EpisodeEntry
    seconds: npt.NDArray[np.float64]
    first: int
    columns: Mapping[str, npt.NDArray[Any]]
    texts: Mapping[str, list[str]]
    encoded: Mapping[str, list[bytes]]

    def __len__(self) -> int:
        return len(self.seconds)


def read_episodes(
    description: Description, wanted: Collection[int] | None = None
) -> Iterator[DatasetEpisode]:
    """The episodes (``wanted``, or all) in order; each table is read once, from its beginning.

    Raises:
        UserError: something is missing or damaged.
    """
    images = [key for key in description.cameras if description.features[key].dtype == "image"]
    names = [*_INDICES, *description.columns, *description.texts, *images]
    rows: Iterator[pa.Table] = iter(())
    path: Path | None = None
    for entry in description.entries():
        if entry.data != path:
            path = entry.data
            rows = _split(path, names, description.most_rows)
        table = next(rows, None)
        if table is None or table["episode_index"][0].as_py() != entry.index:
            raise UserError(f"{path}: the rows of episode {entry.index} are missing")
        if len(table) != entry.length:
            raise UserError(
                f"{path}: episode {entry.index} has {len(table)} rows, "
                f"its description says {entry.length}"
            )
        if wanted is None or entry.index in wanted:
            yield _episode(description, entry, table, images)


def pictures(
    description: Description, episode: DatasetEpisode, camera: str
) -> Iterator[npt.NDArray[np.uint8]]:
    """The (H, W, 3) pictures of a camera, row by row.

    Raises:
        UserError: they are missing, damaged, or of another size than described.
    """
    height, width, _ = description.features[camera].shape
    if camera in episode.encoded:
        for data in episode.encoded[camera]:
            yield _decoded(data, height, width, f"{episode.entry.data}: {camera}")
        return
    path, start = episode.entry.videos[camera]
    times = start + episode.seconds
    half = 0.5 / description.fps
    yield from read_frames(path, times.tolist(), height=height, width=width, tolerance=half)


def _split(path: Path, names: list[str], most_rows: int) -> Iterator[pa.Table]:
    """A table cut where its episode index changes."""
    pending: list[pa.RecordBatch] = []
    for batch in table_batches(path, names):
        if not len(batch):
            continue
        episodes = _numbers(batch["episode_index"], (1,), np.int64, path)[:, 0]
        bounds = [0, *(np.flatnonzero(np.diff(episodes)) + 1), len(episodes)]
        for start, end in pairwise(bounds):
            if pending and pending[0]["episode_index"][0].as_py() != episodes[start]:
                yield pa.Table.from_batches(pending)
                pending = []
            pending.append(batch.slice(start, end - start))
            if sum(map(len, pending)) > most_rows:
                # A few bytes of a table can stand for any number of equal rows.
                raise UserError(f"{path}: episode {episodes[start]} has more than {most_rows} rows")
    if pending:
        yield pa.Table.from_batches(pending)


def _episode(
    description: Description, entry: EpisodeEntry, table: pa.Table, images: list[str]
) -> DatasetEpisode:
    columns = {
        key: _column(table, key, description.features[key], entry.data)
        for key in description.columns
    }
    own = Feature("int64", (1,))
    frames = _column(table, "frame_index", own, entry.data)[:, 0]
    seconds = _column(table, "timestamp", Feature("float64", (1,)), entry.data)[:, 0]
    # In float32, LeRobot's type for it, 0.1 s is 1.5 ns too late: the exact time is the index's.
    exact = frames / description.fps
    seconds = np.where(np.abs(exact - seconds) < 1e-3 / description.fps, exact, seconds)
    if not (np.isfinite(seconds).all() and (np.diff(seconds) > 0).all() and seconds[0] >= 0):
        raise UserError(f"{entry.data}: episode {entry.index} goes back in time")
    return DatasetEpisode(
        entry=entry,
        seconds=seconds,
        first=int(_column(table, "index", own, entry.data)[0, 0]),
        columns=columns,
        texts={key: [str(x)[:10_000] for x in table[key].to_pylist()] for key in description.texts},
        encoded={key: _files(table[key], key, entry.data) for key in images},
    )


def _column(table: pa.Table, key: str, feature: Feature, path: Path) -> npt.NDArray[Any]:
    return _numbers(table[key].combine_chunks(), feature.shape, np.dtype(feature.dtype), path, key)


def _numbers(
    values: pa.Array, shape: tuple[int, ...], dtype: Any, path: Path, key: str = "episode_index"
) -> npt.NDArray[Any]:
    """(N, n) of a column of numbers, or of lists of them, however deep."""
    rows = len(values)
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    sizes = math.prod(shape)
    try:
        lengths: list[int] = []
        while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
            if values.null_count:
                raise ValueError("holes")
            inner = values.flatten()
            lengths.append(len(inner) // max(1, len(values)))
            _check_even(values, lengths[-1])
            values = inner
        if values.null_count:
            raise ValueError("holes")
        return values.to_numpy(zero_copy_only=False).astype(dtype).reshape(rows, sizes)
    except (ValueError, TypeError, pa.ArrowException):
        raise UserError(
            f"{path}: {key} does not hold {sizes} numbers ({np.dtype(dtype)}) in every row"
        ) from None


def _check_even(values: pa.Array, length: int) -> None:
    if pa.types.is_list(values.type):
        offsets = values.offsets.to_numpy()
        if (np.diff(offsets) != length).any():
            raise ValueError("rows of different lengths")


def _files(column: pa.ChunkedArray, key: str, path: Path) -> list[bytes]:
    rows = column.to_pylist()
    if not all(isinstance(row, dict) and isinstance(row.get("bytes"), bytes) for row in rows):
        raise UserError(f"{path}: the pictures of {key} are not in the table")
    return [row["bytes"] for row in rows]


def _decoded(data: bytes, height: int, width: int, what: str) -> npt.NDArray[np.uint8]:
    try:
        picture = decode_picture(data, cv2.IMREAD_COLOR)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from None
    if picture.shape != (height, width, 3):
        found = f"{picture.shape[1]}x{picture.shape[0]}"
        raise UserError(f"{what}: a picture of {found} pixels, info.json says {width}x{height}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
