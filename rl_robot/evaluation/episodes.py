"""What one bag says about its episode: how it ended in a moment, everything when read whole."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from rl_robot.bags import BagMessage, BagReader, EpisodeMetadata, typestore
from rl_robot.bags.stamps import header_frame
from rl_robot.errors import UserError
from rl_robot.experience.removed import RemovedEpisode
from rl_robot.experience.runs import RunFolder

BROKEN = "broken"
SUCCESS = "success"

_HOUR_NS = 3_600_000_000_000
_VERDICTS = ("total", "success", "terminated", "lost_periods")  # numbers that are no reward terms
_TICK = "perception/ages"
# No pictures, which are most of a bag: reading them takes several times as long as all else.
_TOPICS = ("clock", _TICK, "reward", "safety/command", "safety/interventions")


@dataclass
class Outcome:
    """How an episode ended.

    ``seconds`` on the graph's clock; ``began_ns`` the wall clock at its first control tick, None
    when it had none. ``removed``: its bag is gone, to keep a quota.
    """

    metadata: EpisodeMetadata
    path: Path
    seconds: float = 0.0
    began_ns: int | None = None
    removed: bool = False

    @property
    def counts(self) -> bool:
        """A broken episode says nothing about the policy."""
        return self.metadata.outcome != BROKEN

    @property
    def succeeded(self) -> bool:
        return self.metadata.outcome == SUCCESS

    @property
    def run(self) -> Path:
        """Folder of the run that the episode belongs to."""
        return self.path.parents[1]

    @property
    def stage(self) -> str:
        """Part of a training session, such as "validate 3"; empty in other sessions."""
        return self.metadata.extra.get("stage", "")

    @property
    def role(self) -> str:
        """What the session ran it for: "demonstration", "exploration", "validation", "test"."""
        return self.metadata.extra.get("role", "")

    @property
    def policy(self) -> str:
        """The policy's name as people say it: of a file, without its folder."""
        return policy_name(self.metadata.policy)


@dataclass
class EpisodeFigures(Outcome):
    """All that a bag says. Wall times in seconds; latencies in ms, one per executed command."""

    wall_seconds: float = 0.0
    reward: float = 0.0
    best_terms: dict[str, float] = field(default_factory=dict)  # highest value of each reward term
    latencies: list[float] = field(default_factory=list)
    interventions: Counter[str] = field(default_factory=Counter)  # "kind/joint" -> control steps
    limited_steps: int = 0


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)

# What is kept of a bag that is removed, and how it looks in JSON.
_KEPT: dict[str, type | tuple[type, ...]] = {
    "seconds": (int, float),
    "began_ns": (int, type(None)),
    "wall_seconds": (int, float),
    "reward": (int, float),
    "best_terms": dict,
    "latencies": list,
    "interventions": dict,
    "limited_steps": int,
}


def policy_name(policy: str) -> str:
    """The policy without the folder of its file."""
    return Path(policy).name if policy.endswith(".safetensors") else policy


def read_outcome(path: Path) -> Outcome:
    """How the episode of one bag ended, from its index and its first messages.

    Raises:
        UserError: the bag is missing, damaged, or not recorded by rl_robot.
    """
    reader = BagReader(path)
    first = next(iter(reader.messages([_TICK])), None)
    return Outcome(reader.episode, path, reader.seconds, first and first.publish_ns)


def read_episode(path: Path) -> EpisodeFigures:
    """Figures of one bag.

    Raises:
        UserError: the bag is missing, damaged, or not recorded by rl_robot.
    """
    reader = BagReader(path)
    figures = EpisodeFigures(reader.episode, path, reader.seconds)
    ticks: dict[int, int] = {}  # capture stamp -> wall time of the first message that carried it
    executed: list[tuple[int, int]] = []
    wall: list[int] = []
    for message in reader.messages(_TOPICS):
        wall.append(message.publish_ns)
        if message.topic in ("clock", _TICK):
            earliest = ticks.get(message.log_ns, message.publish_ns)
            ticks[message.log_ns] = min(earliest, message.publish_ns)
        elif message.topic == "reward":
            _add_reward(figures, _numbers(message))
        elif message.topic == "safety/interventions":
            limited = _numbers(message)
            figures.interventions.update(limited.keys())
            figures.limited_steps += bool(limited)
        elif header_frame(message.raw) == "policy":
            executed.append((message.log_ns, message.publish_ns))
    figures.latencies = _latencies(ticks, executed)
    if wall:
        figures.began_ns = min(wall)
        figures.wall_seconds = (max(wall) - min(wall)) * 1e-9
    return figures


def to_values(episode: EpisodeFigures) -> dict[str, Any]:
    """The figures as JSON values, without the metadata: what is kept of a bag that is removed."""
    return {name: getattr(episode, name) for name in _KEPT}


def from_removed(episode: RemovedEpisode, path: Path) -> EpisodeFigures:
    """The figures of a bag that was at ``path``, as far as they were kept."""
    known: dict[str, Any] = {
        name: value
        for name, value in episode.figures.items()
        if name in _KEPT and isinstance(value, _KEPT[name])
    }
    known["interventions"] = Counter(known.get("interventions", {}))
    return EpisodeFigures(episode.metadata, path, removed=True, **known)


def read_run(
    run: RunFolder, read: Callable[[Path], AnyOutcome]
) -> tuple[list[AnyOutcome], list[str]]:
    """Every episode as ``read`` reads its bag, and what is wrong with bags that cannot be read.

    Of bags that were removed to keep a quota, all figures that were kept.

    Raises:
        UserError: not one bag can be read.
    """
    episodes: list[AnyOutcome] = []
    unreadable: list[str] = []
    for path in run.list_episodes():
        try:
            episodes.append(read(path))
        except UserError as error:
            unreadable.append(str(error))
    gone = [from_removed(one, run.episodes / one.name) for one in run.removed_episodes()]
    episodes += cast(list[AnyOutcome], gone)  # figures are an outcome, and more
    episodes.sort(key=lambda one: one.path.name)
    if not episodes:
        reason = f" ({unreadable[0]})" if unreadable else ""
        raise UserError(f"run {run.path} holds no finished episode{reason}: record one first")
    return episodes, unreadable


def _numbers(message: BagMessage) -> dict[str, float]:
    """Named numbers travel as the positions of a JointState."""
    state = typestore().deserialize_cdr(message.raw, message.type)
    return dict(zip(state.name, state.position.tolist(), strict=False))  # type: ignore[attr-defined]


def _add_reward(figures: EpisodeFigures, numbers: dict[str, float]) -> None:
    figures.reward += numbers.get("total", 0.0)
    for name, value in numbers.items():
        if name not in _VERDICTS:
            figures.best_terms[name] = max(value, figures.best_terms.get(name, value))


def _latencies(ticks: dict[int, int], executed: Iterable[tuple[int, int]]) -> list[float]:
    """Milliseconds from capture to the executed command, by wall clock.

    Stamps of a real robot are wall times themselves. In simulation the capture's wall time is
    that of the first message that carried its stamp.
    """
    found = []
    for stamp_ns, publish_ns in executed:
        on_wall_clock = abs(publish_ns - stamp_ns) < _HOUR_NS
        captured_ns = stamp_ns if on_wall_clock else ticks.get(stamp_ns)
        if captured_ns is not None:
            found.append((publish_ns - captured_ns) * 1e-6)
    return found
