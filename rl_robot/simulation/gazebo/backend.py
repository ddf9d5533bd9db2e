"""A simulated robot in Gazebo Classic 11, in lock-step, behind the same drivers as MuJoCo's."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from rl_robot.errors import LostProgramError, UserError
from rl_robot.robots.description import Camera, Robot
from rl_robot.simulation.drivers import Array, Drivers, JointSample
from rl_robot.simulation.gazebo.installation import Installation, find_installation
from rl_robot.simulation.gazebo.joints import Joints
from rl_robot.simulation.gazebo.messages import Messages
from rl_robot.simulation.gazebo.sdf import classic_world
from rl_robot.simulation.gazebo.server import GazeboServer
from rl_robot.simulation.gazebo.transport import Transport
from rl_robot.simulation.imaging import Image, Imaging
from rl_robot.simulation.placing import check_object, resting_pose, resting_poses
from rl_robot.simulation.world import Scene

PHYSICS_STEP = 0.002  # s; at half of it the grasps are as sure, and half as many steps are made
_WARM_UP = 2  # pictures
_START_TIMEOUT = 20.0  # s until the cameras are there
_PICTURE_TIMEOUT = 20.0  # s of wall time
_CHANNELS = 3
_RGB8 = 3  # Gazebo's number of that pixel format


class GazeboSimulator:
    """A robot in a scene, in a gzserver of its own. See ``Simulation``.

    A picture is taken every ``picture_period``; ``render`` gives that of the present time. What was
    placed or reset since then is in the next one.

    Args:
        robot: the robot.
        scene: what stands around it.
        seed: of the cameras' noise.
        physics_step: s; the period of the joint states must be a multiple of it.
        picture_period: s from one picture to the next.
        installation: the Gazebo to run, else one is looked for.
        log: where gzserver's output goes, else with the world to a temporary folder.

    Raises:
        UserError: no Gazebo, or the robot cannot be simulated as described.
        LostProgramError: Gazebo did not come up.
    """

    def __init__(
        self,
        robot: Robot,
        scene: Scene,
        *,
        seed: int = 0,
        physics_step: float = PHYSICS_STEP,
        picture_period: float = 0.1,
        installation: Installation | None = None,
        log: Path | None = None,
    ) -> None:
        self._robot = robot
        self._scene = scene
        self._drivers = Drivers(robot, physics_step=physics_step)
        largest = max((c.width * c.height * _CHANNELS for c in robot.cameras), default=0)
        self._seed = seed
        self._imaging = Imaging(noise=scene.camera_noise, seed=seed, values=largest)
        self._picture_ns = round(picture_period * 1e9)
        self._pictures: dict[str, tuple[int, Image]] = {}  # the newest, with their stamps
        found = installation or find_installation()
        self._messages = Messages(found.messages)
        self._folder = tempfile.TemporaryDirectory(prefix="rl-robot-gazebo-")
        folder = Path(self._folder.name)
        cameras = tuple(replace(camera, rate=1.0 / picture_period) for camera in robot.cameras)
        world = folder / "robot.world"
        world.write_text(
            classic_world(replace(robot, cameras=cameras), scene, physics_step=physics_step),
            encoding="utf-8",
        )
        self._transport: Transport | None = None
        self.server = GazeboServer(
            found,
            world,
            log or folder / "gzserver.log",
            options=("--lockstep", "-u"),
            leavings=[folder],
        )
        try:
            self._transport = Transport(self._messages, self.server.port)
            self._joints = Joints(self._transport, self._messages, robot, list(scene.objects))
            for camera in robot.cameras:
                self._subscribe(camera)
            self.reset({})
            self._warm_up(picture_period)
        except BaseException:
            self.close()
            raise

    @property
    def time_ns(self) -> int:
        """Simulated time since the start, ns."""
        return self._joints.state.samples[-1].stamp_ns

    def command(self, interface: str, times: ArrayLike, positions: ArrayLike) -> None:
        """Follow a trajectory from now on; see ``Drivers.command``."""
        self._drivers.command(
            self.time_ns, interface, times, positions, lambda: self.joint_sample().positions
        )

    def advance(self, duration: float) -> list[JointSample]:
        """Simulate ``duration`` seconds and return the joint samples, the last at the new time.

        Raises:
            ValueError: ``duration`` is not a positive multiple of the joint states' period.
            LostProgramError: Gazebo ended.
        """
        set_points = self._drivers.set_points(self.time_ns, self._drivers.samples_in(duration))
        return self._joints.advance(self._drivers.sample_ns, set_points).samples

    def joint_sample(self) -> JointSample:
        """Return what the encoders say now."""
        return self._joints.state.samples[-1]

    def timed_out(self, interface: str) -> bool:
        """Whether the driver holds because no command came for its timeout.

        Raises:
            UserError: unknown interface.
        """
        return self._drivers.timed_out(self.time_ns, interface)

    def render(self, camera: str) -> Image:
        """Return the camera's picture of the present time: RGB (H, W, 3) uint8, with noise.

        Raises:
            UserError: unknown camera, or no picture is taken at this time.
            LostProgramError: Gazebo ended, or does not take pictures.
        """
        description = self._robot.camera(camera)
        now = self.time_ns
        if now % self._picture_ns:
            raise UserError(f"{camera} takes no picture at {now * 1e-9:.3f} s")
        self._open.wait(lambda: self._stamp(camera) >= now, _PICTURE_TIMEOUT, f"{camera}'s picture")
        stamp, image = self._pictures[camera]
        if stamp != now:
            raise LostProgramError(f"Gazebo: {camera}'s picture of {now} ns is of {stamp} ns")
        return self._imaging.picture(image.copy(), description)

    def place(self, object: str, x: float, y: float, yaw: float) -> None:  # noqa: A002
        """Put an object at rest on the table, its centre at (x, y) m, turned by yaw rad.

        Raises:
            UserError: unknown object, values that are not finite, or a place beside the table.
            LostProgramError: Gazebo ended.
        """
        self._joints.place({object: resting_pose(self._scene, object, x, y, yaw)})

    def object_pose(self, object: str) -> tuple[Array, Array]:  # noqa: A002
        """Return the true position (3,) and quaternion (4,) x, y, z, w in the base frame.

        Raises:
            UserError: unknown object.
        """
        check_object(self._scene, object)
        pose = self._joints.state.poses[object]
        return pose[:3].copy(), pose[3:].copy()

    def reset(
        self, objects: Mapping[str, tuple[float, float, float]], *, seed: int | None = None
    ) -> None:
        """Put the robot at home, at rest, and objects at (x, y, yaw); others where the scene says.

        Time goes on. The physics that follow depend on nothing that was before; with a ``seed``,
        nor does the cameras' noise.

        Raises:
            UserError: as ``place`` does.
            LostProgramError: Gazebo ended.
        """
        poses = resting_poses(self._scene, objects)
        if seed is not None:
            self._imaging.reseed(seed)
        self._joints.reset(self._robot.home_positions, poses)
        self._drivers.hold(self.time_ns, self._robot.home_positions)

    def check_alive(self) -> None:
        """Raise a LostProgramError if Gazebo has ended."""
        code = self.server.poll()
        if code is not None:
            raise LostProgramError(f"Gazebo ended: gzserver's exit status was {code}")
        self._open.look()

    def close(self) -> None:
        """End Gazebo; more than once does nothing."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self.server.close()
        self._folder.cleanup()

    @property
    def _open(self) -> Transport:
        if self._transport is None:
            raise LostProgramError("Gazebo was ended")
        return self._transport

    def _warm_up(self, picture_period: float) -> None:
        """Take the first pictures, in which what was moved so far may not have arrived yet."""
        for _ in range(_WARM_UP):
            self.advance(picture_period)
            for camera in self._robot.cameras:
                self.render(camera.name)
        self._joints.rest()
        self.reset({}, seed=self._seed)

    def _subscribe(self, camera: Camera) -> None:
        topic = f"~/{camera.name}/link/{camera.name}/image"
        self._open.subscribe(
            topic, "ImageStamped", lambda data: self._take_picture(camera, data), _START_TIMEOUT
        )

    def _take_picture(self, camera: Camera, data: bytes) -> None:
        message = self._messages.parse("ImageStamped", "image_stamped", data)
        picture = message.image
        sizes = (picture.width, picture.height, picture.step, picture.pixel_format)
        expected = (camera.width, camera.height, camera.width * _CHANNELS, _RGB8)
        if sizes != expected or len(picture.data) != camera.height * expected[2]:
            raise LostProgramError(f"Gazebo: {camera.name}'s picture is {sizes}, not {expected}")
        image = np.frombuffer(picture.data, np.uint8).reshape(camera.height, camera.width, -1)
        stamp = message.time.sec * 1_000_000_000 + message.time.nsec
        self._pictures[camera.name] = (stamp, image)

    def _stamp(self, camera: str) -> int:
        return self._pictures[camera][0] if camera in self._pictures else -1
