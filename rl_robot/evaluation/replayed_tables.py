"""The figures of a replay as tables."""

from collections.abc import Mapping
from typing import Any

from rl_robot.evaluation.tables import NONE, Table

_SHOWN = 20  # components in the table


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
