"""What the interfaces get of a motion: the same in the graph and in an environment."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from rl_robot.nodes.safety import SafetyNode
from rl_robot.nodes.simulator import _setpoints
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.commands import interface_motion
from rl_robot.robots.description import load_robot
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
    sent: dict[str, list[Any]] = {interface.name: [] for interface in CRANE.interfaces}
    writers = {name: SimpleNamespace(publish=sent[name].append) for name in sent}
    safety: Any = SimpleNamespace(_robot=CRANE, _period=PERIOD, _writers=writers)
    graph = Simulator(CRANE, load_scene("table"))
    environment = Simulator(CRANE, load_scene("table"))
    for interface in CRANE.interfaces:
        SafetyNode._write(safety, interface, motion())
        message = sent[interface.name][-1]
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
