"""Decides which pictures are used: those of a robot at rest, in a pose that is new."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl_robot.calibration.board import Board, Corners
from rl_robot.calibration.views import View

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

SPEED = 0.01  # rad/s or m/s of a joint; beyond, the robot is in motion
BEFORE_NS = 400_000_000  # of rest before a picture, which may be older than its stamp says
AFTER_NS = 100_000_000
GAP_NS = 100_000_000  # between two joint states around a picture, at most
RESTART_NS = 1_000_000_000  # that stamps go back, when a simulator or a driver was restarted
NEW_SHIFT = 0.015  # m that the hand moved from where it was in another picture, or ...
NEW_TURN = math.radians(3.0)  # ... turned
NEW_PIXELS = 0.03  # of the picture's width, by which corners moved, where there is no robot
MOST_VIEWS = 200  # more would only take time
_MOST_STATES = 20_000  # kept; pictures are never that much behind
_MOST_PENDING = 60  # pictures that wait for the joint states after them

MOTION = "robot in motion"
UNKNOWN = "no joint states around"
NO_BOARD = "board not found"
SAME = "pose seen before"
DAMAGED = "damaged"


@dataclass(frozen=True)
class Taken:
    """A picture that is used.

    Attributes:
        stamp_ns: when it was captured.
        size: width and height, px.
        image: (H, W) or (H, W, 3) RGB, until somebody has kept it; None where nobody wants to.
        view: what calibration makes of it.
        joints: (n,) positions of the arm's joints at that moment; empty without a robot.
    """

    stamp_ns: int
    size: tuple[int, int]
    image: Image | None
    view: View
    joints: Array


class _Waiting(NamedTuple):
    stamp_ns: int
    name: str
    read: Callable[[], Image]


class JointTrack:
    """Joint states in the order of their stamps."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._stamps: deque[int] = deque(maxlen=_MOST_STATES)
        self._positions: deque[Array] = deque(maxlen=_MOST_STATES)

    def add(self, stamp_ns: int, names: Sequence[str], positions: Sequence[float] | Array) -> None:
        """Take a joint state; one of other joints, not finite or not newer is left aside."""
        found = dict(zip(names, positions, strict=False))
        if not all(name in found for name in self._names):
            return
        values = np.array([found[name] for name in self._names], dtype=np.float64)
        if self._stamps and stamp_ns < self._stamps[-1] - RESTART_NS:
            self._stamps.clear()  # the robot's clock was set back
            self._positions.clear()
        if np.isfinite(values).all() and (not self._stamps or stamp_ns > self._stamps[-1]):
            self._stamps.append(stamp_ns)
            self._positions.append(values)

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest joint state; 0 without one."""
        return self._stamps[-1] if self._stamps else 0

    def at(self, stamp_ns: int) -> tuple[Array, float] | None:
        """Return the joints at a moment, and how fast they are around it.

        Returns:
            Positions (n,), interpolated, and the greatest mean speed of a joint over the time
            around it, rad/s or m/s; None where there are no joint states close before and after.
        """
        after = bisect_left(self._stamps, stamp_ns)
        if after == len(self._stamps) or (after == 0 and self._stamps[0] > stamp_ns):
            return None
        before = max(0, after - 1)
        span = self._stamps[after] - self._stamps[before]
        if span > GAP_NS:
            return None
        part = (stamp_ns - self._stamps[before]) / span if span else 1.0
        here = (1.0 - part) * self._positions[before] + part * self._positions[after]
        first = bisect_left(self._stamps, stamp_ns - BEFORE_NS)
        last = bisect_right(self._stamps, stamp_ns + AFTER_NS)
        around = np.array([self._positions[i] for i in range(first, last)] + [here])
        seconds = (BEFORE_NS + AFTER_NS) * 1e-9
        return here, float(np.max(np.ptp(around, axis=0))) / seconds


class Collector:
    """Takes joint states and pictures as they come and keeps the pictures worth using.

    Attributes:
        taken: the pictures that are used, in order.
        refused: how many others there were, by the reason.
        damaged: those that could not be read, and why.
    """

    def __init__(
        self,
        board: Board,
        *,
        joints: Sequence[str] = (),
        hand: Callable[[Array], Array] | None = None,
        speed: float = SPEED,
        keep_images: bool = False,
    ) -> None:
        """Begin with nothing.

        Args:
            board: what pictures should show.
            joints: the arm's joints.
            hand: gives the pose (4, 4) of the hand in the base frame for joint positions (n,);
                None where only the camera matters: then pictures need no joint states.
            speed: of a joint from which on the robot is in motion, rad/s or m/s.
            keep_images: whether ``taken`` holds the pictures themselves.
        """
        self.taken: list[Taken] = []
        self.refused: Counter[str] = Counter()
        self.damaged: list[str] = []
        self.track = JointTrack(joints)
        self.board = board
        self._hand = hand
        self._speed = speed
        self._keep_images = keep_images
        self._waiting: deque[_Waiting] = deque()

    @property
    def needs_joints(self) -> bool:
        """Whether pictures are of use only with the hand's pose."""
        return self._hand is not None

    def add_picture(self, stamp_ns: int, name: str, read: Callable[[], Image]) -> None:
        """Take a picture that ``read`` gives, called only if the picture may be used."""
        self._waiting.append(_Waiting(stamp_ns, name, read))
        self._look(final=False)

    def add_joints(
        self, stamp_ns: int, names: Sequence[str], positions: Sequence[float] | Array
    ) -> None:
        """Take a joint state."""
        self.track.add(stamp_ns, names, positions)
        self._look(final=False)

    def finish(self) -> None:
        """Judge the pictures that still wait for later joint states, which will not come."""
        self._look(final=True)

    def _look(self, *, final: bool) -> None:
        while self._waiting:
            picture = self._waiting[0]
            ready = self._hand is None or self.track.newest_ns >= picture.stamp_ns + AFTER_NS
            if not (ready or final or len(self._waiting) > _MOST_PENDING):
                return
            self._waiting.popleft()
            if len(self.taken) < MOST_VIEWS:
                reason = self._judge(picture)
                if reason:
                    self.refused[reason] += 1

    def _judge(self, picture: _Waiting) -> str:
        """Take the picture, or return why not."""
        joints, hand = np.zeros(0), None
        if self._hand is not None:
            known = self.track.at(picture.stamp_ns)
            if known is None:
                return UNKNOWN
            joints, speed = known
            if speed > self._speed:
                return MOTION
            hand = self._hand(joints)
            if not all(_differs(hand, taken.view.hand) for taken in self.taken):
                return SAME
        try:
            image = picture.read()
        except ValueError as error:
            self.damaged.append(f"{picture.name}: {error}")
            return DAMAGED
        corners = self.board.find(image)
        if corners is None:
            return NO_BOARD
        if hand is None and not all(
            _moved_on(corners, taken.view.corners, image.shape[1]) for taken in self.taken
        ):
            return SAME
        size = (image.shape[1], image.shape[0])
        kept = image if self._keep_images else None
        view = View(picture.name, corners, hand)
        self.taken.append(Taken(picture.stamp_ns, size, kept, view, joints))
        return ""


def _differs(hand: Array, other: Array | None) -> bool:
    if other is None:
        return True
    shift = float(np.linalg.norm(hand[:3, 3] - other[:3, 3]))
    cosine = (np.trace(hand[:3, :3].T @ other[:3, :3]) - 1.0) / 2.0
    return shift > NEW_SHIFT or math.acos(float(np.clip(cosine, -1.0, 1.0))) > NEW_TURN


def _moved_on(corners: Corners, other: Corners, width: int) -> bool:
    shared, here, there = np.intersect1d(corners.ids, other.ids, return_indices=True)
    if len(shared) < len(corners.ids) // 2:
        return True
    shifts = np.linalg.norm(corners.pixels[here] - other.pixels[there], axis=1)
    return float(shifts.mean()) > NEW_PIXELS * width
