"""Charts: everything lies inside, at the right place, and can be read."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.evaluation.figures import Level, Line, jpeg_data, line_chart, round_ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def corners(element: ElementTree.Element) -> list[tuple[float, ...]]:
    pairs = (element.get("points") or "").split()
    return [tuple(map(float, pair.split(","))) for pair in pairs]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e4, 1e4)), max_size=20),
    st.lists(st.floats(-1e4, 1e4), max_size=3),
)
def test_all_lies_inside(points: list[tuple[float, float]], levels: list[float]) -> None:
    points = sorted(points)
    lines = [Line(points, band=[(y - 1, y + 1) for _, y in points], notes=["a<b"] * len(points))]
    chart = drawn(
        line_chart(
            lines, label="x", x_unit="u", levels=[Level(f"l{i}", v) for i, v in enumerate(levels)]
        )
    )
    _, _, width, height = map(float, (chart.get("viewBox") or "").split())
    shapes = [*chart.iter(f"{SVG}polyline"), *chart.iter(f"{SVG}polygon")]
    assert shapes or not points
    for x, y in (place for shape in shapes for place in corners(shape)):
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert len(list(chart.iter(f"{SVG}circle"))) == len(points)


def test_values_are_to_scale() -> None:
    chart = drawn(line_chart([Line([(0, 0.0), (5, 0.5), (10, 1.0)])], label="x", x_unit="u"))
    (line,) = chart.iter(f"{SVG}polyline")
    (x0, y0), (x1, y1), (x2, y2) = corners(line)
    assert x1 == pytest.approx((x0 + x2) / 2)
    assert y1 == pytest.approx((y0 + y2) / 2)
    assert y2 < y1 < y0


def test_names_of_close_levels_do_not_overlap() -> None:
    levels = [Level("one", 0.5), Level("two", 0.5), Level("three", 0.9)]
    svg = line_chart([], label="x", x_unit="u", y_range=(0, 1), levels=levels)
    heights = {
        name: float(re.search(rf'y="([\d.]+)"[^>]*>{name}<', svg)[1])  # type: ignore[index]
        for name in ("one", "two", "three")
    }
    assert abs(heights["one"] - heights["two"]) >= 12
    assert heights["three"] < heights["two"]


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(2, 10))
def test_ticks_are_round_and_inside(low: float, span: float, wanted: int) -> None:
    ticks = round_ticks(low, low + span, wanted)
    assert len(ticks) <= 2 * wanted + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-3) for tick in ticks)


def test_pictures_are_made_smaller_only() -> None:
    picture = np.zeros((24, 32, 3), np.uint8)
    assert jpeg_data(picture, width=16) != jpeg_data(picture)
    assert jpeg_data(picture, width=64) == jpeg_data(picture)
