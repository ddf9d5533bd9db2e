"""Runs in figures: each by itself, and several (sessions with other seeds) together."""

from collections.abc import Sequence
from typing import Any

from rl_robot.evaluation.comparison import comparison, groups, tally
from rl_robot.evaluation.episodes import Outcome, read_outcome, read_run
from rl_robot.evaluation.training import learning_curve
from rl_robot.experience.runs import RunFolder


def evaluate(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Figures of each run, and of all of them pooled when there are several.

    Pooled successes are sums over runs, with the interval of as many independent episodes. The
    runs' own rows show how much they differ.

    Raises:
        UserError: a run holds no episode that can be read.
    """
    outcomes: list[Outcome] = []
    single = []
    for run in runs:
        episodes, unreadable = read_run(run, read_outcome)
        outcomes += episodes
        single.append(
            {
                "run": run.name,
                **_figures(episodes),
                "learning": learning_curve(episodes),
                "unfinished": len(run.unfinished_episodes()),
                "removed": sum(episode.removed for episode in episodes),
                "unreadable": unreadable,
            }
        )
    pooled = _figures(outcomes) if len(single) > 1 else None
    return {"runs": single, "pooled": pooled}


def _figures(episodes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "groups": [tally(members) for members in groups(episodes)],
        "comparison": comparison(episodes),
    }
