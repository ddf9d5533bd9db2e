"""Commands slow motions period by period, and keeps what was sent and measured apart in time."""

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.hub import Hub, Reply, Sent, Steps
from rl_robot.hardware.joint_checks import positions_of
from rl_robot.hardware.slow_motion import SlowMotion, Track

Array = NDArray[np.float64]

REPLY_PATIENCE = 12.0  # s
STILL_PATIENCE = 2.0  # s


class Driving:
    """What the checks that move something have in common."""

    def __init__(self, hub: Hub) -> None:
        """Move what is behind ``hub``."""
        self._hub = hub
        self._robot = hub.robot

    def drive(
        self, motion: SlowMotion, seconds: float, *, begin: float = 0.0, last: float | None = None
    ) -> Steps[None]:
        """Command a motion period by period, from ``begin`` s of it on for so many seconds.

        Returns ``last`` s after the last command, by default at the end of its period.
        """
        hub = self._hub
        started = hub.now()
        for number in range(round(seconds / hub.period)):
            while hub.now() - started < number * hub.period:
                yield
            hub.command(
                motion.command(self._robot.joint_names, begin + number * hub.period, hub.period)
            )
        yield from self.wait(hub.period if last is None else last)

    def wait(self, seconds: float) -> Steps[None]:
        """Wait so many seconds."""
        until = self._hub.now() + seconds
        while self._hub.now() < until:
            yield

    def wait_for(self, reply: Reply) -> Steps[Reply]:
        """Wait until a service has answered; one that never does has no success."""
        until = self._hub.now() + REPLY_PATIENCE
        while not reply.done and self._hub.now() < until:
            yield
        return reply

    def wait_still(self, tolerance: Array) -> Steps[None]:
        """Wait until no joint moves by ``tolerance`` (n,) within a control period; 2 s at most."""
        hub, begun = self._hub, self._hub.now()
        while hub.now() - begun < STILL_PATIENCE:
            _, positions = self.since(hub.now() - hub.period)
            if len(positions) > 1 and np.all(np.ptp(positions, axis=0) < tolerance):
                return
            yield

    def here(self) -> Array:
        """Return where the joints are (n,)."""
        return np.asarray(positions_of(self._robot, [self._hub.joints[-1]])[0])

    def told(self) -> Array:
        """Return where the joints are told to be (n,): a motion begins there, and nowhere else."""
        if self._hub.sent and self._hub.now() - self._hub.sent[-1].time < self._hub.period * 3.0:
            return np.array(self._hub.sent[-1].positions[-1])
        return self.here()

    def since(self, begun: float, *, zero: bool = False) -> tuple[Array, Array]:
        """Return times (m,) and positions (m, n) measured since; with ``zero``, counted from it."""
        samples = [sample for sample in self._hub.joints if sample.stamp >= begun]
        times = np.array([sample.stamp for sample in samples])
        return times - (begun if zero else 0.0), positions_of(self._robot, samples)

    def track(self, begun: float, sent: int) -> Track:
        """Return what was sent since there were ``sent`` messages, and what was measured."""
        parts: list[Sent] = list(self._hub.sent)[sent:]
        times, positions = [np.zeros(0)], [np.empty((0, len(self._robot.joint_names)))]
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            end = np.inf if following is None else following.time
            valid = part.time + part.times < end
            times.append(part.time + part.times[valid])
            positions.append(part.positions[valid])
        measured = self.since(begun)
        return Track(np.concatenate(times), np.concatenate(positions), *measured)

    def moves(self, motion: SlowMotion) -> bool:
        """Whether the motion's joint moved during the last period as it should."""
        hub = self._hub
        _, positions = self.since(hub.now() - hub.period)
        if len(positions) < 2:
            return False
        moved = (positions[-1] - positions[0])[motion.joint] * np.sign(motion.height)
        return bool(moved > 0.3 * abs(motion.height) / motion.duration * hub.period)
