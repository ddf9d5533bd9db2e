"""What a robot's controllers are sent of the filtered motion: the only publishers that move it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray

from rl_robot.bags.cdr import trajectory_bytes
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.commands import (
    GripperGoals,
    check_messages,
    describe_motion,
    interface_motion,
)
from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND, POSITION, TWIST_STAMPED, CommandInterface
from rl_robot.robots.streams import Course, Progress, Stream, tracking_error
from rl_robot.ros import topics
from rl_robot.ros.messages import to_time
from rl_robot.ros.node import GraphNode

Array = npt.NDArray[np.float64]
Send = Callable[[Any], None]
SendGoal = Callable[[float], bool]  # whether it went out

DRY_RUN = "dry_run/"  # before the name of a topic that stands for a controller's
_SAY_PERIOD = 1.0  # s between two lines that say what would be sent
_PATIENCE = 2.0  # ticks of the quickest stream after which it is held up


class Writers:
    """Sends each interface what follows from the filtered motion, and nothing else.

    Trajectories and goals go out when a motion begins; at real time, set points, velocities and
    twists are streamed along it by steady timers, to the end of its braking. Paced, an interface
    gets one message for each motion.
    """

    def __init__(
        self,
        node: GraphNode,
        robot: Robot,
        *,
        period: float,
        factor: float | None,
        now: Callable[[], float],
        patience: float,
        dry_run: bool = False,
        moving: bool = True,
    ) -> None:
        """Send the interfaces of ``robot``.

        Args:
            node: the publishers'.
            robot: the robot.
            period: the control period, s.
            factor: of real time; None when paced.
            now: s of a steady clock that runs as fast as the robot's time.
            patience: s without a word after which a stream was held up, at least.
            dry_run: nothing is sent to controllers, but to topics beginning with ``dry_run/``.
            moving: whether goals are sent to a gripper's action; in a replay they are not.

        Raises:
            UserError: a gripper's action, and its messages are not installed.
        """
        self._node, self._robot = node, robot
        self._period, self._factor, self._now = period, factor, now
        self._dry_run = dry_run
        self._said_at = -np.inf
        self._goals: dict[str, GripperGoals] = {}
        self._goal_senders: dict[str, SendGoal] = {}
        self._senders: dict[str, Send] = {}
        self._streams: dict[str, Stream] = {}
        self._speaking: set[str] = set()  # the streams that have not said the end of the course
        for interface in robot.interfaces:
            if interface.type == GRIPPER_COMMAND:
                self._goals[interface.name] = GripperGoals()
                self._goal_senders[interface.name] = self._goal_sender(interface, moving)
            else:
                self._senders[interface.name] = self._publisher(interface).publish
        ticks = self._make_streams()
        # An arm's controller that has all of its motion goes on while this process is held up.
        arm = [one for one in robot.interfaces if set(one.joints) & set(robot.arm_joints)]
        waits = bool(ticks) and all(one.streamed for one in arm)
        self._progress = Progress(max(patience, _PATIENCE * min(ticks)) if waits else np.inf)
        self._error = np.zeros(len(robot.joints))

    # --- what is sent it on -----------------------------------------------------------------

    def _publisher(self, interface: CommandInterface) -> Any:
        row = topics.INTERFACES[interface.type]
        return self._node.publisher(
            row, awaited=not self._dry_run, interface=self._name(interface.topic)
        )

    def _name(self, topic: str) -> str:
        return DRY_RUN + topic.lstrip("/") if self._dry_run else topic

    def _goal_sender(self, interface: CommandInterface, moving: bool) -> SendGoal:
        """Return what sends a gripper's action a goal; never waits for it."""
        if not moving:
            return lambda position: True
        check_messages(self._robot)
        from control_msgs.action import GripperCommand
        from control_msgs.msg import GripperCommand as Command

        effort = self._robot.joint(interface.joints[0]).effort
        if self._dry_run:
            told = self._node.create_publisher(Command, self._name(interface.topic), 10)

            def tell(position: float) -> bool:
                told.publish(Command(position=position, max_effort=effort))
                return True

            return tell
        from rclpy.action import ActionClient

        client = ActionClient(self._node, GripperCommand, interface.topic)

        def hear(future: Any) -> None:
            if not future.result().accepted:
                self._node.problem(f"{interface.topic}: the goal was refused: the gripper stays")
                self._goals[interface.name] = GripperGoals()  # again with the next motion

        def send(position: float) -> bool:
            if not client.server_is_ready():
                self._node.problem(f"{interface.topic}: no action server: the gripper stays")
                return False
            goal = GripperCommand.Goal()
            goal.command.position, goal.command.max_effort = position, effort
            client.send_goal_async(goal).add_done_callback(hear)
            return True

        return send

    def _make_streams(self) -> list[float]:
        """Make the streams, with their timers at real time; return the ticks of these, in s."""
        ticks = []
        for interface in self._robot.interfaces:
            if not interface.streamed:
                continue
            tick = self._period if self._factor is None else 1.0 / interface.rate
            if self._factor is not None or interface.mode != POSITION:
                self._streams[interface.name] = Stream(interface, self._robot, tick)
            if self._factor is not None:
                self._node.every(tick / self._factor, partial(self._tell, interface))
                ticks.append(tick)
        return ticks

    # --- the motion ---------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Return for how long the motion sent last has been going on, s: not while held up."""
        return self._progress.elapsed(self._now())

    def measure(self, positions: Array, at: float) -> None:
        """Take where the joints (n,) were measured ``at`` that time, s of the clock ``now``."""
        self._error = tracking_error(self._robot, self._progress, positions, at)

    def send(self, start: Array, motion: Motion) -> None:
        """Have the robot follow a motion that begins at ``start`` (n,), from now on."""
        if self._dry_run and self._now() - self._said_at >= _SAY_PERIOD:
            self._said_at = self._now()
            said = describe_motion(self._robot, start, motion, self._period)
            print(f"dry run, not sent: {said}", flush=True)
        course = Course.of(start, motion)
        self._progress.follow(course, self._now())
        for interface in self._robot.interfaces:
            if interface.name in self._goals:
                self._send_goal(interface, motion)
            elif interface.name not in self._streams:
                self._send_motion(interface, motion)
            elif self._factor is None:
                self._send_values(interface, course, 0.0, np.zeros(len(start)))
            else:
                self._speaking.add(interface.name)

    @property
    def speaking(self) -> bool:
        """Whether a stream has yet to say the end of the motion that was sent last."""
        return bool(self._speaking)

    def tell(self) -> None:
        """Have every stream say where the motion stands now, for want of its timer."""
        for interface in self._robot.interfaces:
            self._tell(interface)

    def _send_motion(self, interface: CommandInterface, motion: Motion) -> None:
        part = interface_motion(interface, motion, self._period)
        if interface.streamed:
            message: Any = Float64MultiArray(data=part.positions[0].tolist())
        else:
            message = trajectory_bytes(part, 0)
        self._senders[interface.name](message)

    def _send_goal(self, interface: CommandInterface, motion: Motion) -> None:
        part = interface_motion(interface, motion, self._period)
        goal = self._goals[interface.name].goal(part.positions[:, 0])
        if goal is not None and not self._goal_senders[interface.name](goal):
            self._goals[interface.name] = GripperGoals()  # again with the next motion

    def _tell(self, interface: CommandInterface) -> None:
        """Say where a course stands, once more when it is at its end, and then no more."""
        course = self._progress.course
        if course is None or interface.name not in self._speaking:
            return
        elapsed = self.elapsed()
        if elapsed >= course.end:
            self._speaking.discard(interface.name)
        self._progress.tell(self._now())
        self._send_values(interface, course, elapsed, self._error)

    def _send_values(
        self, interface: CommandInterface, course: Course, elapsed: float, error: Array
    ) -> None:
        values = self._streams[interface.name].values(course, elapsed, error).tolist()
        if interface.type == TWIST_STAMPED:
            message: Any = TwistStamped()
            message.header.stamp = to_time(self._node.get_clock().now().nanoseconds)
            message.header.frame_id = interface.frame
            linear, angular = message.twist.linear, message.twist.angular
            linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = values
        else:
            message = Float64MultiArray(data=values)
        self._senders[interface.name](message)
