"""simulator: MuJoCo or Gazebo behind the topics of a real arm's drivers.

Paced, it advances one control period when the safety node's command for the tick has come on every
command interface; else it follows the wall clock at the factor asked for.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from rl_robot.bags.cdr import image_bytes, joint_state_bytes, pose_bytes, read_trajectory
from rl_robot.errors import LostProgramError, UserError
from rl_robot.robots.commands import ARRAY, check_simulated
from rl_robot.robots.description import CommandInterface, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import (
    camera_info_message,
    to_time,
)
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.simulation.drivers import JointSample
from rl_robot.simulation.simulators import MUJOCO, make_simulation
from rl_robot.simulation.world import load_scene
from rl_robot.tasks import load_task


@dataclass(frozen=True)
class Parameters:
    """Parameters of the simulator node."""

    robot: str = "arm"
    task: str = "grasp"
    simulator: str = MUJOCO  # or gazebo
    pace: str = "1.0"
    seed: int = 0
    watchdog: float = 20.0  # s of wall time after which a paced tick goes on without a command


_ALIVE_PERIOD = 0.25  # s from one look at the simulator to the next
_LONGEST_CATCH_UP = 0.25  # s of wall time that following the wall clock may take at a time
Setpoints = tuple[list[float], np.ndarray]  # times (H,) s and positions (H, k)


def _ends_with_its_program(
    callback: Callable[["SimulatorNode"], None],
) -> Callable[["SimulatorNode"], None]:
    """End the process when the simulating program has ended: started again, it starts a new one."""

    @wraps(callback)
    def guarded(node: "SimulatorNode") -> None:
        try:
            callback(node)
        except LostProgramError as error:
            node.fail(error)

    return guarded


class SimulatorNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("simulator", parameter_services=True)
        given = read_parameters(self, Parameters)
        self._robot = load_robot(given.robot)
        check_simulated(self._robot)
        task = load_task(given.task)
        self._period = task.period
        self._watchdog = given.watchdog
        scene = load_scene(task.scene)
        self._factor = parse_pace(given.pace)
        rate = self._robot.joint_state_rate
        self._ticks_per_image = {
            camera.name: max(1, round(rate / camera.rate)) for camera in self._robot.cameras
        }
        ticks = math.gcd(*self._ticks_per_image.values()) or 1
        self._simulator = make_simulation(
            given.simulator,
            self._robot,
            scene,
            seed=given.seed,
            picture_period=self._period if self._factor is None else ticks / rate,
        )
        self._objects = tuple(task.objects)
        self._pending: dict[str, deque[Setpoints]] = {}
        self._samples: list[JointSample] = []
        self._lost = 0
        self._waiting_since: float | None = None
        self._said: list[tuple[Publisher, Any]] = []  # of the present tick

        self._joint_states = self.publisher(topics.JOINT_STATES)
        self._clock_publisher = self.publisher(topics.CLOCK)
        # Perception looks through the first camera: nobody need hear the others.
        self._images = {
            camera.name: self.publisher(topics.IMAGE_RAW, awaited=index == 0, camera=camera.name)
            for index, camera in enumerate(self._robot.cameras)
        }
        self._infos = {
            camera.name: self.publisher(topics.CAMERA_INFO, camera=camera.name)
            for camera in self._robot.cameras
        }
        self._calibrations = {
            camera.name: camera_info_message(camera, 0) for camera in self._robot.cameras
        }
        self._poses = {
            name: self.publisher(topics.TRUE_POSE, object=name) for name in self._objects
        }
        for interface in self._robot.interfaces:
            self._pending[interface.name] = deque(maxlen=1)
            topic = topics.INTERFACES[interface.type]
            take = partial(self._take_command, interface)
            self.listen(topic, take, depth=1, raw=True, interface=interface.topic)
        self._declare_places()
        # Stamp 0 means "start now" on controller topics and "no time yet" for a ROS clock.
        self._samples = self._simulator.advance(self._period)
        self.every(_ALIVE_PERIOD, self._check_alive)
        if self._factor is None:
            self.create_service(Trigger, "simulator/publish", self._publish_again)
            self.every(0.5, self._watch_handshake)
        else:
            self._start_real_time(self._factor)

    # --- the scene -------------------------------------------------------------------------

    def _declare_places(self) -> None:
        descriptor = ParameterDescriptor(
            description="x, y (m) and yaw (rad) in the base frame; setting it places the object",
            dynamic_typing=True,
        )
        for name in self._objects:
            self.declare_parameter(f"place.{name}", [0.0, 0.0, 0.0], descriptor)
        self.add_on_set_parameters_callback(self._place)

    def _place(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name.startswith("place."):
                try:
                    x, y, yaw = (float(value) for value in change.value)
                    self._simulator.place(change.name.removeprefix("place."), x, y, yaw)
                except (TypeError, ValueError, UserError, LostProgramError) as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    @_ends_with_its_program
    def _check_alive(self) -> None:
        self._simulator.check_alive()

    # --- commands --------------------------------------------------------------------------

    def _take_command(self, interface: CommandInterface, raw: bytes) -> None:
        try:
            setpoints = _setpoints(interface, raw)
        except ValueError as error:
            self.problem(f"{interface.topic}: command refused: {error}")
            return
        if self._factor is not None:
            self._command(interface.name, setpoints)
            return
        self._pending[interface.name].append(setpoints)
        if all(self._pending.values()) and self._waiting_since is not None:
            for name, queue in self._pending.items():
                self._command(name, queue.popleft())
            self._step()

    def _command(self, interface: str, setpoints: Setpoints) -> None:
        try:
            self._simulator.command(interface, np.asarray(setpoints[0]), setpoints[1])
        except (ValueError, UserError) as error:
            self.problem(f"{interface}: command refused: {error}")

    # --- paced: one control period per handshake -------------------------------------------

    @_ends_with_its_program
    def _step(self) -> None:
        self._samples = self._simulator.advance(self._period)
        self._publish_tick()

    @_ends_with_its_program
    def _publish_tick(self) -> None:
        """Publish all that was sensed up to the present tick, and wait for its command."""
        self._waiting_since = time.monotonic()
        self._said.clear()
        # The joint states first: their readers use the time the rendering takes.
        for sample in self._samples:
            self._publish_joints(sample)
        self._publish_clock()
        self._publish_cameras()

    def _publish_again(self, _: Trigger.Request, reply: Trigger.Response) -> Trigger.Response:
        """Start, or say the present tick again, as it was, to nodes that were restarted."""
        if self._waiting_since is None:
            self._publish_tick()
        else:
            self._waiting_since = time.monotonic()
            for publisher, message in self._said:
                publisher.publish(message)
        reply.success = True
        return reply

    def _say(self, publisher: Publisher, message: Any) -> None:
        publisher.publish(message)
        if self._factor is None:
            self._said.append((publisher, message))

    def _watch_handshake(self) -> None:
        self.health["lost_periods"] = str(self._lost)
        waiting = self._waiting_since
        if waiting is not None and time.monotonic() - waiting > self._watchdog:
            self.problem(f"no command for {self._watchdog:.0f} s: the tick goes on without one")
            self._lost += 1
            self._step()

    # --- at the wall clock's pace ----------------------------------------------------------

    def _start_real_time(self, factor: float) -> None:
        self._started = time.monotonic()
        self._started_ns = self._simulator.time_ns
        rate = self._robot.joint_state_rate
        self._tick = round(self._simulator.time_ns * 1e-9 * rate)
        self.every(1.0 / (rate * factor), self._follow_wall_clock)

    @_ends_with_its_program
    def _follow_wall_clock(self) -> None:
        assert self._factor is not None
        elapsed = (time.monotonic() - self._started) * self._factor
        sample_time = 1.0 / self._robot.joint_state_rate
        behind = elapsed - (self._simulator.time_ns - self._started_ns) * 1e-9
        if behind > 1.0:  # the machine slept or is too slow: skip, as a real clock would not wait
            self.problem(f"the simulation is {behind:.1f} s late and skips that time")
            self._started += (behind - sample_time) / self._factor
            behind = sample_time
        # A simulation that can't keep up still has to answer: this node would count as hanging.
        until = time.monotonic() + _LONGEST_CATCH_UP
        while behind >= sample_time and time.monotonic() < until:
            for sample in self._simulator.advance(sample_time):
                self._publish_joints(sample)
            behind -= sample_time
            self._tick += 1
            self._publish_clock()
            self._publish_due_cameras()

    def _publish_due_cameras(self) -> None:
        due = {name for name, ticks in self._ticks_per_image.items() if self._tick % ticks == 0}
        if due:
            self._publish_cameras(due)

    # --- publishing ------------------------------------------------------------------------

    def _publish_joints(self, sample: JointSample) -> None:
        self._say(
            self._joint_states,
            joint_state_bytes(
                self._robot.joint_names,
                sample.stamp_ns,
                sample.positions,
                sample.velocities,
                sample.efforts,
            ),
        )

    def _publish_clock(self) -> None:
        self._say(self._clock_publisher, Clock(clock=to_time(self._simulator.time_ns)))

    def _publish_cameras(self, names: set[str] | None = None) -> None:
        stamp = self._simulator.time_ns
        for camera in self._robot.cameras:
            if names is None or camera.name in names:
                picture = self._simulator.render(camera.name)
                self._say(self._images[camera.name], image_bytes(picture, stamp, camera.frame_id))
                calibration = self._calibrations[camera.name]
                calibration.header.stamp = to_time(stamp)
                self._say(self._infos[camera.name], calibration)
        for name, publisher in self._poses.items():
            position, quaternion = self._simulator.object_pose(name)
            self._say(publisher, pose_bytes(stamp, self._robot.base_frame, position, quaternion))

    def close(self) -> None:
        """End the simulator."""
        self._simulator.close()


def _setpoints(interface: CommandInterface, raw: bytes) -> Setpoints:
    """Return times and positions of a controller's serialized message, in the interface's order.

    Raises:
        ValueError: the joints are not the interface's, or the sizes disagree.
    """
    if interface.type == ARRAY:
        data = deserialize_message(raw, Float64MultiArray).data
        if len(data) != len(interface.joints):
            raise ValueError(f"{len(data)} numbers, expected {len(interface.joints)}")
        return [0.0], np.array([data], dtype=float)
    _, _, motion = read_trajectory(raw)
    if sorted(motion.names) != sorted(interface.joints) or not len(motion.times):
        raise ValueError(f"joints {list(motion.names)}, expected {interface.joints}")
    order = [motion.names.index(joint) for joint in interface.joints]
    return motion.times.tolist(), motion.positions[:, order]


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(SimulatorNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
