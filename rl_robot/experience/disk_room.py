"""Room for a run's bags: what is free on its disk, and the quota that older bags make room for."""

import errno
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.errors import UserError
from rl_robot.experience.removed import RemovedEpisode, empty_trash, remove_bag
from rl_robot.experience.runs import RunFolder

NO_LIMIT = "none"

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?([KMGT]?B)", re.IGNORECASE)


def parse_size(name: str, text: str) -> int | None:
    """Bytes of a size such as 20GB or 500MB; None for "none".

    Raises:
        UserError: it is no size; ``name`` is the argument's.
    """
    if text == NO_LIMIT:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{name} '{text}': expected a size such as 20GB or 500MB, or {NO_LIMIT}")
    return round(float(found[1]) * _UNITS[found[2].upper()])


def size_text(size: int) -> str:
    """A size as people read it, such as "1.5 GB"."""
    unit = next((u for u in ("TB", "GB", "MB", "KB") if size >= _UNITS[u]), "B")
    return f"{size / _UNITS[unit]:.3g} {unit}"


@dataclass(frozen=True)
class Rules:
    """Which bags a quota may remove.

    Attributes:
        removable: whether an episode is of the kind that may go.
        learnt: the names of the bags that the session's trainer has learnt from; None: there is no
            trainer to wait for.
        figures: what the report needs of a bag that goes, as JSON values.
    """

    removable: Callable[[EpisodeMetadata], bool]
    learnt: Callable[[], Collection[str]] | None = None
    figures: Callable[[Path], Mapping[str, Any]] = lambda _path: {}


class Quota:
    """Keeps the closed bags of a run within a number of bytes.

    The oldest go first. What can't be read stays, so does a bag whose figures can't be kept (they
    are not finite), and so does the newest bag where no trainer says that it has learnt from it.
    """

    def __init__(self, run: RunFolder, limit: int, rules: Rules) -> None:
        self._run = run
        self.limit = limit
        self._rules = rules
        self._sizes: dict[str, int] = {}
        self._verdicts: dict[str, bool] = {}

    def enforce(self) -> tuple[int, bool]:
        """Remove what must go.

        Returns:
            Bytes by which the bags still exceed the quota (0 or less: they do not), and whether
            some may go once the trainer has learnt from them.

        Raises:
            OSError: the disk is full or fails.
        """
        bags = self._run.list_episodes()
        over = sum(map(self._size, bags)) - self.limit
        learnt: Collection[str] | None = None
        unlearnt = False
        for bag in bags[: len(bags) - (self._rules.learnt is None)]:
            if over <= 0:
                break
            if not self._removable(bag):
                continue
            if self._rules.learnt is not None:
                learnt = self._rules.learnt() if learnt is None else learnt
                if bag.name not in learnt:
                    unlearnt = True
                    continue
            over -= self._remove(bag)
        return over, unlearnt

    def _size(self, bag: Path) -> int:
        if bag.name not in self._sizes:
            self._sizes[bag.name] = sum(file.stat().st_size for file in bag.iterdir())
        return self._sizes[bag.name]

    def _removable(self, bag: Path) -> bool:
        if bag.name not in self._verdicts:
            try:
                self._verdicts[bag.name] = self._rules.removable(BagReader(bag).episode)
            except UserError:
                self._verdicts[bag.name] = False
        return self._verdicts[bag.name]

    def _remove(self, bag: Path) -> int:
        """Remove a bag unless what is kept of it can't be had; return the bytes that are free."""
        size = self._size(bag)
        try:
            metadata, figures = BagReader(bag).episode, self._rules.figures(bag)
            removed = RemovedEpisode(bag.name, metadata, size, figures)
            removed.to_json()
        except OSError:
            raise
        except Exception:  # whatever its contents do to those who read them, recording goes on
            self._verdicts[bag.name] = False
            return 0
        remove_bag(self._run.path, removed)
        return size


class Storage:
    """Says whether a run has room for another episode.

    Attributes:
        full: why the session must end, in words; empty while it need not.
        waits: why no episode may begin yet.
    """

    def __init__(self, run: RunFolder, *, reserve: int = 0, quota: Quota | None = None) -> None:
        """``reserve``: bytes of the disk to be left free: all of them before an episode, and half
        of them within one, which can then still be closed."""
        self._run = run
        self._reserve = reserve
        self._quota = quota
        self.full = ""
        self.waits = ""
        self._guarded(lambda: empty_trash(run.path))
        self.make_room()

    def make_room(self) -> None:
        """Between episodes: keep the quota, and look at the disk."""
        self._guarded(self._keep_quota)
        self._look(self._reserve)

    def look(self) -> None:
        """Within an episode: look at the disk."""
        self._look(self._reserve // 2)

    def fail(self, error: OSError) -> None:
        """Note that something could not be written."""
        self.full = self.full or write_failure(self._run.path, error)

    def _look(self, reserve: int) -> None:
        def look() -> None:
            free = shutil.disk_usage(self._run.path).free
            if free < reserve and not self.full:
                self.full = (
                    f"the disk of {self._run.path} is full: {size_text(free)} are free, of which "
                    f"reserve:={size_text(self._reserve).replace(' ', '')} is to be left: make room"
                )

        self._guarded(look)

    def _keep_quota(self) -> None:
        self.waits = ""
        if self._quota is None:
            return
        over, unlearnt = self._quota.enforce()
        if over <= 0:
            return
        limit = size_text(self._quota.limit)
        if unlearnt:
            self.waits = f"the trainer to learn from bags that the quota of {limit} has no room for"
        elif not self.full:
            self.full = (
                f"the quota of {limit} for {self._run.episodes} can't be met: {size_text(over)} "
                "more are taken by what is not removed (demonstrations, held-out episodes, bags "
                "that can't be read and, without a trainer, the newest bag): give a greater quota:="
            )

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            self.fail(error)


def is_full(error: OSError) -> bool:
    """Whether something could not be written for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_failure(folder: Path, error: OSError) -> str:
    """What to say when something could not be written into a run's folder."""
    if is_full(error):
        return f"the disk of {folder} is full: {error.strerror}"
    return f"{folder} can't be written: {error.strerror or error}"
