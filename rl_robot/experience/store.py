"""The replay on disk: one folder, one ring per source, one writer and any number of readers.

::

    replay/
      store.json            what a row holds, and which store this is
      lock                  held by the writer
      source_0000/          a ring: ring.json, state, rows, picture_0, ...

Guaranteed, and why:

- **One writer**: it holds a lock of the operating system's, which goes with its process.
- **A reader never gets half an episode, nor a row that was overwritten meanwhile.** Rows are
  written before the ring's state says that they are there, and the state says that they will be
  overwritten before they are. Positions count up and are never used again but after `rewind`,
  which starts another epoch. So who looks at the state after having copied rows knows whether they
  were what was committed (`Ring`, `Replay.sample`).
- **Killed at any moment, it opens to the last committed episode.** The state changes by one store
  of eight bytes, everything else is written before it counts; a source's folder and the header get
  their names by a rename. After a power failure this holds for what `sync` had been called for.
- **Nothing is copied for a reader**: all look at the same files. Disk space is taken as rows are
  written, up to the capacity; memory does not grow with them.

What is read is checked before it is used: formats, sizes, and, by the writer, the chain of all
episodes. Flipped bits within a row are not noticed.
"""

import json
import os
import secrets
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_robot.errors import UserError
from rl_robot.experience.mapped import StatePage
from rl_robot.experience.ring import STATE_FILE, Layout, Ring
from rl_robot.experience.runs import RunLock, write_atomically
from rl_robot.experience.sources import Source
from rl_robot.experience.transitions import EpisodeTransitions

CAPACITY = 1_000_000  # rows of a source

_STORE_FORMAT = "rl_robot replay 1"
_RING_FORMAT = "rl_robot replay ring 1"
_MOST_ROWS = 1 << 40
_MOST_SOURCES = 1000
_LARGEST_HEADER = 1 << 16


class DamagedStoreError(UserError):
    """A store cannot be used as it is, but may be made anew: its episodes are in the bags."""


class ReplayStore:
    """Transitions of several sources; see the module's text.

    Attributes:
        layout: what a transition holds.
    """

    def __init__(self, layout: Layout, capacity: int, folder: Path | None, lock: RunLock | None):
        """Use `in_memory`, `write`, `remake` or `read` instead."""
        self.layout = layout
        self._capacity = capacity
        self._folder = folder
        self._writable = folder is None or lock is not None
        self._rings: dict[Source, Ring] = {}
        self._made = self._identity = secrets.token_hex(8)
        self._header: tuple[int, ...] = ()
        self._release = weakref.finalize(self, lock.release) if lock else None

    @classmethod
    def in_memory(cls, layout: Layout, capacity: int = CAPACITY) -> "ReplayStore":
        """Return an empty store without a folder, which goes with the object."""
        return cls(layout, capacity, None, None)

    @classmethod
    def write(cls, folder: Path, layout: Layout, capacity: int = CAPACITY) -> "ReplayStore":
        """Open the store in ``folder`` as its writer; make it where there is none.

        Args:
            folder: made where it is missing.
            layout: of all transitions.
            capacity: most rows of each source that is new; see `Ring`.

        Raises:
            DamagedStoreError: it is damaged, or of another layout.
            UserError: another process is writing it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(layout, capacity, folder, RunLock(folder))
        try:
            store._open_to_write()
        except UserError:
            store.close()  # somebody may want to make it anew
            raise
        return store

    @classmethod
    def remake(cls, folder: Path, layout: Layout, capacity: int = CAPACITY) -> "ReplayStore":
        """Make the store in ``folder`` anew, empty, whatever is there.

        Raises:
            UserError: another process is writing it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock(folder)
        (folder / "store.json").unlink(missing_ok=True)
        for ring in folder.glob("source_*"):
            shutil.rmtree(ring)
        lock.release()
        return cls.write(folder, layout, capacity)

    @classmethod
    def read(cls, folder: Path) -> "ReplayStore":
        """Open the store in ``folder`` to sample from it, beside its writer or without.

        Raises:
            UserError: there is none, or it is damaged.
        """
        if not (folder / "store.json").exists():
            raise UserError(f"there is no replay in {folder}")
        store = cls(Layout(1, 1), CAPACITY, folder, None)
        store.layout = store._read_header()
        store._find_rings()
        return store

    @property
    def rings(self) -> Mapping[Source, Ring]:
        """The sources there are, as far as they were looked for; `refresh` looks again."""
        return self._rings

    def episodes(self, kind: str) -> int:
        """Return the number of episodes of a kind of source."""
        return sum(r.state().episodes for source, r in self._rings.items() if source.kind == kind)

    def refresh(self) -> None:
        """Look for sources that a writer in another process has added.

        Raises:
            UserError: the store was made anew, and has to be opened again.
        """
        if self._writable:
            return
        assert self._folder is not None
        if self._stamp() != self._header:
            made = self._made
            self._read_header()
            if self._made != made:
                raise UserError(f"{self._folder} was made anew meanwhile: open it again")
        self._find_rings()

    def add(self, source: Source, episode: EpisodeTransitions) -> None:
        """Add an episode; the source's oldest ones make room for it.

        Raises:
            ValueError: its arrays do not fit the layout, or are not finite, or are too long.
            UserError: the disk is full, or fails; nothing was added then.
        """
        if not self._writable:
            raise ValueError("this store is open to be read")
        stretches = episode.contiguous()
        if not stretches:
            return
        try:
            ring = self._rings.get(source) or self._new_ring(source)
            ring.append(stretches)
        except OSError as error:
            raise UserError(
                f"{self._folder or 'the replay'} takes no more ({error.strerror}): make room there"
            ) from error

    def position(self) -> dict[str, Any]:
        """Return, as JSON takes it, which episodes there are now: for `rewind`."""
        states = {str(source): ring.state() for source, ring in sorted(self._rings.items())}
        return {
            "store": self._identity,
            "sources": {label: [state.tail, state.head] for label, state in states.items()},
        }

    def rewind(self, position: Mapping[str, Any] | None) -> None:
        """Go back to exactly the episodes that there were when `position` was asked for.

        Raises:
            DamagedStoreError: that is another store, or some of them are no longer there.
        """
        try:
            if position is None:
                raise ValueError("nothing was noted of it")
            if position["store"] != self._identity:
                raise ValueError("it was made anew since")
            ranges = {
                Source.parse(label): (int(tail), int(head))
                for label, (tail, head) in position["sources"].items()
            }
            missing = ranges.keys() - self._rings.keys()
            if missing:
                raise ValueError(f"it holds nothing of {', '.join(map(str, sorted(missing)))}")
            for source, ring in self._rings.items():
                if source in ranges:
                    ring.rewind(*ranges[source])
                else:
                    ring.clear()
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedStoreError(
                f"{self._folder or 'the replay'} does not fit what was learnt from it: {error}"
            ) from error

    def clear(self) -> None:
        """Forget all episodes; no `position` from before fits any more."""
        self._identity = secrets.token_hex(8)
        if self._folder is not None:
            self._write_header()
        for ring in self._rings.values():
            ring.clear()

    def sync(self) -> None:
        """Have all episodes reach the disk."""
        if self._folder is not None:
            for ring in self._rings.values():
                ring.sync()

    def close(self) -> None:
        """Let another process write; what there is can still be read."""
        if self._release is not None:
            self.sync()
            self._release()
            self._writable = False

    # --- files -----------------------------------------------------------------------------

    def _open_to_write(self) -> None:
        """Open what there is, after a look at all of it."""
        assert self._folder is not None
        if not (self._folder / "store.json").exists():
            self._write_header()
        if self._read_header() != self.layout:
            raise DamagedStoreError(f"{self._folder} holds other transitions than are asked for")
        for unfinished in self._folder.glob("source_*.part"):
            shutil.rmtree(unfinished)
        self._find_rings()
        for ring in self._rings.values():
            try:
                ring.check()
            except UserError as error:
                raise DamagedStoreError(str(error)) from error

    def _write_header(self) -> None:
        assert self._folder is not None
        layout = {
            "observation": self.layout.observation,
            "action": self.layout.action,
            "proposed": self.layout.proposed,
            "pictures": {name: list(shape) for name, shape in self.layout.pictures.items()},
        }
        values = {
            "format": _STORE_FORMAT,
            "made": self._made,
            "identity": self._identity,
            "layout": layout,
        }
        write_atomically(self._folder / "store.json", json.dumps(values, indent=2) + "\n")
        _to_disk(self._folder / "store.json", self._folder)

    def _read_header(self) -> Layout:
        assert self._folder is not None
        self._header = self._stamp()
        path = self._folder / "store.json"
        values = _read_json(path, _STORE_FORMAT)
        try:
            self._made, self._identity = str(values["made"]), str(values["identity"])
            layout = values["layout"]
            pictures = {str(name): tuple(shape) for name, shape in layout["pictures"].items()}
            return Layout(**{**layout, "pictures": pictures})
        except (UserError, KeyError, TypeError, AttributeError) as error:
            raise DamagedStoreError(f"{path} is damaged ({error})") from error

    def _stamp(self) -> tuple[int, ...]:
        """Return what is another when the header was replaced."""
        assert self._folder is not None
        try:
            found = os.stat(self._folder / "store.json")
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_mtime_ns

    def _find_rings(self) -> None:
        """Open the rings that there are more; they are numbered without a hole."""
        assert self._folder is not None
        while len(self._rings) < _MOST_SOURCES:
            path = self._folder / f"source_{len(self._rings):04d}"
            if not path.exists():
                break
            source, ring = self._open_ring(path)
            self._rings[source] = ring

    def _open_ring(self, path: Path) -> tuple[Source, Ring]:
        values = _read_json(path / "ring.json", _RING_FORMAT)
        mode = os.O_RDWR if self._writable else os.O_RDONLY
        files: dict[str, int] = {}
        try:
            source = Source.parse(str(values["source"]))
            capacity, slots = int(values["capacity"]), int(values["slots"])
            if not 0 < capacity <= slots <= _MOST_ROWS or source in self._rings:
                raise ValueError(f"{source}: {capacity} of {slots} rows")
            for name in self.layout.files(slots):
                files[name] = os.open(path / name, mode)
        except (UserError, KeyError, TypeError, ValueError, OSError) as error:
            for descriptor in files.values():
                os.close(descriptor)
            raise DamagedStoreError(f"{path} is damaged ({error})") from error
        try:
            where = str(path)
            return source, Ring(self.layout, capacity, slots, files, where, writable=self._writable)
        except UserError as error:
            raise DamagedStoreError(str(error)) from error

    def _new_ring(self, source: Source) -> Ring:
        if len(self._rings) == _MOST_SOURCES:
            raise UserError(f"a replay holds up to {_MOST_SOURCES} sources: {source} is one more")
        slots = self._capacity + self._capacity // 8 + 1
        sizes = self.layout.files(slots)
        if self._folder is None:
            files = {name: os.memfd_create(name) for name in sizes}
            for name, size in sizes.items():
                os.ftruncate(files[name], size)
            os.pwrite(files[STATE_FILE], StatePage.empty(), 0)
            ring = Ring(self.layout, self._capacity, slots, files, str(source), writable=True)
            self._rings[source] = ring
            return ring
        path = self._folder / f"source_{len(self._rings):04d}"
        part = path.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name, size in sizes.items():
            with (part / name).open("wb") as file:
                file.write(StatePage.empty() if name == STATE_FILE else b"")
                file.truncate(size)
        values = {
            "format": _RING_FORMAT,
            "source": str(source),
            "capacity": self._capacity,
            "slots": slots,
        }
        write_atomically(part / "ring.json", json.dumps(values, indent=2) + "\n")
        _to_disk(part / "ring.json", part)
        part.rename(path)
        _to_disk(self._folder)
        self._find_rings()
        return self._rings[source]


def _to_disk(*paths: Path) -> None:
    """Have files, and the names in folders, survive a power failure."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_json(path: Path, form: str) -> dict[str, Any]:
    """Return the table in a header file of this format."""
    try:
        if path.stat().st_size > _LARGEST_HEADER:
            raise ValueError("it is too long")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != form:
            raise ValueError(f"it is not of format {form!r}")
    except (OSError, ValueError) as error:
        raise DamagedStoreError(f"{path} is damaged ({error})") from error
    return values
