"""What a run's bags say about it, as one table of JSON values: result.json and the report.

Only the bags are read, so anyone can make the figures again from the data.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_robot.errors import UserError
from rl_robot.evaluation.statistics import Mean, mean_interval, wilson
from rl_robot.experience.bags import (
    BagMessage,
    BagReader,
    EpisodeMetadata,
    typestore,
)
from rl_robot.experience.runs import RunFolder
from rl_robot.experience.stamps import header_frame

BROKEN = "broken"
SUCCESS = "success"

_HOUR_NS = 3_600_000_000_000
_HISTOGRAM_BINS = 30
_VERDICTS = ("total", "success", "terminated", "lost_periods")  # numbers that are no reward terms
_TOPICS = ("clock", "reward", "safety/command", "safety/interventions")


@dataclass
class EpisodeFigures:
    """What one bag says. Times in seconds; latencies in milliseconds, one per executed command."""

    metadata: EpisodeMetadata
    path: Path
    seconds: float = 0.0
    wall_seconds: float = 0.0
    reward: float = 0.0
    best_terms: dict[str, float] = field(default_factory=dict)  # highest value of each reward term
    latencies: list[float] = field(default_factory=list)
    interventions: Counter[str] = field(default_factory=Counter)  # "kind/joint" -> control steps
    limited_steps: int = 0

    @property
    def counts(self) -> bool:
        """A broken episode says nothing about the policy."""
        return self.metadata.outcome != BROKEN

    @property
    def succeeded(self) -> bool:
        return self.metadata.outcome == SUCCESS


def summarize(run: RunFolder) -> dict[str, Any]:
    """Figures of all finished bags of a run.

    Raises:
        UserError: the run holds no episode that can be read.
    """
    episodes, unreadable = read_episodes(run)
    return summary_of(run, episodes, unreadable)


def read_episodes(run: RunFolder) -> tuple[list[EpisodeFigures], list[str]]:
    """Every bag's figures, and what is wrong with those that cannot be read.

    Raises:
        UserError: not one bag can be read.
    """
    episodes: list[EpisodeFigures] = []
    unreadable: list[str] = []
    for path in run.list_episodes():
        try:
            episodes.append(read_episode(path))
        except UserError as error:
            unreadable.append(str(error))
    if not episodes:
        reason = f" ({unreadable[0]})" if unreadable else ""
        raise UserError(f"run {run.path} holds no finished episode{reason}: record one first")
    return episodes, unreadable


def read_episode(path: Path) -> EpisodeFigures:
    """Figures of one bag.

    Raises:
        UserError: the bag is missing, damaged, or not recorded by rl_robot.
    """
    reader = BagReader(path)
    figures = EpisodeFigures(reader.episode, path)
    captured = [name for name in reader.types if name.endswith("/image_raw")]
    ticks: dict[int, int] = {}  # capture stamp -> wall time of the first message that carried it
    executed: list[tuple[int, int]] = []
    wall: list[int] = []
    for message in reader.messages([*_TOPICS, *captured]):
        wall.append(message.publish_ns)
        if message.topic == "clock" or message.topic in captured:
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
    if ticks:
        figures.seconds = (max(ticks) - min(ticks)) * 1e-9
        figures.wall_seconds = (max(wall) - min(wall)) * 1e-9
    return figures


def summary_of(
    run: RunFolder, episodes: Sequence[EpisodeFigures], unreadable: Sequence[str] = ()
) -> dict[str, Any]:
    """The table of figures of these episodes."""
    counted = [e for e in episodes if e.counts]
    steps = sum(e.metadata.steps for e in episodes)
    seconds = sum(e.seconds for e in episodes)
    wall = sum(e.wall_seconds for e in episodes)
    return {
        "run": run.name,
        "groups": [_group(members) for members in _groups(episodes)],
        "episodes": len(counted),
        "successes": sum(e.succeeded for e in counted),
        "broken": len(episodes) - len(counted),
        "unfinished": len(run.unfinished_episodes()),
        "unreadable": list(unreadable),
        "control_steps": steps,
        "lost_periods": sum(e.metadata.lost_periods for e in episodes),
        "seconds": _rounded(seconds),
        "wall_seconds": _rounded(wall),
        "control_steps_per_second": _ratio(steps, wall),
        "real_time_factor": _ratio(seconds, wall),
        "latency_ms": _latency(episodes),
        "interventions": _interventions(episodes, steps),
        "failures": [_row(e) for e in counted if not e.succeeded],
        "broken_episodes": [_row(e) for e in episodes if not e.counts],
        "episode_table": [_row(e) for e in episodes],
        "session": run.read_session(),
    }


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


def _groups(episodes: Sequence[EpisodeFigures]) -> list[list[EpisodeFigures]]:
    """Episodes that may be counted together: one robot, task, policy and split."""
    groups: dict[tuple[str, ...], list[EpisodeFigures]] = {}
    for episode in episodes:
        data = episode.metadata
        key = (data.robot, data.task, data.policy, data.split)
        groups.setdefault(key, []).append(episode)
    return list(groups.values())


def _group(episodes: Sequence[EpisodeFigures]) -> dict[str, Any]:
    counted = [e for e in episodes if e.counts]
    successes = [e for e in counted if e.succeeded]
    interval = wilson(len(successes), len(counted))
    data = episodes[0].metadata
    return {
        "robot": data.robot,
        "task": data.task,
        "policy": data.policy,
        "policy_versions": sorted({e.metadata.policy_version for e in episodes}),
        "split": data.split,
        "episodes": len(counted),
        "successes": len(successes),
        "broken": len(episodes) - len(counted),
        "success_rate": _ratio(len(successes), len(counted)),
        "success_interval": [_rounded(interval.low), _rounded(interval.high)],
        "steps_to_success": _mean([e.metadata.steps for e in successes]),
        "seconds_to_success": _mean([e.seconds for e in successes]),
        "reward": _mean([e.reward for e in counted]),
    }


def _mean(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    result: Mean = mean_interval(values)
    bounds = (result.interval.low, result.interval.high)
    interval = [_rounded(b) for b in bounds] if all(map(math.isfinite, bounds)) else None
    return {"mean": _rounded(result.mean), "interval": interval, "n": result.n}


def _latency(episodes: Sequence[EpisodeFigures]) -> dict[str, Any] | None:
    values = np.array([value for e in episodes for value in e.latencies])
    if values.size == 0:
        return None
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    # The few slowest would squeeze all others into one bar: they share the last one.
    top = float(min(values.max(), 1.05 * p99))
    counts, edges = np.histogram(np.minimum(values, top), bins=_HISTOGRAM_BINS, range=(0.0, top))
    return {
        "n": int(values.size),
        "p50": _rounded(p50),
        "p95": _rounded(p95),
        "p99": _rounded(p99),
        "max": _rounded(values.max()),
        "histogram": {"edges": [_rounded(e) for e in edges], "counts": counts.tolist()},
    }


def _interventions(episodes: Sequence[EpisodeFigures], steps: int) -> dict[str, Any]:
    by_limit: Counter[str] = Counter()
    for episode in episodes:
        by_limit.update(episode.interventions)
    limited = sum(e.limited_steps for e in episodes)
    return {
        "steps": limited,
        "share_of_steps": _ratio(limited, steps),
        "by_limit": dict(by_limit.most_common()),
    }


def _row(episode: EpisodeFigures) -> dict[str, Any]:
    data = episode.metadata
    return {
        "episode": data.episode,
        "split": data.split,
        "index": data.index,
        "start": data.start,
        "outcome": data.outcome,
        "reason": data.reason,
        "steps": data.steps,
        "seconds": _rounded(episode.seconds),
        "reward": _rounded(episode.reward),
        "best_terms": {name: _rounded(value) for name, value in episode.best_terms.items()},
        "limited_steps": episode.limited_steps,
        "lost_periods": data.lost_periods,
        "bag": f"{episode.path.parent.name}/{episode.path.name}",
    }


def _ratio(part: float, whole: float) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    """Four significant digits after the point are more than any of the figures carries."""
    return round(float(value), 4)
