"""The page about a run: report.html, which needs no other file, and result.json."""

from collections.abc import Iterable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from rl_robot.evaluation import training_page
from rl_robot.evaluation.episodes import read_episode, read_run
from rl_robot.evaluation.figures import bars, histogram, proportion_bar
from rl_robot.evaluation.film import OUTCOME_WORDS, film_strip, race
from rl_robot.evaluation.page import page
from rl_robot.evaluation.summary import summary_of
from rl_robot.experience.runs import RunFolder, write_atomically, write_json


def write_report(run: RunFolder | str | Path, root: str | Path = "runs") -> Path:
    """Write report.html and result.json of a run, each in one step; returns the page's path.

    Raises:
        UserError: no such run, or none of its episodes can be read.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run, root)
    episodes, unreadable = read_run(folder, read_episode)
    summary = summary_of(folder, episodes, unreadable)
    write_json(folder.result, summary)
    film = race(episodes, training_page.COLOURS) or film_strip(episodes)
    write_atomically(folder.report, render(summary, film))
    return folder.report


def render(summary: dict[str, Any], film: str) -> str:
    """The page of a summary."""
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    training = summary["training"]
    title = training_page.title(summary) if training else _title(summary)
    parts = [
        f"<header><p class='note'>run <b>{escape(summary['run'])}</b>, {written}</p>"
        f"<h1>{escape(title)}</h1></header>",
        *(_learnt(training, summary, film) if training else _collected(summary, film)),
        f"<div class='pair'>{_latency(summary['latency_ms'])}{_safety(summary)}</div>",
        _failures(summary),
        _all_episodes(summary),
        _session(summary["session"]),
    ]
    return page(f"{summary['run']}: {title}", "\n".join(parts))


def _title(summary: dict[str, Any]) -> str:
    groups = summary["groups"]
    if len(groups) > 1:
        return str(summary["run"])
    return f"Task {groups[0]['task']}, robot {groups[0]['robot']}"


def _collected(summary: dict[str, Any], film: str) -> list[str]:
    headlines = [_success(group) for group in summary["groups"]]
    return [*headlines, _key_figures(_group_cards(summary) + _cards(summary)), film]


def _learnt(training: dict[str, Any], summary: dict[str, Any], film: str) -> list[str]:
    return [
        training_page.contest(training),
        training_page.learning_curves(training),
        _key_figures(training_page.cards(training) + _cards(summary)),
        film,
        training_page.trainer(training),
        training_page.stage_table(training),
    ]


def _success(group: dict[str, Any]) -> str:
    n, successes = group["episodes"], group["successes"]
    what = f"policy <b>{escape(group['policy'])}</b>, {escape(group['split'])} starts"
    broken = f" {group['broken']} broken, not counted." if group["broken"] else ""
    if n == 0:
        return f"<section class='headline'><p>{what}: no episode to count.{broken}</p></section>"
    low, high = group["success_interval"]
    figure = proportion_bar(
        group["success_rate"],
        (low, high),
        label=f"{successes} of {n} succeeded, 95 % interval {low:.0%} to {high:.0%}",
    )
    return (
        "<section class='headline'><div>"
        f"<p class='big'>{successes}<span> of {n}</span></p>"
        f"<p>{what}: <b>{group['success_rate']:.0%}</b> succeeded.{broken}</p>"
        f"</div><div>{figure}"
        f"<p class='note'>95 % interval {low:.0%} to {high:.0%} (Wilson, n = {n})</p>"
        "</div></section>"
    )


def _group_cards(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Key figures (value, name, note) of a run of one policy."""
    group = summary["groups"][0]
    if len(summary["groups"]) > 1 or not group["steps_to_success"]:
        return []
    cards = []
    for key, name, form in (
        ("steps_to_success", "steps to success", "{:.1f}"),
        ("seconds_to_success", "time to success", "{:.2f} s"),
    ):
        value = group[key]
        spread = " to ".join(map(form.format, value["interval"] or ()))
        note = f"{spread} (n = {value['n']})".lstrip()
        cards.append((form.format(value["mean"]), f"mean {name}", note))
    return cards


def _cards(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Key figures (value, name, note) of any run."""
    cards = []
    steps = summary["control_steps"]
    rate = summary["control_steps_per_second"]
    if rate:
        pace = f"{summary['real_time_factor']:.1f} x real time"
        cards.append((f"{rate:.0f} /s", "control steps, resets apart", pace))
    latency = summary["latency_ms"]
    if latency:
        note = f"p99 {latency['p99']:.1f} ms (n = {latency['n']})"
        cards.append((f"{latency['p50']:.1f} ms", "median capture to command", note))
    cards.append((str(summary["lost_periods"]), "control periods lost", f"of {steps}"))
    limited = summary["interventions"]["steps"]
    cards.append((str(limited), "steps limited by safety", f"of {steps}"))
    return cards


def _key_figures(cards: Iterable[tuple[str, str, str]]) -> str:
    return (
        "<section class='cards'>"
        + "".join(
            f"<div><p class='value'>{escape(value)}</p><p>{escape(name)}</p>"
            f"<p class='note'>{escape(note).replace(' = ', '&nbsp;=&nbsp;')}</p></div>"
            for value, name, note in cards
        )
        + "</section>"
    )


def _latency(latency: dict[str, Any] | None) -> str:
    if latency is None:
        return ""
    figure = histogram(
        latency["histogram"]["edges"],
        latency["histogram"]["counts"],
        marks={name: latency[name] for name in ("p50", "p95", "p99")},
        unit="ms",
        label=f"latency histogram, median {latency['p50']:.1f} ms",
    )
    return (
        "<section><h2>From the camera to the command</h2>"
        "<p class='note'>Wall time from the capture (in simulation: from the first message that "
        "carried its stamp) to the publication of the command that was executed. "
        f"{latency['n']} commands, slowest {latency['max']:.1f} ms"
        f"{_overflow(latency)}.</p>{figure}</section>"
    )


def _overflow(latency: dict[str, Any]) -> str:
    beyond = latency["max"] > latency["histogram"]["edges"][-1]
    return "; the last bar holds all that took longer" if beyond else ""


def _safety(summary: dict[str, Any]) -> str:
    interventions, steps = summary["interventions"], summary["control_steps"]
    by_limit = interventions["by_limit"]
    if not by_limit:
        body = f"<p>None in {steps} control steps.</p>"
    else:
        names = {key: key.replace("/", ": ").replace("_", " ") for key in by_limit}
        notes = {names[key]: f"{count} ({_share(count, steps)})" for key, count in by_limit.items()}
        body = (
            f"<p class='note'>Control steps in which the safety filter changed a command: "
            f"{interventions['steps']} of {steps}. By limit and joint:</p>"
            + bars(
                {names[key]: float(count) for key, count in by_limit.items()},
                notes=notes,
                label="control steps limited by safety, by limit and joint",
            )
        )
    return f"<section><h2>Safety interventions</h2>{body}</section>"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _failures(summary: dict[str, Any]) -> str:
    parts = []
    if summary["failures"]:
        parts.append(
            "<h2>Failures</h2><p class='note'>How far each came shows in the highest value that "
            "each term of its reward reached.</p>"
        )
        parts += _failures_by_stage(summary["failures"])
    if summary["broken_episodes"]:
        parts.append(
            "<h2>Broken episodes</h2><p class='note'>Something other than the policy ended them, "
            f"so they count neither way.</p>{_table(summary['broken_episodes'])}"
        )
    damage = [escape(text) for text in summary["unreadable"]]
    if summary["unfinished"]:
        damage.append(f"{summary['unfinished']} never finished (folders ending in .part)")
    if damage:
        items = "".join(f"<li>{text}</li>" for text in damage)
        parts.append(f"<h2>Bags that could not be read</h2><ul>{items}</ul>")
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _failures_by_stage(failures: list[dict[str, Any]]) -> list[str]:
    """Those of the tests first, each test's by itself; a training session has many others."""
    parts = []
    others = [row for row in failures if not _is_test(row)]
    stages = list(dict.fromkeys(row["stage"] for row in failures if _is_test(row)))
    for stage in stages:
        rows = [row for row in failures if row["stage"] == stage]
        last = stage == stages[-1]
        parts.append(_folded(f"{stage}: {len(rows)}", _table(rows, terms=True), unfolded=last))
    if parts and others:
        parts.append(_folded(f"all other stages: {len(others)}", _table(others, terms=True)))
    elif others:
        parts.append(_table(others, terms=True))
    return parts


def _is_test(row: dict[str, Any]) -> bool:
    return str(row["stage"]).startswith("test")


def _folded(name: str, body: str, *, unfolded: bool = False) -> str:
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{escape(name)}</summary>{body}</details>"


def _all_episodes(summary: dict[str, Any]) -> str:
    rows = summary["episode_table"]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    if stages == [""]:
        strips = _strip(rows)
    else:
        strips = "".join(
            f"<span class='note'>{escape(stage)}</span>"
            + _strip([row for row in rows if row["stage"] == stage])
            for stage in stages
        )
        strips = f"<div class='stages'>{strips}</div>"
    seen = {row["outcome"] for row in rows}
    legend = "".join(
        f"<span><i class='{name}'></i>{word}</span>"
        for name, word in OUTCOME_WORDS.items()
        if name in seen
    )
    removed = summary["removed"]
    note = (
        f"<p class='note'>The bags of {removed} of them were removed to keep the quota; what they "
        "said counts in all figures.</p>"
        if removed
        else ""
    )
    return (
        f"<section><h2>All episodes</h2>{strips}<p class='legend note'>{legend}</p>{note}"
        f"{_folded(f'Table of {len(rows)} episodes', _table(rows))}</section>"
    )


def _strip(rows: Iterable[dict[str, Any]]) -> str:
    squares = "".join(
        f"<i class='{escape(row['outcome'])}' "
        f"title='episode {row['episode']}: {escape(_words(row))}'></i>"
        for row in rows
    )
    return f"<div class='strip'>{squares}</div>"


def _words(row: dict[str, Any]) -> str:
    return row["reason"] or OUTCOME_WORDS[row["outcome"]]


def _table(rows: Iterable[dict[str, Any]], *, terms: bool = False) -> str:
    columns = {
        "episode": lambda row: row["episode"],
        "start": lambda row: f"{row['split']} {row['index']}",
        "outcome": lambda row: OUTCOME_WORDS[row["outcome"]],
        "reason": lambda row: row["reason"],
        "steps": lambda row: row["steps"],
        "time": lambda row: f"{row['seconds']:.1f} s",
        "reward": lambda row: f"{row['reward']:.2f}",
        "limited": lambda row: row["limited_steps"],
        "lost": lambda row: row["lost_periods"],
    }
    if terms:
        columns["highest terms"] = lambda row: ", ".join(
            f"{name} {value:g}" for name, value in row["best_terms"].items() if value >= 0
        )
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(str(cell(row)))}</td>" for cell in columns.values())
        + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead>{body}</table></div>"


def _session(session: dict[str, Any]) -> str:
    """What the session says of itself, and its arguments where it names them."""
    shown = {
        name: value
        for name, value in (session | (session.get("arguments") or {})).items()
        if not isinstance(value, dict | list)
    }
    items = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_shown(value))}</dd></div>"
        for name, value in shown.items()
        if value not in ("", None)
    )
    return f"<section><h2>The session</h2><dl>{items}</dl></section>" if items else ""


def _shown(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
