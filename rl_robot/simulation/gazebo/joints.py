"""What the plugin in Gazebo is asked, and what it answers: see plugin/joint_server.cc."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import LostProgramError
from rl_robot.robots.bodies import robot_bodies
from rl_robot.robots.description import Robot
from rl_robot.simulation.drivers import Array, JointSample
from rl_robot.simulation.gazebo.messages import Messages
from rl_robot.simulation.gazebo.transport import Transport

POSE_SIZE = 7  # x, y, z, qx, qy, qz, qw
_KIND, _FILE = "JointAnimation", "joint_animation"
_SAMPLE_SIZE = 3  # position, velocity, effort
_TIMEOUT = 30.0  # s of wall time after which an answer won't come any more

# Velocity that a servo asks for per position error. MuJoCo's arm servos are critically damped at
# 60 rad/s, which settles as fast as this; its fingers' have 600 N/m and 30 N s/m.
_ARM_GAIN = 30.0  # 1/s
_FINGER_GAIN = 20.0  # 1/s
_FINGER_DAMPING = 30.0  # N s/m: what fingers push with per missing velocity, up to their effort


@dataclass(frozen=True)
class State:
    """What the plugin answered: joint samples, and the objects' poses (7,) in the base frame."""

    samples: list[JointSample]
    poses: dict[str, Array]


class Joints:
    """The joints of the robot in a running Gazebo, and the objects around it.

    Args:
        transport: to that Gazebo.
        messages: its messages.
        robot: the robot.
        objects: names of the objects.

    Raises:
        LostProgramError: the plugin does not answer.
    """

    def __init__(
        self, transport: Transport, messages: Messages, robot: Robot, objects: Sequence[str]
    ) -> None:
        self._transport = transport
        self._messages = messages
        self._robot = robot
        self._objects = list(objects)
        self._asked = 0
        self._answer: Any = None
        self._request, self._reply = f"~/{robot.name}/request", f"~/{robot.name}/reply"
        transport.subscribe(self._reply, _KIND, self._take, _TIMEOUT)
        transport.advertise(self._request, _KIND, _TIMEOUT)
        self.state = self._configure()

    def advance(self, sample_ns: int, set_points: Array) -> State:
        """Simulate the samples between the rows of ``set_points`` (count + 1, n).

        Raises:
            LostProgramError: Gazebo ended, or says that it can't.
        """
        message = self._message("advance")
        message.joint.add().angle.extend(set_points.ravel().tolist())
        time = message.time.add()
        time.sec, time.nsec = divmod(sample_ns, 1_000_000_000)
        return self._ask(message, len(set_points) - 1)

    def place(self, poses: Mapping[str, Array]) -> State:
        """Put objects at rest at poses (7,) in the base frame.

        Raises:
            LostProgramError: Gazebo ended, or says that it can't.
        """
        message = self._message("place")
        message.joint.add()
        self._add_poses(message, poses)
        return self._ask(message, 1)

    def reset(self, positions: Array, poses: Mapping[str, Array]) -> State:
        """Put the joints at ``positions`` (n,) and objects at poses (7,), all at rest.

        Raises:
            LostProgramError: Gazebo ended, or says that it can't.
        """
        message = self._message("reset")
        message.joint.add().angle.extend(positions.tolist())
        self._add_poses(message, poses)
        return self._ask(message, 1)

    def rest(self) -> State:
        """Have nothing in Gazebo move unasked from now on, which saves much processor time.

        Only once pictures come: before, Gazebo has to move by itself to get that far.

        Raises:
            LostProgramError: Gazebo ended, or says that it can't.
        """
        return self._ask(self._message("rest"), 1)

    def _configure(self) -> State:
        message = self._message("configure")
        joints, followers, objects = (message.joint.add() for _ in range(3))
        gripper = self._robot.gripper
        for joint in self._robot.joints:
            finger = gripper is not None and joint.name == gripper.joint
            gain, damping = (_FINGER_GAIN, _FINGER_DAMPING) if finger else (_ARM_GAIN, 0.0)
            joints.name.append(joint.name)
            joints.angle.extend([joint.effort, gain, damping])
        names = self._robot.joint_names
        for mimic in robot_bodies(self._robot).joints:
            if mimic.mimics is not None:
                followers.name.append(mimic.name)
                leader = float(names.index(mimic.mimics))
                followers.angle.extend([leader, mimic.multiplier, mimic.offset])
        objects.name.extend(self._objects)
        return self._ask(message, 1)

    def _message(self, kind: str) -> Any:
        self._asked += 1
        message = self._messages.new(_KIND, _FILE)
        message.model_name = f"{kind} {self._asked}"
        return message

    @staticmethod
    def _add_poses(message: Any, poses: Mapping[str, Array]) -> None:
        table = message.joint.add()
        for name, pose in poses.items():
            table.name.append(name)
            table.angle.extend(pose.tolist())

    def _take(self, data: bytes) -> None:
        self._answer = self._messages.parse(_KIND, _FILE, data)

    def _ask(self, message: Any, samples: int) -> State:
        self._answer = None
        self._transport.publish(self._request, message.SerializeToString())
        self._transport.wait(
            lambda: self._answer is not None, _TIMEOUT, f"an answer to '{message.model_name}'"
        )
        answer = self._answer
        if answer.model_name != message.model_name:
            raise LostProgramError(f"Gazebo: '{message.model_name}': {answer.model_name}")
        joints = len(self._robot.joint_names)
        if (
            len(answer.time) != samples
            or len(answer.joint) != 2
            or len(answer.joint[0].angle) != samples * joints * _SAMPLE_SIZE
            or len(answer.joint[1].angle) != len(self._objects) * POSE_SIZE
        ):
            raise LostProgramError(f"Gazebo: the answer to '{message.model_name}' is malformed")
        return self._state(answer, samples)

    def _state(self, answer: Any, samples: int) -> State:
        table = np.array(answer.joint[0].angle).reshape(samples, -1, _SAMPLE_SIZE)
        poses: NDArray[np.float64] = np.array(answer.joint[1].angle).reshape(-1, POSE_SIZE)
        if not (np.isfinite(table).all() and np.isfinite(poses).all()):
            raise LostProgramError("Gazebo: the simulation came apart: a number is not finite")
        stamps = [time.sec * 1_000_000_000 + time.nsec for time in answer.time]
        self.state = State(
            [
                JointSample(stamp, rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy())
                for stamp, rows in zip(stamps, table, strict=True)
            ],
            dict(zip(self._objects, poses, strict=True)),
        )
        return self.state
