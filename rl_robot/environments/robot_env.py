"""A task on a simulated robot as a Gymnasium environment.

It runs the code that the graph runs, in the order the graph runs it: camera image and joint state
at the tick, perception, observation, action, safety filter, robot. A policy trained here sees in
the graph what it saw here, and the other way round.
"""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rl_robot.environments.control_loop import ControlLoop
from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot, SnapshotAssembler, yaw_of_quaternion
from rl_robot.perception.block import BlockDetector, PoseTracker
from rl_robot.robots.commands import check_simulated, interface_motion
from rl_robot.robots.description import load_robot
from rl_robot.safety.chain import make_filter
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene
from rl_robot.tasks import Observation, Start, Task, flat_size, flatten, load_task

FlatObservation = npt.NDArray[np.float32]

PERCEPTIONS = ("camera", "truth")


class RobotEnv(gymnasium.Env[FlatObservation, npt.NDArray[np.float32]]):
    """Flat observations in [-1, 1] (``rl_robot.tasks.flatten``), normalized actions (5,).

    ``reset`` takes ``options={"split": "test", "index": 3}``; by default it draws a training
    start. ``info`` holds the named ``observation``, the ``start``, and after a step the executed
    action and joint path (H, n), the reward's terms, success and the safety filter's interventions.
    """

    # as Gymnasium declares it
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        task: str | Task = "grasp",
        robot: str = "arm",
        perception: str = "camera",
        render_mode: str | None = None,
    ) -> None:
        """Build the world.

        Args:
            task: by name, or made already.
            robot: by name, or the path of its YAML.
            perception: "camera" finds the objects in rendered images, "truth" asks the simulator.
            render_mode: "rgb_array" for what the robot's camera sees.

        Raises:
            UserError: an unknown task, robot, or perception, or a robot without the camera or
                gripper that the task needs.
        """
        if perception not in PERCEPTIONS:
            raise UserError(f"unknown perception {perception!r}: expected camera or truth")
        self.task = task if isinstance(task, Task) else load_task(task)
        self.robot = load_robot(robot)
        check_simulated(self.robot)
        if not self.robot.cameras:
            raise UserError(f"robot {self.robot.name} has no camera: list one in its YAML")
        self.perception = perception
        self.render_mode = render_mode
        scene = load_scene(self.task.scene)
        self.simulator = Simulator(self.robot, scene)
        self._safety = make_filter(self.robot, period=self.task.period)
        self._loop = ControlLoop(self.task, self.robot)
        self._assembler = SnapshotAssembler(
            self.robot, self.task.objects, needs_goal=self.task.has_goal
        )
        self._camera = self.robot.cameras[0]
        self._detector = BlockDetector(self._camera)
        spec = self.task.observation_spec
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (flat_size(spec),), np.float32)
        self.action_space = gymnasium.spaces.Box(
            -1.0, 1.0, (len(self.task.action_names),), np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FlatObservation, dict[str, Any]]:
        """Put robot and objects at a start; see the class for ``options``."""
        super().reset(seed=seed)
        options = options or {}
        split = options.get("split", "train")
        index = int(options.get("index", self.np_random.integers(2**31)))
        start = self.task.start(split, index)
        self.simulator.reset(_placements(start), seed=int(self.np_random.integers(2**31)))
        reference = self.robot.home_positions
        self._safety.reset(reference)
        self._loop.reset(reference)
        self._assembler.clear()
        self._assembler.set_goal(start.values.get("goal"))
        self._trackers = {name: PoseTracker() for name in self.task.objects}
        self._steps = 0
        observation = self._loop.observe(self._sense())
        return self._flat(observation), {"observation": observation, "start": start.values}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[FlatObservation, float, bool, bool, dict[str, Any]]:
        """Run one control period."""
        safe = self._safety.step(self._loop.propose(np.clip(action, -1.0, 1.0)))
        executed = self._loop.executed(safe.motion)
        for interface in self.robot.interfaces:
            part = interface_motion(interface, safe.motion, self.task.period)
            self.simulator.command(interface.name, part.times, part.positions)
        self.simulator.advance(self.task.period)
        self._steps += 1
        snapshot = self._sense()
        reward = self._loop.judge(snapshot, executed)
        observation = self._loop.observe(snapshot)
        info = {
            "observation": observation,
            "executed": executed,
            "path": safe.motion.positions,
            "reward_terms": reward.terms,
            "success": reward.success,
            "interventions": safe.interventions,
        }
        truncated = self._steps >= self.task.max_steps and not reward.terminated
        return self._flat(observation), reward.total, reward.terminated, truncated, info

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """Return what the robot's camera sees, (height, width, 3), in mode "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        return self.simulator.render(self._camera.name)

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()

    def _sense(self) -> Snapshot:
        """Read the sensors now and return the snapshot of this tick."""
        now = self.simulator.time_ns
        sample = self.simulator.joint_sample()
        self._assembler.add_joint_state(
            sample.stamp_ns, self.robot.joint_names, sample.positions, sample.velocities
        )
        for name in self.task.objects:
            self._see(name, now)
        snapshot = self._assembler.at(now)
        if snapshot is None:
            lacking = ", ".join(self._assembler.missing(now))
            raise RuntimeError(f"nothing to observe: no {lacking} since the start of the episode")
        return snapshot

    def _see(self, name: str, now: int) -> None:
        if self.perception == "truth":
            position, quaternion = self.simulator.object_pose(name)
            yaw = yaw_of_quaternion(quaternion)
            self._assembler.add_object_pose(name, now, position, yaw)
            return
        detection = self._detector.detect(self.simulator.render(self._camera.name))
        held = self._trackers[name].update(now, detection)
        if held is not None:
            self._assembler.add_object_pose(name, held.stamp_ns, held.position, held.yaw)

    def _flat(self, observation: Observation) -> FlatObservation:
        return flatten(self.task.observation_spec, observation)


def _placements(start: Start) -> dict[str, tuple[float, float, float]]:
    """Return the part of a start that the scene has to be put into."""
    return {
        name: (values[0], values[1], values[2])
        for name, values in start.values.items()
        if name != "goal"
    }
