"""The simulated robot in the real gzserver: exact, in step, and seen by its camera."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.errors import LostProgramError, UserError
from rl_robot.perception.block import BlockDetector
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.simulation.gazebo.backend import GazeboSimulator
from rl_robot.simulation.gazebo.installation import Installation
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

ROBOT, SCENE = load_robot("arm"), load_scene("table")
PERIOD, PERIOD_NS = 0.1, 100_000_000
ARM = ROBOT.home_positions[:6]


@pytest.fixture(scope="module")
def shared(installation: Installation) -> Iterator[GazeboSimulator]:
    simulator = GazeboSimulator(ROBOT, SCENE, installation=installation)
    yield simulator
    simulator.close()


@pytest.fixture
def simulator(shared: GazeboSimulator) -> GazeboSimulator:
    shared.reset({}, seed=0)
    align(shared)
    return shared


def align(simulator: GazeboSimulator) -> None:
    """Go on to a time at which pictures are taken."""
    if late := simulator.time_ns % PERIOD_NS:
        simulator.advance((PERIOD_NS - late) * 1e-9)


def drive(simulator: GazeboSimulator) -> list[np.ndarray]:
    """Sweep closed fingers across the block and return all that was sensed."""
    generator = np.random.default_rng(7)
    kinematics = Kinematics(ROBOT)
    beside = kinematics.solve_ik([0.40, 0.10, 0.03], 0.0, ARM)
    beyond = kinematics.solve_ik([0.40, -0.02, 0.03], 0.0, beside)
    path = [ARM + part * (beside - ARM) for part in np.linspace(0.0, 1.0, 6)]
    path += [beside + part * (beyond - beside) for part in np.linspace(0.0, 1.0, 6)]
    sensed = []
    for target in path:
        point = target + generator.uniform(-0.002, 0.002, 6)
        simulator.command("arm_controller", [PERIOD], [point])
        simulator.command("gripper_controller", [PERIOD], [[0.0]])
        for sample in simulator.advance(PERIOD):
            sensed += [sample.positions, sample.velocities, sample.efforts]
        sensed += [*simulator.object_pose("block"), simulator.render("camera")]
    return sensed


def test_three_resets_are_followed_by_the_same_to_the_last_bit(simulator: GazeboSimulator) -> None:
    runs = []
    for _ in range(3):
        simulator.reset({"block": (0.40, 0.0, 0.3)}, seed=5)
        runs.append(drive(simulator))
    start = np.array([0.40, 0.0])
    assert np.linalg.norm(runs[0][-3][:2] - start) > 0.005, "the block was to be pushed"
    for other in runs[1:]:
        for one, again in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(one, again)


def test_time_passes_as_asked_for(simulator: GazeboSimulator) -> None:
    before = simulator.time_ns
    samples = simulator.advance(0.3)
    stamps = [sample.stamp_ns for sample in samples]
    assert stamps == [before + 10_000_000 * (k + 1) for k in range(30)]
    assert simulator.time_ns == stamps[-1]
    with pytest.raises(ValueError, match="multiple"):
        simulator.advance(0.0151)
    assert simulator.time_ns == stamps[-1]


def test_a_trajectory_is_followed_through_the_period(simulator: GazeboSimulator) -> None:
    reference = Simulator(ROBOT, SCENE)
    target = ARM + 0.12
    for robot in (simulator, reference):
        robot.command("arm_controller", [0.05, 0.2, 0.4], [ARM + 0.01, ARM + 0.06, target])
    ours, theirs = simulator.advance(0.24), reference.advance(0.24)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=0.006)
    simulator.command("arm_controller", [0.1], [target])
    np.testing.assert_allclose(simulator.advance(0.2)[-1].positions[:6], target, atol=5e-4)


def test_efforts_have_the_signs_of_mujocos(simulator: GazeboSimulator) -> None:
    reference = Simulator(ROBOT, SCENE)
    for joint in range(6):
        target = ARM.copy()
        target[joint] += 0.02
        efforts = []
        for robot in (simulator, reference):
            robot.reset({})
            robot.command("arm_controller", [0.02], [target])
            efforts.append(robot.advance(0.01)[0].efforts[joint])
        assert efforts[0] * efforts[1] > 0.0 or abs(efforts[0]) < 0.02, joint


def test_fingers_squeeze_a_block_as_mujocos_do(simulator: GazeboSimulator) -> None:
    reference = Simulator(ROBOT, SCENE)
    around = Kinematics(ROBOT).solve_ik([0.40, 0.0, 0.02], 0.0, ARM)
    found = []
    for robot in (simulator, reference):
        robot.reset({"block": (0.40, 0.0, 0.0)})
        robot.command("arm_controller", [0.2], [around])
        robot.advance(0.2)
        robot.command("arm_controller", [0.2], [around])
        robot.command("gripper_controller", [0.1], [[0.0]])
        found.append(robot.advance(0.25)[-1])
    for sample in found:
        assert sample.positions[6] == pytest.approx(0.02, abs=0.001)
    assert found[0].efforts[6] == pytest.approx(found[1].efforts[6], rel=0.15)


def test_a_driver_without_commands_holds(simulator: GazeboSimulator) -> None:
    simulator.command("arm_controller", [2.0], [ARM + 0.4])
    simulator.advance(0.2)
    assert not simulator.timed_out("arm_controller")
    simulator.advance(0.1)
    assert simulator.timed_out("arm_controller")
    held = simulator.advance(0.3)
    np.testing.assert_allclose(held[-1].positions, held[10].positions, atol=2e-4)
    assert np.abs(held[-1].velocities).max() < 2e-3


def test_places_are_checked_and_kept(simulator: GazeboSimulator) -> None:
    simulator.place("block", 0.45, -0.06, 0.7)
    simulator.advance(0.2)
    position, quaternion = simulator.object_pose("block")
    np.testing.assert_allclose(position, [0.45, -0.06, 0.02], atol=5e-4)
    np.testing.assert_allclose(quaternion, [0, 0, np.sin(0.35), np.cos(0.35)], atol=2e-3)
    for wrong in (("cup", 0.4, 0.0, 0.0), ("block", 5.0, 0.0, 0.0), ("block", np.nan, 0.0, 0.0)):
        with pytest.raises(UserError):
            simulator.place(*wrong)
    with pytest.raises(UserError, match="cup"):
        simulator.object_pose("cup")


@given(x=st.floats(0.31, 0.49), y=st.floats(-0.09, 0.09), yaw=st.floats(-0.7, 0.7))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_perception_finds_the_block_where_it_is(
    shared: GazeboSimulator, x: float, y: float, yaw: float
) -> None:
    shared.reset({"block": (x, y, yaw)}, seed=1)
    align(shared)
    shared.advance(PERIOD)
    found = BlockDetector(ROBOT.camera("camera")).detect(shared.render("camera"))
    assert found is not None
    position, _ = shared.object_pose("block")
    assert np.linalg.norm(found.position[:2] - position[:2]) < 0.003
    turn = (found.yaw - yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    assert abs(turn) < 0.06


def test_a_picture_is_of_the_present_time_or_refused(simulator: GazeboSimulator) -> None:
    simulator.advance(PERIOD)
    assert simulator.render("camera").shape == (240, 320, 3)
    simulator.advance(0.05)
    with pytest.raises(UserError, match="takes no picture at"):
        simulator.render("camera")
    simulator.advance(0.05)
    simulator.render("camera")
    with pytest.raises(UserError, match="no camera"):
        simulator.render("other")


def test_a_picture_shows_the_motion_up_to_its_time(simulator: GazeboSimulator) -> None:
    simulator.advance(PERIOD)
    detector = BlockDetector(ROBOT.camera("camera"))
    for step in range(4):  # between pictures the block jumps: an old one would be seen at once
        x = 0.36 + 0.03 * step
        simulator.place("block", x, 0.0, 0.0)
        simulator.advance(PERIOD)
        found = detector.detect(simulator.render("camera"))
        assert found is not None
        assert found.position[0] == pytest.approx(x, abs=0.003)


@pytest.mark.parametrize("picture_period", [0.03, 0.2])
def test_pictures_come_at_other_rates_too(
    installation: Installation, picture_period: float
) -> None:
    simulator = GazeboSimulator(
        ROBOT, SCENE, installation=installation, picture_period=picture_period
    )
    try:
        for _ in range(4):
            simulator.advance(picture_period)
            simulator.render("camera")
    finally:
        simulator.close()


def until_lost(call: Callable[[], object]) -> str:
    """Call until the loss of Gazebo is said, and return what is said."""
    for _ in range(500):
        try:
            call()
        except LostProgramError as error:
            return str(error)
        time.sleep(0.01)
    raise AssertionError("in vain")


def test_a_killed_gzserver_is_noticed_in_the_midst_and_at_rest(installation: Installation) -> None:
    for call in ("advance", "check_alive"):
        simulator = GazeboSimulator(ROBOT, SCENE, installation=installation)
        try:
            simulator.check_alive()
            os.kill(simulator.server.pid, signal.SIGKILL)
            step = (
                simulator.check_alive
                if call == "check_alive"
                else partial(simulator.advance, PERIOD)
            )
            assert "Gazebo ended" in until_lost(step)
        finally:
            simulator.close()


def test_nothing_is_left_behind(installation: Installation) -> None:
    simulator = GazeboSimulator(ROBOT, SCENE, installation=installation)
    pid = simulator.server.pid
    assert Path(f"/proc/{pid}").exists()
    simulator.close()
    simulator.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(LostProgramError):
        simulator.advance(PERIOD)
