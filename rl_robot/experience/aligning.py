"""Any bag as episodes aligned by capture stamps: what was observed at each tick, what was done.

At a tick an observation is the newest message captured at or before it, whatever was recorded
later, and says how old it was. The action of a step is the newest one from its tick on, before the
next tick; where there is none, the one before still holds. The reward of a step is the newest after
its tick, up to and with the next; one that has no stamp, the first from the next tick on.

What has to be done to the data is counted, by topic and kind (`streams.read_streams`), and:

- ticks left out: before everything was there for the first time, or after the last observation;
- gaps: two neighbouring ticks that are no step, because they are not one period apart, or because
  an observation at one of them was older than its ``max_age``, or no action holds;
- held: steps in which no new action was said;
- stretches left out: what follows restarts of the clock that not all topics saw.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.bags.messages import Series
from rl_robot.bags.metadata import TERMINAL
from rl_robot.errors import UserError
from rl_robot.experience.aligned import AlignedEpisode
from rl_robot.experience.bag_map import BagMap, Source
from rl_robot.experience.streams import Ints, Stream, read_streams

_TICKS = "its ticks"  # names of what is read beside the observations, whose have no spaces:
_ACTION = "its action"
_OPTIONAL = {"proposed": "its proposal", "reward": "its reward", "terminated": "its end"}
_SILENCE = 2.5  # periods of the grid, or of the reference, from which on there are no ticks


def align(bag: Path | str | BagReader, bag_map: BagMap) -> list[AlignedEpisode]:
    """Return a bag's episodes: one, or one for each stretch between restarts of the clock.

    Raises:
        UserError: the bag is missing or damaged, lacks a topic of the map, or holds no whole step.
    """
    if not isinstance(bag, BagReader):
        bag = BagReader(bag)
    bag_map = bag_map.relative(bag.namespace)
    absent = [topic for topic in bag_map.topics if not bag.counts.get(topic)]
    if absent:
        raise UserError(
            f"{bag.path} has no messages on {', '.join(absent)}: it has "
            f"{', '.join(sorted(topic for topic, count in bag.counts.items() if count))}"
        )
    messages = bag.series(bag_map.topics)
    counts: Counter[str] = Counter()
    try:
        streams = _streams(bag_map, messages, counts)
        together = min(map(len, streams.values()))
        counts["stretches left out"] += max(map(len, streams.values())) - together
        found = [
            _episode({name: stretches[i] for name, stretches in streams.items()}, bag_map, counts)
            for i in range(together)
        ]
    except (ValueError, UserError) as error:
        raise UserError(f"{bag.path}: {error}") from None
    episodes = [episode for episode in found if episode is not None]
    if not episodes:
        raise UserError(f"{bag.path} holds no whole step: {_shown(counts)}")
    # The counts are the whole bag's, and its outcome is that of its end.
    told = [_told(episodes[-1], _metadata(bag), bag, {} if len(episodes) > 1 else counts)]
    if len(episodes) > 1:
        told = (
            [_told(episodes[0], None, bag, counts)]
            + [_told(episode, None, bag, {}) for episode in episodes[1:-1]]
            + told
        )
    return told


def _streams(
    bag_map: BagMap, messages: Mapping[str, Series], counts: Counter[str]
) -> dict[str, list[Stream]]:
    """Read every source once; each has as many stretches as there were restarts, and one."""
    sources = {**bag_map.observations, _ACTION: bag_map.action}
    for attribute, name in _OPTIONAL.items():
        source = getattr(bag_map, attribute)
        if source is not None:
            sources[name] = source
    if bag_map.ticks:
        known = [s for s in sources.values() if s.topic == bag_map.ticks]
        sources[_TICKS] = known[0] if known else Source(bag_map.ticks, only_stamps=True)
    read: dict[Source, list[Stream]] = {}
    for source in sources.values():
        if source not in read:
            read[source] = read_streams(source, messages[source.topic], counts)
    return {name: read[source] for name, source in sources.items()}


def _episode(
    streams: Mapping[str, Stream], bag_map: BagMap, counts: Counter[str]
) -> AlignedEpisode | None:
    """Align one stretch; None when it holds no whole step."""
    reference = streams[_TICKS if bag_map.ticks else next(iter(bag_map.observations))]
    ticks_ns, period_ns = _ticks(reference, bag_map)
    observed = {name: streams[name] for name in bag_map.observations}
    complete = _complete(ticks_ns, observed, streams[_ACTION])
    counts["ticks left out"] += int(len(ticks_ns) - complete.sum())
    ticks_ns = ticks_ns[complete]
    if len(ticks_ns) < 2:
        return None
    rows = {name: stream.newest(ticks_ns) for name, stream in observed.items()}
    ages = {
        name: np.asarray((ticks_ns - stream.stamps_ns[rows[name]]) * 1e-9, np.float64)
        for name, stream in observed.items()
    }
    fresh = np.ones(len(ticks_ns), np.bool_)
    for name, age in ages.items():
        fresh &= age <= observed[name].source.max_age
    done = streams[_ACTION]
    acted = done.newest(ticks_ns[1:] - 1)
    held = done.stamps_ns[acted] < ticks_ns[:-1]
    expired = (ticks_ns[:-1] - done.stamps_ns[acted]) * 1e-9 > done.source.max_age
    uneven = np.abs(np.diff(ticks_ns) - period_ns) > period_ns / 2
    gaps = np.flatnonzero(uneven | ~fresh[:-1] | ~fresh[1:] | expired)
    counts["held"] += int(held.sum())
    counts["gaps"] += len(gaps)
    if len(gaps) == len(ticks_ns) - 1:
        return None
    sensed_ns = np.max([s.published_ns[rows[name]] for name, s in observed.items()], axis=0)
    action = done.take(acted).astype(np.float32)
    return AlignedEpisode(
        ticks_ns=ticks_ns,
        observations={name: _narrow(s.take(rows[name])) for name, s in observed.items()},
        ages=ages,
        action=action,
        proposed=_proposed(streams.get(_OPTIONAL["proposed"]), ticks_ns, len(action)),
        action_names=done.components,
        rewards=_total(streams.get(_OPTIONAL["reward"]), ticks_ns),
        latencies=np.where(held, np.nan, (done.published_ns[acted] - sensed_ns[:-1]) * 1e-9).astype(
            np.float32
        ),
        terminated=_ended(streams.get(_OPTIONAL["terminated"]), ticks_ns),
        truncated=not _ended(streams.get(_OPTIONAL["terminated"]), ticks_ns),
        gaps=tuple(int(gap) for gap in gaps),
        components={name: stream.components for name, stream in observed.items()},
    )


def _ticks(reference: Stream, bag_map: BagMap) -> tuple[Ints, float]:
    """Return the ticks and their period, both ns.

    A grid has no ticks where the reference is silent for long, so that a gap of hours, or a clock
    that jumps ahead, costs nothing.
    """
    stamps_ns = reference.stamps_ns
    if bag_map.ticks:
        steps = np.diff(stamps_ns)
        period = bag_map.period * 1e9 or (float(np.median(steps)) if len(steps) else 0.0)
        return stamps_ns, period
    period_ns = round(bag_map.period * 1e9)
    return _grid(stamps_ns, period_ns, reference.source.max_age), float(period_ns)


def _grid(stamps_ns: Ints, period_ns: int, max_age: float) -> Ints:
    """Return the ticks of a grid through the first stamp, wherever the newest is young enough."""
    usual = float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 0.0
    young = min(_SILENCE * max(period_ns, usual), max_age * 1e9)
    since = stamps_ns - stamps_ns[0]
    first = -(-since // period_ns)  # the tick at or after each stamp
    until = np.append(first[1:], first[-1] + 1)  # the one at or after the next stamp
    last = np.minimum(until - 1, (since + round(young)) // period_ns)
    last[-1] = since[-1] // period_ns  # beyond the last stamp it is not known what there was
    counts = np.maximum(last - first + 1, 0)
    starts = np.repeat(first - np.append(0, np.cumsum(counts)[:-1]), counts)
    return stamps_ns[0] + (starts + np.arange(counts.sum())) * period_ns


def _complete(
    ticks_ns: Ints, observed: Mapping[str, Stream], done: Stream
) -> npt.NDArray[np.bool_]:
    """Which ticks have every observation, and are not before the step of the first action."""
    complete = np.ones(len(ticks_ns), np.bool_)
    for stream in observed.values():
        complete &= ticks_ns >= stream.stamps_ns[0]
    after_next = np.append(ticks_ns[1:], np.iinfo(np.int64).max)
    return complete & (after_next > done.stamps_ns[0])


def _proposed(stream: Stream | None, ticks_ns: Ints, steps: int) -> npt.NDArray[np.float32]:
    """Return the newest proposal within each step, NaN where there is none."""
    if stream is None:
        return np.full((steps, 0), np.nan, np.float32)
    rows = stream.newest(ticks_ns[1:] - 1)
    said = (rows >= 0) & (stream.stamps_ns[rows] >= ticks_ns[:-1])
    return np.where(said[:, None], stream.take(rows), np.nan).astype(np.float32)


def _total(stream: Stream | None, ticks_ns: Ints) -> npt.NDArray[np.float32]:
    """Return the sum of the numbers of the reward of each step, NaN where there is none.

    One that is stamped says which moment it judges. One that is not was recorded after the
    observation that it judges, and before the next.
    """
    if stream is None:
        return np.full(len(ticks_ns) - 1, np.nan, np.float32)
    if stream.is_stamped:
        rows = stream.newest(ticks_ns[1:])
        said = (rows >= 0) & (stream.stamps_ns[rows] > ticks_ns[:-1])
    else:
        rows = stream.newest(ticks_ns[1:] - 1) + 1
        said = rows < len(stream.stamps_ns)
        rows = np.minimum(rows, len(stream.stamps_ns) - 1)
        following = np.append(ticks_ns[2:], 2 * ticks_ns[-1] - ticks_ns[-2])
        said &= stream.stamps_ns[rows] < following
    return np.where(said, stream.take(rows).sum(axis=1), np.nan).astype(np.float32)


def _ended(stream: Stream | None, ticks_ns: Ints) -> bool:
    """Whether something said of the last tick, or of one before, that the episode truly ended."""
    if stream is None:
        return False
    # What has no stamp was recorded after the observation that it speaks of, and before the next.
    until = ticks_ns[-1] if stream.is_stamped else 2 * ticks_ns[-1] - ticks_ns[-2] - 1
    row = int(stream.newest(np.array([until]))[0])
    return row >= 0 and bool(stream.take(np.array([row])).any())


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers as float32; pictures as they are."""
    return values if values.dtype == np.uint8 else values.astype(np.float32)


def _metadata(bag: BagReader) -> EpisodeMetadata | None:
    try:
        return bag.episode
    except UserError:
        return None


def _told(
    episode: AlignedEpisode,
    metadata: EpisodeMetadata | None,
    bag: BagReader,
    counts: Mapping[str, int],
) -> AlignedEpisode:
    """Add what the bag says of itself."""
    known: dict[str, Any] = {"metadata": metadata, "origin": str(bag.path), "counts": _seen(counts)}
    if metadata is not None:
        known["terminated"] = metadata.outcome in TERMINAL
        known["truncated"] = not known["terminated"]
    return replace(episode, **known)


def _seen(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in counts.items() if count}


def _shown(counts: Mapping[str, int]) -> str:
    seen = [f"{kind} {count}" for kind, count in _seen(counts).items()]
    return ", ".join(seen) or "nothing was wrong with its messages"
