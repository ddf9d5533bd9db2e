"""Learning curves of one or more sessions as a picture file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_robot.errors import UserError
from rl_robot.evaluation.figures import AMBER, BLUE, GREEN, INK, LINE, MUTED

_RUN_COLOURS = (BLUE, AMBER, GREEN, "#8a5fb0", "#b0545f", "#4a9aa8")
_LEVELS = {"demonstrator": "-.", "imitation": ":"}


def save_learning_curves(figures: dict[str, Any], path: Path) -> None:
    """Draw validation successes, and steps to success, over exploration control steps.

    Raises:
        UserError: none of the runs of `evaluate` was validated, or the file can't be written.
    """
    runs = [run for run in figures["runs"] if run["learning"] and run["learning"]["validation"]]
    if not runs:
        raise UserError("--plot: none of these runs has a validation, as training sessions have")
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    rate, steps = figure.subplots(1, 2)
    for index, run in enumerate(runs):
        colour = _RUN_COLOURS[index % len(_RUN_COLOURS)]
        points = run["learning"]["validation"]
        _draw(rate, points, colour, run["run"], "success_rate", "success_interval")
        reached = [_flat(point) for point in points if point["steps_to_success"]]
        _draw(steps, reached, colour, run["run"], "steps", "interval")
    levels = (figures["pooled"] or figures["runs"][0])["comparison"]
    for rival in levels["contestants"] if levels else ():
        if rival["name"] in _LEVELS and rival["success_rate"] is not None:
            _level(rate, rival["name"], rival["success_rate"])
            if rival["steps_to_success"]:
                _level(steps, rival["name"], rival["steps_to_success"]["mean"])
    rate.set_ylim(-0.02, 1.02)
    rate.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _style(rate, "validation successes")
    _style(steps, "control steps to success")
    steps.set_ylim(bottom=0)
    # To the right of the demonstrator's level there is room below.
    rate.legend(loc="lower right", fontsize=8, frameon=False)
    try:
        figure.savefig(path, dpi=160)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: can't be written ({error})") from None


def _flat(point: dict[str, Any]) -> dict[str, Any]:
    steps = point["steps_to_success"]
    interval = steps["interval"] or [steps["mean"]] * 2
    return {"control_steps": point["control_steps"], "steps": steps["mean"], "interval": interval}


def _draw(
    axes: Axes, points: Sequence[dict[str, Any]], colour: str, name: str, key: str, bounds: str
) -> None:
    points = [point for point in points if point[key] is not None]
    x = [point["control_steps"] for point in points]
    axes.plot(x, [point[key] for point in points], color=colour, marker="o", ms=4, label=name)
    low, high = ([point[bounds][i] for point in points] for i in (0, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _level(axes: Axes, name: str, value: float) -> None:
    axes.axhline(value, color=MUTED, linestyle=_LEVELS[name], linewidth=1, label=f"{name}, test")


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("control steps of exploration", fontsize=9, color=MUTED)
    axes.set_xlim(left=0)
    axes.grid(color=LINE, linewidth=0.6)
    axes.tick_params(labelsize=8, colors=MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
