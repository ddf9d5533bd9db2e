"""What a run's bags say about it, as one table of JSON values: result.json and the report.

The figures come from the bags, so anyone can make them again from the data. Only what no bag can
know of a training session is taken from its other files: what resets and waiting took, and the
trainer's metrics.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_robot.evaluation.comparison import comparison, groups, mean, ratio, rounded, tally
from rl_robot.evaluation.episodes import EpisodeFigures, read_episode, read_run
from rl_robot.evaluation.training import (
    is_training,
    learning_curve,
    read_metrics,
    returns,
    stage_rows,
    training_figures,
)
from rl_robot.experience.runs import RunFolder

_HISTOGRAM_BINS = 30


def summarize(run: RunFolder) -> dict[str, Any]:
    """Figures of all finished bags of a run.

    Raises:
        UserError: the run holds no episode that can be read.
    """
    episodes, unreadable = read_run(run, read_episode)
    return summary_of(run, episodes, unreadable)


def summary_of(
    run: RunFolder, episodes: Sequence[EpisodeFigures], unreadable: Sequence[str] = ()
) -> dict[str, Any]:
    """The table of figures of these episodes."""
    session = run.read_session()
    counted = [e for e in episodes if e.counts]
    steps = sum(e.metadata.steps for e in episodes)
    seconds = sum(e.seconds for e in episodes)
    wall = sum(e.wall_seconds for e in episodes)
    return {
        "run": run.name,
        "groups": [_group(members) for members in groups(episodes)],
        "episodes": len(counted),
        "successes": sum(e.succeeded for e in counted),
        "broken": len(episodes) - len(counted),
        "unfinished": len(run.unfinished_episodes()),
        "removed": sum(e.removed for e in episodes),
        "unreadable": list(unreadable),
        "control_steps": steps,
        "lost_periods": sum(e.metadata.lost_periods for e in episodes),
        "seconds": rounded(seconds),
        "wall_seconds": rounded(wall),
        "control_steps_per_second": ratio(steps, wall),
        "real_time_factor": ratio(seconds, wall),
        "latency_ms": _latency(episodes),
        "interventions": _interventions(episodes, steps),
        "failures": [_row(e) for e in counted if not e.succeeded],
        "broken_episodes": [_row(e) for e in episodes if not e.counts],
        "episode_table": [_row(e) for e in episodes],
        "session": session,
        "training": _training(run, episodes, session),
    }


def _group(episodes: Sequence[EpisodeFigures]) -> dict[str, Any]:
    return tally(episodes) | {"reward": mean([e.reward for e in episodes if e.counts])}


def _training(
    run: RunFolder, episodes: Sequence[EpisodeFigures], session: dict[str, Any]
) -> dict[str, Any] | None:
    """What only a session with stages has."""
    if not is_training(episodes):
        return None
    return {
        "comparison": comparison(episodes),
        "curve": learning_curve(episodes),
        "returns": returns(episodes),
        "chosen": session.get("chosen", ""),
        "stages": stage_rows(episodes, session),
        "trainer": training_figures(read_metrics(run)),
    }


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
        "p50": rounded(p50),
        "p95": rounded(p95),
        "p99": rounded(p99),
        "max": rounded(values.max()),
        "histogram": {"edges": [rounded(e) for e in edges], "counts": counts.tolist()},
    }


def _interventions(episodes: Sequence[EpisodeFigures], steps: int) -> dict[str, Any]:
    by_limit: Counter[str] = Counter()
    for episode in episodes:
        by_limit.update(episode.interventions)
    limited = sum(e.limited_steps for e in episodes)
    return {
        "steps": limited,
        "share_of_steps": ratio(limited, steps),
        "by_limit": dict(by_limit.most_common()),
    }


def _row(episode: EpisodeFigures) -> dict[str, Any]:
    data = episode.metadata
    return {
        "episode": data.episode,
        "stage": episode.stage,
        "split": data.split,
        "index": data.index,
        "start": data.start,
        "outcome": data.outcome,
        "reason": data.reason,
        "steps": data.steps,
        "seconds": rounded(episode.seconds),
        "reward": rounded(episode.reward),
        "best_terms": {name: rounded(value) for name, value in episode.best_terms.items()},
        "limited_steps": episode.limited_steps,
        "lost_periods": data.lost_periods,
        "bag": f"{episode.path.parent.name}/{episode.path.name}",
    }
