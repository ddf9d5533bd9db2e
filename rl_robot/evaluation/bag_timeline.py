"""A bag as a picture: when each topic spoke, where it was silent, how far behind it was."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from rl_robot.errors import UserError
from rl_robot.evaluation.bag_info import BagFacts, TopicFacts
from rl_robot.evaluation.figures import AMBER, BLUE, INK, LINE, MUTED

_MOST_MARKS = 4000  # per topic; more can't be told apart


def save_timeline(facts: BagFacts, path: Path) -> None:
    """Draw a bag's timeline as .png, .svg or .pdf.

    Raises:
        UserError: the bag holds no message, or the file can't be written.
    """
    topics = [topic for topic in facts.topics if topic.count]
    if not topics:
        raise UserError(f"--plot: {facts.path} holds no message")
    heights = [0.28 * len(topics) + 0.6, 2.2] + ([1.4] if facts.rewards else [])
    figure = Figure(figsize=(11.0, sum(heights) + 0.9), layout="constrained")
    axes = np.atleast_1d(
        figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    )
    figure.suptitle(_title(facts), fontsize=10, color=INK, parse_math=False)
    _draw_marks(axes[0], topics, facts.start_ns)
    _draw_behind(axes[1], topics, facts.start_ns)
    if facts.rewards:
        _draw_rewards(axes[2], facts)
    axes[-1].set_xlabel("seconds from the first message", color=MUTED)
    for part in axes:
        _style(part)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: can't be written ({error})") from None


def _title(facts: BagFacts) -> str:
    metadata = facts.metadata
    told = f": {metadata.task}, {metadata.policy}, {metadata.outcome}" if metadata else ""
    return f"{facts.path}{told}"


def _draw_marks(axes: Axes, topics: list[TopicFacts], start_ns: int) -> None:
    """A row of marks per topic, where it spoke; silences stand out."""
    for row, topic in enumerate(topics):
        times = (topic.times_ns - start_ns) * 1e-9
        shown = times[:: max(1, len(times) // _MOST_MARKS)]
        axes.plot(
            shown, np.full(len(shown), row), "|", color=BLUE, markersize=7, markeredgewidth=0.8
        )
        silences = [
            [(a, row - 0.4), (b, row - 0.4), (b, row + 0.4), (a, row + 0.4)]
            for a, b in (topic.gaps - start_ns) * 1e-9
        ]
        axes.add_collection(PolyCollection(silences, color=AMBER, alpha=0.5, linewidth=0))
    names = [f"{topic.name}  {_rate(topic)}" for topic in topics]
    axes.set_yticks(range(len(topics)), names, parse_math=False)
    axes.set_ylim(len(topics) - 0.4, -0.6)
    axes.set_title("messages by their place in time; silences in amber", fontsize=9, color=MUTED)


def _rate(topic: TopicFacts) -> str:
    return f"{topic.count}" if np.isnan(topic.rate) else f"{topic.rate:.0f} Hz"


def _draw_behind(axes: Axes, topics: list[TopicFacts], start_ns: int) -> None:
    """How long after a stamp was first spoken of each topic said something of it."""
    stamped = [topic for topic in topics if np.nansum(topic.behind) > 0.0]
    shown = sorted(stamped, key=lambda topic: -float(np.nanmedian(topic.behind)))[:6]
    for topic in shown:
        times = (topic.times_ns - start_ns) * 1e-9
        axes.plot(times, topic.behind * 1e3, ".", markersize=3, label=topic.name)
    if shown:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower right")
    axes.set_ylabel("ms behind", color=MUTED)
    axes.set_ylim(bottom=0)
    axes.set_title(
        "from when a stamp was first spoken of: the six topics that come last",
        fontsize=9,
        color=MUTED,
    )


def _draw_rewards(axes: Axes, facts: BagFacts) -> None:
    stamps = np.array([stamp for stamp, _ in facts.rewards], np.int64)
    totals = np.array([total for _, total in facts.rewards])
    axes.plot((stamps - facts.start_ns) * 1e-9, totals, "-", color=BLUE, linewidth=1.2)
    axes.set_ylabel("reward", color=MUTED)


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=MUTED)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
