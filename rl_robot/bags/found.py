"""Finds bags: by themselves, in folders of bags, and in runs."""

from collections.abc import Iterable
from pathlib import Path

from rl_robot.errors import UserError

UNFINISHED = ".part"  # what the folder of a bag in the making ends with
_FILES = ("*.mcap", "*.db3", "*.zstd")


def is_bag(path: Path, *, unfinished: bool = False) -> bool:
    """Whether this is a bag's folder; ``unfinished``: one in the making is one, too."""
    finished = path.suffix != UNFINISHED
    return path.is_dir() and (finished or unfinished) and any(map(any, map(path.glob, _FILES)))


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
        folder = place / "episodes" if (place / "episodes").is_dir() else place
        inside = [path for path in sorted(folder.iterdir()) if is_bag(path, unfinished=unfinished)]
        if not inside:
            raise UserError(f"{folder} holds no bags: name a bag, a folder of bags, or a run")
        found += inside
    return found
