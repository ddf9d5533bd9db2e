"""What ``rl_robot bag export`` hands on: bags as tables."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_robot.errors import UserError

if TYPE_CHECKING:
    from rl_robot.bags import BagReader
    from rl_robot.experience.aligned import AlignedEpisode


def aligned(
    bags: Sequence[Path], options: argparse.Namespace, problems: list[str]
) -> Iterator["AlignedEpisode"]:
    """The episodes of bags as tables.

    What is wrong with one of several bags, which then gives none, goes to ``problems``.
    """
    read = _table_maker(options)
    for path in bags:
        try:
            episodes = read(path)
        except UserError as error:
            if len(bags) == 1:
                raise
            problems.append(str(error))
            continue
        yield from episodes


def _table_maker(options: argparse.Namespace) -> Callable[[Path], list["AlignedEpisode"]]:
    """Return what makes tables of a bag: by a map, or as the task saw it."""
    from rl_robot.bags import BagReader
    from rl_robot.experience.aligning import align
    from rl_robot.experience.bag_map import load_bag_map

    if options.map:
        bag_map = load_bag_map(options.map)
        return lambda path: align(path, bag_map)
    find = _reader_of(options)

    def read(path: Path) -> list["AlignedEpisode"]:
        bag = BagReader(path)
        return [find(bag).read_table(bag, sensors=True)]

    return read


def _reader_of(options: argparse.Namespace) -> Callable[["BagReader"], Any]:
    """Return what finds the reader for a bag of ours, by its task and robot.

    Raises:
        UserError: the task or robot that is named is not known.
    """
    from rl_robot.robots.description import load_robot
    from rl_robot.tasks import load_task
    from rl_robot.training.rebuild import TransitionReader

    readers: dict[tuple[str, str], TransitionReader] = {}
    if options.task:
        load_task(options.task)
    if options.robot:
        load_robot(options.robot)

    def find(bag: "BagReader") -> TransitionReader:
        try:
            metadata = bag.episode
        except UserError as error:
            raise UserError(f"{error}: say with --map what its topics mean") from None
        key = (options.task or metadata.task, options.robot or metadata.robot)
        if key not in readers:
            readers[key] = TransitionReader(load_task(key[0]), load_robot(key[1]))
        return readers[key]

    return find


def task_name(episode: "AlignedEpisode") -> str:
    """Return the name of an episode's task, as far as it is known."""
    return episode.metadata.task if episode.metadata else "unknown"


def tick_rate(episode: "AlignedEpisode") -> float:
    """Ticks per second, of the median period."""
    import numpy as np

    return float(round(1e9 / float(np.median(np.diff(episode.ticks_ns))), 6))
