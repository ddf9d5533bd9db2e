"""What a trainer takes from bags: each once, in their order, into the replay on disk.

What of it the plan speaks of is counted: the run's own episodes, as far as they were not broken.
Bags that a quota has removed by then count, too, though nothing is learnt from them any more.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.errors import UserError
from rl_robot.experience.bag_map import BagMap
from rl_robot.experience.removed import read_removed
from rl_robot.experience.sources import OFFLINE, ONLINE, Source
from rl_robot.experience.store import DamagedStoreError, ReplayStore
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.learners import layout_of
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task
from rl_robot.training.intake import DEMONSTRATION, EXPLORATION, Intake, role_of
from rl_robot.training.mapped import MappedReader
from rl_robot.training.rebuild import TransitionReader

_RECENT = 20  # exploration episodes whose success and return are averaged


class Feed:
    """Fills the replay of one training from bags, and knows which it has had.

    Attributes:
        store: the replay, once `open_store` was called.
        demonstrations: episodes.
        exploration_steps: control steps of exploration that was not broken.
        explored: control steps that were explored, broken episodes included.
        transitions: in the replay.
        skipped: bags that could not be read.
        recent: success and return of the last episodes of exploration.
    """

    store: ReplayStore

    def __init__(
        self,
        folder: Path,
        task: Task,
        robot: Robot,
        *,
        bags: Sequence[Path],
        bag_map: BagMap | None,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is looked at yet.

        Args:
            folder: of the run.
            task: what the episodes are of.
            robot: that they were recorded with.
            bags: further bags, folders of bags, or runs, taken before the run's own.
            bag_map: what the topics of those further bags mean, where they are not the graph's.
            say: told in one line what a person should know.

        Raises:
            UserError: there is nothing at one of ``bags``, or the map lacks what the task observes.
        """
        self._folder, self._task, self._robot, self._say = folder, task, robot, say
        self._reader = TransitionReader(task, robot)
        self._mapped = MappedReader(task, bag_map) if bag_map else None
        self._intake = Intake(folder, bags)
        self._waiting: deque[Path] = deque()
        self._taken: list[str] = []
        self._ignored: list[str] = []
        self._left_out: set[str] = set()
        self.demonstrations = self.exploration_steps = self.explored = 0
        self.transitions = self.skipped = 0
        self.recent: deque[tuple[bool, float]] = deque(maxlen=_RECENT)

    @property
    def taken(self) -> int:
        """Bags learnt from."""
        return len(self._taken)

    @property
    def named(self) -> int:
        """Bags that are done with: a quota may remove those that the checkpoint names."""
        return len(self._taken) + len(self._ignored) + len(self._left_out)

    def open_store(self, folder: Path, capacity: int) -> None:
        """Open the replay, or make one: of ``capacity`` control steps of each source.

        Raises:
            UserError: another process trains with it.
        """
        layout = layout_of(self._task)
        try:
            self.store = ReplayStore.write(folder, layout, capacity)
        except DamagedStoreError as error:
            self._say(f"{error}: made anew")
            self.store = ReplayStore.remake(folder, layout, capacity)

    def others_wait(self) -> bool:
        """Whether a bag from elsewhere has not been taken yet; they are the first."""
        self._look()
        return bool(self._waiting) and not self._intake.is_own(self._waiting[0])

    def take_next(self) -> bool:
        """Take one more bag; False when there is none."""
        self._look()
        if not self._waiting:
            return False
        self._take(self._waiting.popleft())
        return True

    # --- checkpoints -----------------------------------------------------------------------

    def to_values(self) -> dict[str, Any]:
        """What a checkpoint says of all this, as JSON values."""
        return {
            "bags": self._taken,
            "ignored": self._ignored,
            "left_out": sorted(self._left_out),
            "replay": self.store.position(),
            "counts": {
                "demonstrations": self.demonstrations,
                "exploration_steps": self.exploration_steps,
                "explored": self.explored,
                "recent": list(self.recent),
            },
        }

    def begin(self) -> None:
        """Begin without a checkpoint."""
        self.store.clear()  # of bags taken since there is no checkpoint; they come again
        self._recall_others()

    def go_on(self, values: Mapping[str, Any]) -> bool:
        """Go on from what `to_values` gave; returns whether the bags had to be read again."""
        self._ignored = values["ignored"]
        self._left_out = set(values.get("left_out", ()))  # tried again: they may be repaired
        for key in self._ignored:
            self._intake.see(key)
        bags = [self._intake.see(key) for key in values["bags"]]
        try:
            self.store.rewind(values.get("replay"))
        except DamagedStoreError as error:
            self._say(f"{error}: reading {len(bags)} bags again")
            self.store.clear()
            for bag in bags:
                self._take(bag)
            is_rebuilt = True
        else:
            self._taken = values["bags"]
            self._restore_counts(values["counts"])
            is_rebuilt = False
        self._recall_others()
        return is_rebuilt

    def _restore_counts(self, counts: Mapping[str, Any]) -> None:
        self.demonstrations = counts["demonstrations"]
        self.exploration_steps = counts["exploration_steps"]
        self.explored = counts["explored"]
        self.recent.extend((bool(success), float(total)) for success, total in counts["recent"])
        self._count_transitions()

    # --- one bag ---------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._waiting:
            self._waiting.extend(self._intake.new())

    def _take(self, path: Path) -> None:
        own = self._intake.is_own(path)
        try:
            role, episodes = self._read(path)
        except (UserError, ValueError) as error:
            if not path.exists() and self._recall(self._intake.key(path)):
                return
            self._leave_out(path, error)
            return
        self._left_out.discard(self._intake.key(path))  # it was damaged, and is whole now
        if role not in (DEMONSTRATION, EXPLORATION):
            self._ignored.append(self._intake.key(path))
            return
        kind = role if role == DEMONSTRATION else ONLINE if own else OFFLINE
        try:
            for episode in episodes:
                self.store.add(Source(kind, self._robot.name, self._task.name), episode)
        except ValueError as error:
            self._leave_out(path, f"{path}: {error}")
            return
        self._count_transitions()
        self._taken.append(self._intake.key(path))
        for episode in episodes:
            if episode.gaps:
                self._say(f"{path}: {len(episode.gaps)} control steps lack an observation")
            if own:
                self._count(episode, role)

    def _read(self, path: Path) -> tuple[str, list[EpisodeTransitions]]:
        """Return what a bag was recorded for, and its episodes if that is something to learn from.

        What others recorded was recorded to be learnt from: it counts as demonstrated.
        """
        bag = BagReader(path)
        if self._mapped is not None and not self._intake.is_own(path):
            role = role_of(bag.episode) if bag.is_episode else DEMONSTRATION
            return role, self._mapped.read(bag)
        role = role_of(bag.episode)
        return role, [self._reader.read(bag)] if role in (DEMONSTRATION, EXPLORATION) else []

    def _leave_out(self, path: Path, problem: object) -> None:
        self.skipped += 1
        self._left_out.add(self._intake.key(path))
        self._say(f"left out: {problem}")

    def _count_transitions(self) -> None:
        self.transitions = sum(ring.state().steps for ring in self.store.rings.values())

    def _count(self, episode: EpisodeTransitions, role: str) -> None:
        """Count what the plan speaks of in one of the run's own episodes."""
        assert episode.metadata is not None
        whole = episode.metadata.outcome != "broken"
        if role == DEMONSTRATION:
            self.demonstrations += whole
            return
        self.explored += episode.steps
        if whole:
            self.exploration_steps += episode.metadata.steps
            success = episode.metadata.outcome == "success"
            self.recent.append((success, float(episode.rewards.sum())))

    # --- bags that were removed ------------------------------------------------------------

    def _recall(self, key: str) -> bool:
        """Count an own bag that a quota has removed; what it held is not learnt from again."""
        metadata = self._removed().get(key)
        if metadata is None:
            return False
        self._taken.append(key)
        if role_of(metadata) == EXPLORATION:
            self.explored += metadata.steps
            self.exploration_steps += metadata.steps if metadata.outcome != "broken" else 0
        return True

    def _recall_others(self) -> None:
        """Count the removed bags that the checkpoint does not name."""
        named = {*self._taken, *self._ignored, *self._left_out}
        for key in sorted(self._removed().keys() - named):
            self._recall(key)

    def _removed(self) -> dict[str, EpisodeMetadata]:
        """What removed bags said of themselves, by the names that checkpoints give them."""
        return {f"episodes/{one.name}": one.metadata for one in read_removed(self._folder)}
