"""How a training session went: its stages, its learning curve, its trainer's metrics.

Numbers come back as tables of JSON values, rounded.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rl_robot.evaluation.comparison import ratio, rounded, tally
from rl_robot.evaluation.episodes import AnyOutcome, EpisodeFigures, Outcome
from rl_robot.experience.runs import RunFolder

SMOOTHED_OVER = 20  # exploration episodes
GOOD = 0.9  # success rate whose first validation is named

_PAUSE = 300.0  # s without an episode after which the session had been stopped, and taken up again
_POINTS = 200  # of a metric that are kept
_COUNTED = ("wall_seconds", "waited_seconds", "control_steps")  # of a stage, by the session
_COUNTERS = ("wall", "updates", "transitions", "learner")


def is_training(episodes: Iterable[Outcome]) -> bool:
    """Whether the session had stages."""
    return any(e.stage for e in episodes)


def stages(episodes: Sequence[AnyOutcome]) -> dict[str, list[AnyOutcome]]:
    """Episodes by stage, in the order in which the stages began."""
    found: dict[str, list[AnyOutcome]] = {}
    for episode in episodes:
        found.setdefault(episode.stage, []).append(episode)
    return found


def elapsed_minutes(episodes: Sequence[Outcome]) -> list[float]:
    """Minutes of the session's wall time before each episode's first tick.

    Everything counts, tests too; only a pause in which the session was stopped does not.
    """
    minutes, elapsed = [], 0.0
    began = [e.began_ns for e in episodes]
    last = next((ns for ns in began if ns is not None), 0)
    for now in began:
        if now is not None:
            gap = (now - last) * 1e-9
            elapsed += gap if 0 < gap < _PAUSE else 0.0
            last = now
        minutes.append(elapsed / 60)
    return minutes


def learning_curve(episodes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Validations and exploration over exploration control steps and minutes of the session.

    ``validation``: a point per stage, where its first episode began. ``exploration``: a point per
    counted episode, where it ended, with the success rate of the last `SMOOTHED_OVER`. None without
    exploration, which demonstrations are not.
    """
    minutes = elapsed_minutes(episodes)
    validations: dict[str, dict[str, Any]] = {}
    exploration: list[dict[str, Any]] = []
    recent: list[bool] = []
    by_stage = stages(episodes)
    steps = explored = 0
    for episode, minute in zip(episodes, minutes, strict=True):
        at = {"control_steps": steps, "minutes": rounded(minute)}
        if episode.role == "exploration":
            steps += episode.metadata.steps
            explored += 1
            if episode.counts:
                recent = [*recent, episode.succeeded][-SMOOTHED_OVER:]
                at |= {"control_steps": steps, "success_rate": rounded(sum(recent) / len(recent))}
                exploration.append(at | {"episode": episode.metadata.episode})
        elif episode.role == "validation" and episode.stage not in validations:
            validations[episode.stage] = at | tally(by_stage[episode.stage])
    if not explored:
        return None
    points = list(validations.values())
    return {
        "control_steps": steps,
        "episodes": explored,
        "minutes": rounded(minutes[-1]),
        "validation": points,
        "exploration": exploration,
        "good": next((p for p in points if (p["success_rate"] or 0.0) >= GOOD), None),
    }


def returns(episodes: Sequence[EpisodeFigures]) -> list[dict[str, Any]]:
    """Mean return of the last `SMOOTHED_OVER` exploration episodes, at each one's end."""
    steps = 0
    recent: list[float] = []
    points = []
    for episode in episodes:
        if episode.role == "exploration":
            steps += episode.metadata.steps
            if episode.counts:
                recent = [*recent, episode.reward][-SMOOTHED_OVER:]
                points.append(
                    {"control_steps": steps, "reward": rounded(sum(recent) / len(recent))}
                )
    return points


def stage_rows(
    episodes: Sequence[EpisodeFigures], session: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What each stage took.

    Wall seconds, those waited for the trainer before, and control steps with resets as the session
    counted them. Of a stage that it did not count, wall seconds from the bags' publish times.
    """
    counted = _counted_by_session(session)
    rows = []
    for name, members in stages(episodes).items():
        own: Mapping[str, Any] = counted.get(name, {})
        wall = own.get("wall_seconds") or _wall_seconds(members)
        row = tally(members)
        steps = round(own.get("control_steps", 0.0)) or None
        rows.append(
            {key: row[key] for key in ("stage", "role", "policy", "policy_versions", "split")}
            | {key: row[key] for key in ("episodes", "successes", "broken", "success_interval")}
            | {
                "steps": sum(e.metadata.steps for e in members),
                "control_steps": steps,
                "wall_seconds": rounded(wall),
                "waited_seconds": rounded(own.get("waited_seconds", 0.0)),
                "control_steps_per_second": ratio(steps, wall) if steps else None,
                "lost_periods": row["lost_periods"],
            }
        )
    return rows


def read_metrics(run: RunFolder) -> list[dict[str, Any]]:
    """The trainer's metrics, one table a line; empty without a trainer.

    A line cut short is left out, and so are updates that were lost and done again when the trainer
    went on from a checkpoint.
    """
    lines: list[dict[str, Any]] = []
    for text in _lines(run.path / "trainer" / "metrics.jsonl"):
        line = _parsed(text)
        if line is None:
            continue
        while (
            lines
            and lines[-1]["learner"] == line["learner"]
            and lines[-1]["updates"] >= line["updates"]
        ):
            lines.pop()
        lines.append(line)
    return lines


def training_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Updates, their rate over time, and each metric over the updates, by learner."""
    if not lines:
        return None
    learners: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        learners.setdefault(line["learner"], []).append(line)
    return {
        "wall_seconds": rounded(lines[-1]["wall"] - lines[0]["wall"]),
        "learners": [_learner(name, members) for name, members in learners.items()],
    }


def _learner(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rates = [
        {
            "minutes": rounded(after["wall"] / 60),
            "value": rounded((after["updates"] - before["updates"]) / seconds),
        }
        for before, after in pairwise(lines)
        if (seconds := after["wall"] - before["wall"]) > 0
    ]
    busy = [rate["value"] for rate in rates if rate["value"] > 0]
    names = dict.fromkeys(key for line in lines for key in line if key not in _COUNTERS)
    return {
        "learner": name,
        "updates": lines[-1]["updates"],
        "transitions": lines[-1].get("transitions"),
        "updates_per_second": rounded(median(busy)) if busy else None,
        "rates": _thinned(rates),
        "metrics": {
            metric: points for metric in names if (points := _thinned(_series(metric, lines)))
        },
    }


def _series(metric: str, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    return [
        {"updates": line["updates"], "value": float(f"{line[metric]:.6g}")}
        for line in lines
        if _is_number(line.get(metric))
    ]


def _thinned(points: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most `_POINTS` of them: means of as many neighbours as that takes."""
    size = -(-len(points) // _POINTS) or 1
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [{key: sum(p[key] for p in block) / len(block) for key in block[0]} for block in blocks]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not isinstance(line.setdefault("learner", ""), str):
        return None
    return line if _is_number(line.get("wall")) and _is_number(line.get("updates")) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _counted_by_session(session: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Wall seconds and control steps of each stage; a stage in several rows was interrupted."""
    found: dict[str, dict[str, float]] = {}
    for row in session.get("stages") or ():
        sums = found.setdefault(str(row.get("name", "")), dict.fromkeys(_COUNTED, 0.0))
        for key in sums:
            sums[key] += row.get(key) or 0
    return found


def _wall_seconds(members: Sequence[EpisodeFigures]) -> float:
    """From the first tick to the last of these episodes, resets between them included."""
    return 60 * elapsed_minutes(members)[-1] + members[-1].wall_seconds
