"""Which policy is better: successes with their intervals, and times on starts that both solve.

Pure functions over outcomes. Numbers come back as tables of JSON values, rounded.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_robot.evaluation.episodes import AnyOutcome, Outcome
from rl_robot.evaluation.statistics import mean_interval, ratio_of_means, wilson

METHOD = (
    "ratio of mean times over the starts that both solve, 95 % interval by Student's t on the "
    "logarithm of the ratio, start by start"
)

_TEST = "test"
_ORDER = ("demonstrator", "imitation", "learned")
# A start of one run; of sessions that ran one policy each, the same start of all of them.
_Case = tuple[Path | None, str, int]


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, rounded; None when there is nothing to divide by."""
    return rounded(part / whole) if whole else None


def rounded(value: float) -> float:
    """Four digits after the point are more than any of the figures carries."""
    return round(float(value), 4)


def mean(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean, 95 % t interval (None for one value) and n of the values; None without values."""
    if not values:
        return None
    result = mean_interval(values)
    return {
        "mean": rounded(result.mean),
        "interval": _bounds(result.interval.low, result.interval.high),
        "n": result.n,
    }


def tally(episodes: Sequence[Outcome]) -> dict[str, Any]:
    """Successes with Wilson's interval, and steps and seconds to success, of one group."""
    counted = [e for e in episodes if e.counts]
    successes = [e for e in counted if e.succeeded]
    interval = wilson(len(successes), len(counted))
    data = episodes[0].metadata
    return {
        "robot": data.robot,
        "task": data.task,
        "stage": episodes[0].stage,
        "role": episodes[0].role,
        "policy": data.policy,
        "policy_versions": sorted({e.metadata.policy_version for e in episodes}),
        "split": data.split,
        "episodes": len(counted),
        "successes": len(successes),
        "broken": len(episodes) - len(counted),
        "success_rate": ratio(len(successes), len(counted)),
        "success_interval": [rounded(interval.low), rounded(interval.high)],
        "steps_to_success": mean([e.metadata.steps for e in successes]),
        "seconds_to_success": mean([e.seconds for e in successes]),
        "lost_periods": sum(e.metadata.lost_periods for e in episodes),
    }


def groups(episodes: Sequence[AnyOutcome]) -> list[list[AnyOutcome]]:
    """Episodes that may be counted together: one robot, task, stage, policy and split.

    Files of the same name, in one stage, are one policy: each session has its own.
    """
    found: dict[tuple[str, ...], list[AnyOutcome]] = {}
    for episode in episodes:
        data = episode.metadata
        policy = episode.policy if episode.stage else data.policy
        key = (data.robot, data.task, episode.stage, policy, data.split)
        found.setdefault(key, []).append(episode)
    return list(found.values())


def contestants(episodes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The policies to compare, by name: the stages that test one, else each policy there is."""
    tests = [e for e in episodes if e.role == _TEST and e.stage]
    found: dict[str, list[Outcome]] = {}
    for episode in tests or episodes:
        name = episode.stage.removeprefix(f"{_TEST} ") if tests else episode.policy
        found.setdefault(name, []).append(episode)
    names = sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return {name: found[name] for name in names}


def comparison(episodes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Each contestant's tally, and every two of them on the starts that both tried.

    The last, which matters most, comes first, against each of the others. None without a test and
    without two policies that tried the same starts.
    """
    rivals = contestants(episodes)
    kinds = {(e.metadata.robot, e.metadata.task) for members in rivals.values() for e in members}
    if len(kinds) != 1:
        return None
    names = list(rivals)
    pairs = [
        {"first": first, "second": names[place]} | compare(rivals[first], rivals[names[place]])
        for place in range(len(names) - 1, 0, -1)
        for first in names[:place]
    ]
    pairs = [pair for pair in pairs if pair["starts"]]
    if not pairs and not any(e.role == _TEST for e in episodes):
        return None
    return {
        "contestants": [{"name": name} | tally(members) for name, members in rivals.items()],
        "pairs": pairs,
        "method": METHOD,
    }


def compare(first: Sequence[Outcome], second: Sequence[Outcome]) -> dict[str, Any]:
    """Two policies on the starts that both tried.

    How many both solved, one alone, neither; and for steps and for seconds to success on those
    that both solved the two means and the ratio second to first with its interval (None while
    there are none; see `METHOD`). Several runs' tries of one start are one
    case of the interval, for they are no independent ones.
    """
    ours, theirs = _by_case(first), _by_case(second)
    cases = sorted(ours.keys() & theirs.keys(), key=str)
    solved = [(ours[case].succeeded, theirs[case].succeeded) for case in cases]
    both = [(ours[case], theirs[case]) for case in cases if _both_solve(ours[case], theirs[case])]
    return {
        "starts": len(cases),
        "both": solved.count((True, True)),
        "only_first": solved.count((True, False)),
        "only_second": solved.count((False, True)),
        "neither": solved.count((False, False)),
        "steps": _paired([(a.metadata, a.metadata.steps, b.metadata.steps) for a, b in both]),
        "seconds": _paired([(a.metadata, a.seconds, b.seconds) for a, b in both]),
    }


def _both_solve(first: Outcome, second: Outcome) -> bool:
    return first.succeeded and second.succeeded


def _by_case(episodes: Sequence[Outcome]) -> dict[_Case, Outcome]:
    """The counted episodes by start; of a start tried again, the last try."""
    return {
        (e.run if e.stage else None, e.metadata.split, e.metadata.index): e
        for e in episodes
        if e.counts
    }


def _paired(cases: Sequence[tuple[Any, float, float]]) -> dict[str, Any] | None:
    """Means and their ratio of cases (metadata, first, second)."""
    usable = [(data, a, b) for data, a, b in cases if a > 0 and b > 0]
    if not usable:
        return None
    starts: dict[tuple[str, int], tuple[float, float]] = {}
    for data, a, b in usable:
        key = (data.split, data.index)
        sums = starts.get(key, (0.0, 0.0))
        starts[key] = (sums[0] + a, sums[1] + b)
    by_start = [starts[key] for key in sorted(starts)]
    result = ratio_of_means([a for a, _ in by_start], [b for _, b in by_start])
    return {
        "first": rounded(sum(a for _, a, _ in usable) / len(usable)),
        "second": rounded(sum(b for _, _, b in usable) / len(usable)),
        "ratio": rounded(result.ratio),
        "interval": _bounds(result.interval.low, result.interval.high),
        "n": len(usable),
        "starts": len(starts),
    }


def _bounds(low: float, high: float) -> list[float] | None:
    return [rounded(low), rounded(high)] if math.isfinite(low) and math.isfinite(high) else None
