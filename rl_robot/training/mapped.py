"""Bags of any origin as episodes to learn a task from, by a map of their topics."""

import math
from pathlib import Path

import numpy as np

from rl_robot.bags import BagReader
from rl_robot.errors import UserError
from rl_robot.experience.aligned import AlignedEpisode
from rl_robot.experience.aligning import align
from rl_robot.experience.bag_map import BagMap
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.tasks import Task, flatten_rows

_ROUNDING = 1e-4
_MOST_BEYOND = 0.01  # part of an episode's actions that may lie beyond their range, and are cut off


class MappedReader:
    """Reads bags whose topics a map gives the names of a task's observations and action."""

    def __init__(self, task: Task, bag_map: BagMap) -> None:
        """Make a reader of bags as data of ``task``.

        Raises:
            UserError: the map lacks an observation of the task.
        """
        wanted = task.observation_spec
        missing = [name for name in wanted if name not in bag_map.observations]
        if missing:
            raise UserError(
                f"the map has no observation {', '.join(missing)}: task {task.name} observes "
                f"{', '.join(wanted)}"
            )
        self._task = task
        self._map = bag_map

    def read(self, bag: Path | str | BagReader) -> list[EpisodeTransitions]:
        """Return a bag's episodes: one, or more where its clock was restarted.

        Rewards that the bag does not tell are 0.

        Raises:
            UserError: as `align` does, or what is in the bag is not of the task's sizes.
        """
        return [self._transitions(episode) for episode in align(bag, self._map)]

    def _transitions(self, episode: AlignedEpisode) -> EpisodeTransitions:
        actions = len(self._task.action_names)
        if len(episode.action_names) != actions:
            raise UserError(
                f"{episode.origin}: the action has {len(episode.action_names)} numbers "
                f"({', '.join(episode.action_names)}), task {self._task.name} has {actions} "
                f"({', '.join(self._task.action_names)})"
            )
        beyond = float(np.mean(np.abs(episode.action) > 1.0 + _ROUNDING))
        if beyond > _MOST_BEYOND:
            raise UserError(
                f"{episode.origin}: the action reaches from {episode.action.min():.4g} to "
                f"{episode.action.max():.4g}, and -1 to 1 is expected: give scale in the map"
            )
        rows = {}
        for name, entry in self._task.observation_spec.items():
            values = episode.observations[name]
            if math.prod(values.shape[1:]) != math.prod(entry.shape):
                raise UserError(
                    f"{episode.origin}: {name} has {math.prod(values.shape[1:])} numbers, task "
                    f"{self._task.name} expects {math.prod(entry.shape)}"
                )
            rows[name] = values.reshape(len(values), *entry.shape)
        unknown = np.full((len(episode), actions), np.nan, np.float32)
        ages = np.max([episode.ages[name] for name in rows], axis=0)
        return EpisodeTransitions(
            observations=flatten_rows(self._task.observation_spec, rows),
            proposed=episode.proposed if episode.proposed.shape[1] == actions else unknown,
            executed=np.clip(episode.action, -1.0, 1.0),
            rewards=np.nan_to_num(episode.rewards, nan=0.0),
            terminated=episode.terminated,
            ages=ages[:-1].astype(np.float32),
            latencies=episode.latencies,
            gaps=episode.gaps,
            metadata=episode.metadata,
        )
