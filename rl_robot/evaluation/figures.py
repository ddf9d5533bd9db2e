"""Small figures as inline SVG and pictures as data, for pages that need nothing else."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
import numpy.typing as npt

INK = "#1f2933"
MUTED = "#697586"
LINE = "#d8dee6"
BLUE = "#2f6fb3"
PALE = "#bcd3ea"
AMBER = "#d0893b"
GREEN = "#3f8f5f"

_TEXT = f'font-size="12" fill="{MUTED}"'


@dataclass(frozen=True)
class Line:
    """A line of a chart through (x, y) points; NaN-free, in the order of x.

    ``band``: (low, high) at each point. ``notes``: a text for each point, which then shows as a
    dot.
    """

    points: Sequence[tuple[float, float]]
    colour: str = BLUE
    band: Sequence[tuple[float, float]] = ()
    notes: Sequence[str] = ()
    width: float = 2.0


@dataclass(frozen=True)
class Level:
    """A named horizontal line, to compare with."""

    name: str
    value: float
    colour: str = MUTED


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_unit: str,
    y_form: Callable[[float], str] = "{:g}".format,
    y_range: tuple[float, float] | None = None,
    levels: Sequence[Level] = (),
    second_axis: Mapping[str, float] | None = None,
    width: int = 460,
    height: int = 250,
) -> str:
    """Lines over linear axes from x = 0, with levels across.

    ``y_range``: by default from 0, or the lowest value below it, to the highest. ``second_axis``:
    more labels below the x axis, at their x.
    """
    every = [y for line in lines for _, y in line.points]
    every += [y for line in lines for bounds in line.band for y in bounds]
    every += [level.value for level in levels]
    low, high = y_range or (min([*every, 0.0]), max([*every, 0.0]))
    high = high if high > low else low + 1.0
    high = high if y_range else high + 0.05 * (high - low)
    far = max([x for line in lines for x, _ in line.points] + [0.0]) or 1.0
    left, right, top, bottom = 44.0, width - 22.0, 14.0, height - (58.0 if second_axis else 42.0)

    def x(value: float) -> float:
        return left + value / far * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    body = "".join(
        f'<line x1="{left}" x2="{right}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="{LINE}"/>'
        f'<text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end" {_TEXT}>{y_form(v)}</text>'
        for v in round_ticks(low, high, max(int((bottom - top) / 35), 2))
    )
    body += "".join(
        f'<text x="{x(v):.1f}" y="{bottom + 18}" text-anchor="middle" {_TEXT}>{v:g}</text>'
        for v in round_ticks(0.0, far, max(width // 75, 2))
    )
    body += "".join(
        f'<text x="{x(v):.1f}" y="{bottom + 34}" text-anchor="middle" {_TEXT}>{escape(name)}</text>'
        for name, v in (second_axis or {}).items()
    )
    body += f'<text x="{right}" y="{height - 6}" text-anchor="end" {_TEXT}>{escape(x_unit)}</text>'
    body += "".join(
        _level(
            level, y(level.value), left, right, below=_crowded(level, levels, 16 / (y(0) - y(1)))
        )
        for level in levels
    )
    for line in lines:
        places = [(x(a), y(b)) for a, b in line.points]
        edges = [(y(a), y(b)) for a, b in line.band]
        body += _line(line, places, edges)
    return _svg(width, height, label, body)


def _crowded(level: Level, levels: Sequence[Level], room: float) -> bool:
    """Whether the name above this level would run into that of a later one, or one above."""
    later = levels[levels.index(level) + 1 :]
    return any(0 < other.value - level.value < room for other in levels) or any(
        other.value == level.value for other in later
    )


def _level(level: Level, y: float, left: float, right: float, *, below: bool) -> str:
    text_y = y + 13 if below else y - 5
    return (
        f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{level.colour}" '
        'stroke-width="1.5" stroke-dasharray="5 4"/>'
        f'<text x="{right - 2}" y="{text_y:.1f}" text-anchor="end" font-size="11.5" '
        f'fill="{level.colour}">{escape(level.name)}</text>'
    )


def _line(
    line: Line, places: Sequence[tuple[float, float]], edges: Sequence[tuple[float, float]]
) -> str:
    """``places`` and ``edges``: the points and the band of the line in the figure."""
    body = ""
    if edges:
        across = [place for place, _ in places]
        below = [(a, low) for a, (low, _) in zip(across, edges, strict=True)]
        above = [(a, high) for a, (_, high) in zip(across, edges, strict=True)]
        shape = _coordinates([*above, *reversed(below)])
        body += f'<polygon points="{shape}" fill="{line.colour}" fill-opacity="0.14"/>'
    body += (
        f'<polyline points="{_coordinates(places)}" fill="none" stroke="{line.colour}" '
        f'stroke-width="{line.width}" stroke-linejoin="round"/>'
    )
    for note, (a, b) in zip(line.notes, places, strict=bool(line.notes)):
        body += (
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{line.colour}">'
            f"<title>{escape(note)}</title></circle>"
        )
    return body


def _coordinates(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def proportion_bar(
    rate: float,
    interval: tuple[float, float],
    *,
    label: str,
    colour: str = BLUE,
    width: int = 420,
) -> str:
    """A scale from 0 to 100 % with the measured rate and its confidence interval."""
    left, right, axis = 22, width - 22, 16

    def x(value: float) -> float:
        return left + value * (right - left)

    low, high = interval
    ticks = "".join(
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{axis - 3}" y2="{axis + 3}" stroke="{LINE}"/>'
        f'<text x="{x(v):.1f}" y="{axis + 22}" text-anchor="middle" {_TEXT}>{v:.0%}</text>'
        for v in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    body = (
        f'<line x1="{left}" x2="{right}" y1="{axis}" y2="{axis}" stroke="{LINE}" stroke-width="2"/>'
        f"{ticks}"
        f'<rect x="{x(low):.1f}" y="{axis - 7}" width="{max(x(high) - x(low), 1):.1f}" '
        f'height="14" rx="7" fill="{colour}" fill-opacity="0.32"/>'
        f'<circle cx="{x(rate):.1f}" cy="{axis}" r="6" fill="{colour}"/>'
    )
    return _svg(width, axis + 28, label, body)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    marks: Mapping[str, float],
    unit: str,
    label: str,
    width: int = 460,
    height: int = 210,
) -> str:
    """Bars over a linear scale, with marked positions such as percentiles."""
    left, right, top, bottom = 8.0, width - 12.0, 46.0, height - 42.0
    span = edges[-1] - edges[0] or 1.0
    tallest = max(max(counts), 1)

    def x(value: float) -> float:
        return left + (value - edges[0]) / span * (right - left)

    bars = "".join(
        f'<rect x="{x(low) + 0.75:.1f}" width="{max(x(high) - x(low) - 1.5, 0.5):.1f}" '
        f'y="{bottom - count / tallest * (bottom - top):.1f}" '
        f'height="{count / tallest * (bottom - top):.1f}" fill="{PALE}">'
        f"<title>{low:.2f} to {high:.2f} {escape(unit)}: {count}</title></rect>"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    )
    axis = f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{LINE}"/>'
    for value in round_ticks(edges[0], edges[-1]):
        axis += (
            f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle" {_TEXT}>'
            f"{value:g}</text>"
        )
    axis += f'<text x="{right}" y="{bottom + 36}" text-anchor="end" {_TEXT}>{escape(unit)}</text>'
    lines = ""
    for row, (name, value) in enumerate(marks.items()):
        place, height_of_text = x(min(value, edges[-1])), 14 + 15 * (row % 2)
        anchor, shift = ("start", 4) if place < 0.8 * right else ("end", -4)
        lines += (
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{height_of_text - 9}" y2="{bottom}" '
            f'stroke="{AMBER}" stroke-dasharray="3 3"/>'
            f'<text x="{place + shift:.1f}" y="{height_of_text}" text-anchor="{anchor}" '
            f'font-size="12" fill="{INK}">{escape(name)} {value:.1f}</text>'
        )
    return _svg(width, height, label, bars + axis + lines)


def bars(
    values: Mapping[str, float], *, notes: Mapping[str, str], label: str, width: int = 460
) -> str:
    """Named values as horizontal bars, each with a note at its end."""
    row, note_width = 26, 95
    name_width = min(20 + 7 * max((len(name) for name in values), default=0), 0.6 * width)
    largest = max(values.values(), default=0.0) or 1.0
    body = ""
    for index, (name, value) in enumerate(values.items()):
        y = index * row
        length = value / largest * (width - name_width - note_width)
        body += (
            f'<text x="{name_width - 10:.0f}" y="{y + 17}" text-anchor="end" font-size="12.5" '
            f'fill="{INK}">{escape(name)}</text>'
            f'<rect x="{name_width:.0f}" y="{y + 5}" width="{max(length, 1):.1f}" height="16" '
            f'rx="3" fill="{PALE}"/>'
            f'<text x="{name_width + length + 8:.1f}" y="{y + 17}" {_TEXT}>'
            f"{escape(notes[name])}</text>"
        )
    return _svg(width, max(len(values), 1) * row + 4, label, body)


def jpeg_data(
    picture: npt.NDArray[np.uint8], quality: int = 88, *, width: int | None = None
) -> str:
    """An RGB picture (H, W, 3) as a ``data:`` address, made smaller if it is wider than that."""
    if width is not None and picture.shape[1] > width:
        size = (width, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _svg(width: int, height: float, label: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:g}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(label)}">{body}</svg>'
    )


def round_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """About ``wanted`` round numbers between the two."""
    raw = max(high - low, 1e-9) / wanted
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = magnitude * min((1, 2, 5, 10), key=lambda factor: abs(factor * magnitude - raw))
    first = np.ceil(low / step) * step
    # Adding 0 makes 0 of -0.
    return [round(float(v), 10) + 0.0 for v in np.arange(first, high + step * 1e-6, step)]
