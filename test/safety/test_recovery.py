"""Recovery: what it takes for unsafe, the way back, and that it leaves everything else alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.safety.chain import make_filter, make_recovery
from rl_robot.safety.filter import SafeMotion, SafetyFilter
from rl_robot.safety.recovery import Recovery

ARM = load_robot("arm")
PERIOD = 0.1
HOME = ARM.home_positions
COUNT = len(ARM.arm_joints)
TABLE = np.array([0.0, 0.9, 0.5, 0.0, 0.0, 0.0])  # from home, the arm's way down to the table
LIMIT = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 10.0])


class Rig:
    """A robot that follows what it is sent, unless something is in the way."""

    def __init__(self, robot: Robot = ARM, start: np.ndarray = HOME) -> None:
        self.filter: SafetyFilter = make_filter(robot, period=PERIOD)
        self.recovery: Recovery = make_recovery(robot, self.filter)
        self.filter.reset(start)
        self.recovery.restart()
        self.measured = start
        self.follow: Callable[[np.ndarray], np.ndarray] = lambda positions: positions
        self.kinds: list[str] = []  # per period, what it was recovered from

    def step(self, motion: Motion | None, **how: bool) -> SafeMotion:
        self.recovery.measure(self.measured)
        safe = self.recovery.step(motion, **how)
        self.measured = self.follow(safe.motion.positions[-1])
        self.kinds.append(self.recovery.active.kind if self.recovery.active else "")
        return safe

    def push(self, way: np.ndarray, speed: float = 0.5) -> SafeMotion:
        """Play a period of a source that pushes ``way`` (n_arm,), gripper open."""
        goal = self.filter.state.positions
        goal[:COUNT] += speed * PERIOD * way / max(np.abs(way).max(), 1.0)
        return self.step(motion(goal))

    def push_until_taken(self, way: np.ndarray, periods: int = 150) -> None:
        for _ in range(periods):
            self.push(way)
            if self.recovery.active:
                return
        raise AssertionError("recovery did not take over")

    def recover(self, periods: int = 120) -> None:
        """Go on with a silent source until the robot is handed back."""
        for _ in range(periods):
            if not self.recovery.active:
                return
            self.step(None)
        raise AssertionError("recovery did not end")

    @property
    def lacking(self) -> dict[str, float]:
        return self.recovery.room.lacking(self.measured)


def motion(goal: np.ndarray) -> Motion:
    return Motion(ARM.joint_names, np.array([PERIOD]), goal[None])


def options(**changes: Any) -> Robot:
    """The arm, with a part of its recovery changed; None leaves it out."""
    section = {**ARM.safety["recovery"], **changes}
    kept = {name: value for name, value in section.items() if value is not None}
    return replace(ARM, safety={**ARM.safety, "recovery": kept})


@pytest.mark.parametrize(
    ("way", "kind", "where"),
    [(LIMIT, "limit", "wrist_3"), (TABLE, "collision", "")],
)
def test_what_is_stuck_is_brought_back_and_handed_back_at_rest(
    way: np.ndarray, kind: str, where: str
) -> None:
    rig = Rig()
    rig.push_until_taken(way)
    assert rig.recovery.active is not None
    assert rig.recovery.active.kind == kind
    assert where in rig.recovery.active.where
    safe = rig.step(None)
    said = [item.where for item in safe.interventions if item.kind == "recovery"]
    assert said == [f"{kind} {rig.recovery.active.where}"]
    rig.recover()
    assert not rig.lacking
    assert rig.filter.at_rest
    assert rig.recovery.counts == {kind: 1}
    assert not rig.recovery.failure


def test_it_goes_back_the_way_it_came() -> None:
    rig = Rig()
    way = []
    while not rig.recovery.active:
        way.append(rig.push(TABLE).motion.positions[-1])
    back = []
    while rig.recovery.active:
        back.append(rig.step(None).motion.positions[-1])
    apart = [np.abs(np.array(way) - positions).max(axis=1).min() for positions in back]
    assert max(apart) < 0.05


def test_it_is_gentle() -> None:
    rig = Rig()
    rig.push_until_taken(TABLE)
    rig.step(None)  # from the speed that the source had
    fastest = 0.0
    while rig.recovery.active:
        rig.step(None)
        fastest = max(fastest, float((np.abs(rig.filter.state.velocities) / ARM.velocity).max()))
    assert fastest < 1.5 * ARM.safety["recovery"]["speed"]


def test_pressing_for_a_moment_is_not_being_stuck() -> None:
    rig = Rig()
    patience = ARM.safety["recovery"]["stuck"]["periods"]
    while not rig.push(LIMIT).interventions:
        pass
    for _ in range(patience - 3):
        rig.push(LIMIT)
    rig.push(-LIMIT)
    for _ in range(patience - 3):
        rig.push(LIMIT)
    assert not any(rig.kinds)


def test_without_a_memory_it_finds_a_way_that_gains_room() -> None:
    stuck = Rig()
    stuck.push_until_taken(TABLE)
    rig = Rig(start=stuck.measured)
    rig.push_until_taken(TABLE)
    rig.recover()
    assert not rig.lacking


def test_a_joint_measured_outside_its_limits_comes_back_inside() -> None:
    start = HOME.copy()
    start[5] = ARM.upper[5] + 0.02
    rig = Rig(start=start)
    rig.push_until_taken(LIMIT)
    rig.recover()
    assert not rig.lacking


def test_something_in_the_way_is_backed_off_from() -> None:
    rig = Rig()
    wall = HOME[0] + 0.4
    rig.follow = lambda positions: np.minimum(positions, [wall, *ARM.upper[1:]])
    rig.push_until_taken(np.eye(COUNT)[0])
    assert rig.recovery.active is not None
    assert (rig.recovery.active.kind, rig.recovery.active.where) == ("contact", ARM.joint_names[0])
    rig.recover()
    assert rig.filter.state.positions[0] < wall


def test_it_gives_up_and_says_why() -> None:
    rig = Rig(options(patience=1.0))
    rig.push(TABLE)
    rig.follow = lambda positions: HOME + 0.5
    for _ in range(30):
        rig.push(TABLE)
    assert "gave up after 1 s: something is in the way" in rig.recovery.failure
    assert rig.filter.at_rest  # whatever the source wants
    assert rig.kinds[-1] == ""
    rig.follow = lambda positions: positions
    rig.recovery.restart()
    before = rig.filter.state.positions
    rig.push(-TABLE)
    assert np.abs(rig.filter.state.positions - before).max() > 0.0


def grip(rig: Rig, width: float) -> None:
    """Close on something as thick as two times ``width`` (m), until it is known to be held."""
    hold_on(rig, width)
    goal = rig.filter.state.positions
    goal[-1] = ARM.gripper.closed  # type: ignore[union-attr]
    for _ in range(15):
        rig.step(motion(goal))


def hold_on(rig: Rig, width: float) -> None:
    rig.follow = lambda positions: np.append(positions[:-1], max(positions[-1], width))


def test_a_grip_that_slips_is_gripped_again() -> None:
    rig = Rig()
    grip(rig, 0.02)
    hold_on(rig, 0.012)
    arm = rig.filter.state.positions[:COUNT]
    rig.push(np.eye(COUNT)[0])
    assert rig.kinds[-1] == ""
    rig.push(np.eye(COUNT)[0])
    assert rig.kinds[-1] == "slip"
    rig.recover()
    assert np.abs(rig.filter.state.positions[:COUNT] - arm).max() < 0.1
    assert rig.recovery.counts == {"slip": 1}


def test_what_was_dropped_is_counted_as_lost() -> None:
    rig = Rig()
    grip(rig, 0.02)
    hold_on(rig, 0.0)
    rig.push(np.zeros(COUNT))
    rig.push(np.zeros(COUNT))
    rig.recover()
    assert rig.recovery.counts == {"slip": 1, "lost": 1}
    for _ in range(20):
        rig.push(np.zeros(COUNT))
    assert rig.recovery.counts == {"slip": 1, "lost": 1}


def test_letting_go_on_purpose_is_not_slipping() -> None:
    rig = Rig()
    grip(rig, 0.02)
    goal = rig.filter.state.positions
    for finger in (0.04, 0.0, 0.04):
        goal[-1] = finger
        for _ in range(15):
            rig.step(motion(goal))
    assert not any(rig.kinds)


def test_what_is_not_overseen_is_left_alone_and_ends_recovery() -> None:
    rig = Rig()
    rig.push_until_taken(LIMIT)
    goal = rig.filter.state.positions + 0.01
    for _ in range(40):
        rig.step(motion(goal), overseen=False)
    assert not any(rig.kinds[-40:])


def test_without_its_section_it_does_nothing() -> None:
    robot = replace(ARM, safety={k: v for k, v in ARM.safety.items() if k != "recovery"})
    rig = Rig(robot)
    for _ in range(100):
        rig.push(LIMIT)
    assert not any(rig.kinds)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1.0, 1.0), min_size=COUNT, max_size=COUNT), st.integers(1, 12)
        ),
        max_size=8,
    )
)
def test_what_meets_no_limit_passes_unchanged(pushes: list[tuple[list[float], int]]) -> None:
    """The filter alone and the filter with recovery give the same until one takes over."""
    rig, alone = Rig(), make_filter(ARM, period=PERIOD)
    alone.reset(HOME)
    for way, periods in pushes:
        for _ in range(periods):
            goal = alone.state.positions
            goal[:COUNT] += 0.05 * np.array(way)
            sent = rig.step(motion(goal)).motion.positions
            if rig.recovery.active:
                return
            np.testing.assert_array_equal(sent, alone.step(motion(goal)).motion.positions)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=COUNT, max_size=COUNT))
def test_from_wherever_a_source_gets_stuck_it_comes_back_within_limits(way: list[float]) -> None:
    rig = Rig()
    limits = rig.filter.limits
    for _ in range(150):
        rig.push(np.array(way))
        if rig.recovery.active:
            break
    before = rig.filter.state
    while rig.recovery.active:
        safe = rig.step(None)
        state = rig.filter.state
        change = np.abs(state.velocities - before.velocities) / PERIOD
        assert (change <= [(1.0 + 1e-6) * bounds.acceleration for bounds in limits]).all()
        assert all(
            room >= -1e-9 for name, room in safe.margins.items() if name.startswith("position")
        )
        before = state
    assert not rig.recovery.failure
    assert not any(rig.recovery.counts) or not rig.lacking


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clear": {"joint": 0.1}}, "distance is missing"),
        ({"speed": 2.0}, "must not be above 1"),
        ({"stuck": {"periods": 0}}, "periods is 0, it must be above 0"),
        ({"contact": {"deviation": 0.1, "periods": 3, "force": 1}}, "unknown key force"),
        ({"clear": {"joint": 0.1, "distance": 0.2}}, "the home posture lacks it towards"),
        ({"courage": 1}, "unknown key courage"),
    ],
)
def test_a_mistake_in_the_section_is_named(change: dict[str, Any], said: str) -> None:
    robot = options(**change)
    made = make_filter(robot, period=PERIOD)
    with pytest.raises(UserError, match=said):
        make_recovery(robot, made)


@pytest.mark.parametrize("left_out", ["contact", "slip"])
def test_what_is_not_listed_is_not_recognized(left_out: str) -> None:
    rig = Rig(options(**{left_out: None}))
    grip(rig, 0.02)
    rig.follow = lambda positions: HOME + 0.5 * np.eye(COUNT + 1)[0] - 0.04
    for _ in range(10):
        rig.push(np.zeros(COUNT))
    assert left_out not in rig.recovery.counts
