"""The figures of a replay as tables, and as a picture of what differs most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rl_robot.errors import UserError
from rl_robot.evaluation.figures import AMBER, BLUE, INK, LINE, MUTED
from rl_robot.evaluation.replayed import Comparison, Component
from rl_robot.evaluation.tables import NONE, Table

_SHOWN = 20  # components in the table
_DRAWN = 6  # and in the picture


def replay_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Return the tables of `Comparison.figures`: topics, what differs, latencies."""
    tables = [_topics(figures["topics"])]
    differing = _differing(figures["topics"])
    if differing:
        tables.append(differing)
    if figures["latency"]:
        tables.append(_latencies(figures["latency"]))
    return tables


def _topics(topics: Mapping[str, Any]) -> Table:
    rows = []
    for topic, one in topics.items():
        components = one["components"]
        worst = max(components, key=lambda name: components[name]["largest"], default=None)
        rows.append(
            (
                topic,
                *(str(one[key]) for key in ("recorded", "again", "matched")),
                *(str(one[key]) for key in ("only_recorded", "only_again", "other")),
                NONE if worst is None else f"{components[worst]['largest']:.3g}",
            )
        )
    head = ("topic", "recorded", "again", "matched", "only recorded", "only again", "other")
    return Table("Recorded and again", (*head, "largest difference"), rows)


def _differing(topics: Mapping[str, Any]) -> Table | None:
    found = [
        (one["largest"], topic, name, one)
        for topic, figures in topics.items()
        for name, one in figures["components"].items()
        if one["largest"] > 0.0
    ]
    if not found:
        return None
    found.sort(key=lambda entry: (-entry[0], *entry[1:3]))
    rows = [
        (topic, name, f"{largest:.3g}", f"{one['rms']:.3g}", f"{one['at_s']:.1f} s", one["bag"])
        for largest, topic, name, one in found[:_SHOWN]
    ]
    note = f"and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    head = ("topic", "component", "largest", "RMS", "at", "bag")
    return Table("What differs, in SI units and levels of pixels", head, rows, note)


def _latencies(latencies: Mapping[str, Any]) -> Table:
    keys = ("p50_ms", "p99_ms", "largest_ms")
    rows = [
        (node, str(one["answers"]), *(NONE if one[k] is None else f"{one[k]:.2f}" for k in keys))
        for node, one in latencies.items()
    ]
    head = ("node", "answers", "p50 ms", "p99 ms", "largest ms")
    return Table("Wall time from its input to its answer", head, rows)


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
