"""The simulator behaves like a robot's drivers and cameras, the same every time."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import CartesianAction
from rl_robot.robots.description import Camera, Robot, load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import Block, Scene, load_scene

ARM = load_robot("arm")
TABLE = load_scene("table")
CRANE_YAML = Path(__file__).parent.parent / "robots" / "crane.yaml"
HOME = ARM.home_positions
TIMES = np.array([0.02, 0.04, 0.06, 0.08, 0.1])


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    simulator = Simulator(ARM, TABLE)
    yield simulator
    simulator.close()


def _send(simulator: Simulator, positions: np.ndarray) -> None:
    """Command all joints along ``positions`` (5, 7) over one control period."""
    simulator.command("arm_controller", TIMES, positions[:, :6])
    simulator.command("gripper_controller", TIMES, positions[:, 6:])


# --- drivers ----------------------------------------------------------------------------------


def test_samples_come_at_their_rate_and_end_at_the_new_time(simulator: Simulator) -> None:
    assert simulator.time_ns == 0
    samples = simulator.advance(0.1)
    assert [sample.stamp_ns for sample in samples] == [10_000_000 * k for k in range(1, 11)]
    assert simulator.time_ns == 100_000_000
    assert np.array_equal(simulator.joint_sample().positions, samples[-1].positions)
    assert all(sample.positions.shape == (7,) for sample in samples)


def test_time_does_not_drift(simulator: Simulator) -> None:
    for _ in range(300):
        simulator.advance(0.01)
    assert simulator.time_ns == 3_000_000_000


def test_the_arm_rests_at_home_without_effort_against_gravity(simulator: Simulator) -> None:
    sample = simulator.advance(1.0)[-1]
    assert np.allclose(sample.positions, HOME, atol=1e-6)
    assert np.allclose(sample.velocities, 0.0, atol=1e-6)
    assert np.allclose(sample.efforts[:6], 0.0, atol=1e-3)


def test_the_arm_follows_a_smooth_motion_closely(simulator: Simulator) -> None:
    goal = HOME + np.array([0.4, 0.3, -0.3, 0.2, 0.2, 0.5, -0.02])
    for k in range(20):
        phase = (k + TIMES / 0.1) / 20
        _send(simulator, HOME + np.outer(0.5 - 0.5 * np.cos(math.pi * phase), goal - HOME))
        expected = HOME + (0.5 - 0.5 * math.cos(math.pi * (k + 1) / 20)) * (goal - HOME)
        sample = simulator.advance(0.1)[-1]
        assert np.allclose(sample.positions[:6], expected[:6], atol=0.005)
    sample = simulator.advance(0.3)[-1]
    assert np.allclose(sample.positions, goal, atol=1e-3)
    assert np.allclose(sample.velocities, 0.0, atol=0.01)


def test_a_command_takes_effect_from_the_present_set_point(simulator: Simulator) -> None:
    goal = HOME[:6] + 0.1
    simulator.command("arm_controller", [0.2], goal[None])
    halfway = simulator.advance(0.1)[-1].positions[:6]
    assert np.allclose(halfway, HOME[:6] + 0.05, atol=0.005)
    simulator.command("arm_controller", [0.1], HOME[None, :6])
    simulator.advance(0.1)
    assert np.allclose(simulator.advance(0.2)[-1].positions, HOME, atol=1e-3)


def test_a_point_at_time_zero_is_the_set_point_at_once(simulator: Simulator) -> None:
    simulator.command("gripper_controller", [0.0], [[0.03]])
    assert simulator.advance(0.2)[-1].positions[6] == pytest.approx(0.03, abs=1e-3)


def test_the_driver_holds_when_commands_stop(simulator: Simulator) -> None:
    goal = HOME[:6] + 0.4
    simulator.command("arm_controller", [0.8], goal[None])  # goes on beyond the timeout
    simulator.advance(0.25)
    assert not simulator.timed_out("arm_controller")
    simulator.advance(0.01)
    assert simulator.timed_out("arm_controller")
    sample = simulator.advance(1.0)[-1]
    assert np.allclose(sample.positions[:6], HOME[:6] + 0.4 * 0.25 / 0.8, atol=2e-3)
    assert np.allclose(sample.velocities, 0.0, atol=1e-3)
    simulator.command("arm_controller", [0.1], HOME[None, :6])
    assert not simulator.timed_out("arm_controller")
    assert simulator.timed_out("gripper_controller")


def test_after_a_timeout_motion_starts_from_the_measured_position(simulator: Simulator) -> None:
    simulator.place("block", 0.32, 0.0, 0.0)
    down = Kinematics(ARM).solve_ik([0.32, 0.0, 0.02], 0.0)
    for k in range(10):
        arm = HOME[:6] + (k + 1) / 10 * (down - HOME[:6])
        simulator.command("arm_controller", [0.1], arm[None])
        simulator.advance(0.1)
    simulator.command("gripper_controller", [0.2], [[0.0]])
    simulator.advance(0.6)  # the fingers have met the block, the set point is behind it
    held = simulator.joint_sample().positions[6]
    assert held == pytest.approx(0.02, abs=0.003)
    # From the measured position, half of the way back is done in half of the time.
    simulator.command("gripper_controller", [0.2], [[0.04]])
    assert simulator.advance(0.1)[-1].positions[6] == pytest.approx((held + 0.04) / 2, abs=0.003)


@pytest.mark.parametrize(
    ("times", "positions", "message"),
    [
        ([], np.empty((0, 6)), "must be"),
        ([0.1], np.zeros((1, 5)), r"\(H,\) and \(H, 6\)"),
        ([0.1], np.zeros(6), r"\(H,\) and \(H, 6\)"),
        ([0.1, 0.2], np.zeros((1, 6)), "must be"),
        ([0.1], np.full((1, 6), np.nan), "must be finite"),
        ([np.inf], np.zeros((1, 6)), "must be finite"),
        ([-0.1], np.zeros((1, 6)), "must start at 0 or later and rise"),
        ([0.1, 0.1], np.zeros((2, 6)), "must start at 0 or later and rise"),
    ],
)
def test_malformed_commands_are_refused_and_change_nothing(
    simulator: Simulator, times: list[float], positions: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulator.command("arm_controller", times, positions)
    assert np.allclose(simulator.advance(0.1)[-1].positions, HOME, atol=1e-6)


def test_unknown_names_are_refused(simulator: Simulator) -> None:
    with pytest.raises(UserError, match="no interface leg; it has arm_controller, gripper"):
        simulator.command("leg", [0.1], np.zeros((1, 6)))
    with pytest.raises(UserError, match="no camera front; it has camera"):
        simulator.render("front")
    with pytest.raises(UserError, match="no object 'ball'; it has block"):
        simulator.place("ball", 0.4, 0.0, 0.0)
    with pytest.raises(UserError, match="no object 'ball'; it has block"):
        simulator.object_pose("ball")


@pytest.mark.parametrize("duration", [0.0, -0.1, 0.015, float("1e-4")])
def test_durations_must_be_whole_sample_periods(simulator: Simulator, duration: float) -> None:
    with pytest.raises(ValueError, match=r"not a positive multiple of 0\.01 s"):
        simulator.advance(duration)


def test_a_rate_that_does_not_fit_the_physics_is_refused() -> None:
    with pytest.raises(UserError, match="joint states at 125 Hz do not fit physics steps"):
        Simulator(dataclasses.replace(ARM, joint_state_rate=125.0), TABLE)


def test_a_users_own_robot_runs() -> None:
    crane = load_robot(str(CRANE_YAML))
    simulator = Simulator(crane, TABLE)
    action_map, reference = CartesianAction(crane), crane.home_positions
    for _ in range(10):
        motion = action_map.to_motion(reference, [0.5, 0.0, -0.25, 0.5, 1.0])
        reference = motion.positions[-1]
        simulator.command("rail_controller", motion.times, motion.positions[:, [1, 0]])
        simulator.command("swivel_controller", motion.times, motion.positions[:, [2]])
        samples = simulator.advance(0.1)
    assert len(samples) == 5  # at 50 Hz
    assert np.allclose(samples[-1].positions, [0.2, 0.15, -0.8], atol=5e-3)


# --- the scene --------------------------------------------------------------------------------


def test_objects_lie_where_they_are_placed(simulator: Simulator) -> None:
    simulator.place("block", 0.35, -0.05, 0.6)
    simulator.advance(1.0)
    position, quaternion = simulator.object_pose("block")
    assert np.allclose(position, [0.35, -0.05, 0.02], atol=5e-4)
    assert Rotation.from_quat(quaternion).as_euler("zyx")[0] == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((np.nan, 0.0, 0.0), "not finite"),
        ((0.4, 0.0, np.inf), "not finite"),
        ((2.0, 0.0, 0.0), "outside the table"),
        ((0.4, -0.7, 0.0), "outside the table"),
    ],
)
def test_impossible_places_are_refused(
    simulator: Simulator, place: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        simulator.place("block", *place)


STARTS = [(0.31, -0.09, -0.7), (0.49, 0.09, 0.75), (0.42, 0.02, 0.1), (0.36, 0.08, -0.4)]


@pytest.mark.parametrize(("x", "y", "yaw"), STARTS)
def test_the_gripper_grasps_and_lifts_the_block(
    simulator: Simulator, x: float, y: float, yaw: float
) -> None:
    simulator.place("block", x, y, yaw)
    kinematics = Kinematics(ARM)
    above = kinematics.solve_ik([x, y, 0.10], yaw)
    at_block = kinematics.solve_ik([x, y, 0.02], yaw, above)
    hovering, open_around = np.append(above, 0.04), np.append(at_block, 0.04)
    closed_on, lifted = np.append(at_block, 0.0), np.append(above, 0.0)
    _move(simulator, HOME, hovering, 1.0)
    _move(simulator, hovering, open_around, 0.6)
    _move(simulator, open_around, closed_on, 0.5)
    _move(simulator, closed_on, lifted, 0.6)
    held = simulator.joint_sample()
    assert simulator.object_pose("block")[0][2] == pytest.approx(0.10, abs=0.004)
    assert 2.0 * held.positions[6] == pytest.approx(0.04, abs=0.004)
    assert -20.0 <= held.efforts[6] < -5.0


def _move(simulator: Simulator, start: np.ndarray, goal: np.ndarray, duration: float) -> None:
    """Go from one set point (7,) to another at constant speed, commanding once per period."""
    steps = round(duration / 0.1)
    for step in range(steps):
        phase = (step + TIMES / 0.1) / steps
        _send(simulator, start + np.outer(phase, goal - start))
        simulator.advance(0.1)


# --- repeatability ----------------------------------------------------------------------------


def _episode(simulator: Simulator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Push the block about; return the samples and images."""
    action_map, reference = CartesianAction(ARM), HOME
    numbers, images = [], []
    for action in np.random.default_rng(3).uniform(-1.0, 1.0, (15, 5)):
        action[2] = -1.0
        motion = action_map.to_motion(reference, action)
        reference = motion.positions[-1]
        _send(simulator, motion.positions)
        for sample in simulator.advance(0.1):
            numbers += [sample.positions, sample.velocities, sample.efforts]
        numbers.append(simulator.object_pose("block")[0])
        images.append(simulator.render("camera"))
    return numbers, images


def test_the_same_seed_and_commands_give_the_same_everything() -> None:
    runs = []
    for seed in (7, 7, 8):
        simulator = Simulator(ARM, TABLE, seed=seed)
        simulator.place("block", 0.34, 0.01, 0.2)
        runs.append(_episode(simulator))
        simulator.close()
    (numbers, images), (same_numbers, same_images), (other_numbers, other_images) = runs
    assert np.array_equal(np.concatenate(numbers), np.concatenate(same_numbers))
    assert np.array_equal(images, same_images)
    assert np.array_equal(np.concatenate(numbers), np.concatenate(other_numbers))
    assert not np.array_equal(images, other_images)  # the noise is the seed's


def test_after_a_reset_nothing_depends_on_what_was_before(simulator: Simulator) -> None:
    simulator.reset({"block": (0.34, 0.01, 0.2)}, seed=5)
    first = _episode(simulator)
    time = simulator.time_ns
    simulator.reset({"block": (0.34, 0.01, 0.2)}, seed=5)
    assert simulator.time_ns == time
    again = _episode(simulator)
    assert np.array_equal(np.concatenate(first[0]), np.concatenate(again[0]))
    assert np.array_equal(first[1], again[1])


def test_reset_puts_what_is_not_named_where_the_scene_says(simulator: Simulator) -> None:
    simulator.place("block", 0.3, 0.1, 0.5)
    simulator.reset({})
    assert np.allclose(simulator.object_pose("block")[0], [0.4, 0.0, 0.02])


# --- cameras ----------------------------------------------------------------------------------


def test_images_are_rgb_and_never_the_same_twice(simulator: Simulator) -> None:
    first, second = simulator.render("camera"), simulator.render("camera")
    assert first.shape == (240, 320, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert np.abs(first.astype(int) - second).mean() < 5.0  # noise, no more


def test_the_camera_sees_the_whole_work_area_past_the_arm_at_home() -> None:
    simulator = Simulator(ARM, TABLE)
    aside = dataclasses.replace(ARM, home={**ARM.home, "shoulder_pan": -2.5})
    without_arm = Simulator(aside, TABLE)
    for x, y in [(0.3, -0.1), (0.3, 0.1), (0.5, -0.1), (0.5, 0.1), (0.4, 0.0), (0.3, 0.0)]:
        pixels = []
        for simulation in (simulator, without_arm):
            simulation.place("block", x, y, math.pi / 4)
            red = _is_red(simulation.render("camera"))
            edge = np.concatenate([red[:8].ravel(), red[-8:].ravel(), red[:, :8].ravel()])
            assert not edge.any()
            assert not red[:, -8:].any()
            pixels.append(int(red.sum()))
        assert pixels[0] == pixels[1] > 600
    simulator.close()
    without_arm.close()


def _is_red(image: np.ndarray) -> np.ndarray:
    channels = image.astype(int)
    return channels[..., 0] > 2 * channels[..., 1] + 40


def _marked_scene() -> Scene:
    """Small red cubes, the only red things to see, at places known to the millimetre."""
    places = [(0.33, -0.06), (0.47, -0.05), (0.40, 0.0), (0.34, 0.07), (0.46, 0.06)]
    blocks = {
        f"mark_{k}": Block(0.008, 0.01, (0.9, 0.0, 0.0), (x, y, 0.0))
        for k, (x, y) in enumerate(places)
    }
    return dataclasses.replace(TABLE, objects=blocks, camera_noise=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fx": 520.0, "fy": 450.0, "cx": 148.0, "cy": 131.5},
        {"distortion": (-0.25, 0.1, 0.002, -0.003, 0.0), "cx": 165.0},
    ],
)
def test_pixels_are_where_the_camera_model_says(change: dict[str, float]) -> None:
    camera: Camera = dataclasses.replace(ARM.camera("camera"), **change)  # type: ignore[arg-type]
    robot: Robot = dataclasses.replace(ARM, cameras=(camera,))
    simulator = Simulator(robot, _marked_scene())
    red = _is_red(simulator.render("camera"))
    count, _, _, centroids = cv2.connectedComponentsWithStats(red.astype(np.uint8))
    centres = np.array([simulator.object_pose(f"mark_{k}")[0] for k in range(5)])
    to_camera = np.linalg.inv(camera.pose)
    expected, _ = cv2.projectPoints(
        centres,
        Rotation.from_matrix(to_camera[:3, :3]).as_rotvec(),
        to_camera[:3, 3],
        camera.matrix,
        np.array(camera.distortion),
    )
    assert count == 6  # the background and five marks
    gaps = np.linalg.norm(centroids[1:, None] - expected.reshape(1, -1, 2), axis=-1)
    assert np.all(gaps.min(axis=0) < 0.7)
    simulator.close()


def test_a_closed_simulator_can_be_closed_again(simulator: Simulator) -> None:
    simulator.render("camera")
    simulator.close()
    simulator.close()
