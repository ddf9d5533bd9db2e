"""Episodes as numpy archives: Gymnasium's words, one ``.npz`` each, no pickle.

observations/<name>   (T + 1, ...)
ages/<name>           (T + 1,) s, from capture to tick
ticks_ns              (T + 1,) int64
actions               (T, A), as executed
proposed_actions      (T, A), as the policy asked; NaN where unknown
rewards, latencies    (T,)
terminations, truncations   (T,) bool: true in the last step at most
gaps                  the steps that are none, because ticks are missing in between
metadata              JSON: names of the components, the bag's metadata, what was repaired
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from rl_robot.bags import EpisodeMetadata
from rl_robot.errors import UserError
from rl_robot.exchange.folders import whole_folder
from rl_robot.experience.aligned import AlignedEpisode

_FORMAT = 1
_OBSERVATION, _AGE = "observations/", "ages/"


def export_npz(
    episodes: Iterable[AlignedEpisode],
    folder: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write ``folder/episode_NNNNNN.npz`` for each episode, compressed.

    ``folder`` appears when it is whole; one episode at a time is held in memory.
    ``np.load(path, allow_pickle=False)`` reads them, without a package of ours.

    Args:
        episodes: of any kind; they need not be alike.
        folder: to be; its parents are made.
        progress: told after each episode how many have been written.

    Raises:
        UserError: the folder exists, or there is no episode.
    """
    names: list[str] = []
    with whole_folder(folder) as part:
        for index, episode in enumerate(episodes):
            names.append(f"episode_{index:06d}.npz")
            _write(part / names[-1], _arrays(episode))
            if progress:
                progress(len(names))
        if not names:
            raise UserError("there is no episode to write")
    return [folder / name for name in names]


def load_npz(path: Path, *, max_bytes: int = 8 << 30) -> AlignedEpisode:
    """Read back what `export_npz` wrote.

    Args:
        path: of the ``.npz``.
        max_bytes: refuse a file that would take more memory than this.

    Raises:
        UserError: there is no such file, it is damaged or too large, or something else wrote it.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        arrays = _read(path, max_bytes)
        return _episode(arrays)
    except Exception as error:  # zipfile's, zlib's and numpy's, each with errors of its own
        raise UserError(f"{path} is not an episode that export_npz wrote ({error})") from None


def _arrays(episode: AlignedEpisode) -> dict[str, npt.NDArray[Any]]:
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    metadata = {
        "format": _FORMAT,
        "action_names": list(episode.action_names),
        "components": {name: list(names) for name, names in episode.components.items()},
        "counts": dict(episode.counts),
        "terminated": bool(episode.terminated),  # of an episode without steps as well
        "truncated": bool(episode.truncated),
        "origin": episode.origin,
        "metadata": None if episode.metadata is None else episode.metadata.to_strings(),
    }
    return {
        **{_OBSERVATION + name: values for name, values in episode.observations.items()},
        **{_AGE + name: values for name, values in episode.ages.items()},
        "ticks_ns": episode.ticks_ns,
        "actions": episode.action,
        "proposed_actions": episode.proposed,
        "rewards": episode.rewards,
        "latencies": episode.latencies,
        "terminations": last & episode.terminated,
        "truncations": last & episode.truncated,
        "gaps": np.array(episode.gaps, dtype=np.int64),
        "metadata": np.array(json.dumps(metadata)),
    }


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """As `np.savez_compressed`, but by zlib's level 1: its level 6 is for pictures a waste.

    A 320x240 picture with a sensor's noise took 11 ms for 51 % of its size, and 89 ms for 47 %.
    """
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, np.asanyarray(values), allow_pickle=False)


def _episode(arrays: dict[str, npt.NDArray[Any]]) -> AlignedEpisode:
    metadata = json.loads(str(arrays["metadata"]))
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"its format is {metadata.get('format')}, this version knows {_FORMAT}")
    recorded = metadata["metadata"]
    return AlignedEpisode(
        ticks_ns=arrays["ticks_ns"],
        observations=_under(_OBSERVATION, arrays),
        ages=_under(_AGE, arrays),
        action=arrays["actions"],
        proposed=arrays["proposed_actions"],
        action_names=tuple(metadata["action_names"]),
        rewards=arrays["rewards"],
        latencies=arrays["latencies"],
        terminated=bool(metadata["terminated"]),
        truncated=bool(metadata["truncated"]),
        gaps=tuple(int(step) for step in arrays["gaps"]),
        components={name: tuple(names) for name, names in metadata["components"].items()},
        counts=metadata["counts"],
        metadata=None if recorded is None else EpisodeMetadata.from_strings(recorded),
        origin=metadata["origin"],
    )


def _under(prefix: str, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


def _read(path: Path, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > max_bytes:
            raise ValueError(f"it holds {total} bytes, more than the {max_bytes} allowed")
        for entry in entries:
            _check_size(archive, entry)
    with np.load(path, allow_pickle=False) as loaded:
        return {name: loaded[name] for name in loaded.files}


def _check_size(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Numpy allocates what an array's header asks for before it reads what is there."""
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = read_header[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds Python objects")
        expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if expected != entry.file_size:
        raise ValueError(f"{entry.filename} holds {entry.file_size} bytes, not {expected}")
