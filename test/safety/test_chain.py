"""All constraints together, as a robot's YAML asks for them: what is kept, in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.safety.chain import CONSTRAINTS, make_filter, make_recovery, parse_off
from rl_robot.safety.constraints import (
    Obstacles,
    SelfCollision,
    SweepConstraint,
    ToolSpeed,
    Workspace,
)
from rl_robot.safety.filter import SafetyFilter
from rl_robot.safety.geometry import Box, Geometry
from rl_robot.safety.path import JointState
from rl_robot.safety.planner import JointPlanner

ROBOTS = ("arm", "arm7")
PHYSICAL = ("ur5e", "fr3", "iiwa")
PERIOD = 0.1
RELATIVE = 1e-6
BETWEEN = 2e-3  # m
# In reach of both robots, so that every constraint has something to do.
ASKED: dict[str, Any] = {
    "workspace": {"lower": [-0.2, -0.4, 0.05], "upper": [0.6, 0.4, 0.8]},
    "tool_speed": {"limit": 0.8},
    "self_collision": {
        "distance": 0.01,
        "ignore": [["left_finger_link", "right_finger_link"]],
    },
    "obstacles": {
        "distance": 0.02,
        "boxes": {
            "table": {"centre": [0.25, 0.0, -0.02], "size": [1.3, 1.3, 0.04]},
            "post": {"centre": [0.45, 0.25, 0.2], "size": [0.1, 0.1, 0.4]},
        },
    },
    "gripper_force": {"limit": 10.0},
}
LIMITS = ("position", "velocity", "acceleration", "jerk")
WHOLE = ("workspace", "tool_speed", "self_collision", "obstacles")


@cache
def robot(name: str) -> Robot:
    return replace(load_robot(name), safety=ASKED)


@cache
def geometry(name: str) -> Geometry:
    boxes = {
        called: Box(tuple(box["centre"]), tuple(box["size"]))
        for called, box in ASKED["obstacles"]["boxes"].items()
    }
    return Geometry(robot(name), boxes, {frozenset({"left_finger_link", "right_finger_link"})})


@cache
def tool_action(name: str) -> CartesianAction:
    return CartesianAction(robot(name), max_speed=2.0)


class Scenario(NamedTuple):
    """A robot, a filter that begins at rest where nothing is too close, and commands."""

    name: str
    safety: SafetyFilter
    ask: Callable[[], Motion | None]


def at_home(name: str, *, safety: dict[str, Any] | None = None, **options: Any) -> SafetyFilter:
    given_robot = robot(name) if safety is None else replace(robot(name), safety=safety)
    made = make_filter(given_robot, period=PERIOD, **options)
    made.reset(given_robot.home_positions)
    return made


@st.composite
def scenarios(draw: st.DrawFn, **options: Any) -> Scenario:
    """Draw commands at random: postures, pushes of the tool, far targets, nonsense, silence."""
    name = draw(st.sampled_from(ROBOTS))
    described = robot(name)
    safety = at_home(name, **options)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from(["posture", "push", "far", "nan", "none"]), min_size=1))
    push = random.choice([-1.0, 0.0, 1.0], 5)

    def ask() -> Motion | None:
        kind = random.choice(kinds)
        if kind == "none":
            return None
        here = safety.state.positions
        if kind == "push":
            return tool_action(name).to_motion(here, push)
        targets = random.uniform(described.lower, described.upper)[None]
        if kind == "far":
            targets = here + 10.0 ** random.uniform(-4, 3) * random.normal(size=(1, len(here)))
        if kind == "nan":
            targets[0, random.integers(len(here))] = np.nan
        return Motion(described.joint_names, random.uniform(0.01, 0.3, 1), targets)

    return Scenario(name, safety, ask)


def promises(name: str, path: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each sample (K, n) the room that it leaves to each constraint, (K,)."""
    place = geometry(name)
    rooms: dict[str, list[float]] = {"workspace": [], "self_collision": [], "obstacles": []}
    tools = place.poses(place.coordinates(path)).tools
    for positions in path:
        place.place(positions)
        for constraint, kind in (("self_collision", "self"), ("obstacles", "obstacles")):
            nearest = min(place.distances(kind))
            rooms[constraint].append(nearest - ASKED[constraint]["distance"])
    space = ASKED["workspace"]
    inside = np.hstack([np.subtract(tools, space["lower"]), np.subtract(space["upper"], tools)])
    speeds = np.linalg.norm(np.diff(tools, axis=0), axis=1) / (PERIOD / 5)
    return {
        **{constraint: np.array(values) for constraint, values in rooms.items()},
        "workspace": inside.min(axis=1),
        "tool_speed": ASKED["tool_speed"]["limit"] - speeds,
    }


def check_joints(described: Robot, path: np.ndarray) -> None:
    """Check samples, sent at equal times, by their differences."""
    interval = PERIOD / 5
    assert np.isfinite(path).all()
    assert (path >= described.lower).all()
    assert (path <= described.upper).all()
    for order, kind in enumerate(("velocity", "acceleration", "jerk"), start=1):
        limits = np.array([getattr(joint, kind) for joint in described.joints])
        changes = np.abs(np.diff(path, n=order, axis=0)) / interval**order
        assert (changes <= (1.0 + RELATIVE) * limits + 1e-6 * RELATIVE).all(), kind


def sent(scenario: Scenario, commands: int) -> np.ndarray:
    """Return all samples sent in answer to so many commands, and the stop that follows."""
    path = [scenario.safety.state.positions[None]]
    path += [scenario.safety.step(scenario.ask()).motion.positions for _ in range(commands)]
    tail = scenario.safety.tail().positions
    rest = tail[-1:] if len(tail) else path[-1][-1:]
    return np.vstack([*path, tail, *[rest] * 3])


# --- composition -----------------------------------------------------------------------------


@settings(max_examples=150)
@given(scenarios(), st.integers(1, 12))
def test_all_constraints_hold_together_and_in_the_stop(scenario: Scenario, commands: int) -> None:
    path = sent(scenario, commands)
    check_joints(robot(scenario.name), path)
    for constraint, rooms in promises(scenario.name, path).items():
        assert rooms.min() >= -RELATIVE, constraint


@settings(max_examples=100)
@given(scenarios(), st.lists(st.floats(0.0, 3.0 * PERIOD), min_size=1, max_size=10))
def test_all_constraints_hold_when_commands_come_at_any_time(
    scenario: Scenario, waits: list[float]
) -> None:
    """The driver plays each motion, and the stop after it, until the next one comes."""
    safety = scenario.safety
    for wait in waits:
        safe, tail = safety.step(scenario.ask()), safety.tail()
        times = np.concatenate([safe.motion.times, tail.times])
        path = np.vstack([safe.motion.positions, tail.positions])[times <= wait]
        safety.interrupt(wait)
        rooms = promises(scenario.name, np.vstack([path, safety.state.positions]))
        for constraint in ("self_collision", "obstacles", "workspace"):
            assert rooms[constraint][: len(path)].min(initial=np.inf) >= -RELATIVE, constraint
            # between two samples it may be a little closer
            assert rooms[constraint].min() >= -BETWEEN, constraint


@settings(max_examples=50)
@given(scenarios(), st.integers(1, 8), st.sampled_from(CONSTRAINTS))
def test_the_others_hold_where_one_is_switched_off(
    scenario: Scenario, commands: int, off: str
) -> None:
    scenario = scenario._replace(safety=at_home(scenario.name, off=[off]))
    path = sent(scenario, commands)
    if off not in LIMITS:
        check_joints(robot(scenario.name), path)
    for constraint, rooms in promises(scenario.name, path).items():
        assert constraint == off or off in LIMITS or rooms.min() >= -RELATIVE, constraint


@settings(max_examples=50)
@given(scenarios(), st.integers(1, 8))
def test_a_preview_is_what_is_sent_and_changes_nothing(scenario: Scenario, commands: int) -> None:
    safety = scenario.safety
    for _ in range(commands):
        motion, before = scenario.ask(), safety.state
        seen = safety.preview(motion)
        np.testing.assert_array_equal(safety.state, before)
        done = safety.step(motion)
        np.testing.assert_array_equal(seen.motion.positions, done.motion.positions)
        assert seen.interventions == done.interventions
        assert seen.margins == done.margins


@settings(max_examples=50)
@given(scenarios(), st.integers(1, 8))
def test_silence_brings_the_robot_to_rest(scenario: Scenario, commands: int) -> None:
    for _ in range(commands):
        scenario.safety.step(scenario.ask())
    for _ in range(10):
        scenario.safety.step(None)
    assert scenario.safety.at_rest
    assert len(scenario.safety.tail().positions) == 0
    held = scenario.safety.step(None)
    assert held.interventions == ()
    np.testing.assert_array_equal(np.diff(held.motion.positions, axis=0), 0.0)


# --- order -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(scenarios(), st.permutations(list(ASKED)), st.integers(1, 6))
def test_the_order_in_the_yaml_makes_no_difference(
    scenario: Scenario, order: list[str], commands: int
) -> None:
    twin = at_home(scenario.name, safety={name: ASKED[name] for name in order})
    for _ in range(commands):
        motion = scenario.ask()
        one, other = scenario.safety.step(motion), twin.step(motion)
        np.testing.assert_array_equal(one.motion.positions, other.motion.positions)
        assert one.interventions == other.interventions


@settings(max_examples=50)
@given(scenarios(), st.permutations(range(4)), st.integers(1, 6))
def test_the_order_in_the_chain_makes_no_difference_to_what_is_sent(
    scenario: Scenario, order: list[int], commands: int
) -> None:
    """Which of several constraints is named may differ: the first that is found broken."""
    described = robot(scenario.name)
    space = ASKED["workspace"]
    chain: list[SweepConstraint] = [
        Workspace(tuple(space["lower"]), tuple(space["upper"])),
        ToolSpeed(0.8),
        SelfCollision(0.01),
        Obstacles(0.02),
    ]
    twin = SafetyFilter(
        described.joints,
        period=PERIOD,
        constraints=[chain[index] for index in order],
        geometry=geometry(scenario.name),
    )
    twin.reset(described.home_positions)
    for _ in range(commands):
        motion = scenario.ask()
        one, other = scenario.safety.step(motion), twin.step(motion)
        np.testing.assert_array_equal(one.motion.positions, other.motion.positions)


# --- each has its say ------------------------------------------------------------------------


def pushed(safety: SafetyFilter, name: str, action: list[float], commands: int = 40) -> set[str]:
    """Push the tool in one direction and return which constraints intervened."""
    kinds: set[str] = set()
    for _ in range(commands):
        motion = tool_action(name).to_motion(safety.state.positions, action)
        kinds |= {done.kind for done in safety.step(motion).interventions}
    return kinds


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("tool_speed", [0.0, 0.7, 0.0, 0.0, 1.0]),
        ("workspace", [0.0, 0.0, -0.2, 0.0, 1.0]),
        ("self_collision", [-0.2, 0.0, 0.0, 0.0, 1.0]),
        ("obstacles", [0.06, 0.14, 0.0, 0.0, 1.0]),
    ],
)
def test_each_constraint_intervenes_unless_it_is_off(
    name: str, kind: str, action: list[float]
) -> None:
    others = [other for other in WHOLE if other != kind]
    alone = at_home(name, off=others)
    assert kind in pushed(alone, name, action)
    assert not {kind, *others} & pushed(at_home(name, off=WHOLE), name, action)
    path = alone.state.positions[None]
    if kind != "tool_speed":
        assert promises(name, path)[kind].min() >= -RELATIVE


@pytest.mark.parametrize("name", ROBOTS)
def test_a_gripper_is_not_closed_on_what_it_presses_too_hard(name: str) -> None:
    described = robot(name)
    closing = Motion(
        described.joint_names, np.array([0.1]), np.append(described.home_positions[:-1], 0.0)[None]
    )
    efforts = np.zeros(len(described.joints))
    safety = at_home(name)
    safety.measure(described.home_positions, efforts)
    safety.step(closing)
    efforts[-1] = -11.0
    safety.measure(described.home_positions, efforts)
    for _ in range(3):  # it brakes first
        safe = safety.step(closing)
    assert "gripper_force" in {done.kind for done in safe.interventions}
    assert safe.margins["gripper_force"] == pytest.approx(-1.0)
    np.testing.assert_array_equal(np.diff(safe.motion.positions[:, -1]), 0.0)
    held = safety.state.positions[-1]
    assert 0.0 < held < 0.04
    opening = Motion(described.joint_names, closing.times, described.home_positions[None])
    safety.step(opening)
    assert safety.state.positions[-1] > held


# --- the YAML --------------------------------------------------------------------------------


def test_every_robot_that_comes_along_has_a_chain_and_starts_clear_of_everything() -> None:
    for name in (*ROBOTS, *PHYSICAL):
        described = load_robot(name)
        kinds = set(CONSTRAINTS) - ({"gripper_force"} if described.gripper is None else set())
        assert kinds - set(LIMITS) <= set(described.safety)
        safety = make_filter(described, period=PERIOD)
        safety.reset(described.home_positions)
        margins = safety.step(None).margins
        assert {kind.partition("/")[0] for kind in margins} == kinds
        assert min(margins.values()) >= 0.0


def test_a_robot_that_asks_for_nothing_keeps_its_joint_limits() -> None:
    safety = at_home("arm", safety={})
    margins = safety.step(None).margins
    assert {kind.partition("/")[0] for kind in margins} == set(LIMITS)


def test_joint_limits_take_options() -> None:
    options = {
        "position": {"margin": {"elbow": 0.2}},
        "velocity": {"scale": 0.5},
        "acceleration": {"scale": 0.25},
        "jerk": {"scale": 0.1},
    }
    elbow, index = load_robot("arm").joint("elbow"), 2
    narrowed = at_home("arm", safety=options).limits[index]
    assert narrowed.lower == pytest.approx(elbow.lower + 0.2)
    assert narrowed.upper == pytest.approx(elbow.upper - 0.2)
    assert narrowed.velocity == pytest.approx(0.5 * elbow.velocity, rel=1e-6)
    assert narrowed.acceleration == pytest.approx(0.25 * elbow.acceleration, rel=1e-6)
    assert narrowed.jerk == pytest.approx(0.1 * elbow.jerk, rel=1e-6)


BOX = {"centre": [0.0, 0.0, 0.0], "size": [0.1, 0.1, 0.1]}


@pytest.mark.parametrize(
    ("safety", "said"),
    [
        ({"tool_sped": {"limit": 1.0}}, "unknown key tool_sped"),
        ({"tool_speed": {"limit": 0.0}}, "limit is 0, it must be above 0"),
        ({"tool_speed": {"limits": 1.0}}, "limit is missing"),
        ({"tool_speed": 1.0}, "expected a mapping"),
        ({"velocity": {"scale": 1.5}}, "scale is 1.5, it must not be above 1"),
        ({"position": {"margin": {"elbow": -0.1}}}, "elbow is -0.1"),
        ({"position": {"margin": {"elbow": 2.0}}}, "leaves nothing"),
        ({"position": {"margin": {"elbo": 0.1}}}, "has no joint elbo"),
        ({"workspace": {"lower": [0, 0, 1], "upper": [1, 1, 1]}}, "must be below upper"),
        ({"workspace": {"lower": [0, 0], "upper": [1, 1, 1]}}, "a list of 3 numbers"),
        ({"self_collision": {"distance": 0.01, "ignore": ["base_link"]}}, "pairs of links"),
        ({"self_collision": {"distance": 0.01, "ignore": [["base", "tool"]]}}, "no link is called"),
        ({"obstacles": {"distance": 0.01}}, "boxes is missing"),
        ({"obstacles": {"distance": -1.0, "boxes": {"a": BOX}}}, "distance is -1"),
        (
            {"obstacles": {"distance": 0.01, "boxes": {"a": BOX | {"size": [1, 1, 0]}}}},
            "must be above 0",
        ),
        ({"gripper_force": {"limit": float("nan")}}, "must be finite"),
    ],
)
def test_a_yaml_that_makes_no_sense_is_refused_in_one_line(
    safety: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        at_home("arm", safety=safety)
    assert "\n" not in str(raised.value)


def test_a_gripper_force_needs_a_gripper() -> None:
    without = replace(robot("arm"), gripper=None)
    with pytest.raises(UserError, match="robot arm has no gripper"):
        make_filter(without, period=PERIOD)


def test_what_is_switched_off_is_named_by_its_name() -> None:
    assert parse_off("") == ()
    assert parse_off(" tool_speed, obstacles,") == ("tool_speed", "obstacles")
    with pytest.raises(UserError, match="'speed': no such constraint; there are position"):
        parse_off("speed")


@pytest.mark.parametrize("name", [*ROBOTS, *PHYSICAL])
@pytest.mark.parametrize("speed", [0.2, 0.4, 1.0])
def test_near_the_table_fast_motion_is_slowed_and_not_refused(name: str, speed: float) -> None:
    """Straight along it, the distance does not change."""
    described = load_robot(name)
    safety = make_filter(described, period=PERIOD)
    low = Kinematics(described).solve_ik((0.4, 0.0, 0.02), 0.0)
    safety.reset(np.append(low, described.home_positions[len(low) :]))
    begin = safety.state.positions
    action = CartesianAction(described, max_speed=speed)
    for _ in range(10):
        safety.step(action.to_motion(safety.state.positions, np.array([0.0, 1.0, 0.0, 0.0, 1.0])))
    assert abs(safety.state.positions - begin)[0] > 0.05


def test_a_halt_after_a_slowed_motion_is_the_quickest_stop() -> None:
    random, safety = np.random.default_rng(0), at_home("arm")
    late = []
    for _ in range(400):
        push = tool_action("arm").to_motion(safety.state.positions, random.uniform(-1.0, 1.0, 5))
        held = {item.kind for item in safety.step(push).interventions} & set(WHOLE)
        if held and np.abs(safety.state.velocities).max() > 0.05:
            quickest = 0.0
            for bounds, state in zip(safety.limits, zip(*safety.state, strict=True), strict=True):
                stop = JointPlanner(bounds, PERIOD).brake(JointState(*map(float, state)))
                quickest = max(quickest, stop.end if stop else 0.0)
            safety.step(None)
            late.append(len(safety.tail().times) * PERIOD / 5 > max(quickest - PERIOD, 0.0) + 0.02)
    assert len(late) > 20
    # where the quickest stop itself would break something, it stops as planned
    assert np.mean(late) < 0.1


@settings(max_examples=20)
@given(st.sampled_from(PHYSICAL), st.lists(st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=5)))
def test_physical_arms_keep_what_their_yaml_asks(name: str, pushes: list[list[float]]) -> None:
    """Pushed about at up to 2 m/s, with the limits and shapes of the arm's own files."""
    described = load_robot(name)
    safety, place = make_filter(described, period=PERIOD), _own_geometry(name)
    assert make_recovery(described, safety).active is None
    safety.reset(described.home_positions)
    asked, action = described.safety, CartesianAction(described, max_speed=2.0)
    for push in pushes:
        for _ in range(3):
            path = safety.step(action.to_motion(safety.state.positions, push)).motion.positions
            assert np.all((path >= described.lower - 1e-9) & (path <= described.upper + 1e-9))
            for positions in path:
                place.place(positions)
                assert min(place.distances("self")) >= asked["self_collision"]["distance"] - 1e-6
                assert min(place.distances("obstacles")) >= asked["obstacles"]["distance"] - 1e-6


@cache
def _own_geometry(name: str) -> Geometry:
    asked = load_robot(name).safety
    boxes = {
        called: Box(tuple(box["centre"]), tuple(box["size"]))
        for called, box in asked["obstacles"]["boxes"].items()
    }
    ignored = {frozenset(pair) for pair in asked["self_collision"].get("ignore", ())}
    return Geometry(load_robot(name), boxes, ignored)
