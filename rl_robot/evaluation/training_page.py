"""The parts of a report that only training sessions have."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rl_robot.evaluation.episodes import policy_name
from rl_robot.evaluation.figures import (
    AMBER,
    BLUE,
    GREEN,
    MUTED,
    PALE,
    Level,
    Line,
    line_chart,
    proportion_bar,
    round_ticks,
)
from rl_robot.evaluation.tables import successes, with_interval
from rl_robot.evaluation.training import GOOD, SMOOTHED_OVER

COLOURS = {"demonstrator": MUTED, "imitation": AMBER, "learned": BLUE}

_STEPS = "control steps of exploration"
_PERCENT = "\N{NO-BREAK SPACE}%"
_MARKS = 5  # minutes named below a learning curve


def title(summary: Mapping[str, Any]) -> str:
    first = summary["groups"][0]
    return f"Learning {first['task']} on robot {first['robot']}"


def contest(training: Mapping[str, Any]) -> str:
    """The tested policies side by side, and what that says; or how far the session came."""
    found = training["comparison"]
    if found is None:
        last = training["stages"][-1]
        return (
            "<section><p>No policy has been tested yet. The session came to "
            f"<b>{escape(last['stage'])}</b>: {last['episodes']} episodes.</p></section>"
        )
    columns = "".join(_contestant(rival, training["chosen"]) for rival in found["contestants"])
    verdicts = "".join(_verdict(pair) for pair in found["pairs"])
    verdict = f"<div class='verdict'>{verdicts}</div>" if verdicts else ""
    return (
        f"<section><div class='contest'>{columns}</div>{verdict}"
        "<p class='note after'>Tested without exploration on the same held-out starts. Intervals: "
        f"95 %, Wilson's for successes; {escape(found['method'])}.</p></section>"
    )


def _contestant(rival: Mapping[str, Any], chosen: str) -> str:
    name, n = rival["name"], rival["episodes"]
    _, share = _successes(rival)
    policy = policy_name(rival["policy"])
    if name == "learned" and chosen:
        policy += f" ({chosen}, best in validation)"
    low, high = rival["success_interval"]
    bar = proportion_bar(
        rival["success_rate"] or 0.0,
        (low, high),
        label=f"{name}: {rival['successes']} of {n} succeeded, 95 % interval {share}",
        colour=_colour(name),
        width=300,
    )
    broken = f", {rival['broken']} broken, not counted" if rival["broken"] else ""
    return (
        f"<div><p class='name'>{_dot(_colour(name))}{escape(name)}</p>"
        f"<p class='big'>{rival['successes']}<span> of {n}</span></p>{bar}"
        f"<p class='note'>{share}{broken}</p>"
        f"<p><b>{with_interval(rival['steps_to_success'])}</b> steps to success</p>"
        f"<p class='note'>policy {escape(policy)}, {escape(rival['split'])} starts</p></div>"
    )


def _verdict(pair: Mapping[str, Any]) -> str:
    first, second = escape(pair["first"]), escape(pair["second"])
    alone = f"{pair['only_second']} only {second} solved, {pair['only_first']} only {first}"
    steps = pair["steps"]
    if steps is None:
        return f"<p><b>{second}</b> and <b>{first}</b> solved no start both; {alone}.</p>"
    spread = ""
    if steps["interval"]:
        low, high = (f"{100 * bound:.0f}" for bound in steps["interval"])
        spread = f" ({low} to {high}{_PERCENT})"
    share = f"<b>{100 * steps['ratio']:.0f}{_PERCENT}</b>{spread}"
    return (
        f"<p><b>{second}</b> takes {share} of the time of "
        f"<b>{first}</b>: {steps['second']:.1f} control steps for {steps['first']:.1f}, on the "
        f"{pair['both']} of {pair['starts']} starts that both solve. <span class='note'>"
        f"{alone}.</span></p>"
    )


def learning_curves(training: Mapping[str, Any]) -> str:
    """Successes and steps to success over exploration, beside what was tested."""
    curve = training["curve"]
    if curve is None:
        return ""
    points = curve["validation"]
    # Before that, a rate over so few episodes only jumps about.
    explored = curve["exploration"][SMOOTHED_OVER // 2 - 1 :]
    if not points and len(explored) < 2:
        return ""
    reached = [p for p in points if p["steps_to_success"]]
    rivals = (training["comparison"] or {}).get("contestants", ())
    others = [rival for rival in rivals if rival["name"] != "learned" and rival["episodes"]]
    smoothed = [(p["control_steps"], p["success_rate"]) for p in explored]
    validated = Line(
        [(p["control_steps"], p["success_rate"]) for p in points],
        band=[tuple(p["success_interval"]) for p in points],
        notes=[_note(p) for p in points],
    )
    rate = line_chart(
        [Line(smoothed, colour=PALE, width=1.6), *([validated] if points else [])],
        label="successes over control steps of exploration",
        x_unit=f"{_STEPS}; minutes of the session below",
        y_form="{:.0%}".format,
        y_range=(0.0, 1.0),
        levels=[Level(r["name"], r["success_rate"], _colour(r["name"])) for r in others],
        second_axis=_minutes(curve),
    )
    charts = f"<div><h3>Successes</h3>{rate}</div>"
    if reached:
        means = [p["steps_to_success"] for p in reached]
        quick = Line(
            [(p["control_steps"], m["mean"]) for p, m in zip(reached, means, strict=True)],
            band=[tuple(m["interval"] or (m["mean"], m["mean"])) for m in means],
            notes=[_note(p) for p in reached],
        )
        chart = line_chart(
            [quick],
            label="steps to success over control steps of exploration",
            x_unit=_STEPS,
            levels=[
                Level(r["name"], r["steps_to_success"]["mean"], _colour(r["name"]))
                for r in others
                if r["steps_to_success"]
            ],
        )
        charts += f"<div><h3>Steps to success</h3>{chart}</div>"
    return (
        f"<section><h2>Learning</h2><p class='note'>{_dot(BLUE)}validation, without exploration, "
        f"with 95 % intervals &ensp; {_dot(PALE)}exploration, last {SMOOTHED_OVER} episodes &ensp; "
        f"dashed: the others' tests</p><div class='charts'>{charts}</div>{_good(curve)}</section>"
    )


def _good(curve: Mapping[str, Any]) -> str:
    good = curve["good"]
    if good is None:
        return ""
    count, share = _successes(good)
    return (
        f"<p class='after'>First validation with {100 * GOOD:.0f} % or more: "
        f"<b>{escape(good['stage'])}</b>, after <b>{good['control_steps']}</b> control steps of "
        f"exploration and <b>{good['minutes']:.1f} minutes</b>: {count}, {share}.</p>"
    )


def _note(point: Mapping[str, Any]) -> str:
    count, share = _successes(point)
    return (
        f"{point['stage']}: {count}, {share}; {with_interval(point['steps_to_success'])} steps to "
        f"success; after {point['control_steps']} control steps, {point['minutes']:.1f} min"
    )


def _minutes(curve: Mapping[str, Any]) -> dict[str, float]:
    """Round minutes of the session, and where they lie on the axis of control steps."""
    points = sorted(
        (p["minutes"], p["control_steps"]) for p in [*curve["validation"], *curve["exploration"]]
    )
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return {}
    minutes, steps = zip(*points, strict=True)
    return {
        f"{mark:g} min": float(np.interp(mark, minutes, steps))
        for mark in round_ticks(minutes[0], minutes[-1], _MARKS)
    }


def cards(training: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Key figures: value, name, note."""
    found = []
    curve, trainer = training["curve"], training["trainer"]
    if curve:
        found.append(
            (
                str(curve["control_steps"]),
                "control steps of exploration",
                f"{curve['episodes']} episodes",
            )
        )
        note = f"{len(training['stages'])} stages"
        found.append((f"{curve['minutes']:.1f} min", "for the whole session", note))
    exploring = [row for row in training["stages"] if row["role"] == "exploration"]
    steps = sum(row["control_steps"] or 0 for row in exploring)
    wall = sum(row["wall_seconds"] for row in exploring if row["control_steps"])
    if steps and wall:
        name = "control steps while training"
        found.append((f"{steps / wall:.0f} /s", name, "resets included"))
    for learner in trainer["learners"] if trainer else ():
        rate = learner["updates_per_second"]
        note = f"{rate:.0f} /s" if rate else ""
        found.append((str(learner["updates"]), f"updates of {learner['learner']}", note))
    return found


def trainer(training: Mapping[str, Any]) -> str:
    """How fast the trainer was, what return came of it, and all of its metrics."""
    charts = ""
    settled = training["returns"][SMOOTHED_OVER // 2 - 1 :]
    if len(settled) > 1:
        points = [(p["control_steps"], p["reward"]) for p in settled]
        chart = line_chart([Line(points)], label="return over control steps", x_unit=_STEPS)
        charts += f"<div><h3>Return, last {SMOOTHED_OVER} exploration episodes</h3>{chart}</div>"
    found = training["trainer"]
    sparks = ""
    if found:
        shown = [learner for learner in found["learners"] if learner["rates"]]
        colours = (AMBER, BLUE, GREEN)
        lines = [
            Line([(p["minutes"], p["value"]) for p in learner["rates"]], colours[i % 3], width=1.6)
            for i, learner in enumerate(shown)
        ]
        if lines:
            chart = line_chart(lines, label="updates per second", x_unit="minutes of training")
            names = " &ensp; ".join(
                f"{_dot(colours[i % 3])}{escape(learner['learner'])}"
                for i, learner in enumerate(shown)
            )
            charts += f"<div><h3>Updates per second &ensp; {names}</h3>{chart}</div>"
        sparks = "".join(_sparks(learner) for learner in found["learners"])
    if not charts and not sparks:
        return ""
    return f"<section><h2>Training</h2><div class='charts'>{charts}</div>{sparks}</section>"


def _sparks(learner: Mapping[str, Any]) -> str:
    figures = "".join(
        f"<div><h3>{escape(name.replace('_', ' '))}: {points[-1]['value']:.4g}</h3>"
        + line_chart(
            [Line([(p["updates"], p["value"]) for p in points], width=1.4)],
            label=f"{name} over updates",
            x_unit="updates",
            width=260,
            height=130,
            y_form="{:.3g}".format,
        )
        + "</div>"
        for name, points in learner["metrics"].items()
    )
    if not figures:
        return ""
    return (
        f"<details><summary>All metrics of {escape(learner['learner'])}</summary>"
        f"<div class='charts sparks'>{figures}</div></details>"
    )


def stage_table(training: Mapping[str, Any]) -> str:
    """What each stage ran and how long it took."""
    head = (
        "stage",
        "policy",
        "starts",
        "successes",
        "steps",
        "with resets",
        "time",
        "waited",
        "lost",
    )
    rows = [
        (
            row["stage"],
            policy_name(row["policy"]) + _versions(row["policy_versions"]),
            row["split"],
            f"{row['successes']} of {row['episodes']}"
            + (f", {row['broken']} broken" if row["broken"] else ""),
            row["steps"],
            _pace(row),
            f"{row['wall_seconds'] / 60:.1f} min",
            f"{row['waited_seconds'] / 60:.1f} min" if row["waited_seconds"] else "",
            row["lost_periods"],
        )
        for row in training["stages"]
    ]
    return (
        "<section><h2>Stages</h2><div class='wide'><table><thead><tr>"
        + "".join(f"<th>{name}</th>" for name in head)
        + "</tr></thead>"
        + "".join(_row(row) for row in rows)
        + "</table></div></section>"
    )


def _row(cells: Iterable[Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _versions(versions: Sequence[str]) -> str:
    numbers = sorted({int(v) for v in versions if v.isdigit()} - {0})
    if not numbers:
        return ""
    return f" v{numbers[0]}" + (f" to v{numbers[-1]}" if len(numbers) > 1 else "")


def _pace(row: Mapping[str, Any]) -> str:
    if not row["control_steps"]:
        return ""
    return f"{row['control_steps']}, {row['control_steps_per_second']:.0f} /s"


def _successes(tally: Mapping[str, Any]) -> tuple[str, str]:
    count, share = successes(dict(tally))
    return count, share.replace(" %", _PERCENT)


def _colour(name: str) -> str:
    return COLOURS.get(name, GREEN)


def _dot(colour: str) -> str:
    return f'<i class="dot" style="background:{colour}"></i>'
