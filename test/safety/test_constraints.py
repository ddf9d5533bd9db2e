"""Each constraint by itself: what it promises, against the plainest way to compute it."""

from copy import deepcopy
from functools import cache
from itertools import pairwise, permutations
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rl_robot.robots.description import Joint, load_robot
from rl_robot.safety.constraints import (
    CLEARANCE_RESERVE,
    UNBOUNDED,
    WORKSPACE_RESERVE,
    AccelerationLimits,
    GripperForce,
    JerkLimits,
    JointConstraint,
    Measured,
    Obstacles,
    PositionLimits,
    SelfCollision,
    ToolSpeed,
    VelocityLimits,
    Workspace,
)
from rl_robot.safety.geometry import FAR, Box, Geometry
from rl_robot.safety.planner import Goal
from rl_robot.safety.sweep import Sweep

ROBOTS = ("arm", "arm7")
SAME = 1e-9  # m or m/s
INTERVAL = 0.02  # s
MEASURED = 1e-6  # m, to which distances are computed
FINGERS = frozenset({"left_finger_link", "right_finger_link"})
BOXES = {
    "table": Box((0.25, 0.0, -0.02), (1.3, 1.3, 0.04)),
    "post": Box((0.45, 0.3, 0.3), (0.1, 0.1, 0.6)),
}
SIZES = st.floats(1e-3, 1e3)
SCALES = st.floats(0.01, 1.0)
EFFORTS = st.floats(1.0, 1e300) | st.floats(-1e300, -1.0)  # N


@cache
def geometry(name: str) -> Geometry:
    return Geometry(load_robot(name), BOXES, {FINGERS})


@st.composite
def joints(draw: st.DrawFn) -> Joint:
    lower = draw(st.floats(-5.0, 5.0))
    upper = lower + draw(st.floats(0.1, 6.0))
    return Joint("joint", lower, upper, draw(SIZES), draw(SIZES), draw(SIZES), 1.0)


class Drawn(NamedTuple):
    """A motion of a robot: samples (K, n)."""

    name: str
    path: np.ndarray

    @property
    def sweep(self) -> Sweep:
        return Sweep(geometry(self.name), self.path, INTERVAL)

    def tools(self, path: np.ndarray) -> np.ndarray:
        place = geometry(self.name)
        return place.poses(place.coordinates(path)).tools

    def distances(self, kind: str, path: np.ndarray) -> np.ndarray:
        """Return the distances of all pairs in each sample, (K, P)."""
        table = []
        for positions in path:
            geometry(self.name).place(positions)
            table.append(geometry(self.name).distances(kind))
        return np.array(table)

    def moved(self, kind: str) -> np.ndarray:
        """Return how far each pair can have moved up to each place, (2 K - 1, P)."""
        moved: np.ndarray = self.sweep.turned @ geometry(self.name).reaches[kind].T
        return moved


@st.composite
def motions(draw: st.DrawFn) -> Drawn:
    """Draw a motion from anywhere, with jumps of all sizes; some joints may stand."""
    name = draw(st.sampled_from(ROBOTS))
    robot = load_robot(name)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(2, 25))
    size = 10.0 ** draw(st.floats(-5.0, -0.5)) * (random.random(len(robot.joints)) < 0.7)
    rates = random.normal(size=len(robot.joints)) + 0.3 * random.normal(
        size=(count, len(robot.joints))
    )
    path = random.uniform(robot.lower, robot.upper) + np.cumsum(size * rates, axis=0)
    return Drawn(name, np.clip(path, robot.lower, robot.upper))


def between(path: np.ndarray, parts: int) -> np.ndarray:
    """Return samples and points on the straight lines between them."""
    shares = np.arange(parts)[:, None] / parts
    lines = [start + shares * (end - start) for start, end in pairwise(path)]
    return np.vstack([*lines, path[-1:]])


# --- limits of single joints -----------------------------------------------------------------


@given(joints(), SCALES, SCALES, SCALES, st.floats(0.0, 0.04))
def test_limits_narrow_what_they_are_for_in_any_order(
    joint: Joint, velocity: float, acceleration: float, jerk: float, margin: float
) -> None:
    limits: list[JointConstraint] = [
        PositionLimits({"joint": margin, "another": 1.0}),
        VelocityLimits(velocity),
        AccelerationLimits(acceleration),
        JerkLimits(jerk),
    ]
    results = set()
    for order in permutations(limits):
        bounds = UNBOUNDED
        for limit in order:
            bounds = limit.narrow(joint, bounds)
        results.add(bounds)
    (bounds,) = results
    assert joint.lower <= bounds.lower <= bounds.upper <= joint.upper
    assert bounds.lower == pytest.approx(joint.lower + margin)
    assert bounds.velocity == pytest.approx(velocity * joint.velocity)
    assert bounds.acceleration == pytest.approx(acceleration * joint.acceleration)
    assert bounds.jerk == pytest.approx(jerk * joint.jerk)


@given(joints())
def test_each_limit_leaves_the_others_alone(joint: Joint) -> None:
    limits: list[tuple[JointConstraint, set[str]]] = [
        (PositionLimits(), {"lower", "upper"}),
        (VelocityLimits(), {"velocity"}),
        (AccelerationLimits(), {"acceleration"}),
        (JerkLimits(), {"jerk"}),
    ]
    for limit, kinds in limits:
        narrowed = limit.narrow(joint, UNBOUNDED)
        for kind in ("lower", "upper", "velocity", "acceleration", "jerk"):
            asked = joint if kind in kinds else UNBOUNDED
            assert getattr(narrowed, kind) == getattr(asked, kind)


# --- gripper force ---------------------------------------------------------------------------

FORCE = GripperForce(joint=1, limit=10.0)


def measured(effort: float) -> Measured:
    return Measured(np.zeros(2), np.array([1e9, effort]))


@given(st.floats(allow_nan=True))
def test_a_force_is_too_great_from_its_limit_on(effort: float) -> None:
    assert FORCE.reached(measured(effort)) == (effort >= 10.0 or effort <= -10.0)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), EFFORTS)
def test_a_goal_presses_where_it_lies_or_is_passed_in_the_forces_direction(
    commanded: float, position: float, velocity: float, effort: float
) -> None:
    presses = FORCE.presses(Goal(position, velocity), commanded, measured(effort))
    ahead = position > commanded or velocity > 0.0
    back = position < commanded or velocity < 0.0
    assert presses == (ahead if effort > 0.0 else back)


@given(st.floats(-1e3, 1e3), st.floats(0.0, 1e3), EFFORTS)
def test_a_gripper_may_always_let_go_or_stay(commanded: float, way: float, effort: float) -> None:
    away = -way * float(np.sign(effort))
    assert not FORCE.presses(Goal(commanded + away, away), commanded, measured(effort))
    assert not FORCE.presses(Goal(commanded), commanded, measured(effort))


def test_the_room_of_a_force_that_nobody_measures_is_all_of_it() -> None:
    assert FORCE.room(measured(np.nan)) == 10.0
    assert FORCE.room(measured(-7.0)) == pytest.approx(3.0)
    assert FORCE.room(measured(12.0)) == pytest.approx(-2.0)


# --- the whole robot -------------------------------------------------------------------------


Kind = type[SelfCollision] | type[Obstacles]
for_any_clearance = given(
    motions(), st.floats(0.001, 0.1), st.sampled_from([SelfCollision, Obstacles])
)
for_any_workspace = given(
    motions(), st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.tuples(*[st.floats(0.1, 1.0)] * 3)
)


@settings(max_examples=150)
@for_any_clearance
def test_what_comes_closer_at_a_sample_than_allowed_breaks_a_clearance(
    drawn: Drawn, distance: float, kind: Kind
) -> None:
    """No pair may come closer than the distance, or than it was at the start."""
    finding = kind(distance).look(drawn.sweep)
    distances = drawn.distances(kind.kind, drawn.path)
    short = np.minimum(distance + CLEARANCE_RESERVE, distances[0]) - distances
    if short.max() > MEASURED:
        assert finding.broken
    if not finding.broken:
        assert finding.room >= distances.min() - distance - SAME or finding.room > 0.0


@settings(max_examples=150)
@for_any_clearance
def test_a_clearance_that_is_not_broken_holds_all_along_the_straight_lines(
    drawn: Drawn, distance: float, kind: Kind
) -> None:
    assume(not kind(distance).look(drawn.sweep).broken)
    distances = drawn.distances(kind.kind, between(drawn.path, 8))
    apart = (distances > 0.0).all(axis=0)  # inside each other, depth is no distance
    least = np.minimum(distance, distances[0] - 0.5 * CLEARANCE_RESERVE)
    assert (distances >= least - MEASURED)[:, apart].all()


@settings(max_examples=150)
@for_any_clearance
def test_a_clearance_is_broken_only_where_some_pair_may_be_too_close(
    drawn: Drawn, distance: float, kind: Kind
) -> None:
    finding = kind(distance).look(drawn.sweep)
    assume(finding.broken)
    places = between(drawn.path, 2)
    distances, moved = drawn.distances(kind.kind, places), drawn.moved(kind.kind)
    at_samples = np.minimum(distance + CLEARANCE_RESERVE, distances[0] - SAME) - distances
    least = np.minimum(distance, distances[0] - 0.5 * CLEARANCE_RESERVE)
    lines = least - 0.5 * (distances[1:] + distances[:-1] - np.diff(moved, axis=0))
    suspects = np.vstack([at_samples, lines]).max(axis=0) > -MEASURED
    place = geometry(drawn.name)
    assert finding.where in {place.name(kind.kind, int(pair)) for pair in suspects.nonzero()[0]}
    assert finding.room < CLEARANCE_RESERVE


@settings(max_examples=100)
@given(motions(), st.sampled_from(["self", "obstacles"]))
def test_no_shape_moves_further_than_the_bounds_say(drawn: Drawn, kind: str) -> None:
    distances, moved = drawn.distances(kind, between(drawn.path, 2)), drawn.moved(kind)
    apart = (distances[1:] > 0.0) & (distances[:-1] > 0.0)
    changes = np.abs(np.diff(distances, axis=0))
    assert (changes <= np.diff(moved, axis=0) + MEASURED)[apart].all()


@settings(max_examples=150)
@for_any_workspace
def test_the_workspace_is_judged_at_every_place(
    drawn: Drawn, lower: tuple[float, ...], size: tuple[float, ...]
) -> None:
    """From outside one side, the tool must not leave by another, nor go further out."""
    box = Workspace(lower, tuple(np.add(lower, size)))  # type: ignore[arg-type]
    finding = box.look(drawn.sweep)
    rooms = _rooms(box, drawn.tools(between(drawn.path, 2)))
    lacking = np.maximum(WORKSPACE_RESERVE - rooms, 0.0)
    assert finding.room == pytest.approx(rooms.min())
    if (lacking - lacking[0]).max() > 2 * SAME:
        assert finding.broken


@settings(max_examples=150)
@for_any_workspace
def test_a_workspace_that_is_not_broken_holds_all_along_the_straight_lines(
    drawn: Drawn, lower: tuple[float, ...], size: tuple[float, ...]
) -> None:
    box = Workspace(lower, tuple(np.add(lower, size)))  # type: ignore[arg-type]
    if box.look(drawn.sweep).broken:
        return
    outside = np.maximum(-_rooms(box, drawn.tools(between(drawn.path, 16))), 0.0)
    assert (outside - outside[0]).max() <= 1.1 * MEASURED


def _rooms(box: Workspace, tools: np.ndarray) -> np.ndarray:
    return np.hstack([tools - box.lower, box.upper - tools])


@settings(max_examples=100)
@given(motions())
def test_the_tool_stays_as_close_to_its_chords_as_the_bounds_say(drawn: Drawn) -> None:
    places = drawn.tools(between(drawn.path, 2))
    finer = drawn.tools(between(drawn.path, 16))
    for index, bulge in enumerate(drawn.sweep.tool_bulges()):
        shares = np.linspace(0.0, 1.0, 9)[:, None]
        chord = places[index] + shares * (places[index + 1] - places[index])
        beside = np.linalg.norm(finer[8 * index : 8 * index + 9] - chord, axis=1).max()
        assert beside <= bulge + SAME


@settings(max_examples=100)
@given(motions(), st.floats(0.05, 3.0))
def test_the_tool_is_never_faster_than_allowed_from_sample_to_sample(
    drawn: Drawn, limit: float
) -> None:
    finding = ToolSpeed(limit).look(drawn.sweep)
    speeds = np.linalg.norm(np.diff(drawn.tools(drawn.path), axis=0), axis=1) / INTERVAL
    assert finding.room <= limit - speeds.max() + SAME
    if not finding.broken:
        assert speeds.max() <= limit
        assert finding.room >= 0.0


@given(st.floats(0.2, 1.5), st.floats(2.0, 20.0), st.integers(2, 8))
def test_a_peak_of_the_tools_speed_between_two_samples_counts(
    peak: float, change: float, rising: int
) -> None:
    """Speeding up and slowing down at once, means are lower than the speed where they meet."""
    knots = INTERVAL * np.arange(-rising, rising + 1)
    way = np.sign(knots) * (peak * np.abs(knots) - 0.5 * change * knots**2)
    assume(peak - change * np.abs(knots).max() > 0.0)
    tools = np.zeros((4 * rising + 1, 3))
    tools[::2, 0] = way
    sweep = SimpleNamespace(poses=SimpleNamespace(tools=tools), interval=INTERVAL)
    finding = ToolSpeed(1.0).look(sweep)  # type: ignore[arg-type]
    assert finding.room == pytest.approx(1.0 - peak)
    assume(abs(peak - 1.0) > SAME)
    mean = peak - 0.5 * change * INTERVAL
    assert finding.broken == (peak > 1.0 or mean > 0.95)


def test_a_motion_of_one_sample_is_a_place() -> None:
    for name in ROBOTS:
        robot = load_robot(name)
        place = Drawn(name, robot.home_positions[None])
        for kind in (SelfCollision, Obstacles):
            finding = kind(0.005).look(place.sweep)
            nearest = place.distances(kind.kind, place.path).min()
            assert not finding.broken
            assert 0.0 < finding.room <= FAR
            assert finding.room <= nearest


def test_a_geometry_is_not_copied() -> None:
    """Compiled code is given the address of its model."""
    with pytest.raises(TypeError, match="copied"):
        deepcopy(geometry("arm"))
