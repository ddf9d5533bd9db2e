"""What the filter promises, for any command and from any state that it can be in."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import Joint, load_robot
from rl_robot.safety.filter import SafeMotion, SafetyFilter

RELATIVE = 1e-6
HOSTILE = [0.0, -0.0, 1.0, -1e9, 1e308, -1.7e308, 5e-324, np.nan, np.inf, -np.inf]


@st.composite
def joints(draw: st.DrawFn) -> list[Joint]:
    """Draw one to three joints, from slow and wide to fast and narrow."""
    return [
        Joint(
            name=f"joint_{index}",
            lower=(lower := draw(st.floats(-3.0, 3.0))),
            upper=lower + draw(st.floats(0.0, 6.0)),
            velocity=draw(st.floats(0.1, 10.0)),
            acceleration=draw(st.floats(0.5, 100.0)),
            jerk=1000.0,
            effort=10.0,
        )
        for index in range(draw(st.integers(1, 3)))
    ]


@st.composite
def filters(draw: st.DrawFn) -> SafetyFilter:
    """Draw a filter whose state is anywhere inside its limits, moving in any way."""
    limits = draw(joints())
    substeps = draw(st.integers(1, 6))
    made = SafetyFilter(limits, period=substeps * draw(st.floats(2e-3, 0.1)), substeps=substeps)
    made.reset(
        [joint.lower + draw(st.floats(0.0, 1.0)) * (joint.upper - joint.lower) for joint in limits],
        [draw(st.floats(-2.0, 2.0)) * joint.velocity for joint in limits],
    )
    return made


@st.composite
def motions(draw: st.DrawFn, safety: SafetyFilter) -> Motion | None:
    """Draw nothing, nonsense, far targets, rides along the limits, or what is nearly permitted."""
    kind = draw(st.sampled_from(["none", "hostile", "far", "ride", "steady"]))
    if kind == "none":
        return None
    count, substeps = len(safety.names), len(safety._times)
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    points = draw(st.integers(1, 7))
    times = np.cumsum(random.uniform(1e-9, 2.0 * safety._interval, points))
    if kind == "hostile":
        values = st.one_of(st.sampled_from(HOSTILE), st.floats())
        numbers = draw(st.lists(values, min_size=points * count, max_size=points * count))
        if draw(st.booleans()):
            times = np.array([draw(values) for _ in range(points)])
        return Motion(safety.names, times, np.reshape(numbers, (points, count)))
    positions, velocities = safety.state
    if kind == "far":
        far = positions + random.normal(0.0, 10.0 ** random.uniform(-6, 2), (points, count))
        return Motion(safety.names, times, far)
    if kind == "ride":
        end = np.where(random.random(count) < 0.5, safety._lower, safety._upper)
        return Motion(safety.names, times, np.tile(end, (points, 1)))
    changes = random.uniform(-1.01, 1.01, (substeps, count)) * safety._step
    path = positions + safety._interval * np.cumsum(velocities + np.cumsum(changes, 0), 0)
    return Motion(safety.names, safety._times, path)


def sent_by(
    safety: SafetyFilter, commands: st.DataObject, most: int = 8
) -> Iterator[tuple[SafeMotion, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield what is sent in answer to drawn commands: samples, velocities, accelerations."""
    for _ in range(commands.draw(st.integers(1, most))):
        before = safety.state
        safe = safety.step(commands.draw(motions(safety)))
        path = np.vstack([before.positions, safe.motion.positions])
        velocities = np.diff(path, axis=0) / safety._interval
        changing = np.vstack([before.velocities, velocities])
        yield safe, path[1:], velocities, np.diff(changing, axis=0) / safety._interval


@settings(max_examples=200)
@given(st.data())
def test_nothing_sent_is_ever_beyond_limits(data: st.DataObject) -> None:
    safety = data.draw(filters())
    for safe, path, velocities, accelerations in sent_by(safety, data):
        assert np.isfinite(path).all()
        assert path.shape == (len(safety._times), len(safety.names))
        assert (path >= safety._lower).all()
        assert (path <= safety._upper).all()
        assert (np.abs(velocities) <= (1 + RELATIVE) * safety._velocity).all()
        assert (np.abs(accelerations) <= (1 + RELATIVE) * safety._acceleration).all()
        assert all(np.isfinite(done.amount) for done in safe.interventions)
        assert np.isfinite(list(safe.margins.values())).all()


@settings(max_examples=100)
@given(st.data())
def test_a_joint_measured_outside_only_ever_comes_back(data: st.DataObject) -> None:
    safety = data.draw(filters())
    lower, upper = safety._lower, safety._upper
    excess = np.array([data.draw(st.floats(-0.1, 0.1)) for _ in safety.names])
    start = np.where(excess > 0.0, upper + excess, lower + excess)
    safety.reset(start, [data.draw(st.floats(-2.0, 2.0)) * v for v in safety._velocity])
    outside = np.maximum(lower - start, start - upper)
    for _, path, velocities, accelerations in sent_by(safety, data):
        for sample in path:
            now = np.maximum(lower - sample, sample - upper)
            assert (now <= np.maximum(outside, 0.0) + 1e-12).all()
            outside = now
        assert (np.abs(velocities) <= (1 + RELATIVE) * safety._velocity).all()
        assert (np.abs(accelerations) <= (1 + RELATIVE) * safety._acceleration).all()


@settings(max_examples=100)
@given(st.data())
def test_what_is_within_limits_passes_unchanged(data: st.DataObject) -> None:
    """Anything that a filter sent is within limits, so its twin passes it."""
    safety = data.draw(filters())
    twin = SafetyFilter(
        [
            Joint(name, lower, upper, velocity, acceleration, 1.0, 1.0)
            for name, lower, upper, velocity, acceleration in zip(
                safety.names,
                safety._lower,
                safety._upper,
                safety._velocity,
                safety._acceleration,
                strict=True,
            )
        ],
        period=safety._interval * len(safety._times),
        substeps=len(safety._times),
    )
    twin.reset(*safety.state)
    for safe, path, _, _ in sent_by(safety, data):
        again = twin.step(safe.motion)
        assert again.interventions == ()
        np.testing.assert_array_equal(again.motion.positions, path)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.999))
def test_independently_made_motion_within_limits_passes_unchanged(seed: int, part: float) -> None:
    random = np.random.default_rng(seed)
    limits = [Joint(name, -3.0, 3.0, 2.0, 8.0, 100.0, 1.0) for name in ("a", "b", "c")]
    safety = SafetyFilter(limits)
    safety.reset(random.uniform(-1.0, 1.0, 3))
    positions, velocity = safety.state
    for _ in range(10):
        path = []
        for _ in range(5):
            change = 0.02 * 8.0 * part * random.uniform(-1.0, 1.0, 3)
            velocity = velocity + np.clip(change, -2.0 * part - velocity, 2.0 * part - velocity)
            positions = positions + 0.02 * velocity
            path.append(positions)
        safe = safety.step(Motion(("a", "b", "c"), safety._times, np.array(path)))
        if not np.array_equal(safe.motion.positions, path):
            # only for want of room to stop before a position limit
            assert {done.kind for done in safe.interventions} == {"position"}
            assert np.abs(path).max() > 3.0 - (2.0**2 / (2 * 8.0) + 2.0 * 0.02)
            return
        assert safe.interventions == ()


@settings(max_examples=200)
@given(st.data())
def test_holding_stops_as_soon_as_limits_allow_and_stays(data: st.DataObject) -> None:
    safety = data.draw(filters())
    for _ in sent_by(safety, data, most=3):
        pass
    speed = np.abs(safety.state.velocities)
    needed = int(np.ceil((speed / safety._step).max() * (1 - 1e-9)))
    periods = -(-needed // len(safety._times))
    signs = np.sign(safety.state.velocities)
    for _ in range(periods):
        path = safety.step(None).motion.positions
        assert (signs * np.diff(path, axis=0) >= -1e-12).all()  # never turns back
    # the last sub-step of braking ends at rest; what follows does not move at all
    rest = safety.step(None)
    np.testing.assert_array_equal(rest.motion.positions[0], rest.motion.positions[-1])
    np.testing.assert_array_equal(safety.state.velocities, 0.0)
    assert rest.interventions == ()


@settings(max_examples=100)
@given(
    st.floats(-1.0, 1.0),
    st.floats(-1.0, 1.0),
    st.floats(0.2, 5.0),
    st.floats(1.0, 50.0),
    st.integers(2, 6),
)
def test_a_far_target_is_reached_in_time_and_without_overshoot(
    start: float, goal: float, velocity: float, acceleration: float, substeps: int
) -> None:
    limits = Joint("elbow", -1.0, 1.0, velocity, acceleration, 100.0, 10.0)
    safety = SafetyFilter([limits], period=0.02 * substeps, substeps=substeps)
    safety.reset([start])
    target = Motion(("elbow",), np.array([0.0]), np.array([[goal]]))
    way = abs(goal - start)
    if way > velocity**2 / acceleration:
        shortest = way / velocity + velocity / acceleration
    else:
        shortest = 2.0 * np.sqrt(way / acceleration)
    for _ in range(int(np.ceil((1.001 * shortest + 0.1) / (0.02 * substeps)))):
        path = safety.step(target).motion.positions
        assert ((path - goal) * np.sign(goal - start) <= 1e-9).all()
    assert safety.state.positions[0] == pytest.approx(goal, abs=1e-6)


@settings(max_examples=100)
@given(st.data())
def test_commands_may_come_at_any_time(data: st.DataObject) -> None:
    """A driver that plays each motion and its tail until the next one comes stays within limits."""
    safety = data.draw(filters())
    interval, step = safety._interval, safety._step
    period = interval * len(safety._times)
    start, ramp, clock = safety.state.positions, [(0.0, safety.state.velocities)], 0.0
    for _ in range(data.draw(st.integers(1, 6))):
        safe, tail = safety.step(data.draw(motions(safety))), safety.tail()
        points = np.vstack([start, safe.motion.positions, tail.positions])
        times = np.concatenate([[0.0], safe.motion.times, tail.times])
        elapsed = period * data.draw(st.one_of(st.just(1.0), st.floats(0.0, 3.0)))
        safety.interrupt(elapsed)
        reached = [np.interp(elapsed, times, column) for column in points.T]
        np.testing.assert_allclose(safety.state.positions, reached, rtol=0, atol=1e-9)
        assert (points >= safety._lower).all()
        assert (points <= safety._upper).all()
        velocities = np.diff(points, axis=0) / interval
        assert (np.abs(velocities) <= (1 + RELATIVE) * safety._velocity).all()
        begun = times[:-1] < elapsed
        ramp += list(zip(clock + times[:-1][begun], velocities[begun], strict=True))
        start, clock = safety.state.positions, clock + elapsed
    for first, (then, before) in enumerate(ramp):
        for now, after in ramp[first + 1 :]:
            # a sampled velocity is ahead of the ramp that it stands for by up to one sub-step
            allowed = (now - then) * safety._acceleration + 2.0 * step
            assert (np.abs(after - before) <= 1.001 * allowed + 1e-9).all()


def test_a_burst_of_commands_does_not_add_up() -> None:
    safety = one_joint()
    for _ in range(100):
        safety.step(line(safety, 2.0))
        safety.interrupt(0.001)
    assert 0.9 < safety.state.velocities[0] <= 1.0 + 1e-9  # 10 rad/s^2 for 0.1 s


def test_an_interruption_after_exactly_one_period_changes_nothing() -> None:
    safety = one_joint()
    safety.step(line(safety, 1.0))
    before = safety.state
    safety.interrupt(0.1)
    np.testing.assert_allclose(safety.state, before, rtol=1e-12)
    safety.interrupt(0.03)  # there is nothing left to interrupt
    np.testing.assert_allclose(safety.state, before, rtol=1e-12)
    safety.reset([0.5])
    safety.interrupt(0.05)
    np.testing.assert_array_equal(safety.state, [[0.5], [0.0]])
    with pytest.raises(ValueError, match="elapsed"):
        safety.interrupt(np.nan)


def test_the_tail_brakes_to_a_stop() -> None:
    safety = one_joint()
    safety.reset([0.0], [0.9])
    safety.step(line(safety, 0.9))
    tail = safety.tail()
    np.testing.assert_allclose(tail.times, 0.1 + 0.02 * np.arange(1, 6))
    np.testing.assert_allclose(
        np.diff(tail.positions[:, 0]) / 0.02, [0.5, 0.3, 0.1, 0.0], atol=1e-9
    )
    safety.interrupt(10.0)
    np.testing.assert_allclose(safety.state, [tail.positions[-1], [0.0]], atol=1e-12)
    safety.step(None)
    assert safety.tail().positions.shape == (0, 1)


def one_joint(**changes: float) -> SafetyFilter:
    limits = {"lower": -1.0, "upper": 1.0, "velocity": 2.0, "acceleration": 10.0} | changes
    safety = SafetyFilter([Joint("elbow", jerk=100.0, effort=10.0, **limits)])
    safety.reset([0.0])
    return safety


def line(safety: SafetyFilter, velocity: float) -> Motion:
    return Motion(
        safety.names, safety._times, safety.state.positions + velocity * safety._times[:, None]
    )


def test_interventions_say_what_would_have_been_broken_and_by_how_much() -> None:
    safety = one_joint()
    kinds = {done.kind: done.amount for done in safety.step(line(safety, 2.5)).interventions}
    assert kinds["velocity"] == pytest.approx(0.5)
    assert kinds["acceleration"] == pytest.approx(2.5 / 0.02 - 10.0)
    safety = one_joint()
    kinds = {done.kind: done.amount for done in safety.step(line(safety, 0.1)).interventions}
    assert kinds == {}
    kinds = {done.kind: done.amount for done in safety.step(line(safety, 0.5)).interventions}
    assert kinds == {"acceleration": pytest.approx(0.4 / 0.02 - 10.0)}
    safety.reset([0.999], [0.1])
    (done,) = safety.step(line(safety, 0.1)).interventions
    assert (done.kind, done.joint) == ("position", "elbow")
    assert done.amount == pytest.approx(0.999 + 0.01 - 1.0)


def test_other_joints_pass_unchanged_when_one_is_limited() -> None:
    limits = [Joint(name, -1.0, 1.0, 2.0, 10.0, 100.0, 10.0) for name in ("pan", "lift")]
    safety = SafetyFilter(limits)
    safety.reset([0.0, 0.0])
    asked = safety._times[:, None] * np.array([0.15, 3.0])
    safe = safety.step(Motion(("pan", "lift"), safety._times, asked))
    np.testing.assert_array_equal(safe.motion.positions[:, 0], asked[:, 0])
    assert {done.joint for done in safe.interventions} == {"lift"}


def test_margins_are_the_room_that_is_left() -> None:
    safety = one_joint()
    margins = safety.step(line(safety, 0.1)).margins
    assert margins == {
        "position/elbow": pytest.approx(0.99),
        "velocity/elbow": pytest.approx(1.9),
        "acceleration/elbow": pytest.approx(5.0),
    }


def test_a_motion_is_sampled_linearly_and_its_last_point_held() -> None:
    safety = one_joint()
    # up to 4 mm in 40 ms, and on to 5 mm in another 100 ms
    safe = safety.step(Motion(("elbow",), np.array([0.04, 0.14]), np.array([[0.004], [0.005]])))
    np.testing.assert_allclose(
        safe.motion.positions[:, 0], [0.002, 0.004, 0.0042, 0.0044, 0.0046], rtol=1e-12
    )
    assert safe.interventions == ()
    np.testing.assert_allclose(safe.motion.times, [0.02, 0.04, 0.06, 0.08, 0.1])
    held = safety.step(Motion(("elbow",), np.array([0.02]), np.array([[0.0047]])))
    np.testing.assert_allclose(held.motion.positions[:, 0], 0.0047, rtol=1e-12)


@pytest.mark.parametrize(
    ("times", "positions", "kind"),
    [
        ([0.02, 0.04], [[0.0], [np.nan]], "non_finite"),
        ([0.02, np.inf], [[0.0], [0.0]], "non_finite"),
        ([0.02, 0.02], [[0.0], [0.0]], "malformed"),
        ([0.04, 0.02], [[0.0], [0.0]], "malformed"),
        ([-0.02, 0.02], [[0.0], [0.0]], "malformed"),
        ([0.02], [[0.0, 0.0]], "malformed"),
        ([0.02], [0.0], "malformed"),
        ([], np.empty((0, 1)), "malformed"),
        ([[0.02]], [[0.0]], "malformed"),
        ([0.02], [["far"]], "malformed"),
    ],
)
def test_a_motion_that_is_not_usable_stops_the_robot(times, positions, kind) -> None:  # type: ignore[no-untyped-def]
    safety = one_joint()
    safety.reset([0.0], [1.0])
    safe = safety.step(Motion(("elbow",), np.array(times), np.array(positions)))
    assert [done.kind for done in safe.interventions] == [kind]
    np.testing.assert_allclose(safety.state, [[0.04], [0.0]], atol=1e-12)


def test_motion_of_other_joints_stops_the_robot() -> None:
    safety = one_joint()
    safe = safety.step(Motion(("wrist",), np.array([0.1]), np.array([[0.0]])))
    assert [done.kind for done in safe.interventions] == ["malformed"]


def test_a_reset_takes_a_velocity_that_can_be_stopped() -> None:
    safety = one_joint()
    safety.reset([0.0], [50.0])
    assert safety.state.velocities[0] == 2.0
    safety.reset([1.0], [2.0])
    assert safety.state.velocities[0] == pytest.approx(0.2)  # gone with the next sub-step
    safety.reset([1.1], [-1.0])
    assert safety.state.velocities[0] == -1.0


def test_holding_outside_the_limits_does_not_move() -> None:
    safety = one_joint()
    safety.reset([1.05])
    np.testing.assert_array_equal(safety.step(None).motion.positions, 1.05)
    safety.step(Motion(("elbow",), np.array([0.1]), np.array([[1.05]])))
    assert safety.state.positions[0] < 1.05
    for _ in range(5):
        safety.step(Motion(("elbow",), np.array([0.1]), np.array([[1.05]])))
    assert safety.state.positions[0] == pytest.approx(1.0)


@pytest.mark.parametrize("positions", [[np.nan], [np.inf], [1e300], [0.0, 0.0], []])
def test_a_reset_to_nonsense_is_refused(positions: list[float]) -> None:
    safety = one_joint()
    with pytest.raises(ValueError, match="positions"):
        safety.reset(positions)
    with pytest.raises(ValueError, match="velocities"):
        safety.reset([0.0], positions)


def test_no_step_before_a_reset() -> None:
    safety = SafetyFilter([Joint("elbow", -1.0, 1.0, 2.0, 10.0, 100.0, 10.0)])
    with pytest.raises(RuntimeError, match="reset"):
        safety.step(None)


@pytest.mark.parametrize(
    "changes",
    [
        {"lower": 2.0},
        {"lower": np.nan},
        {"upper": np.inf},
        {"velocity": 0.0},
        {"velocity": -1.0},
        {"acceleration": 0.0},
        {"acceleration": np.nan},
        {"acceleration": 1e300},
        {"acceleration": 1e-3},  # 100,000 sub-steps to a stop
    ],
)
def test_limits_that_are_not_usable_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="elbow"):
        one_joint(**changes)


@pytest.mark.parametrize(
    ("period", "substeps"), [(0.0, 5), (-0.1, 5), (np.nan, 5), (np.inf, 5), (1e-310, 5), (0.1, 0)]
)
def test_periods_that_are_not_usable_are_refused(period: float, substeps: int) -> None:
    with pytest.raises(ValueError, match="period"):
        SafetyFilter([Joint("a", -1.0, 1.0, 1.0, 1.0, 1.0, 1.0)], period=period, substeps=substeps)


def test_the_arm_under_hard_driving_stays_within_its_limits() -> None:
    robot = load_robot("arm")
    safety, action_map = SafetyFilter(robot.joints), CartesianAction(robot)
    safety.reset(robot.home_positions)
    random = np.random.default_rng(0)
    path = [robot.home_positions]
    for _ in range(200):
        motion = action_map.to_motion(safety.state.positions, random.choice([-1.0, 1.0], 5))
        path += list(safety.step(motion).motion.positions)
    velocities = np.diff(path, axis=0) / 0.02
    changes = np.diff(velocities, axis=0) / 0.02
    assert (path >= robot.lower).all()
    assert (path <= robot.upper).all()
    assert (np.abs(velocities) <= (1 + RELATIVE) * robot.velocity).all()
    assert (np.abs(changes) <= (1 + RELATIVE) * robot.acceleration).all()
    assert np.abs(velocities).max() > 0.5  # it did move
