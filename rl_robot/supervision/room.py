"""Whether a run has room for another episode, as the recorder says."""

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 15.0  # s for room to be made when the trainer has nothing left to learn from


@dataclass
class Room:
    """What was heard of it.

    Attributes:
        full: why the session must end, in words; it stays so.
        waits: what has to come before an episode may begin.
    """

    full: str = ""
    waits: str = ""
    _vain_since: float | None = None  # when there was first nothing left to wait for

    def hear(self, values: Mapping[str, str]) -> None:
        """Take what the recorder says of it, in its status or in its health."""
        self.fill(values.get("full", ""))
        self.waits = values.get("waits", "")
        if not self.waits:
            self._vain_since = None

    def fill(self, why: str) -> None:
        """Note why there is no room at all; the first reason counts."""
        self.full = self.full or why

    def in_vain(self, now: float, *, trainer_done: bool) -> bool:
        """Whether what is waited for will not come: the trainer is done, and has been for long."""
        if not trainer_done:
            self._vain_since = None
        elif self._vain_since is None:
            self._vain_since = now
        return self._vain_since is not None and now - self._vain_since > PATIENCE
