"""The transitions of one source in a file of fixed size; the oldest episodes make room for new."""

import os
import struct
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.experience.mapped import Array, Positions, RingState, RowFile, StatePage
from rl_robot.experience.transitions import EpisodeTransitions

STATE_FILE = "state"
ROWS_FILE = "rows"

_LARGEST_SIDE = 1 << 16
_MOST_PICTURES = 16
_LINKS = struct.Struct("=4q")  # position, first, last, until: how a row begins


@dataclass(frozen=True)
class Layout:
    """What a transition holds.

    Attributes:
        observation: D, components of a flat observation.
        action: A, components of an action.
        proposed: whether the policy's actions are kept beside the executed ones.
        pictures: shapes (H, W, C) of pictures, uint8, by name.
    """

    observation: int
    action: int
    proposed: bool = False
    pictures: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sides = [self.observation, self.action, *(s for p in self.pictures.values() for s in p)]
        if not all(isinstance(side, int) and 0 < side <= _LARGEST_SIDE for side in sides):
            raise UserError(f"sizes of a replay should be 1 to {_LARGEST_SIDE}: {sides}")
        if len(self.pictures) > _MOST_PICTURES or any(len(p) != 3 for p in self.pictures.values()):
            raise UserError(f"a replay holds up to {_MOST_PICTURES} pictures of shape (H, W, C)")

    @cached_property
    def row(self) -> np.dtype[Any]:
        """A row: one observation, and, unless it is the last of its stretch, the step from it.

        ``first`` and ``last`` are the positions of the stretch's first and last row, ``until`` is
        behind the episode's last; ``terminal``: the stretch ended in a true terminal.
        """
        fields: list[Any] = [(name, np.int64) for name in ("position", "first", "last", "until")]
        fields += [
            ("terminal", np.float32),
            ("reward", np.float32),
            ("observation", np.float32, (self.observation,)),
            ("action", np.float32, (self.action,)),
        ]
        if self.proposed:
            fields.append(("proposed", np.float32, (self.action,)))
        return np.dtype(fields, align=True)

    @property
    def floats(self) -> tuple[str, ...]:
        """Names of a row's fields of numbers, which `column` finds in it."""
        names = ("terminal", "reward", "observation", "action")
        return (*names, "proposed") if self.proposed else names

    def column(self, name: str) -> slice:
        """Return where a field is in a row that is seen as float32."""
        fields = self.row.fields
        assert fields is not None
        kind, offset = fields[name][:2]
        return slice(offset // 4, (offset + kind.itemsize) // 4)

    @cached_property
    def row_floats(self) -> int:
        """W, the size of a row that is seen as float32."""
        return self.row.itemsize // 4

    @property
    def row_bytes(self) -> int:
        """Bytes that one control step takes, pictures included."""
        return self.row.itemsize + sum(int(np.prod(shape)) for shape in self.pictures.values())

    def rows_in(self, size: int) -> int:
        """Return how many rows fit into ``size`` bytes."""
        return size // self.row_bytes

    def files(self, slots: int) -> dict[str, int]:
        """Return the sizes in bytes of the files of a ring of so many slots, by their names."""
        sizes = {STATE_FILE: StatePage.SIZE, ROWS_FILE: slots * self.row.itemsize}
        for file, name in self._picture_files().items():
            sizes[file] = slots * int(np.prod(self.pictures[name]))
        return sizes

    def _picture_files(self) -> dict[str, str]:
        """Return the pictures' names by the names of their files, which any file system takes."""
        return {f"picture_{index}": name for index, name in enumerate(sorted(self.pictures))}


class Ring:
    """Rows of one source: written by one process, gathered by any number.

    A position counts the rows ever written, and is in slot ``position % slots``. There are some
    more slots than ``capacity``, the rows that count: an episode that no longer does stays whole
    for a while, for readers who are about to take it, and for `rewind`.

    What a reader may rely on: rows between ``tail`` and ``head`` of a state are whole. They are
    written before the state says so, and ``floor`` is raised before they are overwritten. So rows
    gathered at positions from the ``floor`` that `state` gives *afterwards*, in the same epoch, are
    what was committed.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        slots: int,
        files: Mapping[str, int],
        where: str,
        *,
        writable: bool,
    ) -> None:
        """Use open files of the sizes that ``layout.files`` gives.

        Args:
            capacity: most rows that count; an episode of T steps takes T + 1 and one more per gap.
            slots: rows that there is room for.
            files: their descriptors by name, closed with the ring.
            where: names the ring in messages.
            writable: this process is the writer.

        Raises:
            UserError: a file has another size, or the state in it is damaged.
        """
        self._close = weakref.finalize(self, _close_all, list(files.values()))
        for name, size in layout.files(slots).items():
            found = os.fstat(files[name]).st_size
            if found != size:
                raise UserError(f"{where}/{name} has {found} bytes, not {size}")
        self.capacity = capacity
        self.slots = slots
        self._where = where
        self._layout = layout
        self._dtype = layout.row
        self._page = StatePage(files[STATE_FILE], where, writable=writable)
        self._rows = RowFile(files[ROWS_FILE], slots, self._dtype)
        self._pictures = {
            name: RowFile(files[file], slots, np.dtype((np.uint8, layout.pictures[name])))
            for file, name in layout._picture_files().items()
        }
        self._unsynced = False

    def state(self) -> RingState:
        """Return what is committed."""
        return self._page.read()

    def windows(self, starts: Positions, state: RingState, out: npt.NDArray[np.float32]) -> None:
        """Copy rows from each of the positions ``starts`` on to ``out`` (B, count, W), contiguous.

        `Layout.column` and `links` say what is where in a row.
        """
        self._rows.gather(starts, state.head, out)

    def pictures(
        self, name: str, positions: Positions, state: RingState, out: npt.NDArray[np.uint8]
    ) -> None:
        """Copy the pictures of this name at ``positions`` (B, K) to ``out`` (B, K, H, W, C)."""
        self._pictures[name].gather(positions.reshape(-1), state.head, out)

    def append(self, stretches: Sequence[EpisodeTransitions]) -> None:
        """Add an episode, given as its contiguous stretches; the oldest make room for it.

        Raises:
            ValueError: it does not fit the layout, has values that are not finite, or more rows
                than there are in all.
            OSError: the disk is full, or fails; nothing was added then.
        """
        state = self.state()
        rows = self._as_rows(stretches, state.head)
        if len(rows) > self.capacity:
            raise ValueError(f"an episode of {len(rows)} rows is too long for {self.capacity}")
        roomy = self._make_room(state, len(rows))
        if roomy != state:
            self._page.write(roomy)
        self._unsynced = True
        self._rows.write(state.head, rows)
        for name, file in self._pictures.items():
            position = state.head
            for stretch in stretches:
                file.write(position, np.ascontiguousarray(stretch.pictures[name]))
                position += len(stretch) + 1
        self._page.write(
            roomy._replace(
                head=state.head + len(rows),
                steps=roomy.steps + sum(map(len, stretches)),
                episodes=roomy.episodes + 1,
            )
        )

    def rewind(self, tail: int, head: int) -> None:
        """Take back what was added after ``head``, and bring back what made room for it.

        Raises:
            ValueError: rows in between are not there, or no longer.
            UserError: they are damaged.
        """
        state = self.state()
        if not state.floor <= tail <= head <= state.head:
            raise ValueError(
                f"it holds rows {state.floor} to {state.head}, asked for are {tail} to {head}"
            )
        steps, episodes = self._counted(tail, head)
        self._page.write(RingState(head, tail, state.floor, steps, episodes, state.epoch + 1))

    def clear(self) -> None:
        """Begin anew at position 0."""
        self._page.write(RingState(epoch=self.state().epoch + 1))

    def check(self) -> None:
        """Go through all episodes.

        Raises:
            UserError: they are not what the state says.
        """
        state = self.state()
        ordered = 0 <= state.floor <= state.tail <= state.head <= state.floor + self.slots
        if not ordered or self._counted(state.tail, state.head) != (state.steps, state.episodes):
            raise UserError(f"{self._where} is damaged: it holds not what it says")

    def sync(self) -> None:
        """Have all that is committed reach the disk; rows before what says that they are there."""
        if not self._unsynced:
            return
        for file in (self._rows, *self._pictures.values()):
            file.sync()
        self._page.sync()
        self._unsynced = False

    def _make_room(self, state: RingState, count: int) -> RingState:
        """Return the state in which ``count`` more rows harm nothing that counts."""
        tail, steps, episodes = state.tail, state.steps, state.episodes
        while state.head + count - tail > self.capacity:
            tail, lost = self._episode(tail, state.head)
            steps, episodes = steps - lost, episodes - 1
        floor = max(state.floor, state.head + count - self.slots)
        return state._replace(tail=tail, floor=floor, steps=steps, episodes=episodes)

    def _counted(self, tail: int, head: int) -> tuple[int, int]:
        """Return the steps and episodes between two positions, both where an episode begins."""
        steps = episodes = 0
        while tail < head:
            tail, more = self._episode(tail, head)
            steps, episodes = steps + more, episodes + 1
        return steps, episodes

    def _episode(self, begin: int, head: int) -> tuple[int, int]:
        """Return where the episode ends that begins at a position, and its steps."""
        position, steps, end = begin, 0, begin + 1
        while position < end:
            own, first, last, until = _LINKS.unpack(self._rows.read(position, _LINKS.size))
            whole = own == first == position < last < until <= head
            if not whole or (position > begin and until != end):
                raise UserError(f"{self._where} is damaged: row {position} begins no stretch")
            position, steps, end = last + 1, steps + last - position, until
        return end, steps

    def _as_rows(self, stretches: Sequence[EpisodeTransitions], head: int) -> Array:
        """Return the rows of an episode whose first one comes to position ``head``."""
        for stretch in stretches:
            self._require_fit(stretch)
        begins = list(accumulate((len(s) + 1 for s in stretches), initial=head))
        rows = np.zeros(begins[-1] - head, self._dtype)
        rows["position"] = np.arange(head, begins[-1])
        rows["until"] = begins[-1]
        for stretch, begin in zip(stretches, begins, strict=False):
            part = rows[begin - head : begin - head + len(stretch) + 1]
            part["first"], part["last"] = begin, begin + len(stretch)
            part["terminal"] = stretch.terminated
            part["observation"] = stretch.observations
            part["reward"][:-1] = stretch.rewards
            part["action"][:-1] = stretch.executed
            if self._layout.proposed:
                part["proposed"][:-1] = stretch.proposed
        for name in ("observation", "reward", "action"):
            if not np.isfinite(rows[name]).all():
                raise ValueError("the episode holds values that are not finite")
        return rows

    def _require_fit(self, episode: EpisodeTransitions) -> None:
        steps = len(episode)
        size, actions = self._layout.observation, self._layout.action
        shapes = episode.observations.shape, episode.executed.shape
        if shapes != ((steps + 1, size), (steps, actions)) or not steps:
            raise ValueError(
                f"expected observations (T+1, {size}) and actions (T, {actions}) of T steps, "
                f"not {shapes[0]} and {shapes[1]} of {steps}"
            )
        for name, shape in self._layout.pictures.items():
            given = episode.pictures.get(name)
            if given is None or given.shape != (steps + 1, *shape) or given.dtype != np.uint8:
                what = "none" if given is None else f"{given.dtype} {given.shape}"
                raise ValueError(f"expected pictures {name!r}, uint8 {(steps + 1, *shape)}: {what}")


def links(rows: Array) -> Positions:
    """Return position, first, last and until of ``rows`` (B, W) of a window, as (B, 4)."""
    return rows.view(np.int64)[:, :4]


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
