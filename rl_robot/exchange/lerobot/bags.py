"""Episodes of a LeRobotDataset as bags of stock messages.

    observation.state           joint_states            JointState
    other vectors               <name>                  named numbers
    pictures                    <name>/image_raw        Image
    action                      policy/action           named numbers
    next.reward, next.success   reward                  named numbers, stamped with the next tick
    ticks                       perception/ages         named numbers: how old each observation is
    everything else             lerobot/<feature>       named numbers, or String

Time is the feature ``tick_ns`` where there is one (our exporter writes it). Otherwise the clock of
the data set: 1 s at its first row, and 1 / fps from row to row. Observations are stamped with their
capture where their ages are known.
"""

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import EpisodeMetadata, EpisodeWriter
from rl_robot.bags.cdr import image_bytes, joint_state_bytes, string_bytes
from rl_robot.bags.pictures import IMAGE
from rl_robot.errors import UserError
from rl_robot.exchange.lerobot import layout
from rl_robot.exchange.lerobot.description import Description, read_description
from rl_robot.exchange.lerobot.reader import DatasetEpisode, pictures, read_episodes
from rl_robot.exchange.lerobot.timeline import Timeline, component_names, kept_of, timeline_of
from rl_robot.experience.sources import DEMONSTRATION

_NUMBERS = "sensor_msgs/msg/JointState"
_TEXT = "std_msgs/msg/String"
_NANOSECONDS = 1_000_000_000
_SAME_NS = 1000  # captures nearer than this are one: ages are kept as float32
_REWARD = "reward"
_TICKS = "perception/ages"
_REWARD_PARTS = (layout.REWARD, layout.DONE, layout.TRUNCATED, layout.SUCCESS)
_NOT_SENT = {layout.TICK, layout.AGES, layout.LATENCY, layout.LAST, *_REWARD_PARTS}

_Sent = tuple[int, int, str, bytes]  # log time, publish time, topic, message


def write_bags(
    folder: Path,
    out: Path,
    *,
    episodes: Collection[int] | None,
    progress: Callable[[int], None] | None,
) -> list[Path]:
    """See `rl_robot.exchange.import_lerobot`."""
    description = read_description(folder)
    topics = _topics(description)
    indices = [entry.index for entry in description.entries()]
    missing = set(episodes or ()) - set(indices)
    if missing:
        raise UserError(f"{folder} has no episode {min(missing)}: it has 0 to {len(indices) - 1}")
    for index in indices if episodes is None else episodes:
        if _bag(out, index).exists():
            raise UserError(f"{_bag(out, index)} exists already: give another folder")
    written: list[Path] = []
    for episode in read_episodes(description, episodes):
        written.append(_write(description, topics, episode, _bag(out, episode.entry.index)))
        if progress:
            progress(len(written))
    return written


def _bag(out: Path, index: int) -> Path:
    return out / f"episode_{index:06d}"


def _topics(description: Description) -> dict[str, str]:
    """Feature -> topic.

    Raises:
        UserError: two features would share a topic.
    """
    topics: dict[str, str] = {}
    for key in description.features:
        if key not in _NOT_SENT:
            topics[key] = _topic(key, description)
    taken: dict[str, str] = {_REWARD: layout.REWARD, _TICKS: layout.TICK}
    for key, topic in topics.items():
        if topic in taken:
            raise UserError(
                f"{description.folder / layout.INFO}: {taken[topic]} and {key} would both be the "
                f"topic {topic}: rename one"
            )
        taken[topic] = key
    return topics


def _topic(key: str, description: Description) -> str:
    picture = key in description.cameras
    kept = description.observations.get(key)
    if kept is not None:
        name = kept
    elif key == layout.STATE:
        return "joint_states"
    elif key == layout.ACTION:
        return "policy/action"
    elif picture:
        name = key.removeprefix(layout.IMAGES).removeprefix(layout.OBSERVATION) + "/image_raw"
    elif key.startswith(layout.OBSERVATION):
        name = key.removeprefix(layout.OBSERVATION)
    else:
        name = f"lerobot/{key}"
    return _ros_name(name)


def _ros_name(name: str) -> str:
    """A name that ROS takes for a topic: words of letters, digits and '_', no digit first."""
    words = [re.sub(r"[^A-Za-z0-9_]", "_", word) for word in re.split(r"[./]", name)]
    named = (f"n{word}" if word[0].isdigit() else word for word in words if word)
    return "/".join(named) or "unnamed"


def _write(
    description: Description, topics: Mapping[str, str], episode: DatasetEpisode, path: Path
) -> Path:
    timeline = timeline_of(description, episode)
    types = {topic: _type(description, key) for key, topic in topics.items()}
    types[_TICKS] = _NUMBERS
    if any(key in episode.columns for key in _REWARD_PARTS):
        types[_REWARD] = _NUMBERS
    writer = EpisodeWriter(path, types)
    try:
        streams = [
            *(_messages(description, episode, timeline, k, topic) for k, topic in topics.items()),
            _ticks(description, timeline),
            _rewards(episode, timeline),
        ]
        for stamp, published, topic, raw in heapq.merge(*streams):
            writer.write(topic, raw, stamp, published)
        return writer.close(_metadata(description, episode, timeline))
    except BaseException:
        writer.abort()
        raise


def _type(description: Description, key: str) -> str:
    if key in description.cameras:
        return IMAGE
    return _TEXT if key in description.texts else _NUMBERS


def _messages(
    description: Description, episode: DatasetEpisode, timeline: Timeline, key: str, topic: str
) -> Iterator[_Sent]:
    """A feature's messages, row by row; a capture that was held is sent once."""
    captures = timeline.captured(description.observations.get(key, key))
    serialize = _serializer(description, key)
    previous: int | None = None
    for row, value in enumerate(_values(description, episode, timeline, key)):
        stamp = int(captures[row])
        if previous is not None and abs(stamp - previous) < _SAME_NS:
            continue
        previous = stamp
        published = int(timeline.ticks[row]) + _delay_ns(episode, key, row)
        yield stamp, published, topic, serialize(stamp, value)


def _serializer(description: Description, key: str) -> Callable[[int, Any], bytes]:
    """What makes a feature's message of a stamp and a value."""
    if key in description.cameras:
        frame = key.removeprefix(layout.IMAGES)
        return lambda stamp, picture: image_bytes(picture, stamp, frame)
    if key in description.texts:
        return lambda _, text: string_bytes(text)
    names = component_names(description, key)
    return lambda stamp, numbers: joint_state_bytes(names, stamp, numbers)


def _values(
    description: Description, episode: DatasetEpisode, timeline: Timeline, key: str
) -> Iterable[Any]:
    """A feature's values: of each row, or of each step where it is no observation."""
    if key in description.cameras:
        return pictures(description, episode, key)
    if key in description.texts:
        return episode.texts[key]
    values = episode.columns[key]
    return values if _is_observation(key) else values[: timeline.steps]


def _is_observation(key: str) -> bool:
    return key.startswith(layout.OBSERVATION) and key not in _NOT_SENT


def _delay_ns(episode: DatasetEpisode, key: str, row: int) -> int:
    """From the tick to the publication: an action's latency, where that is known."""
    latency = episode.columns.get(layout.LATENCY)
    if key != layout.ACTION or latency is None or not 0 <= latency[row, 0] < 1e6:
        return 0
    return round(float(latency[row, 0]) * _NANOSECONDS)


def _ticks(description: Description, timeline: Timeline) -> Iterator[_Sent]:
    """A message at each tick that says how old each observation is, as perception's in a session.

    So is one at what the last step led to, of which nothing was seen if the exporter left it out.
    """
    observed = [key for key in description.features if _is_observation(key)]
    names = [description.observations.get(key, key) for key in observed]
    captures = np.stack([timeline.captured(name) for name in names]) if names else None
    for step, tick in enumerate(timeline.ticks):
        ages = np.zeros(0)
        if captures is not None:
            ages = (tick - captures[:, min(step, timeline.rows - 1)]) * 1e-9
        yield int(tick), int(tick), _TICKS, joint_state_bytes(names, int(tick), ages)


def _rewards(episode: DatasetEpisode, timeline: Timeline) -> Iterator[_Sent]:
    """Rewards, stamped with the observation that they judge: the one that the step led to."""
    known = _reward_columns(episode)
    if not known:
        return
    names = tuple(known)
    table = np.stack([values[: timeline.steps] for values in known.values()], axis=1)
    for stamp, numbers in zip(timeline.ticks[1:], table, strict=True):
        raw = joint_state_bytes(names, int(stamp), numbers)
        yield int(stamp), int(stamp), _REWARD, raw


def _reward_columns(episode: DatasetEpisode) -> dict[str, npt.NDArray[np.float64]]:
    columns = episode.columns
    known: dict[str, npt.NDArray[np.float64]] = {}
    if layout.REWARD in columns:
        known["total"] = columns[layout.REWARD][:, 0].astype(np.float64)
    if layout.SUCCESS in columns:
        known["success"] = columns[layout.SUCCESS][:, 0].astype(np.float64)
    if layout.DONE in columns and layout.TRUNCATED in columns:
        ended = columns[layout.DONE].astype(bool) & ~columns[layout.TRUNCATED].astype(bool)
        known["terminated"] = ended[:, 0].astype(np.float64)
    elif layout.SUCCESS in columns:
        # Done alone may be a time limit, of which nothing is to be learnt.
        known["terminated"] = known["success"]
    return known


def _metadata(
    description: Description, episode: DatasetEpisode, timeline: Timeline
) -> EpisodeMetadata:
    """That of the bag it was exported from, or what can be said of a foreign episode."""
    kept = kept_of(description, episode).get("metadata")
    if isinstance(kept, dict):
        try:
            return EpisodeMetadata.from_strings({str(k): str(v) for k, v in kept.items()})
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{description.folder / layout.OURS}: the metadata of episode "
                f"{episode.entry.index} is wrong ({error})"
            ) from None
    return EpisodeMetadata(
        episode=episode.entry.index,
        robot=description.robot_type or "unknown",
        task=episode.entry.task,
        split="train",
        index=episode.entry.index,
        start="{}",
        policy="unknown",
        policy_version="",
        seed=0,
        outcome=_outcome(episode),
        reason="imported from a LeRobotDataset",
        steps=timeline.steps,
        extra={"fps": f"{description.fps:g}", "role": DEMONSTRATION},
    )


def _outcome(episode: DatasetEpisode) -> str:
    if layout.SUCCESS in episode.columns and episode.columns[layout.SUCCESS].any():
        return "success"
    ended = _reward_columns(episode).get("terminated")
    return "terminated" if ended is not None and ended.any() else "truncated"
