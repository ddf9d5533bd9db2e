"""Training metrics over time: one JSON object per line, and TensorBoard."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_robot.experience.runs import write_atomically


class MetricsLog:
    """Appends to ``metrics.jsonl`` and ``tensorboard/`` in one folder."""

    def __init__(self, folder: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Go on with the lines that ``keep`` approves of; others are of work that is redone."""
        # Here, because it takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        kept = [line for line in _lines(self._path) if keep(line)]
        write_atomically(self._path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._last = kept[-1] if kept else {}
        self._file = self._path.open("a", encoding="utf-8")
        steps = [int(line["updates"]) for line in kept]
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=max(steps, default=-1) + 1, flush_secs=10
        )

    @property
    def last(self) -> Mapping[str, Any]:
        """The latest line; empty before the first."""
        return self._last

    def write(self, wall: float, learner: str, updates: int, values: Mapping[str, float]) -> None:
        """Add one line; ``wall`` in seconds since training first began."""
        numbers = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._last = {"wall": round(wall, 3), "learner": learner, "updates": updates, **numbers}
        self._file.write(json.dumps(self._last) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(f"{learner}/{name}", value, updates)

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        self._board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file that may have been cut short."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
