"""The folder of one run: its episodes, its logs, its report, and the lock of its one session.

::

    runs/<name>/
      session.json               what was asked for, written by the session
      episodes/episode_000000/   one bag per finished episode; ``.part`` while it is written
      removed.jsonl              what bags said of themselves that were removed to keep a quota
      log/                       one file per node
      policies/                  what was learnt: imitation, a milestone per block, the best of them
      trainer/                   the trainer's checkpoint and metrics
      report.html, result.json   written at the end
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.bags.found import EPISODE_NAME, UNFINISHED, run_bags
from rl_robot.errors import UserError
from rl_robot.experience.removed import RemovedEpisode, read_removed

IMITATION_FILE = "imitation.safetensors"
LEARNED_FILE = "learned.safetensors"

_PREFIX = "episode_"


class RunFolder:
    """Where one run keeps everything. Reading needs no lock; a session takes `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name_or_path: str | Path, root: str | Path = "runs") -> "RunFolder":
        """The run of this name under ``root`` (or at this path), made if it is not there.

        Raises:
            UserError: the name is empty, or the folder cannot be made.
        """
        run = cls(_resolve(name_or_path, root))
        try:
            run.episodes.mkdir(parents=True, exist_ok=True)
            run.log.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the run folder {run.path} cannot be made ({error.strerror}): "
                "choose another with run:= and root:="
            ) from None
        return run

    @classmethod
    def open(cls, name_or_path: str | Path, root: str | Path = "runs") -> "RunFolder":
        """An existing run.

        Raises:
            UserError: there is none; the runs that exist are named.
        """
        run = cls(_resolve(name_or_path, root))
        if not run.episodes.is_dir():
            raise UserError(f"there is no run {run.path}: {_known_runs(run.path.parent)}")
        return run

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def episodes(self) -> Path:
        return self.path / "episodes"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def policies(self) -> Path:
        return self.path / "policies"

    @property
    def trainer(self) -> Path:
        return self.path / "trainer"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    def episode_path(self, index: int) -> Path:
        """Where the bag of this episode is, or will be."""
        return self.episodes / f"{_PREFIX}{index:06d}"

    def list_episodes(self) -> list[Path]:
        """The finished bags, in order."""
        return run_bags(self.episodes)

    def unfinished_episodes(self) -> list[Path]:
        """Bags that were being written when their recorder died, or that are being written now."""
        found = run_bags(self.episodes, unfinished=True)
        return [path for path in found if path.suffix == UNFINISHED]

    def closed_episodes(self) -> Iterator[EpisodeMetadata]:
        """What the finished bags say of themselves, also those that were removed since.

        Those that can't be read are left out.
        """
        for path in self.list_episodes():
            with contextlib.suppress(UserError):
                yield BagReader(path).episode
        for episode in self.removed_episodes():
            yield episode.metadata

    def removed_episodes(self) -> list[RemovedEpisode]:
        """The episodes whose bags were removed to keep a quota, in order."""
        return read_removed(self.path)

    def next_episode(self) -> int:
        """The first number that no bag, finished, removed, repaired or none of it, has taken."""
        names = [path.name.split(".")[0] for path in self.episodes.glob(f"{_PREFIX}*")]
        names += [episode.name for episode in self.removed_episodes()]
        taken = [int(name.removeprefix(_PREFIX)) for name in names if EPISODE_NAME.fullmatch(name)]
        return max(taken, default=-1) + 1

    def write_session(self, values: Mapping[str, Any]) -> None:
        """Replace session.json."""
        write_json(self.path / "session.json", values)

    def read_session(self) -> dict[str, Any]:
        """What `write_session` wrote; empty when no session did.

        Raises:
            UserError: the file is damaged.
        """
        path = self.path / "session.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): delete it") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} is damaged (it holds no table): delete it")
        return values

    def lock(self) -> "RunLock":
        """Take the run for this process until the lock is released or the process ends.

        Raises:
            UserError: another live process has it, which is named, or the folder can't be written.
        """
        return RunLock(self.path)


def milestone_file(number: int) -> str:
    """Return the name of the policy that the trainer writes after a block; the first is 1."""
    return f"milestone_{number:02d}.safetensors"


class RunLock:
    """The right to record into a run folder, held by one process at a time.

    The lock is the operating system's, so it goes with its process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"run folder {folder} can't be written ({error.strerror}): make room, or choose "
                "another with run:= and root:="
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UserError(
                f"run folder {folder} is in use by process {holder}: "
                "stop that session, or choose another name with run:="
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds without the number
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the run back; doing so twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old contents or the new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step."""
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _resolve(name_or_path: str | Path, root: str | Path) -> Path:
    if not str(name_or_path).strip():
        raise UserError("a run needs a name: give one with run:=")
    path = Path(name_or_path)
    is_name = isinstance(name_or_path, str) and len(path.parts) == 1 and str(path) not in ".."
    return Path(root) / path if is_name else path


def _known_runs(root: Path) -> str:
    known = sorted(path.parent.name for path in root.glob("*/episodes"))
    return f"the runs in {root} are {', '.join(known)}" if known else f"{root} holds no runs"
