"""What the interfaces get of a motion: the same in the graph and in an environment."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message

from rl_robot.errors import UserError
from rl_robot.nodes.simulator import _setpoints
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.commands import (
    GripperGoals,
    check_simulated,
    describe_motion,
    interface_motion,
)
from rl_robot.robots.description import load_robot
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, GRIPPER_COMMAND, VELOCITY
from rl_robot.ros import topics
from rl_robot.ros.writers import Writers
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

CRANE = load_robot(str(Path(__file__).parent / "crane.yaml"))
PERIOD = 0.1
RAIL, SWIVEL = CRANE.interfaces  # one takes arrays, the other trajectories


def motion(*, tail: int = 0) -> Motion:
    """One period away from home, with ``tail`` sub-steps more."""
    times = np.arange(1, 6 + tail) * 0.02
    shape = np.linspace(0.0, 1.0, 6 + tail)[1:, None] ** 2
    return Motion(CRANE.joint_names, times, CRANE.home_positions + shape * [0.02, -0.01, 0.05])


def test_a_trajectory_interface_gets_its_joints_over_all_times() -> None:
    part = interface_motion(SWIVEL, motion(), PERIOD)
    assert part.names == ("turn",)
    np.testing.assert_array_equal(part.times, motion().times)
    np.testing.assert_array_equal(part.positions, motion().positions[:, [2]])


@pytest.mark.parametrize("tail", [0, 4])
def test_an_array_interface_gets_where_the_period_ends_at_once(tail: int) -> None:
    part = interface_motion(RAIL, motion(tail=tail), PERIOD)
    assert part.names == ("lift", "travel")
    np.testing.assert_array_equal(part.times, [0.0])
    np.testing.assert_array_equal(part.positions, motion(tail=tail).positions[[4]][:, [1, 0]])


def test_a_motion_that_ends_early_stays_at_its_end() -> None:
    short = Motion(CRANE.joint_names, np.array([0.02]), CRANE.home_positions[None])
    part = interface_motion(RAIL, short, PERIOD)
    np.testing.assert_array_equal(part.positions, CRANE.home_positions[None][:, [1, 0]])


def test_graph_and_environment_move_the_crane_alike() -> None:
    """The safety node's messages, as the simulator node reads them, against the environment's."""
    sent: dict[str, list[Any]] = {interface.topic: [] for interface in CRANE.interfaces}

    def publisher(row: topics.Topic, *, awaited: bool, interface: str) -> Any:
        return SimpleNamespace(publish=sent[interface].append)

    node: Any = SimpleNamespace(publisher=publisher)
    writers = Writers(node, CRANE, period=PERIOD, factor=None, now=lambda: 0.0, patience=PERIOD)
    writers.send(CRANE.home_positions, motion())
    graph = Simulator(CRANE, load_scene("table"))
    environment = Simulator(CRANE, load_scene("table"))
    for interface in CRANE.interfaces:
        (message,) = sent[interface.topic]
        raw = message if isinstance(message, bytes) else serialize_message(message)
        times, positions = _setpoints(interface, raw)
        graph.command(interface.name, np.asarray(times), positions)
        part = interface_motion(interface, motion(), PERIOD)
        environment.command(interface.name, part.times, part.positions)
    samples = zip(graph.advance(PERIOD), environment.advance(PERIOD), strict=True)
    for one, other in samples:
        np.testing.assert_array_equal(one.positions, other.positions)
    moved = graph.joint_sample().positions - CRANE.home_positions
    assert np.all(np.abs(moved) > 1e-3)


# --- a gripper's action -----------------------------------------------------------------------


def test_a_gripper_is_told_when_it_is_to_move_further_and_when_it_stands() -> None:
    goals = GripperGoals(tolerance=0.002)
    assert goals.goal(np.array([0.04])) == 0.04  # the first, wherever it is
    assert goals.goal(np.array([0.04, 0.039])) is None  # within tolerance, still closing
    assert goals.goal(np.array([0.039, 0.030])) == 0.030
    assert goals.goal(np.array([0.030, 0.029])) is None
    assert goals.goal(np.array([0.029, 0.029])) == 0.029  # closed on something: the final goal
    assert goals.goal(np.array([0.029, 0.029])) is None


@given(st.lists(st.floats(0.0, 0.04), min_size=1, max_size=30))
def test_the_last_goal_is_never_further_from_the_motions_end_than_the_tolerance(
    ends: list[float],
) -> None:
    goals, last, before = GripperGoals(tolerance=0.002), np.nan, 0.02
    for end in ends:
        goal = goals.goal(np.array([before, end]))
        last = last if goal is None else goal
        before = end
        assert abs(last - end) <= 0.002
    goal = goals.goal(np.array([before, before]))
    assert abs((last if goal is None else goal) - before) < 1e-5  # at rest, exactly


# --- what simulators can't take the place of, and what a dry run says ----------------------------


def test_simulators_refuse_what_is_no_position() -> None:
    check_simulated(CRANE)
    for change in ({"mode": VELOCITY, "type": FLOAT64_MULTI_ARRAY}, {"type": GRIPPER_COMMAND}):
        odd = replace(CRANE, interfaces=(RAIL, replace(SWIVEL, **change)))
        with pytest.raises(UserError, match="swivel_controller: simulators take positions, not"):
            check_simulated(odd)


def test_a_dry_run_says_where_each_joint_is_and_where_it_would_be() -> None:
    said = describe_motion(CRANE, CRANE.home_positions, motion(tail=3), PERIOD)
    assert said == (
        "rail_controller/commands: lift 0.100 -> 0.096 (-0.04/s), travel 0.100 -> 0.108 (+0.08/s); "
        "swivel_controller/joint_trajectory: turn 0.200 -> 0.220 (+0.20/s)"
    )
