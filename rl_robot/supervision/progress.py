"""One line that tells a person how a session gets on."""

import sys
from collections.abc import Mapping
from typing import TextIO

from rl_robot.supervision.programme import Programme, StageRecord
from rl_robot.supervision.session import SessionPlan


class StatusLine:
    """A line that is rewritten in place on a terminal, and written anew elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._open = False

    def write(self, text: str) -> None:
        """Replace the line by `text`."""
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the line, so that what follows starts on its own."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


class ProgressLine(StatusLine):
    """Shows episodes, successes, speed and time left."""

    def __init__(self, episodes: int, stream: TextIO | None = None) -> None:
        """`episodes`: how many the session is to run, 0 for no end."""
        super().__init__(stream)
        self._episodes = episodes

    def show(
        self, done: int, successes: int, broken: int, wall: float, simulated: float, steps: int
    ) -> None:
        """Write the line. Wall and simulated time in seconds, control steps of all phases."""
        self.write(self._text(done, successes, broken, wall, simulated, steps))

    def _text(
        self, done: int, successes: int, broken: int, wall: float, simulated: float, steps: int
    ) -> str:
        of = f"/{self._episodes}" if self._episodes else ""
        parts = [f"episode {done}{of}", f"successes {successes}"]
        if done:
            parts[-1] += f" ({100 * successes / done:.0f} %)"
        if broken:
            parts.append(f"broken {broken}")
        if wall > 0.0:
            parts.append(f"{simulated / wall:.1f}x real time")
            parts.append(f"{steps / wall:.0f} control steps/s")
        if self._episodes and done:
            parts.append(time_left(wall / done * (self._episodes - done)))
        return "   ".join(parts)


class TrainingLine(StatusLine):
    """Shows how a training session gets on."""

    def show(
        self,
        programme: Programme,
        steps: int,
        wall: float,
        trainer: Mapping[str, str],
        waiting: str = "",
    ) -> None:
        """Write the line.

        Args:
            programme: the stages.
            steps: control steps of this session so far, resets included.
            wall: seconds since it began.
            trainer: what the trainer last said of itself.
            waiting: what the present stage waits for.
        """
        record, plan = programme.record, programme.stage.plan
        parts = [record.name, _share(record, plan)]
        if record.episodes:
            parts.append(f"successes {100 * record.successes / record.episodes:.0f} %")
        if trainer:
            rate = float(trainer.get("updates_per_second", 0.0))
            parts.append(f"{trainer.get('updates', '0')} updates ({rate:.0f}/s)")
        if wall > 0.0 and steps:
            parts.append(f"{steps / wall:.0f} control steps/s")
            parts.append(time_left(programme.steps_left() * wall / steps))
        if waiting:
            parts.append(waiting)
        self.write("   ".join(parts))


def _share(record: StageRecord, plan: SessionPlan) -> str:
    if plan.steps:
        return f"episode {record.episodes}, step {record.steps}/{plan.steps}"
    return f"episode {record.episodes}/{plan.episodes}"


def time_left(seconds: float) -> str:
    """Return a duration as minutes and seconds, such as "2:05 left"."""
    left = round(seconds)
    return f"{left // 60}:{left % 60:02d} left"
