"""What becomes of one topic's messages: a line of stages, one per fault.

Chance belongs to the messages: what happens to the n-th message of a topic follows from the seed,
the topic and n, whatever comes on other topics. So the same seed gives the same faults.
"""

import heapq
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Generic, TypeVar

from rl_robot.faults.damage import copy_stamp, flip_bits, shift_stamp
from rl_robot.faults.plan import (
    BITS,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Freeze,
    Reorder,
    Stamp,
)

Alter = Callable[[bytes, str, Random], bytes]
F = TypeVar("F", bound=Fault)


def _unaltered(_raw: bytes, what: str, _luck: Random) -> bytes:
    raise ValueError(f"nothing here can put '{what}' into a message")


class FaultyTopic:
    """The messages of one topic in, those that get through out, when they are due.

    Times are seconds on any clock that never goes back; the faults' seconds count from its 0.
    """

    def __init__(
        self, name: str, faults: Sequence[Fault], *, seed: int, alter: Alter = _unaltered
    ) -> None:
        """Make the line. ``alter`` puts a number or a name, see `Corrupt`, into raw messages."""
        self._stages = [
            _make_stage(fault, f"{seed} {name} {place}", alter)
            for place, fault in enumerate(faults)
        ]
        self.heard = 0
        self.said = 0

    def take(self, now: float, raw: bytes) -> list[bytes]:
        """Take a message that comes now; return, in order, all that is due by now."""
        self.heard += 1
        due = self._advance(now)
        if not self._stages:
            due.append(raw)
        else:
            self._stages[0].take(now, raw)
            due += self._advance(now)
        self.said += len(due)
        return due

    def release(self, now: float) -> list[bytes]:
        """Return, in order, what was held back and is due by now."""
        due = self._advance(now)
        self.said += len(due)
        return due

    @property
    def next_due(self) -> float:
        """When `release` has something to return; infinite while nothing is held back."""
        return min((stage.next_due for stage in self._stages), default=math.inf)

    @property
    def counts(self) -> dict[str, int]:
        """How many messages each kind of fault has happened to."""
        counts: Counter[str] = Counter()
        for stage in self._stages:
            counts[stage.kind] += stage.count
        return dict(counts)

    def _advance(self, now: float) -> list[bytes]:
        """Let every message go as far as it comes by now; return those that come out."""
        out = []
        while self.next_due <= now:
            # Of two that are due at once, the one further down the line goes first.
            place = max(
                range(len(self._stages)), key=lambda one: (-self._stages[one].next_due, one)
            )
            at, raw = self._stages[place].pop()
            if place + 1 < len(self._stages):
                self._stages[place + 1].take(at, raw)
            else:
                out.append(raw)
        return out


class _Stage(ABC, Generic[F]):
    """One fault of one topic, with the messages that it holds back."""

    def __init__(self, fault: F, name: str) -> None:
        self._fault = fault
        self._name = name
        self._taken = 0
        self._left = 0  # messages that the present burst will still strike
        self._queue: list[tuple[float, int, bytes]] = []  # due, order, message
        self._order = 0
        self.count = 0

    @property
    def kind(self) -> str:
        """The fault's name in a faults file."""
        return type(self._fault).__name__.lower()

    def take(self, at: float, raw: bytes) -> None:
        luck = Random(f"{self._name} {self._taken}")
        self._taken += 1
        if self._strikes(at, luck):
            self.count += 1
            self._strike(at, raw, luck)
        else:
            self._let_by(at, raw)

    @property
    def next_due(self) -> float:
        return self._queue[0][0] if self._queue else math.inf

    def pop(self) -> tuple[float, bytes]:
        """Return the message that is due next, and when."""
        due, _, raw = heapq.heappop(self._queue)
        return due, raw

    def _strikes(self, at: float, luck: Random) -> bool:
        begins = luck.random() < self._fault.probability
        if not self._fault.start <= at < self._fault.until:
            self._left = 0
            return False
        if self._left:
            self._left -= 1
            return True
        if begins:
            self._left = self._fault.burst - 1
        return begins

    @abstractmethod
    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        """Do what the fault does to a message."""

    def _let_by(self, at: float, raw: bytes) -> None:
        """Do what becomes of a message that the fault does not happen to."""
        self._schedule(at, raw)

    def _schedule(self, due: float, raw: bytes) -> None:
        heapq.heappush(self._queue, (due, self._order, raw))
        self._order += 1


class _Drop(_Stage[Drop]):
    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        pass


class _Delay(_Stage[Delay]):
    _latest = -math.inf

    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        self._let_by(at + self._fault.seconds + luck.uniform(0.0, self._fault.jitter), raw)

    def _let_by(self, at: float, raw: bytes) -> None:
        if self._fault.keep_order:
            at = self._latest = max(self._latest, at)
        self._schedule(at, raw)


class _Duplicate(_Stage[Duplicate]):
    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        for _ in range(1 + self._fault.copies):
            self._schedule(at, raw)


class _Reorder(_Stage[Reorder]):
    """Holds one message back at a time; the next ones pass, whatever their luck."""

    _held: tuple[float, bytes] | None = None  # latest time, message
    _passing = 0  # messages that it still waits for

    def take(self, at: float, raw: bytes) -> None:
        if self._held is None:
            super().take(at, raw)
            return
        self._taken += 1
        self._schedule(at, raw)
        self._passing -= 1
        if not self._passing:
            _, held = self._held
            self._held = None
            self._schedule(at, held)

    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        self._held = at + self._fault.within, raw
        self._passing = self._fault.behind

    @property
    def next_due(self) -> float:
        return min(super().next_due, math.inf if self._held is None else self._held[0])

    def pop(self) -> tuple[float, bytes]:
        if self._held is not None and self._held[0] < super().next_due:
            held, self._held = self._held, None
            return held
        return super().pop()


class _Freeze(_Stage[Freeze]):
    _last: bytes | None = None

    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        if self._last is None:  # nothing came before: it freezes with the first
            self._last = raw
        self._schedule(at, copy_stamp(raw, self._last) if self._fault.restamp else self._last)

    def _let_by(self, at: float, raw: bytes) -> None:
        self._last = raw
        super()._let_by(at, raw)


class _Corrupt(_Stage[Corrupt]):
    def __init__(self, fault: Corrupt, name: str, alter: Alter) -> None:
        super().__init__(fault, name)
        self._alter = alter

    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        if self._fault.what == BITS:
            damaged = flip_bits(raw, self._fault.bits, luck)
        else:
            damaged = self._alter(raw, self._fault.what, luck)
        self._schedule(at, damaged)


class _Stamp(_Stage[Stamp]):
    def _strike(self, at: float, raw: bytes, luck: Random) -> None:
        self._schedule(at, shift_stamp(raw, self._fault.offset))


_STAGES: Mapping[type[Fault], Callable[[Any, str], _Stage[Any]]] = {
    Drop: _Drop,
    Delay: _Delay,
    Duplicate: _Duplicate,
    Reorder: _Reorder,
    Freeze: _Freeze,
    Stamp: _Stamp,
}


def _make_stage(fault: Fault, name: str, alter: Alter) -> _Stage[Any]:
    if isinstance(fault, Corrupt):
        return _Corrupt(fault, name, alter)
    return _STAGES[type(fault)](fault, name)
