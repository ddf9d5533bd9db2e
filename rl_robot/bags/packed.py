"""What rosbag2 compressed, a message or a file at a time, unpacked to a limit.

A few bytes of zstd can stand for very many, so nothing is unpacked before its size is known to be
bearable, or beyond the size that is.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import yaml
import zstandard

from rl_robot.bags.mcap_records import DamageError
from rl_robot.bags.metadata import METADATA_FILE, ROSBAG2
from rl_robot.errors import UserError

MOST_MESSAGE = 1 << 30  # bytes
MOST_RATIO = 1000  # of a file's size unpacked and packed
_PIECE = 1 << 20


def unpack_message(data: bytes) -> bytes:
    """Return a message that was compressed by itself.

    Raises:
        DamageError: it is no zstd frame, or would take more than a gigabyte.
    """
    try:
        told = zstandard.frame_content_size(data)  # -1 where the frame does not say
        if told > MOST_MESSAGE:
            raise DamageError(f"a message unpacks to {told} bytes, more than {MOST_MESSAGE}")
        if told >= 0:
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        unpacked = bytearray()
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while piece := reader.read(_PIECE):
                unpacked += piece
                if len(unpacked) > MOST_MESSAGE:
                    raise DamageError(f"a message unpacks to more than {MOST_MESSAGE} bytes")
        return bytes(unpacked)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DamageError(f"a message can't be unpacked: {error}") from None


@contextmanager
def unpacked_files(folder: Path, document: dict[str, Any]) -> Iterator[Path]:
    """A bag whose files were compressed as a temporary one whose files are not.

    Args:
        folder: of the bag.
        document: what its ``metadata.yaml`` says.

    Raises:
        DamageError: a file is no zstd, or more than a thousand times its size when unpacked.
        UserError: the temporary folder has no room for them.
        OSError: a file can't be read or written.
    """
    told = document[ROSBAG2]
    with TemporaryDirectory() as place:
        names = []
        for name in told["relative_file_paths"]:
            packed = folder / PurePath(name).name
            names.append(packed.stem)
            _unpack(packed, Path(place, packed.stem))
        plain = told | {
            "relative_file_paths": names,
            "compression_format": "",
            "compression_mode": "",
        }
        text = yaml.safe_dump(document | {ROSBAG2: plain})
        Path(place, METADATA_FILE).write_text(text, encoding="utf-8")
        yield Path(place)


def _unpack(packed: Path, target: Path) -> None:
    most, room = MOST_RATIO * packed.stat().st_size, shutil.disk_usage(target.parent).free
    size = 0
    try:
        with packed.open("rb") as stream, target.open("xb") as out:
            reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            while piece := reader.read(_PIECE):
                size += len(piece)
                if size > most:
                    raise DamageError(f"{packed.name} unpacks to more than {MOST_RATIO} times")
                if size > room:
                    raise UserError(
                        f"{packed} takes more than the {room >> 20} MB that {target.parent.parent} "
                        "has left when it is unpacked: set TMPDIR to a folder with more room"
                    )
                out.write(piece)
    except zstandard.ZstdError as error:
        raise DamageError(f"{packed.name} can't be unpacked: {error}") from None
