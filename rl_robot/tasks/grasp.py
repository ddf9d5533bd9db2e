"""Grasp a block and lift it: the whole MDP on one page.

The block's pose comes from perception, success from the gripper's encoder and the lift: nothing
here needs more than a real arm with a camera has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot
from rl_robot.rewards import closeness, lift_fraction, object_held
from rl_robot.robots.cartesian import CartesianAction
from rl_robot.robots.description import Robot
from rl_robot.tasks.task import (
    HISTORY,
    Box,
    Memory,
    Observation,
    ObservationSpec,
    Reward,
    ScriptStrength,
    Start,
    Task,
)


@dataclass(frozen=True)
class Grasp(Task):
    """Close the gripper on a block anywhere in the work area and lift it by 8 cm."""

    name: str = "grasp"
    objects: tuple[str, ...] = ("block",)
    start_area: Box = ((0.30, -0.10, -math.pi / 4), (0.50, 0.10, math.pi / 4))
    block_size: float = 0.04
    grasp_tolerance: float = 0.008  # m, of the aperture that says a block is held
    open_aperture: float = 0.06  # m, wider counts as open
    grasp_height: float = 0.02  # m, tool height at which the block stands between the fingers
    lift: float = 0.08  # m
    weak_script: ScriptStrength = field(
        default=ScriptStrength(speed=0.8, noise=0.3, offset=(0.017, 0.02, 0.0))
    )

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """Shapes, units and ranges; relative positions are in the tool's frame, z upwards."""
        return {
            "tool_position": ObservationSpec((3,), "m", *self.workspace),
            "tool_yaw": ObservationSpec((2,), "cos, sin"),
            "block_relative": ObservationSpec((3,), "m", -0.3, 0.3),
            "block_yaw": ObservationSpec((2,), "cos, sin of 4 x relative yaw"),
            "gripper_open": ObservationSpec((1,), "0 or 1", 0.0, 1.0),
            "block_held": ObservationSpec((1,), "0 or 1", 0.0, 1.0),
            "block_age": ObservationSpec((1,), "s", 0.0, 2.0),
            "joint_age": ObservationSpec((1,), "s", 0.0, 0.2),
            "action_history": ObservationSpec((HISTORY, 5), "1"),
        }

    def start(self, split: str, index: int) -> Start:
        """Return where the block starts: anywhere in the 20 x 20 cm work area, at any yaw."""
        return Start({"block": self._draw(split, index, self.start_area)})

    def action_map(self, robot: Robot) -> CartesianAction:
        """Return the mapping between the action and the robot's motion.

        Raises:
            UserError: the robot has no gripper.
        """
        if robot.gripper is None:
            raise UserError(f"task {self.name} needs a robot with a gripper: {robot.name} has none")
        return super().action_map(robot)

    def observation(
        self, snapshot: Snapshot, action_history: Sequence[npt.NDArray[np.float32]]
    ) -> Observation:
        """Return the named observation; units and ranges are in ``observation_spec``."""
        block = snapshot.objects["block"]
        yaw = block.yaw - snapshot.tool_yaw
        assert snapshot.aperture is not None
        values = {
            "tool_position": snapshot.tool_position,
            "tool_yaw": [math.cos(snapshot.tool_yaw), math.sin(snapshot.tool_yaw)],
            "block_relative": _in_tool_frame(block.position, snapshot),
            # a cube looks the same every quarter turn
            "block_yaw": [math.cos(4.0 * yaw), math.sin(4.0 * yaw)],
            "gripper_open": [snapshot.aperture > self.open_aperture],
            "block_held": [self._held(snapshot, action_history[-1])],
            "block_age": [block.age],
            "joint_age": [snapshot.joint_age],
            "action_history": action_history,
        }
        return {name: np.array(value, dtype=np.float32) for name, value in values.items()}

    def reward(self, memory: Memory, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> Reward:
        """Charge for time, less the nearer the grasp is to done, and for jerk; pay 1 for success.

        Success ends the episode.
        """
        held = self._held(snapshot, action)
        distance = float(
            np.linalg.norm(snapshot.objects["block"].position - snapshot.tool_position)
        )
        lifted = lift_fraction(
            float(snapshot.tool_position[2]), self.grasp_height, self.grasp_height + self.lift
        )
        memory.streak = memory.streak + 1 if held and lifted >= 1.0 else 0
        success = memory.streak >= self.success_steps
        terms = {
            "time": -0.1,
            "jerk": self.jerk_charge(memory, action),
            # the hand hides a held block, whose pose is then old
            "reach": 0.025 * (1.0 if held else closeness(distance, 0.1)),
            "grasp": 0.025 * held,
            "lift": 0.05 * held * lifted,
            "success": 1.0 * success,
        }
        return Reward(terms=terms, success=success, terminated=success)

    def _held(self, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> bool:
        assert snapshot.aperture is not None
        assert snapshot.aperture_rate is not None
        return object_held(
            snapshot.aperture,
            snapshot.aperture_rate,
            closing=bool(action[4] <= 0.0),
            width=self.block_size,
            tolerance=self.grasp_tolerance,
        )


def _in_tool_frame(position: npt.NDArray[np.float64], snapshot: Snapshot) -> list[float]:
    """Return the position relative to the tool, x along the tool's x axis, z upwards."""
    x, y, z = position - snapshot.tool_position
    cos, sin = math.cos(snapshot.tool_yaw), math.sin(snapshot.tool_yaw)
    return [cos * x + sin * y, cos * y - sin * x, z]
