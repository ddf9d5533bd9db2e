"""The page about a run: report.html, which needs no other file, and result.json."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.evaluation.episodes import EpisodeFigures, read_episode, read_run
from rl_robot.evaluation.figures import bars, histogram, jpeg_data, proportion_bar
from rl_robot.evaluation.summary import summary_of
from rl_robot.experience.bags import BagReader, typestore
from rl_robot.experience.runs import RunFolder, write_atomically, write_json

FRAMES = 8
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
_OUTCOME_WORDS = {
    "success": "success",
    "terminated": "failed",
    "truncated": "out of time",
    "broken": "broken",
}


def write_report(run: RunFolder | str | Path, root: str | Path = "runs") -> Path:
    """Write report.html and result.json of a run, each in one step; returns the page's path.

    Raises:
        UserError: no such run, or none of its episodes can be read.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run, root)
    episodes, unreadable = read_run(folder, read_episode)
    summary = summary_of(folder, episodes, unreadable)
    write_json(folder.result, summary)
    write_atomically(folder.report, render(summary, film_strip(episodes)))
    return folder.report


def film_strip(episodes: Sequence[EpisodeFigures]) -> str:
    """Pictures of a typical successful episode (or of the longest other one) as HTML."""
    succeeded = sorted((e for e in episodes if e.succeeded), key=lambda e: e.seconds)
    others = sorted(episodes, key=lambda e: e.seconds)
    shown = succeeded[len(succeeded) // 2] if succeeded else others[-1]
    frames = _frames(shown.path, FRAMES)
    if not frames:
        return ""
    figures = "".join(
        f'<figure><img src="{jpeg_data(picture)}" alt="camera at {seconds:.1f} s">'
        f"<figcaption>{seconds:.1f} s</figcaption></figure>"
        for seconds, picture in frames
    )
    data = shown.metadata
    outcome = "a success of median length" if succeeded else _OUTCOME_WORDS[data.outcome]
    title = f"Episode {data.episode} as the camera saw it"
    return (
        f"<section><h2>{escape(title)}</h2>"
        f'<p class="note">{escape(outcome)}, {data.steps} control steps, {shown.seconds:.1f} s</p>'
        f'<div class="film">{figures}</div></section>'
    )


def _frames(path: Path, count: int) -> list[tuple[float, npt.NDArray[np.uint8]]]:
    """Pictures spread evenly over the episode, with their times since its start."""
    reader = BagReader(path)
    cameras = sorted(name for name in reader.types if name.endswith("/image_raw"))
    if not cameras:
        return []
    messages = list(reader.messages(cameras[:1]))
    chosen = np.unique(np.linspace(0, len(messages) - 1, count).round().astype(int))
    frames = []
    for index in chosen if messages else ():
        message = messages[index]
        picture = _picture(typestore().deserialize_cdr(message.raw, message.type))
        if picture is not None:
            frames.append(((message.log_ns - messages[0].log_ns) * 1e-9, picture))
    return frames


def _picture(image: Any) -> npt.NDArray[np.uint8] | None:
    """RGB pixels (H, W, 3) of a sensor_msgs/Image; None for an encoding that is not shown."""
    channels = _CHANNELS.get(image.encoding)
    if channels is None or image.data.size < image.height * image.step:
        return None
    rows = image.data[: image.height * image.step].reshape(image.height, image.step)
    pixels = rows[:, : image.width * channels].reshape(image.height, image.width, channels)
    if image.encoding == "bgr8":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(np.broadcast_to(pixels, (image.height, image.width, 3)))


def render(summary: dict[str, Any], film: str) -> str:
    """The page of a summary."""
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    groups = summary["groups"]
    first = groups[0]
    title = f"Task {first['task']}, robot {first['robot']}" if len(groups) == 1 else summary["run"]
    parts = [
        f"<header><p class='note'>run <b>{escape(summary['run'])}</b>, {written}</p>"
        f"<h1>{escape(title)}</h1></header>",
        *(_success(group) for group in groups),
        _key_figures(summary),
        film,
        f"<div class='pair'>{_latency(summary['latency_ms'])}{_safety(summary)}</div>",
        _failures(summary),
        _all_episodes(summary),
        _session(summary["session"]),
    ]
    return _PAGE.format(
        title=escape(f"{summary['run']}: {title}"), style=_STYLE, body="\n".join(parts)
    )


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


def _key_figures(summary: dict[str, Any]) -> str:
    group = summary["groups"][0]
    cards = []
    if len(summary["groups"]) == 1 and group["steps_to_success"]:
        for key, name, form in (
            ("steps_to_success", "steps to success", "{:.1f}"),
            ("seconds_to_success", "time to success", "{:.2f} s"),
        ):
            value = group[key]
            spread = " to ".join(map(form.format, value["interval"] or ()))
            note = f"{spread} (n = {value['n']})".lstrip()
            cards.append((form.format(value["mean"]), f"mean {name}", note))
    steps = summary["control_steps"]
    rate = summary["control_steps_per_second"]
    if rate:
        pace = f"{summary['real_time_factor']:.1f} x real time"
        cards.append((f"{rate:.0f} /s", "control steps, resets apart", pace))
    latency = summary["latency_ms"]
    if latency:
        note = f"p99 {latency['p99']:.1f} ms (n = {latency['n']})"
        cards.append((f"{latency['p50']:.1f} ms", "median capture to command", note))
    lost = summary["lost_periods"]
    cards.append((str(lost), "control periods lost", f"of {steps}"))
    limited = summary["interventions"]["steps"]
    cards.append((str(limited), "steps limited by safety", f"of {steps}"))
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
            f"each term of its reward reached.</p>{_table(summary['failures'], terms=True)}"
        )
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


def _all_episodes(summary: dict[str, Any]) -> str:
    rows = summary["episode_table"]
    strip = "".join(
        f"<i class='{escape(row['outcome'])}' "
        f"title='episode {row['episode']}: {escape(_words(row))}'></i>"
        for row in rows
    )
    seen = {row["outcome"] for row in rows}
    legend = "".join(
        f"<span><i class='{name}'></i>{word}</span>"
        for name, word in _OUTCOME_WORDS.items()
        if name in seen
    )
    return (
        f"<section><h2>All episodes</h2><div class='strip'>{strip}</div>"
        f"<p class='legend note'>{legend}</p>"
        f"<details><summary>Table of {len(rows)} episodes</summary>{_table(rows)}</details>"
        "</section>"
    )


def _words(row: dict[str, Any]) -> str:
    return row["reason"] or _OUTCOME_WORDS[row["outcome"]]


def _table(rows: Iterable[dict[str, Any]], *, terms: bool = False) -> str:
    columns = {
        "episode": lambda row: row["episode"],
        "start": lambda row: f"{row['split']} {row['index']}",
        "outcome": lambda row: _OUTCOME_WORDS[row["outcome"]],
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
    if not session:
        return ""
    items = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_shown(value))}</dd></div>"
        for name, value in session.items()
        if value not in ("", None)
    )
    return f"<section><h2>The session</h2><dl>{items}</dl></section>"


def _shown(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8fa; color: #1f2933;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 20px; font-weight: 650; }
h2 { font-size: 17px; margin: 0 0 6px; font-weight: 620; }
h2:not(:first-child) { margin-top: 22px; }
p { margin: 0; }
.note { color: #697586; font-size: 13px; }
header .note { margin-bottom: 4px; }
section { background: #fff; border: 1px solid #e4e9ef; border-radius: 10px;
  padding: 20px 22px; margin-bottom: 16px; }
svg { display: block; width: 100%; height: auto; margin-top: 10px; font-family: inherit; }
.headline { display: grid; grid-template-columns: 1fr 1.2fr; gap: 24px; align-items: center; }
.big { font-size: 46px; line-height: 1.1; font-weight: 680; font-variant-numeric: tabular-nums; }
.big span { font-size: 24px; font-weight: 480; color: #697586; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 16px; }
.pair section:only-child { grid-column: 1 / -1; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); padding: 0; }
.cards div { padding: 16px 8px 16px 20px; }
.value { font-size: 22px; font-weight: 640; font-variant-numeric: tabular-nums; }
.film { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin-top: 12px; }
figure { margin: 0; }
img { display: block; width: 100%; border-radius: 5px; }
figcaption { color: #697586; font-size: 12px; padding-top: 2px; }
.wide { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #e9eef3;
  font-size: 13.5px; vertical-align: top; white-space: nowrap; }
td:nth-child(4), td:nth-child(10) { white-space: normal; min-width: 150px; }
th { color: #697586; font-weight: 500; }
.strip { display: flex; flex-wrap: wrap; gap: 3px; margin: 8px 0; }
i { display: inline-block; width: 13px; height: 13px; border-radius: 3px; background: #bcd3ea; }
i.success { background: #2f6fb3; }
i.terminated { background: #c2514a; }
i.truncated { background: #e2a95f; }
i.broken { background: #fff; border: 1.5px dashed #9aa5b4; }
.legend span { margin-right: 16px; white-space: nowrap; }
.legend i { vertical-align: -2px; margin-right: 6px; }
details { margin-top: 8px; }
summary { cursor: pointer; color: #2f6fb3; font-size: 14px; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 8px 18px;
  margin: 8px 0 0; }
dt { color: #697586; font-size: 12.5px; }
dd { margin: 0; }
@media (max-width: 640px) { .headline, .pair { grid-template-columns: minmax(0, 1fr); }
  .film { grid-template-columns: repeat(2, 1fr); } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""
