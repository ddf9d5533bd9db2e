"""Which bags there are to learn from, and what each is good for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rl_robot.bags import EpisodeMetadata
from rl_robot.bags.found import bags_in, is_bag
from rl_robot.errors import UserError

DEMONSTRATION = "demonstration"
EXPLORATION = "exploration"

_SCRIPTS = ("script", "weak_script")


def role_of(metadata: EpisodeMetadata) -> str:
    """Return what an episode was recorded for; guessed from its policy where the bag says nothing.

    Only training starts are learnt from: an episode of another split has the role of its split.
    """
    if metadata.split != "train":
        return metadata.split
    guess = DEMONSTRATION if metadata.policy in _SCRIPTS else EXPLORATION
    return metadata.extra.get("role", guess)


class Intake:
    """Finds closed bags in folders, each once, in the order of folders and then of names.

    A bag gets its name, whole, by a rename, so what is found is complete.
    """

    def __init__(self, folder: Path, others: Sequence[Path] = ()) -> None:
        """``folder`` is the run's; ``others``: runs, folders of bags, or bags (also their files).

        Raises:
            UserError: one of the others does not exist.
        """
        for other in others:
            if not other.exists():
                raise UserError(f"there are no bags at {other}: name a run, or a folder of bags")
        self._folder = folder
        self._others = others
        self._seen: set[str] = set()

    def key(self, path: Path) -> str:
        """Return the name of a bag for a checkpoint, which moves with the run's folder."""
        return str(path.relative_to(self._folder)) if self.is_own(path) else str(path.absolute())

    def is_own(self, path: Path) -> bool:
        """Whether a bag is the run's, and not of the others."""
        return path.is_relative_to(self._folder)

    def see(self, key: str) -> Path:
        """Mark the bag of this name as seen; return where it is."""
        self._seen.add(key)
        return self._folder / key

    def new(self) -> list[Path]:
        """Return the bags that were not seen before, and mark them as seen."""
        found = [path for path in self._bags() if self.key(path) not in self._seen]
        self._seen.update(self.key(path) for path in found)
        return found

    def _bags(self) -> Iterator[Path]:
        for place in (*self._others, self._folder):
            if place.is_file() or is_bag(place, unfinished=True):
                yield place
            else:
                yield from bags_in(place)
