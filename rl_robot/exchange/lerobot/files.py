"""Tables and videos in files of a limited size, numbered as LeRobot has them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.layout import Feature
from rl_robot.exchange.lerobot.video import VideoWriter

_MEGABYTE = 1 << 20


class ParquetFiles:
    """A table in files of a limited size, a row group for each write."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern
        self._place = (0, 0)
        self._writer: pq.ParquetWriter | None = None

    @property
    def _path(self) -> Path:
        chunk, file = self._place
        return self._folder / self._pattern.format(chunk_index=chunk, file_index=file)

    def place(self) -> tuple[int, int]:
        """Chunk and file that the next write goes to."""
        if self._writer and self._path.stat().st_size >= layout.DATA_MEGABYTES * _MEGABYTE:
            self.close()
            self._place = layout.next_file(*self._place)
        return self._place

    def write(self, table: pa.Table) -> tuple[int, int]:
        """Add rows; returns chunk and file that they went to."""
        place = self.place()
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table)
        return place

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def abort(self) -> None:
        """Let go of the file that is open."""
        self.close()


class VideoFiles:
    """The pictures of one camera in videos of a limited size, one episode after the other."""

    def __init__(self, folder: Path, key: str, feature: Feature, fps: float, crf: int) -> None:
        self._folder = folder
        self._key = key
        self._feature = feature
        self._fps = fps
        self._crf = crf
        self._place = (0, 0)
        self._writer: VideoWriter | None = None
        self.info: dict[str, object] = {}

    def write(self, pictures: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """Add an episode; returns what its description says of where it is."""
        if self._writer and self._writer.bytes >= layout.VIDEO_MEGABYTES * _MEGABYTE:
            self.close()
            self._place = layout.next_file(*self._place)
        writer = self._writer or self._open()
        start = writer.frames
        writer.write(pictures)
        return {
            f"videos/{self._key}/chunk_index": self._place[0],
            f"videos/{self._key}/file_index": self._place[1],
            f"videos/{self._key}/from_timestamp": start / self._fps,
            f"videos/{self._key}/to_timestamp": writer.frames / self._fps,
        }

    def _open(self) -> VideoWriter:
        chunk, file = self._place
        path = layout.VIDEO_PATH.format(video_key=self._key, chunk_index=chunk, file_index=file)
        height, width, _ = self._feature.shape
        self._writer = VideoWriter(
            self._folder / path, fps=self._fps, height=height, width=width, crf=self._crf
        )
        self.info = self._writer.info()
        return self._writer

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def abort(self) -> None:
        """Let go of the file that is open."""
        if self._writer:
            self._writer.abort()
            self._writer = None
