"""Decides which one source moves the robot, if any."""

from collections.abc import Collection

SOURCES = ("recovery", "teleop", "reset", "policy", "script")
PHASES = ("resetting", "running", "ended")

# These take over in any phase, in this order, as long as they send commands.
TAKE_OVER = ("recovery", "teleop")


class Arbiter:
    """Who may move the robot: emergency stop before recovery, teleop, reset, policy or script.

    Starts disabled. Stopping, clearing the stop and enabling are deliberate and separate: after a
    stop nothing moves until it was cleared and the robot enabled again.
    """

    def __init__(self, *, driver: str = "policy") -> None:
        """Let ``driver``, "policy" or "script", move the robot while an episode runs.

        Raises:
            ValueError: another driver.
        """
        if driver not in ("policy", "script"):
            raise ValueError(f'the driver is "policy" or "script", not {driver!r}')
        self._driver = driver
        self._enabled = False
        self._stop_reason: str | None = None

    @property
    def enabled(self) -> bool:
        """Whether commands may move the robot; never while stopped."""
        return self._enabled

    @property
    def stopped(self) -> bool:
        """Whether the emergency stop is latched."""
        return self._stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the emergency stop is latched; None when it is not."""
        return self._stop_reason

    def enable(self) -> bool:
        """Enable motion; False, and nothing changed, while the emergency stop is latched."""
        self._enabled = not self.stopped
        return self._enabled

    def disable(self) -> None:
        """Disable motion."""
        self._enabled = False

    def stop(self, reason: str) -> None:
        """Latch the emergency stop and disable. The first reason is kept until it is cleared."""
        self._enabled = False
        if self._stop_reason is None:
            self._stop_reason = reason

    def clear(self) -> None:
        """Clear the emergency stop; the robot stays disabled."""
        self._stop_reason = None

    def active_source(self, phase: str, live: Collection[str] = ()) -> str | None:
        """Return the one source whose commands move the robot now, None when it must hold.

        Args:
            phase: the episode's phase; in any that is not "resetting" or "running", only recovery
                and teleop move the robot.
            live: sources that have an accepted, fresh command. Recovery and teleop take over by
                being live; reset and the driver are due by phase, live or not, so that the loss of
                one is noticed instead of another taking its place.
        """
        if not self._enabled:
            return None
        for source in TAKE_OVER:
            if source in live:
                return source
        return self.due_source(phase)

    def due_source(self, phase: str) -> str | None:
        """Return the source that the phase calls for, whether or not the robot is enabled."""
        return {"resetting": "reset", "running": self._driver}.get(phase)
