"""What the filter promises, for any command and from any state that it can be in."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import Joint, load_robot
from rl_robot.safety.filter import SafetyFilter
from rl_robot.safety.stopping import stopping_distance

RELATIVE = 1e-6
HOSTILE = [0.0, -0.0, 1.0, -1e9, 1e308, -1.7e308, 5e-324, np.nan, np.inf, -np.inf]


class Limits(NamedTuple):
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray


def limits_of(safety: SafetyFilter) -> Limits:
    return Limits(
        *(
            np.array([getattr(bounds, name) for bounds in safety.limits])
            for name in ("lower", "upper", "velocity", "acceleration", "jerk")
        )
    )


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
            jerk=draw(st.floats(5.0, 1e4)),
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
    count = len(safety.names)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = draw(st.integers(1, 7))
    times = np.cumsum(random.uniform(1e-9, 2.0 * safety.interval, points))
    if kind == "hostile":
        values = st.one_of(st.sampled_from(HOSTILE), st.floats())
        numbers = draw(st.lists(values, min_size=points * count, max_size=points * count))
        if draw(st.booleans()):
            times = np.array([draw(values) for _ in range(points)])
        return Motion(safety.names, times, np.reshape(numbers, (points, count)))
    limits, state = limits_of(safety), safety.state
    if kind == "far":
        far = state.positions + random.normal(0.0, 10.0 ** random.uniform(-6, 2), (points, count))
        return Motion(safety.names, times, far)
    if kind == "ride":
        end = np.where(random.random(count) < 0.5, limits.lower, limits.upper)
        return Motion(safety.names, times, np.tile(end, (points, 1)))
    times = grid(safety)
    changes = random.uniform(-1.01, 1.01, (len(times), count)) * limits.acceleration
    rates = state.velocities + safety.interval * np.cumsum(changes, axis=0)
    path = state.positions + safety.interval * np.cumsum(rates, axis=0)
    return Motion(safety.names, times, path)


def grid(safety: SafetyFilter) -> np.ndarray:
    count = round(safety.period / safety.interval)
    return safety.interval * np.arange(1, count + 1)


def differences(times: np.ndarray, path: np.ndarray) -> list[np.ndarray]:
    """Return what velocities, accelerations and jerks samples (K, n) at ``times`` (K,) stand for.

    Divided differences times the factorial: of a path with bounded derivatives they stay within
    the same bounds, however the samples lie.
    """
    found, current = [], path
    for order in (1, 2, 3):
        span = times[order:] - times[:-order]
        current = order * np.diff(current, axis=0) / span[:, None]
        found.append(current)
    return found


def assert_within(safety: SafetyFilter, times: np.ndarray, path: np.ndarray) -> None:
    """Samples that were sent keep velocity, acceleration and jerk limits, but for rounding."""
    limits = limits_of(safety)
    finest = np.diff(times).min()
    for order, (found, most) in enumerate(
        zip(differences(times, path), limits[2:], strict=True), start=1
    ):
        rounding = 2.0**order * np.abs(path).max() * 4e-16 * 6.0 / finest**order + 1e-9
        assert (np.abs(found) <= (1 + RELATIVE) * most + rounding).all()


@settings(max_examples=200)
@given(st.data())
def test_nothing_sent_is_ever_beyond_limits(data: st.DataObject) -> None:
    safety = data.draw(filters())
    limits = limits_of(safety)
    path, times = [safety.state.positions], [0.0]
    for _ in range(data.draw(st.integers(1, 8))):
        safe = safety.step(data.draw(motions(safety)))
        path += list(safe.motion.positions)
        times += list(times[-1] + safe.motion.times)
        assert safe.motion.positions.shape == (len(grid(safety)), len(safety.names))
        assert all(np.isfinite(done.amount) for done in safe.interventions)
        assert np.isfinite(list(safe.margins.values())).all()
        assert min(safe.margins.values()) >= -1e-6 * max(1.0, limits.jerk.max())
    sent = np.array(path)
    assert np.isfinite(sent).all()
    assert (sent[1:] >= limits.lower).all()
    assert (sent[1:] <= limits.upper).all()
    assert_within(safety, np.array(times), sent)


@settings(max_examples=100)
@given(st.data())
def test_a_joint_measured_outside_only_ever_comes_back(data: st.DataObject) -> None:
    safety = data.draw(filters())
    limits = limits_of(safety)
    excess = np.array([data.draw(st.floats(-0.1, 0.1)) for _ in safety.names])
    start = np.where(excess > 0.0, limits.upper + excess, limits.lower + excess)
    safety.reset(start, [data.draw(st.floats(-2.0, 2.0)) * v for v in limits.velocity])
    outside = np.maximum(np.maximum(limits.lower - start, start - limits.upper), 0.0)
    for _ in range(data.draw(st.integers(1, 8))):
        for sample in safety.step(data.draw(motions(safety))).motion.positions:
            now = np.maximum(limits.lower - sample, sample - limits.upper)
            assert (now <= outside + 1e-9).all()
            outside = np.maximum(now, 0.0)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.5))
def test_smooth_motion_within_limits_is_followed(seed: int, part: float) -> None:
    """Where it is at each period's end; in between it may take a way of its own."""
    random = np.random.default_rng(seed)
    names = ("a", "b", "c")
    safety = SafetyFilter([Joint(name, -3.0, 3.0, 2.0, 8.0, 100.0, 1.0) for name in names])
    centre = random.uniform(-1.0, 1.0, 3)
    rate = random.uniform(0.1, 3.0, 3)
    size = part * np.minimum(0.5 * np.minimum(2.0 / rate, 8.0 / rate**2), 50.0 / rate**3)

    def at(times: np.ndarray) -> np.ndarray:
        return centre + size * (1.0 - np.cos(rate * times[:, None]))

    safety.reset(centre)
    for period in range(40):
        times = 0.1 * period + grid(safety)
        safe = safety.step(Motion(names, grid(safety), at(times)))
        if period > 25:  # by then it has caught up with the start from rest
            assert safe.interventions == ()
            np.testing.assert_allclose(safe.motion.positions[-1], at(times)[-1], atol=1e-9)
            np.testing.assert_allclose(safe.motion.positions, at(times), atol=2e-3 * part + 1e-9)


@settings(max_examples=200)
@given(st.data())
def test_holding_stops_as_soon_as_limits_allow_and_stays(data: st.DataObject) -> None:
    safety = data.draw(filters())
    limits = limits_of(safety)
    safety.step(data.draw(motions(safety)))
    state = safety.state
    # time to take the acceleration back, then the quickest stop from the speed that is left
    speed = np.abs(state.velocities) + state.accelerations**2 / (2.0 * limits.jerk)
    needed = (
        np.abs(state.accelerations) / limits.jerk
        + speed / limits.acceleration
        + limits.acceleration / limits.jerk
        + 2.0 * np.sqrt(speed / limits.jerk)
    ).max()
    for _ in range(int(np.ceil(needed / safety.period)) + 1):
        safety.step(None)
    assert safety.at_rest
    rest = safety.step(None)
    np.testing.assert_array_equal(rest.motion.positions[0], rest.motion.positions[-1])
    np.testing.assert_allclose(safety.state.velocities, 0.0, atol=1e-9)
    assert rest.interventions == ()
    assert safety.tail().positions.shape[0] == 0


@settings(max_examples=100)
@given(
    st.floats(-1.0, 1.0),
    st.floats(-1.0, 1.0),
    st.floats(0.2, 5.0),
    st.floats(1.0, 50.0),
    st.floats(20.0, 5000.0),
    st.integers(2, 6),
)
def test_a_far_target_is_reached_in_time_and_without_overshoot(
    start: float, goal: float, velocity: float, acceleration: float, jerk: float, substeps: int
) -> None:
    safety = SafetyFilter(
        [Joint("elbow", -1.0, 1.0, velocity, acceleration, jerk, 10.0)],
        period=0.02 * substeps,
        substeps=substeps,
    )
    safety.reset([start])
    target = Motion(("elbow",), np.array([0.0]), np.array([[goal]]))
    way = abs(goal - start)
    # from rest to rest, speeding up as far as slowing down
    peak = velocity
    while 2.0 * stopping_distance(peak, acceleration, jerk) > way and peak > 1e-6:
        peak *= 0.999
    ramps = 2.0 * stopping_distance(peak, acceleration, jerk)
    shortest = 2.0 * ramps / peak + (way - ramps) / peak if peak > 1e-6 else 0.0
    for _ in range(int(np.ceil((1.01 * shortest + 0.02 * substeps) / (0.02 * substeps))) + 1):
        path = safety.step(target).motion.positions
        assert ((path - goal) * np.sign(goal - start) <= 1e-9).all()
    assert safety.state.positions[0] == pytest.approx(goal, abs=1e-6)


@settings(max_examples=100)
@given(st.data())
def test_commands_may_come_at_any_time(data: st.DataObject) -> None:
    """A driver that plays each motion and its tail until the next one comes stays within limits."""
    safety = data.draw(filters())
    limits = limits_of(safety)
    sent, clock = [(0.0, safety.state.positions)], 0.0
    for _ in range(data.draw(st.integers(1, 6))):
        safe, tail = safety.step(data.draw(motions(safety))), safety.tail()
        path = np.vstack([safe.motion.positions, tail.positions])
        times = np.concatenate([safe.motion.times, tail.times])
        assert (path >= limits.lower).all()
        assert (path <= limits.upper).all()
        elapsed = safety.period * data.draw(st.one_of(st.just(1.0), st.floats(0.0, 3.0)))
        safety.interrupt(elapsed)
        sent += [
            (clock + time, sample)
            for time, sample in zip(times, path, strict=True)
            if time < elapsed
        ]
        clock += elapsed
        sent.append((clock, safety.state.positions))
    kept = [sent[0]]
    for time, sample in sent[1:]:
        if time - kept[-1][0] > 1e-3:  # closer together, rounding is all that could be seen
            kept.append((time, sample))
    if len(kept) > 3:
        assert_within(safety, np.array([t for t, _ in kept]), np.array([p for _, p in kept]))


def test_a_burst_of_commands_does_not_add_up() -> None:
    safety = one_joint(jerk=1e4)
    for _ in range(100):
        safety.step(line(safety, 2.0))
        safety.interrupt(0.001)
    assert 0.9 < safety.state.velocities[0] <= 1.0 + 1e-9  # 10 rad/s^2 for 0.1 s


def test_an_interruption_after_exactly_one_period_changes_nothing() -> None:
    safety = one_joint()
    safety.step(line(safety, 0.2))
    before = safety.state
    safety.interrupt(0.1)
    np.testing.assert_allclose(safety.state, before, rtol=1e-12)
    safety.interrupt(0.03)  # there is nothing left to interrupt
    np.testing.assert_allclose(safety.state, before, rtol=1e-12)
    safety.reset([0.5])
    safety.interrupt(0.05)
    np.testing.assert_array_equal(safety.state, [[0.5], [0.0], [0.0]])
    with pytest.raises(ValueError, match="elapsed"):
        safety.interrupt(np.nan)


def test_the_tail_brakes_to_a_stop() -> None:
    safety = one_joint()
    safety.reset([0.0], [0.9])
    safe = safety.step(line(safety, 0.9))
    tail = safety.tail()
    assert tail.times[0] == pytest.approx(0.12)
    stop = safe.motion.positions[-1, 0] + stopping_distance(0.9, 10.0, 100.0)
    assert tail.positions[-1, 0] == pytest.approx(stop)
    assert (np.diff(tail.positions[:, 0]) >= 0.0).all()
    safety.interrupt(10.0)
    np.testing.assert_allclose(safety.state, [tail.positions[-1], [0.0], [0.0]], atol=1e-12)
    safety.step(None)
    assert safety.tail().positions.shape == (0, 1)


def test_a_preview_changes_nothing() -> None:
    safety = one_joint()
    safety.step(line(safety, 0.2))
    before = safety.state
    seen = safety.preview(line(safety, 5.0))
    np.testing.assert_array_equal(safety.state, before)
    safe = safety.step(line(safety, 5.0))
    np.testing.assert_array_equal(safe.motion.positions, seen.motion.positions)
    assert safe.interventions == seen.interventions != ()


def one_joint(**changes: float) -> SafetyFilter:
    limits = {"lower": -1.0, "upper": 1.0, "velocity": 2.0, "acceleration": 10.0, "jerk": 100.0}
    safety = SafetyFilter([Joint("elbow", effort=10.0, **(limits | changes))])
    safety.reset([0.0])
    return safety


def line(safety: SafetyFilter, velocity: float) -> Motion:
    times = grid(safety)
    return Motion(safety.names, times, safety.state.positions + velocity * times[:, None])


def test_interventions_say_what_would_have_been_broken_and_by_how_much() -> None:
    safety = one_joint()
    kinds = {done.kind: done.amount for done in safety.step(line(safety, 2.5)).interventions}
    assert kinds["velocity"] == pytest.approx(0.5)
    assert one_joint().step(line(one_joint(), 0.005)).interventions == ()
    (done,) = one_joint().step(line(one_joint(), 0.5)).interventions
    assert (done.kind, done.where) == ("jerk", "elbow")
    (done,) = one_joint(jerk=1e5).step(line(one_joint(), 0.9)).interventions
    assert (done.kind, done.where) == ("acceleration", "elbow")
    safety.reset([0.96], [0.3])
    done = safety.step(line(safety, 0.3)).interventions[0]
    assert (done.kind, done.where) == ("position", "elbow")
    assert done.amount == pytest.approx(stopping_distance(0.3, 10.0, 100.0) - 0.01)
    safety.reset([0.99])
    done = safety.step(Motion(("elbow",), np.array([0.1]), np.array([[1.2]]))).interventions[0]
    assert (done.kind, done.where, done.amount) == ("position", "elbow", pytest.approx(0.2))


def test_other_joints_are_followed_when_one_is_limited() -> None:
    limits = [Joint(name, -1.0, 1.0, 2.0, 10.0, 1000.0, 10.0) for name in ("pan", "lift")]
    safety = SafetyFilter(limits)
    safety.reset([0.0, 0.0])
    asked = grid(safety)[:, None] * np.array([0.1, 3.0])
    safe = safety.step(Motion(("pan", "lift"), grid(safety), asked))
    assert safe.motion.positions[-1, 0] == pytest.approx(asked[-1, 0], abs=1e-12)
    assert {done.where for done in safe.interventions} == {"lift"}


def test_margins_are_the_room_that_is_left() -> None:
    safety = one_joint()
    safety.reset([0.0], [0.1])
    margins = safety.step(line(safety, 0.1)).margins
    assert margins == {
        "position/elbow": pytest.approx(0.99),
        "velocity/elbow": pytest.approx(1.9),
        "acceleration/elbow": pytest.approx(10.0),
        "jerk/elbow": pytest.approx(100.0),
    }


def test_what_counts_is_where_a_motion_is_at_the_end_of_the_period() -> None:
    safety = one_joint(jerk=1e4)
    # up to 4 mm in 40 ms, and on to 5 mm in another 100 ms
    safe = safety.step(Motion(("elbow",), np.array([0.04, 0.14]), np.array([[0.004], [0.005]])))
    assert safe.motion.positions[-1, 0] == pytest.approx(0.0046, abs=1e-12)
    assert safety.state.velocities[0] == pytest.approx(0.01)
    assert safe.interventions == ()
    np.testing.assert_allclose(safe.motion.times, [0.02, 0.04, 0.06, 0.08, 0.1])
    held = safety.step(Motion(("elbow",), np.array([0.02]), np.array([[0.0047]])))
    assert held.motion.positions[-1, 0] == pytest.approx(0.0047, abs=1e-12)
    assert safety.at_rest


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
    # jerk 100 and acceleration 10 take 0.2 s to stop from 1 rad/s
    np.testing.assert_allclose(safety.step(None).motion.positions[-1], 0.1, atol=1e-9)
    assert safety.at_rest


def test_motion_of_other_joints_stops_the_robot() -> None:
    safety = one_joint()
    safe = safety.step(Motion(("wrist",), np.array([0.1]), np.array([[0.0]])))
    assert [done.kind for done in safe.interventions] == ["malformed"]


def test_a_reset_takes_a_velocity_that_can_be_stopped() -> None:
    safety = one_joint()
    safety.reset([0.0], [50.0])
    assert safety.state.velocities[0] == 2.0
    safety.reset([0.9], [2.0])
    assert stopping_distance(safety.state.velocities[0], 10.0, 100.0) == pytest.approx(0.1)
    safety.reset([1.0], [2.0])
    assert safety.state.velocities[0] == 0.0
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
        {"acceleration": 1e-3},  # half an hour to a stop
        {"jerk": 0.0},
        {"jerk": np.nan},
        {"jerk": 1e-3},
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
    sent = np.array(path)
    assert (sent >= robot.lower).all()
    assert (sent <= robot.upper).all()
    assert_within(safety, 0.02 * np.arange(len(sent)), sent)
    assert np.abs(np.diff(sent, axis=0)).max() > 0.5 * 0.02  # it did move


def test_a_motion_that_was_not_sent_can_be_withdrawn() -> None:
    safety = one_joint()
    safety.reset([0.0], [0.5])
    safety.step(line(safety, 0.5))
    safety.interrupt(0.05)
    expected = safety.step(None).motion.positions
    safety = one_joint()
    safety.reset([0.0], [0.5])
    safety.step(line(safety, 0.5))
    safety.interrupt(0.03)
    safety.step(line(safety, -2.0))  # decided, then held up for 20 ms before it could be sent
    safety.withdraw()
    safety.interrupt(0.05)
    np.testing.assert_array_equal(safety.step(None).motion.positions, expected)
    safety.reset([0.0])
    with pytest.raises(RuntimeError, match="withdraw"):
        safety.withdraw()
