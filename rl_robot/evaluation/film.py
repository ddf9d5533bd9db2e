"""Film strips of recorded episodes, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import BagMessage, BagReader, typestore
from rl_robot.bags.pictures import IMAGE, decompress, image_pixels, is_camera_topic, raw_topic
from rl_robot.evaluation.comparison import contestants
from rl_robot.evaluation.episodes import AnyOutcome, Outcome
from rl_robot.evaluation.figures import jpeg_data

FRAMES = 8
OUTCOME_WORDS = {
    "success": "success",
    "terminated": "failed",
    "truncated": "out of time",
    "broken": "broken",
}

_RACE_WIDTH = 200  # pixels of a picture in a row of `FRAMES`

_Frame = tuple[float, npt.NDArray[np.uint8]]  # seconds since the start, RGB picture


def film_strip(episodes: Sequence[Outcome]) -> str:
    """Pictures of a typical successful episode (or of the longest other one) whose bag is there."""
    episodes = [e for e in episodes if not e.removed]
    if not episodes:
        return ""
    succeeded = sorted((e for e in episodes if e.succeeded), key=lambda e: e.seconds)
    others = sorted(episodes, key=lambda e: e.seconds)
    shown = succeeded[len(succeeded) // 2] if succeeded else others[-1]
    frames = _frames(shown.path, np.linspace(0.0, shown.seconds, FRAMES))
    if not frames:
        return ""
    data = shown.metadata
    outcome = "a success of median length" if succeeded else OUTCOME_WORDS[data.outcome]
    title = f"Episode {data.episode} as the camera saw it"
    return (
        f"<section><h2>{escape(title)}</h2>"
        f'<p class="note">{escape(outcome)}, {data.steps} control steps, {shown.seconds:.1f} s</p>'
        f'<div class="film">{"".join(map(_figure, frames))}</div></section>'
    )


def race(episodes: Sequence[Outcome], colours: Mapping[str, str]) -> str:
    """The tested policies on one start, a strip each, at the same times; empty without such tests.

    The last picture of a strip, framed in the policy's colour, is its end.
    """
    entrants = typical_start(contestants([e for e in episodes if e.role == "test" and e.stage]))
    if not entrants:
        return ""
    longest = max(e.seconds for e in entrants.values())
    times = np.linspace(0.0, longest, FRAMES)
    strips = ""
    for name, episode in entrants.items():
        before = [t for t in times if t < episode.seconds - 1e-9]
        frames = _frames(episode.path, [*before, episode.seconds])
        if not frames:
            return ""
        figures = "".join(_figure(frame, _RACE_WIDTH) for frame in frames[:-1])
        end = _figure(frames[-1], _RACE_WIDTH)
        colour = colours.get(name, "")
        strips += (
            f'<p><i class="dot" style="background:{colour}"></i><b>{escape(name)}</b> '
            f'<span class="note">{OUTCOME_WORDS[episode.metadata.outcome]} after '
            f"{episode.seconds:.1f} s</span></p>"
            f'<div class="film race">{figures}'
            f'<div class="end" style="color:{colour}">{end}</div></div>'
        )
    data = next(iter(entrants.values())).metadata
    return (
        f"<section><h2>The same start as the camera saw it</h2>"
        f'<p class="note">{escape(data.split)} start {data.index}. '
        f"A column is a moment; the framed picture is the end.</p>{strips}</section>"
    )


def typical_start(rivals: Mapping[str, Sequence[AnyOutcome]]) -> dict[str, AnyOutcome]:
    """Each contestant's episode on one start that all tried.

    Of the starts that most of them solve, the later contestants above all, one on which the last
    takes its median time.
    """
    by_start = [
        {(e.metadata.split, e.metadata.index): e for e in members if e.counts}
        for members in rivals.values()
    ]
    if not by_start:
        return {}
    common = set(by_start[0]).intersection(*by_start[1:])
    solved = {start: [tries[start].succeeded for tries in by_start] for start in common}
    if not solved:
        return {}
    best = max(solved.values(), key=lambda flags: (sum(flags), flags[::-1]))
    last = by_start[-1]
    starts = sorted(
        (start for start, flags in solved.items() if flags == best),
        key=lambda start: (last[start].seconds, start),
    )
    start = starts[len(starts) // 2]
    return {name: tries[start] for name, tries in zip(rivals, by_start, strict=True)}


def _figure(frame: _Frame, width: int | None = None) -> str:
    seconds, picture = frame
    return (
        f'<figure><img src="{jpeg_data(picture, width=width)}" alt="camera at {seconds:.1f} s">'
        f"<figcaption>{seconds:.1f} s</figcaption></figure>"
    )


def _frames(path: Path, times: Sequence[float] | npt.NDArray[np.float64]) -> list[_Frame]:
    """The pictures nearest to these seconds since the start, each once, in order."""
    reader = BagReader(path)
    cameras = sorted(camera for name in reader.types if (camera := _camera(name)))
    topics = [name for name in reader.types if cameras and _camera(name) == cameras[0]]
    messages: list[BagMessage] = list(reader.messages(topics))
    if not messages:
        return []
    stamps = np.array([message.log_ns - messages[0].log_ns for message in messages]) * 1e-9
    chosen = dict.fromkeys(int(np.abs(stamps - time).argmin()) for time in times)
    frames = []
    for index in chosen:
        picture = _picture(messages[index])
        if picture is not None:
            frames.append((float(stamps[index]), picture))
    return frames


def _camera(topic: str) -> str | None:
    """The camera's topic that pictures on this one are of, compressed or not; None: no camera."""
    return topic if is_camera_topic(topic) else raw_topic(topic)


def _picture(message: BagMessage) -> npt.NDArray[np.uint8] | None:
    """RGB pixels (H, W, 3) of a camera's picture; None for one that can't be shown."""
    try:
        raw = message.raw if message.type == IMAGE else decompress(message.raw)
        image: Any = typestore().deserialize_cdr(raw, IMAGE)
        pixels = image_pixels(image)
    except ValueError:
        return None
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    elif image.encoding == "bgr8":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(np.broadcast_to(pixels, (image.height, image.width, 3)))
