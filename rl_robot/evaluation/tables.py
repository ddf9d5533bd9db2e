"""The figures of `evaluate` as tables to read in a terminal, or in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rl_robot.evaluation.episodes import policy_name
from rl_robot.evaluation.training import GOOD

NONE = "–"


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with a note below."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def tables(figures: dict[str, Any], *, all_groups: bool = True) -> list[Table]:
    """The tables of what `evaluate` found.

    ``all_groups``: also every stage of sessions whose tests are compared.
    """
    runs, pooled = figures["runs"], figures["pooled"]
    several = pooled is not None
    total = pooled or runs[0]
    parts = [("all", pooled)] if several else []
    parts += [(run["run"], run) for run in runs]
    found = []
    if total["comparison"]:
        found.append(_contest(parts))
        if total["comparison"]["pairs"]:
            found.append(_pairs(parts))
    if any(run["learning"] for run in runs):
        found.append(_learning(runs))
    if all_groups or not total["comparison"]:
        found += [_groups(run) for run in runs]
    return found


def as_text(table: Table) -> str:
    """The table in aligned columns."""
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([table.title, *lines, *_note(table)])


def as_markdown(table: Table) -> str:
    """The table in Markdown."""
    rows = [table.head, ("---",) * len(table.head), *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    note = ["", *_note(table)] if table.note else []
    return "\n".join([f"**{table.title}**", "", *lines, *note])


def successes(tally: dict[str, Any]) -> tuple[str, str]:
    """ "57 of 100" and "57 % (47 to 66 %)"."""
    count = f"{tally['successes']} of {tally['episodes']}"
    if not tally["episodes"]:
        return count, NONE
    low, high = (f"{100 * bound:.0f}" for bound in tally["success_interval"])
    return count, f"{100 * tally['success_rate']:.0f} % ({low} to {high} %)"


def with_interval(value: dict[str, Any] | None, digits: int = 1, *, of: str = "mean") -> str:
    """ "22.1 (21.4 to 22.9)" of a mean, or of a ratio."""
    if value is None:
        return NONE
    text = f"{value[of]:.{digits}f}"
    if value["interval"] is None:
        return text
    low, high = (f"{bound:.{digits}f}" for bound in value["interval"])
    return f"{text} ({low} to {high})"


def _contest(parts: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    rows = [
        (
            rival["name"],
            *([run] if len(parts) > 1 else []),
            rival["split"],
            *successes(rival),
            with_interval(rival["steps_to_success"]),
            with_interval(rival["seconds_to_success"], 2),
            str(rival["lost_periods"]),
        )
        for run, rival in _by_name(parts, "contestants", ("name",))
    ]
    head = (
        *("policy", *(["run"] if len(parts) > 1 else []), "starts", "successes"),
        *("95 % interval", "steps to success", "seconds to success", "lost periods"),
    )
    note = "Intervals: Wilson's for successes, Student's t for means over all starts it solved."
    return Table("Policies", head, rows, note)


def _pairs(parts: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    rows = []
    method = ""
    for run, pair in _by_name(parts, "pairs", ("first", "second")):
        steps, seconds = pair["steps"], pair["seconds"]
        means = f"{steps['second']:.1f} for {steps['first']:.1f}" if steps else NONE
        rows.append(
            (
                f"{pair['second']} to {pair['first']}",
                *([run] if len(parts) > 1 else []),
                f"{pair['both']} of {pair['starts']}",
                f"{pair['only_second']} / {pair['only_first']}",
                means,
                with_interval(steps, 2, of="ratio"),
                with_interval(seconds, 2, of="ratio"),
            )
        )
    for _, part in parts:
        method = method or (part["comparison"] or {}).get("method", "")
    head = (
        *("policies", *(["run"] if len(parts) > 1 else []), "both solve", "only one does", "steps"),
        *("ratio of steps", "ratio of seconds"),
    )
    return Table("On the same starts", head, rows, f"{method[:1].upper()}{method[1:]}.")


def _by_name(
    parts: Sequence[tuple[str, dict[str, Any]]], kind: str, keys: tuple[str, ...]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Entries of all parts, those of one name together, with the name of their part."""
    found: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for run, part in parts:
        for entry in (part["comparison"] or {}).get(kind, ()):
            found.setdefault(tuple(entry[key] for key in keys), []).append((run, entry))
    return [entry for entries in found.values() for entry in entries]


def _learning(runs: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for run in runs:
        curve = run["learning"]
        if curve is None:
            continue
        best = max(curve["validation"], key=lambda p: p["success_rate"] or 0.0, default=None)
        good = curve["good"]
        rows.append(
            (
                run["run"],
                str(curve["episodes"]),
                str(curve["control_steps"]),
                f"{curve['minutes']:.1f}",
                successes(best)[0] if best else NONE,
                str(good["control_steps"]) if good else NONE,
                f"{good['minutes']:.1f}" if good else NONE,
            )
        )
    share = f"{100 * GOOD:.0f} %"
    head = (
        *("run", "exploration episodes", "control steps", "minutes, all in all"),
        *("best validation", f"steps to {share}", f"minutes to {share}"),
    )
    note = (
        f"Steps and minutes before the first validation with {share} successes or more; minutes "
        "of the session's wall time, demonstrations, tests and validations included."
    )
    return Table("Learning", head, rows, note)


def _groups(run: dict[str, Any]) -> Table:
    staged = any(group["stage"] for group in run["groups"])
    rows = [
        (
            *([group["stage"]] if staged else []),
            policy_name(group["policy"]),
            group["split"],
            *successes(group),
            with_interval(group["steps_to_success"]),
            with_interval(group["seconds_to_success"], 2),
            str(group["broken"]),
            str(group["lost_periods"]),
        )
        for group in run["groups"]
    ]
    head = (
        *(["stage"] if staged else []),
        *("policy", "starts", "successes", "95 % interval", "steps to success"),
        *("seconds to success", "broken", "lost periods"),
    )
    kinds = dict.fromkeys(f"{g['task']} on {g['robot']}" for g in run["groups"])
    notes = [*run["unreadable"]]
    if run["removed"]:
        notes.append(f"{run['removed']} bags removed to keep the quota, counted")
    if run["unfinished"]:
        notes.append(f"{run['unfinished']} bags never finished")
    return Table(f"Run {run['run']}: {', '.join(kinds)}", head, rows, "; ".join(notes))


def _note(table: Table) -> list[str]:
    return [table.note] if table.note else []
