"""A picture of what differs most between what was recorded and what was said again."""

from pathlib import Path

from matplotlib.figure import Figure

from rl_robot.errors import UserError
from rl_robot.evaluation.figures import AMBER, BLUE, INK, LINE, MUTED
from rl_robot.evaluation.replayed import Comparison, Component

_DRAWN = 6  # components


def save_replay_plot(comparison: Comparison, path: Path) -> None:
    """Draw, recorded and again over time, the components that differ most for their range.

    Raises:
        UserError: there is nothing to draw, or the file can't be written.
    """
    drawn = _most_different(comparison)
    if not drawn:
        raise UserError(f"plot {path}: no number was both recorded and said again")
    figure = Figure(figsize=(9.5, 1.9 * len(drawn) + 0.4), layout="constrained")
    panels = figure.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, component) in zip(panels, drawn, strict=True):
        seconds, recorded, again = component.series
        axes.plot(seconds, recorded, color=BLUE, linewidth=2.2, label="recorded")
        axes.plot(seconds, again, color=AMBER, linewidth=1.0, label="again")
        title = f"{name}: largest difference {component.largest:.3g}, RMS {component.rms:.3g}"
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.grid(color=LINE, linewidth=0.6)
        axes.tick_params(labelsize=8, colors=MUTED)
    panels[0].legend(loc="upper right", fontsize=8, frameon=False)
    bags = len(comparison.bags)
    over = "s from the bag's start" if bags == 1 else f"s over {bags} bags, one after the other"
    panels[-1].set_xlabel(over, fontsize=9, color=MUTED)
    try:
        figure.savefig(path, dpi=160)
    except (OSError, ValueError) as error:
        raise UserError(f"plot {path}: can't be written ({error})") from None


def _most_different(comparison: Comparison) -> list[tuple[str, Component]]:
    found = [
        (f"{topic} {name}", component)
        for topic, tally in comparison.topics.items()
        for name, component in tally.components.items()
        if component.series[0]
    ]
    found.sort(key=lambda entry: (-_relative(entry[1]), entry[0]))
    return found[:_DRAWN]


def _relative(component: Component) -> float:
    """The largest difference for the range of what was recorded."""
    recorded = component.series[1]
    spread = max(recorded) - min(recorded)
    return component.largest / spread if spread else component.largest
