"""Finds bags: by themselves, in folders of bags, and in runs."""

import re
from collections.abc import Iterable
from pathlib import Path

from rl_robot.errors import UserError

UNFINISHED = ".part"  # what the folder of a bag in the making ends with
EPISODE_NAME = re.compile(r"episode_[0-9]{6,9}")  # of a run's bags
_EPISODES = "episodes"  # the folder of a run that holds its bags
_FILES = ("*.mcap", "*.db3", "*.zstd")
_LOOSE = (".mcap", ".db3")


def is_bag(path: Path, *, unfinished: bool = False) -> bool:
    """Whether this is a bag's folder; ``unfinished``: one in the making is one, too.

    A bag of several files says so in its ``metadata.yaml``: without that, each is a bag.
    """
    if not path.is_dir() or (path.suffix == UNFINISHED and not unfinished):
        return False
    files = sum(1 for kind in _FILES for _ in path.glob(kind))
    return files == 1 or (files > 1 and (path / "metadata.yaml").exists())


def run_bags(episodes: Path, *, unfinished: bool = False) -> list[Path]:
    """Return the folders of a run's episodes that count, in order.

    They have an episode's name and nothing more, or end with ``.part`` if those in the making
    are asked for, too. What else is there, such as what was repaired, is no part of the run.
    """
    return [path for path in sorted(episodes.glob("episode_*")) if _counts(path, unfinished)]


def bags_in(place: Path, *, unfinished: bool = False) -> list[Path]:
    """Return the bags of a run, or in a folder of bags, by name; ``unfinished`` as in `is_bag`."""
    episodes = place / _EPISODES
    if episodes.is_dir():
        inside = run_bags(episodes, unfinished=unfinished)
        return [path for path in inside if is_bag(path, unfinished=True)]
    return [
        path
        for path in sorted(place.iterdir())
        if is_bag(path, unfinished=unfinished) or (path.suffix in _LOOSE and path.is_file())
    ]


def find_bags(places: Iterable[Path | str], *, unfinished: bool = False) -> list[Path]:
    """Return the bags that are named: themselves, in a folder of bags, or in a run.

    Args:
        places: bags (also a bag's file), folders of bags, or folders of runs.
        unfinished: also those in the making, in folders.

    Raises:
        UserError: there is nothing at one of the places, or no bag.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"there is no bag at {place}: name a bag, a folder of bags, or a run")
        if place.is_file() or is_bag(place, unfinished=True):
            found.append(place)
            continue
        inside = bags_in(place, unfinished=unfinished)
        if not inside:
            folder = place / _EPISODES if (place / _EPISODES).is_dir() else place
            raise UserError(f"{folder} holds no bags: name a bag, a folder of bags, or a run")
        found += inside
    return found


def _counts(path: Path, unfinished: bool) -> bool:
    name = path.name.removesuffix(UNFINISHED) if unfinished else path.name
    return EPISODE_NAME.fullmatch(name) is not None and path.is_dir()
