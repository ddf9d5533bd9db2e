"""Two kinds of shared file: rows that one process writes and many gather, and what is committed."""

import mmap
import os
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError

MAPPED_BYTES = 4 << 20  # a file that holds more is read instead: see `RowFile`

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]


class RowFile:
    """Rows of equal size in a file used as a ring: the row at a position is in slot position % S.

    Rows are written by ``pwrite``: a full disk is an error then, not the end of the process, and
    the writer's memory does not grow. As long as few bytes are in use, rows are gathered through a
    mapping of the file. Beyond, each stretch of rows is read (``preadv``) from the same page cache,
    which keeps no page resident. A mapping would: the kernel maps 64 KB or more around each row
    that is looked at, which for 256 random places in 1 GB took 1.0 ms, and giving the pages back
    (MADV_DONTNEED) another 0.4 ms, where reading took 0.4 ms in all.
    """

    def __init__(self, descriptor: int, slots: int, dtype: np.dtype[Any]) -> None:
        """Use an open file of ``slots`` rows of ``dtype``; its size is the caller's to check."""
        self._descriptor = descriptor
        self._slots = slots
        self._size = dtype.itemsize
        self._mapped: Array | None = None
        self._raw = np.dtype((np.void, self._size))  # copied whole, not field by field
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def write(self, position: int, rows: Array) -> None:
        """Write contiguous ``rows`` from ``position`` on, over what was in their slots.

        Raises:
            OSError: the disk is full, or fails.
        """
        data = memoryview(rows.reshape(-1).view(np.uint8).data)
        slot = position % self._slots
        fits = min(len(rows), self._slots - slot) * self._size
        _write_all(self._descriptor, data[:fits], slot * self._size)
        if fits < len(data):
            _write_all(self._descriptor, data[fits:], 0)

    def gather(self, starts: Positions, used: int, out: Array) -> None:
        """Copy rows from each of ``starts`` on.

        Args:
            starts: (B,) positions of any size, also negative.
            used: slots that hold something.
            out: B times as many rows as are wanted from each, one after the other; contiguous.
        """
        if not len(starts):
            return
        rows = out.reshape(len(starts), -1).view(self._raw)
        count = rows.shape[1]
        slots = starts % self._slots
        view = self._view(used)
        if view is not None:
            np.take(view, slots[:, None] + np.arange(count), out=rows, mode="wrap")
            return
        stretch = count * self._size
        parts = memoryview(rows.view(np.uint8).data).cast("B")
        begins = range(0, len(parts), stretch)
        for begin, slot in zip(begins, slots.tolist(), strict=True):
            part = parts[begin : begin + stretch]
            read = os.preadv(self._descriptor, [part], slot * self._size)
            if read < stretch:  # the ring's end
                os.preadv(self._descriptor, [part[read:]], 0)

    def read(self, position: int, size: int) -> bytes:
        """Return the first ``size`` bytes of a row."""
        return os.pread(self._descriptor, size, position % self._slots * self._size)

    def sync(self) -> None:
        """Have what was written reach the disk."""
        os.fdatasync(self._descriptor)

    def _view(self, used: int) -> Array | None:
        if min(used, self._slots) * self._size > MAPPED_BYTES:
            self._mapped = None  # unmapped with it: its pages are given back
            return None
        if self._mapped is None:
            length = self._slots * self._size
            mapping = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
            self._mapped = np.frombuffer(mapping, self._raw)
        return self._mapped


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


class RingState(NamedTuple):
    """What of a ring is committed, in positions, which count rows from the first ever written.

    Attributes:
        head: behind the newest row.
        tail: the oldest row that counts.
        floor: rows from here on are whole, though before ``tail`` they no longer count.
        steps: transitions between tail and head.
        episodes: between tail and head.
        epoch: changes when rows are taken back, after which positions are used again.
    """

    head: int = 0
    tail: int = 0
    floor: int = 0
    steps: int = 0
    episodes: int = 0
    epoch: int = 0


class StatePage:
    """A ring's `RingState` in one page of memory that processes share.

    Two slots take turns: a state is written to the slot that does not count, and then, by one store
    of eight aligned bytes, the counter is raised, which says that it does. So a writer that is
    killed at any moment leaves a whole state. Who reads, reads the counter, the slot, and the
    counter again until that is the same; a writer that died or sleeps keeps nobody waiting. This
    relies on stores being seen in their order, as they are on x86-64.
    """

    SIZE = mmap.PAGESIZE
    _MAGIC = int.from_bytes(b"rl_ring1", "little")
    _SLOTS = (8, 16)  # in words of eight bytes; a cache line each
    _FIELDS = len(RingState._fields)

    def __init__(self, descriptor: int, where: str, *, writable: bool) -> None:
        """Map an open file of ``SIZE`` bytes.

        Raises:
            UserError: it is no such page, or its state is damaged; ``where`` names it.
        """
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._mapping = mmap.mmap(descriptor, self.SIZE, access=access)
        self._words = memoryview(self._mapping).cast("Q")
        state, checksum = self._newest()
        if self._words[0] != self._MAGIC or self._checksum(state) != checksum:
            raise UserError(f"{where}: what it says is committed is damaged")

    @classmethod
    def empty(cls) -> bytes:
        """Return the contents of a new page."""
        words = [0] * (cls.SIZE // 8)
        words[0] = cls._MAGIC
        words[cls._SLOTS[0] + cls._FIELDS] = cls._checksum(RingState())
        return struct.pack(f"={len(words)}Q", *words)

    def read(self) -> RingState:
        """Return the newest state."""
        return self._newest()[0]

    def write(self, state: RingState) -> None:
        """Replace the state."""
        counter = self._words[1] + 1
        begin = self._SLOTS[counter & 1]
        for index, value in enumerate((*state, self._checksum(state))):
            self._words[begin + index] = value
        self._words[1] = counter

    def sync(self) -> None:
        """Have the state reach the disk."""
        self._mapping.flush()

    def _newest(self) -> tuple[RingState, int]:
        """Return the newest state and the checksum that was written with it."""
        while True:
            counter = self._words[1]
            begin = self._SLOTS[counter & 1]
            *fields, checksum = self._words[begin : begin + self._FIELDS + 1].tolist()
            if self._words[1] == counter:
                return RingState(*fields), checksum

    @classmethod
    def _checksum(cls, state: RingState) -> int:
        return zlib.crc32(struct.pack(f"={cls._FIELDS}Q", *state))
