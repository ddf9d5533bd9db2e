"""A mailbox of depth one: the worker always gets the newest job, older ones are dropped."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Hands the newest job from the executor's thread to a worker thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._job: T | None = None
        self._closed = False
        self.dropped = 0  # jobs replaced before the worker took them

    def put(self, job: T) -> None:
        """Offer a job, in place of one not taken yet."""
        with self._condition:
            self.dropped += self._job is not None
            self._job = job
            self._condition.notify()

    def take(self) -> T | None:
        """Wait for a job; None once the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._job is not None or self._closed)
            job, self._job = self._job, None
            return None if self._closed else job

    def close(self) -> None:
        """Wake the worker for good."""
        with self._condition:
            self._closed = True
            self._condition.notify()
