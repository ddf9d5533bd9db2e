"""The reset against a small kinematic scene, whole and broken in several ways."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from rl_robot.errors import UserError
from rl_robot.experience.alignment import ObjectPose
from rl_robot.resets.reset import ResetMachine, ResetStep
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.safety.filter import SafetyFilter
from rl_robot.tasks import load_task
from rl_robot.tasks.task import Start

ROBOT = load_robot("arm")
GRASP = load_task("grasp")
START = Start({"block": (0.42, 0.05, 0.3)})
TICK_NS = 100_000_000


@dataclass
class View:
    """What the scene shows at a tick."""

    time_ns: int
    joint_positions: np.ndarray
    joint_velocities: np.ndarray
    objects: dict[str, ObjectPose]


@dataclass
class Scene:
    """A robot that goes exactly where the safety filter sends it, and blocks that stay put.

    Attributes:
        offsets: error in m of each placement, in order; none left means exact.
        stuck: joint -> measured position that it never leaves.
        seen: whether the camera ever sees a block.
    """

    positions: np.ndarray
    offsets: list[float] = field(default_factory=list)
    stuck: dict[str, float] = field(default_factory=dict)
    seen: bool = True

    def __post_init__(self) -> None:
        self.filter = SafetyFilter(ROBOT.joints)
        self.filter.reset(self.positions)
        self.time_ns = 0
        self.block: tuple[float, float] | None = None
        self.placements: list[np.ndarray] = []
        self.interventions: list = []
        self.path: list[np.ndarray] = []

    def view(self) -> View:
        positions, velocities, _ = self.filter.state
        for name, position in self.stuck.items():
            positions[ROBOT.joint_names.index(name)] = position
        objects = {}
        if self.seen and self.block:
            objects["block"] = ObjectPose(np.array([*self.block, 0.02]), 0.0, 0.0)
        return View(self.time_ns, positions, velocities, objects)

    def apply(self, step: ResetStep) -> None:
        if step.place:
            x, y, _ = step.place["block"]
            self.block = (x + (self.offsets.pop(0) if self.offsets else 0.0), y)
            self.placements.append(self.filter.state.positions)
        sent = self.filter.step(step.motion)
        self.interventions += sent.interventions
        self.path += list(sent.motion.positions)
        self.time_ns += TICK_NS


def run(machine: ResetMachine, scene: Scene, start: Start = START, ticks: int = 400) -> ResetStep:
    machine.begin(start)
    for _ in range(ticks):
        step = machine.tick(scene.view(), *scene.filter.state[:2])
        if step.status != "working":
            return step
        scene.apply(step)
    raise AssertionError("the reset never ended")


def low_pose(closed: bool = True) -> np.ndarray:
    """A pose as at a grasp: tool on the table, gripper around a block."""
    arm = Kinematics(ROBOT).solve_ik((0.45, 0.05, 0.02), 0.4)
    return np.append(arm, 0.02 if closed else 0.04)


def test_reset_from_a_grasp_opens_lifts_homes_and_places() -> None:
    scene = Scene(low_pose())
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert (step.status, step.attempt, step.motion, step.place) == ("done", 1, None, None)
    np.testing.assert_allclose(scene.filter.state.positions, ROBOT.home_positions, atol=1e-9)
    np.testing.assert_allclose(scene.placements, [ROBOT.home_positions], atol=1e-9)
    assert scene.block == (0.42, 0.05)
    tool = np.array([Kinematics(ROBOT).tool_pose(q[:6])[0] for q in scene.path])
    low = tool[:, 2] < 0.10
    assert np.hypot(*(tool[low, :2] - tool[0, :2]).T).max() < 0.01  # it rose straight
    first_rise = int(np.argmax(tool[:, 2] > 0.021))
    assert scene.path[first_rise][-1] == pytest.approx(ROBOT.gripper.open, abs=1e-6)


def test_reset_motion_is_smooth_and_never_needs_the_safety_filter() -> None:
    scene = Scene(low_pose())
    run(ResetMachine(ROBOT, GRASP), scene)
    assert scene.interventions == [], scene.interventions[:12]
    velocities = np.diff(scene.path, axis=0) / 0.02
    changes = np.diff(velocities, axis=0) / 0.02
    assert (np.abs(velocities) <= 0.6 * ROBOT.velocity * (1 + 1e-9)).all()
    assert (np.abs(changes) <= 0.6 * ROBOT.acceleration * (1 + 1e-9)).all()


def test_reset_of_a_moving_robot_brakes_first() -> None:
    scene = Scene(ROBOT.home_positions + 0.1 * (np.arange(7) < 6) - 0.02 * (np.arange(7) == 6))
    scene.filter.reset(scene.positions, 0.8 * ROBOT.velocity)
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert step.status == "done"
    assert scene.interventions == [], scene.interventions[:12]


def test_reset_at_home_takes_few_ticks() -> None:
    scene = Scene(ROBOT.home_positions)
    run(ResetMachine(ROBOT, GRASP), scene)
    assert scene.time_ns <= 10 * TICK_NS


def test_a_task_without_objects_is_reset_by_homing() -> None:
    scene = Scene(low_pose())
    step = run(ResetMachine(ROBOT, load_task("reach")), scene, Start({"goal": (0.4, 0.0, 0.2)}))
    assert step.status == "done"
    assert scene.placements == []
    np.testing.assert_allclose(scene.filter.state.positions, ROBOT.home_positions, atol=1e-9)


def test_placing_is_tried_again() -> None:
    scene = Scene(ROBOT.home_positions, offsets=[0.05, 0.02])
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert (step.status, step.attempt, len(scene.placements)) == ("done", 3, 3)


def test_placing_is_given_up() -> None:
    scene = Scene(ROBOT.home_positions, offsets=[0.041] * 3)
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert (step.status, len(scene.placements)) == ("failed", 3)
    assert step.reason == "the block is 4.1 cm from its start after 3 attempts"
    assert step.motion is None


def test_a_block_that_is_never_seen() -> None:
    scene = Scene(ROBOT.home_positions, seen=False)
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert step.status == "failed"
    assert step.reason == "the block was not seen within 3.0 s after 3 attempts"


def test_a_pose_from_before_the_placing_does_not_count() -> None:
    class Hidden(Scene):
        """The camera saw the block only at time 0, right where it is to be."""

        def view(self) -> View:
            view = super().view()
            age = self.time_ns * 1e-9
            view.objects["block"] = ObjectPose(np.array([0.42, 0.05, 0.02]), 0.0, age)
            return view

    step = run(ResetMachine(ROBOT, GRASP, attempts=1), Hidden(ROBOT.home_positions))
    assert step.reason == "the block was not seen within 3.0 s after 1 attempt"


def test_an_arm_that_does_not_move() -> None:
    start = ROBOT.home_positions.copy()
    elbow = ROBOT.joint_names.index("elbow")
    start[elbow] += 0.12
    scene = Scene(start, stuck={"elbow": start[elbow]})
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert (step.status, scene.placements) == ("failed", [])
    assert step.reason == "the arm did not reach home: elbow 0.12 rad off"


def test_a_gripper_that_is_jammed_opens_after_lifting() -> None:
    class Pressing(Scene):
        """The fingers press on something as long as the tool is low."""

        def view(self) -> View:
            tool, _ = Kinematics(ROBOT).tool_pose(self.filter.state.positions[:6])
            self.stuck = {"gripper": 0.028} if tool[2] < 0.05 else {}
            return super().view()

    scene = Pressing(low_pose())
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert step.status == "done", step.reason


def test_a_gripper_that_does_not_open() -> None:
    scene = Scene(low_pose(), stuck={"gripper": 0.02})
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert step.reason == "the gripper did not open: gripper 0.020 m off"


def test_no_joint_states() -> None:
    machine = ResetMachine(ROBOT, GRASP)
    machine.begin(START)
    steps = [machine.tick(None, ROBOT.home_positions) for _ in range(30)]
    assert {step.motion for step in steps} == {None}
    assert [steps[-2].status, steps[-1].status] == ["working", "failed"]
    assert steps[-1].reason == "no joint states for 3.0 s"


def test_a_stop_in_between_is_survived() -> None:
    scene = Scene(low_pose())
    machine = ResetMachine(ROBOT, GRASP)
    machine.begin(START)
    for tick in range(400):
        step = machine.tick(scene.view(), *scene.filter.state[:2])
        if step.status != "working":
            break
        if 12 <= tick < 20:
            scene.filter.step(None)  # an emergency stop: the reset's motion is not carried out
            scene.time_ns += TICK_NS
        else:
            scene.apply(step)
    assert step.status == "done"
    np.testing.assert_allclose(scene.filter.state.positions, ROBOT.home_positions, atol=1e-9)


def test_a_robot_that_is_held_back_for_good_fails() -> None:
    scene = Scene(low_pose())
    scene.apply = lambda step: setattr(scene, "time_ns", scene.time_ns + TICK_NS)  # type: ignore[method-assign]
    step = run(ResetMachine(ROBOT, GRASP), scene)
    assert step.reason.startswith("the arm did not lift: ")


def test_a_machine_resets_again_and_again() -> None:
    machine = ResetMachine(ROBOT, GRASP)
    for x in (0.35, 0.45):
        scene = Scene(low_pose())
        assert run(machine, scene, Start({"block": (x, 0.0, 0.0)})).status == "done"
        assert scene.block == (x, 0.0)
    with pytest.raises(RuntimeError, match="begin"):
        ResetMachine(ROBOT, GRASP).tick(None, ROBOT.home_positions)


@pytest.mark.parametrize("values", [{}, {"block": (0.4, 0.0)}, {"block": (0.4, math.nan, 0.0)}])
def test_a_start_that_says_too_little_is_refused(values: dict) -> None:
    with pytest.raises(UserError, match="block"):
        ResetMachine(ROBOT, GRASP).begin(Start(values))
