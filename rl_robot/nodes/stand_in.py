"""stand_in: behaves as a physical arm's drivers and cameras do, where there is no arm.

For rehearsing a bring-up, and for seeing that its faults are found: at the wall clock's pace, with
the controllers' own manners (see ``hardware/``). Nothing in it weighs anything or collides.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import mujoco
import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.publisher import Publisher
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags.cdr import image_bytes, joint_state_bytes
from rl_robot.errors import UserError
from rl_robot.hardware import faults
from rl_robot.hardware.controllers import Rejected, Trajectory
from rl_robot.hardware.stand_in import Command, StandIn
from rl_robot.hardware.twists import Twist
from rl_robot.robots.description import Camera, CommandInterface, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import camera_info_message, stamp_ns, trajectory_times
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters
from rl_robot.simulation.rendering import Renderer
from rl_robot.simulation.world import build_model, load_scene
from rl_robot.tasks import load_task

NOISE = 8  # grey levels of the cameras' noise
VIEW_PERIOD = 0.1  # s
_NOISE_TABLE = 1 << 21


@dataclass(frozen=True)
class Parameters:
    """Parameters of the stand-in node."""

    robot: str = "arm"
    task: str = "grasp"  # whose scene the cameras see
    fault: str = faults.NONE
    lag: float = 0.03  # s by which joints follow their references
    seed: int = 0  # of the cameras' noise


class StandInNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("stand_in")
        given = read_parameters(self, Parameters)
        self._robot = load_robot(given.robot)
        self._fault = given.fault
        self._rejected = 0
        self._joint_states = self.publisher(topics.JOINT_STATES)
        self._button = self.publisher(topics.EMERGENCY_STOP)
        self._description = self.publisher(topics.ROBOT_DESCRIPTION)
        self._eyes = self._open_eyes(given)
        self.listen(topics.EMERGENCY_STOP, self._hear_stop)
        for interface in self._robot.interfaces:
            self._listen_for(interface)
        self.create_service(Trigger, "stand_in/press_stop", self._press_stop)
        for camera in self._robot.cameras if self._eyes else ():
            self._show(camera)
        # Last, and together: its time runs from now on, and samples are looked for as they are due.
        self._arm = StandIn(self._robot, self._now_ns(), fault=given.fault, lag=given.lag)
        self.every(1.0 / self._robot.joint_state_rate, self._follow_wall_clock)
        self._description.publish(String(data=self._arm.robot_description))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    # --- joints ----------------------------------------------------------------------------

    def _listen_for(self, interface: CommandInterface) -> None:
        takers: dict[Any, Callable[[Any], Command]] = {
            JointTrajectory: _trajectory,
            Float64MultiArray: _array,
            TwistStamped: _twist,
        }
        for kind, convert in takers.items():
            if interface.type.endswith(f"/{kind.__name__}"):
                take = partial(self._take, interface, convert)
                # Reliable and volatile, as controllers subscribe (SystemDefaultsQoS).
                self.create_subscription(kind, interface.topic, take, 1)

    def _take(
        self,
        interface: CommandInterface,
        convert: Callable[[Any], Command],
        message: Any,
    ) -> None:
        try:
            self._arm.command(interface.name, convert(message), self._now_ns())
        except Rejected as rejected:
            self._rejected += 1
            self.problem(f"{interface.topic}: command rejected: {rejected}")

    def _follow_wall_clock(self) -> None:
        for sample in self._arm.advance(self._now_ns()):
            self._joint_states.publish(
                joint_state_bytes(
                    sample.names, sample.stamp_ns, sample.positions, sample.velocities
                )
            )
        self.health["rejected"] = str(self._rejected)

    # --- the stop button -------------------------------------------------------------------

    def _press_stop(self, _: Trigger.Request, reply: Trigger.Response) -> Trigger.Response:
        """Press the button that is wired to this arm, by hand as it were."""
        if self._fault != "dead_stop":
            self._button.publish(Bool(data=True))
        reply.success = True
        return reply

    def _hear_stop(self, message: Bool) -> None:
        if message.data:
            self._arm.stop_pressed(self._now_ns())

    # --- cameras ---------------------------------------------------------------------------

    def _open_eyes(self, given: Parameters) -> "Eyes | None":
        if not self._robot.cameras or given.fault == "missing_camera":
            return None
        return Eyes(given)

    def _show(self, camera: Camera) -> None:
        images = self.publisher(topics.IMAGE_RAW, camera=camera.name)
        infos = self.publisher(topics.CAMERA_INFO, camera=camera.name)
        self.every(1.0 / camera.rate, partial(self._take_picture, camera, images, infos))

    def _take_picture(self, camera: Camera, images: Publisher, infos: Publisher) -> None:
        assert self._eyes is not None
        if not images.get_subscription_count():
            return  # nobody looks
        late = faults.PICTURES_LATE if self._fault == "late_pictures" else 0.0
        stamp = self._now_ns() - round(late * 1e9)
        picture = self._eyes.look(
            camera, self._arm.positions, frozen=self._fault == "frozen_camera"
        )
        images.publish(image_bytes(picture, stamp, camera.frame_id))
        infos.publish(camera_info_message(camera, stamp))

    def close(self) -> None:
        """Free the renderer."""
        if self._eyes is not None:
            self._eyes.close()


class Eyes:
    """What the cameras see: the robot in the task's scene, or noise where there is no OpenGL.

    A view is rendered ten times a second at most; until then it is shown with other noise.
    """

    def __init__(self, given: Parameters) -> None:
        self._robot = load_robot(given.robot)
        scene = load_scene(load_task(given.task).scene)
        model = build_model(self._robot, scene)
        self._data = mujoco.MjData(model)
        self._model = model
        joints = [model.joint(name) for name in self._robot.joint_names]
        self._columns = np.array([joint.qposadr[0] for joint in joints])
        self._views: dict[str, tuple[float, np.ndarray]] = {}  # when (s) it was rendered
        self._last: dict[str, np.ndarray] = {}
        self._random = np.random.default_rng(given.seed)
        self._noise = self._random.integers(0, NOISE, _NOISE_TABLE, dtype=np.uint8)
        self._renderer: Renderer | None = None
        try:
            self._renderer = Renderer(model, noise=0.0, seed=given.seed)
            for camera in self._robot.cameras:  # the first picture takes a while
                self.look(camera, self._robot.home_positions)
        except UserError:
            self._renderer = None

    def look(self, camera: Camera, positions: np.ndarray, *, frozen: bool = False) -> np.ndarray:
        """Return a picture (H, W, 3) uint8 with the joints at ``positions`` (n,)."""
        if not frozen or camera.name not in self._last:
            view = self._view(camera, positions)
            begin = int(self._random.integers(max(1, len(self._noise) - view.size)))
            noise = np.resize(self._noise[begin : begin + view.size], view.shape)
            self._last[camera.name] = cv2.add(view, noise)
        return self._last[camera.name]

    def _view(self, camera: Camera, positions: np.ndarray) -> np.ndarray:
        if self._renderer is None:
            return np.full((camera.height, camera.width, 3), 100, np.uint8)
        now = time.monotonic()
        rendered, view = self._views.get(camera.name, (-np.inf, None))
        if view is None or now - rendered >= VIEW_PERIOD:
            self._data.qpos[self._columns] = positions
            mujoco.mj_kinematics(self._model, self._data)
            view = self._renderer.render(self._data, camera)
            self._views[camera.name] = now, view
        return view

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()


def _trajectory(message: JointTrajectory) -> Trajectory:
    velocities = [list(point.velocities) for point in message.points]
    return Trajectory(
        names=list(message.joint_names),
        stamp_ns=stamp_ns(message),
        times=trajectory_times(message),
        positions=[list(point.positions) for point in message.points],
        velocities=velocities if any(velocities) else (),
    )


def _array(message: Float64MultiArray) -> list[float]:
    return list(message.data)


def _twist(message: TwistStamped) -> Twist:
    linear, angular = message.twist.linear, message.twist.angular
    values = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
    return Twist(message.header.frame_id, stamp_ns(message), values)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(StandInNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
