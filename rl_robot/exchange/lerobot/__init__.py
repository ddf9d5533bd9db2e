"""LeRobotDataset v3.0, written and read without the lerobot package; see `docs/bags.md`.

PyAV and pyarrow, which this needs, are not installed with the rest: they are imported only when
one of the two functions is called.
"""

import importlib.util
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.experience.aligned import AlignedEpisode

_NEEDED = ("av", "pyarrow")


@dataclass(frozen=True)
class LeRobotExport:
    """What an export wrote: how many episodes and rows, and which episodes had no step to write."""

    episodes: int
    rows: int
    skipped: tuple[str, ...] = ()


def export_lerobot(
    episodes: Iterable[AlignedEpisode],
    folder: Path,
    *,
    task: str,
    fps: float,
    robot_type: str,
    state: str | None = None,
    keep_last: bool = False,
    crf: int = 20,
    progress: Callable[[int], None] | None = None,
) -> LeRobotExport:
    """Write a LeRobotDataset v3.0, a row for each control step.

    ``folder`` appears when it is whole. One episode at a time is held in memory. The last of the
    T + 1 observations of an episode, which nothing was done on, is left out, as LeRobot does; what
    it was worth is in ``next.reward`` and ``next.done`` of the last step.

    Args:
        episodes: all with the same observations and actions.
        folder: to be; its parents are made.
        task: what is done, in words, as language-conditioned policies are told.
        fps: control steps per second. LeRobot's own time of a row is frame_index / fps; the true
            time stamp is the feature ``tick_ns``.
        robot_type: name of the robot.
        state: name of the observation that becomes ``observation.state``. When None: "state",
            "joint_states", or the only vector there is, in this order.
        keep_last: write a row for the last observation as well: it repeats the last action, its
            reward is 0, and its feature ``is_last_observation`` is true.
        crf: constant rate factor of the videos (H.264), from 0 (lossless) to 51.
        progress: told after each episode how many have been written.

    Raises:
        UserError: PyAV or pyarrow is not installed; the folder exists; there is no episode with a
            step; an episode differs from the first in what it holds, or its ticks from ``fps``.
    """
    _require_libraries()
    from rl_robot.exchange.lerobot.writer import write_dataset

    written, rows, skipped = write_dataset(
        episodes,
        folder,
        task=task,
        fps=fps,
        robot_type=robot_type,
        state=state,
        keep_last=keep_last,
        crf=crf,
        progress=progress,
    )
    return LeRobotExport(written, rows, skipped)


def import_lerobot(
    folder: Path,
    out: Path,
    *,
    episodes: Collection[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Turn a LeRobotDataset v3.0 into bags ``out/episode_NNNNNN``, one for each episode.

    Args:
        folder: of the dataset, with ``meta/info.json`` in it.
        out: folder for the bags; made where it is missing.
        episodes: indices of those to take; all when None.
        progress: told after each bag how many have been written.

    Returns:
        The bags, in the order of the episodes.

    Raises:
        UserError: PyAV or pyarrow is not installed; this is no dataset of that version; something
            in it is damaged or too large; one of the bags exists already. Bags that were written
            before that stay, and each of them is whole.
    """
    _require_libraries()
    from rl_robot.exchange.lerobot.bags import write_bags

    return write_bags(folder, out, episodes=episodes, progress=progress)


def _require_libraries() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"LeRobotDataset needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )
