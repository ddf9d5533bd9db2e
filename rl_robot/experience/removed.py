"""Bags that were removed to make room, and what they said of themselves, which stays.

``<run>/removed.jsonl`` holds a JSON line for each. A bag is removed in three steps: its line is
written, its folder is renamed into ``<run>/removed/``, where nobody looks for bags, and deleted
there. A kill between them loses no count and counts nothing twice: the line of a bag that is still
in its place does not count, and what was left in ``removed/`` is deleted later.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_robot.bags import EpisodeMetadata
from rl_robot.bags.found import EPISODE_NAME

_FILE = "removed.jsonl"
_TRASH = "removed"


@dataclass(frozen=True)
class RemovedEpisode:
    """What is kept of a bag: ``size`` in bytes, and ``figures`` for the report (JSON values)."""

    name: str
    metadata: EpisodeMetadata
    size: int
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(
            {
                "name": self.name,
                "metadata": self.metadata.to_strings(),
                "size": self.size,
                "figures": dict(self.figures),
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, line: str) -> "RemovedEpisode":
        """Read back what `to_json` gave.

        Raises:
            ValueError: it is something else, or cut short.
        """
        try:
            values = json.loads(line)
            metadata = EpisodeMetadata.from_strings(values["metadata"])
            name, size, figures = values["name"], int(values["size"]), dict(values["figures"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no removed episode: {error}") from None
        if not isinstance(name, str) or not EPISODE_NAME.fullmatch(name):
            raise ValueError(f"no name of an episode: {name!r}")
        return cls(name, metadata, size, figures)


def remove_bag(folder: Path, episode: RemovedEpisode) -> None:
    """Remove a bag of the run in ``folder``, keeping what it said of itself.

    Raises:
        OSError: the disk is full or fails. The bag is then in its place, or counted as removed.
    """
    _append(folder / _FILE, episode.to_json())
    trash = folder / _TRASH
    empty_trash(folder)
    trash.mkdir()
    (folder / "episodes" / episode.name).rename(trash / episode.name)
    empty_trash(folder)


def empty_trash(folder: Path) -> None:
    """Delete what a process that was killed while it removed a bag of the run left."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / _TRASH)


def read_removed(folder: Path) -> list[RemovedEpisode]:
    """The removed episodes of the run in ``folder``, by name; lines cut short are left out."""
    found: dict[str, RemovedEpisode] = {}
    try:
        with (folder / _FILE).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    episode = RemovedEpisode.from_json(line)
                    found[episode.name] = episode
    except FileNotFoundError:
        return []
    return [found[name] for name in sorted(found) if not (folder / "episodes" / name).exists()]


def _append(path: Path, line: str) -> None:
    """Add a line and wait for the disk; the line before may have been cut short by a kill."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            cut_short = file.read(1) != b"\n"
        else:
            cut_short = False
        file.write((b"\n" if cut_short else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
