"""Each constraint by itself: what it promises, against the plainest way to compute it."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.robots.description import Joint, load_robot
from rl_robot.safety.constraints import (
    CLEARANCE_RESERVE,
    UNBOUNDED,
    AccelerationLimits,
    GripperForce,
    JerkLimits,
    JointConstraint,
    Measured,
    Obstacles,
    PositionLimits,
    SelfCollision,
    Sweep,
    ToolSpeed,
    VelocityLimits,
    Workspace,
)
from rl_robot.safety.geometry import FAR, Box, Geometry
from rl_robot.safety.planner import Goal

ROBOTS = ("arm", "arm7")
SAME = 1e-9  # m or m/s
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


@st.composite
def sweeps(draw: st.DrawFn) -> tuple[str, Sweep]:
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
    path = np.clip(path, robot.lower, robot.upper)
    return name, Sweep(geometry(name), path, random.normal(size=path.shape))


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


@settings(max_examples=150)
@given(sweeps(), st.floats(0.001, 0.1), st.sampled_from([SelfCollision, Obstacles]))
def test_clearance_is_judged_as_if_every_pair_was_looked_at_in_every_sample(
    drawn: tuple[str, Sweep], distance: float, kind: type[SelfCollision] | type[Obstacles]
) -> None:
    """No pair may come closer than the distance, or than it was at the start."""
    name, sweep = drawn
    finding = kind(distance).look(sweep)
    pairs = range(len(geometry(name).bounds(kind.kind)))
    table = []
    for positions in sweep.positions:
        geometry(name).place(positions)
        table.append(geometry(name).distances(kind.kind, pairs))
    distances = np.array(table)
    short = np.minimum(distance + CLEARANCE_RESERVE, distances[0]) - distances
    if finding.broken:
        assert short.max() > 0.0
        assert finding.where in {geometry(name).name(kind.kind, pair) for pair in pairs}
        assert finding.room < CLEARANCE_RESERVE
    else:
        assert short.max() <= MEASURED
        assert finding.room >= distances.min() - distance - SAME or finding.room > 0.0


@settings(max_examples=100)
@given(sweeps())
def test_no_shape_moves_further_than_the_bounds_say(drawn: tuple[str, Sweep]) -> None:
    name, sweep = drawn
    for kind in ("self", "obstacles"):
        geometry(name).place(sweep.positions[0])
        bounds = geometry(name).bounds(kind)
        pairs = range(len(bounds))
        before = np.array(geometry(name).distances(kind, pairs))
        moved = sweep.moved(geometry(name).reaches[kind])[:, -1]
        geometry(name).place(sweep.positions[-1])
        after = np.array(geometry(name).distances(kind, pairs))
        apart = before > 0.0  # inside each other, depth is no distance
        assert (np.minimum(bounds, FAR) <= before + SAME)[apart].all()
        apart &= after > 0.0
        assert (np.abs(after - before) <= moved + MEASURED)[apart].all()


@settings(max_examples=150)
@given(sweeps(), st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.tuples(*[st.floats(0.1, 1.0)] * 3))
def test_the_workspace_is_judged_as_if_every_sample_was_looked_at(
    drawn: tuple[str, Sweep], lower: tuple[float, ...], size: tuple[float, ...]
) -> None:
    """From outside one side, the tool must not leave by another, nor go further out."""
    name, sweep = drawn
    box = Workspace(lower, tuple(np.add(lower, size)))  # type: ignore[arg-type]
    finding = box.look(sweep)
    tools = []
    for positions in sweep.positions:
        geometry(name).place(positions)
        tools.append(geometry(name).tool_position())
    rooms = np.hstack([np.subtract(tools, box.lower), np.subtract(box.upper, tools)])
    outside = np.maximum(-rooms, 0.0)
    further = (outside - outside[0]).max()
    assert finding.broken == (further > SAME) or further == pytest.approx(SAME, rel=1e-3)
    if not finding.broken:
        assert finding.room >= rooms.min() - SAME
        assert (finding.room < 0.0) == (rooms.min() < 0.0)


@settings(max_examples=100)
@given(sweeps(), st.floats(0.05, 3.0))
def test_the_tool_is_never_faster_than_allowed_or_at_the_start(
    drawn: tuple[str, Sweep], limit: float
) -> None:
    name, sweep = drawn
    finding = ToolSpeed(limit).look(sweep)
    speeds = []
    for positions, velocities in zip(sweep.positions, sweep.velocities, strict=True):
        geometry(name).place(positions)
        speeds.append(geometry(name).tool_speed(velocities))
    if finding.broken:
        assert max(speeds) > speeds[0]
        assert max(speeds) > 0.9 * limit
    else:
        assert max(speeds) <= max(limit, speeds[0]) + 2 * SAME
        assert finding.room > 0.0 or speeds[0] > 0.9 * limit


@pytest.mark.parametrize("name", ROBOTS)
def test_the_tools_speed_is_that_of_its_position(name: str) -> None:
    robot, random = load_robot(name), np.random.default_rng(0)
    for _ in range(20):
        positions = random.uniform(robot.lower, robot.upper)
        velocities = random.normal(size=len(positions))
        places = []
        for moment in (-1e-6, 1e-6):
            geometry(name).place(positions + moment * velocities)
            places.append(geometry(name).tool_position())
        geometry(name).place(positions)
        speed = np.linalg.norm(places[1] - places[0]) / 2e-6
        assert geometry(name).tool_speed(velocities) == pytest.approx(speed, rel=1e-5)
