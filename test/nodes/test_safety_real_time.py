"""The safety node at the wall clock's pace: when it moves the robot, brakes it, leaves it alone.

Nothing here measures time: what was sent is judged by its contents, and what must not be sent is
waited for in vain.
"""

import time
from typing import Any

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import joint_state_message, status_message, trajectory_message
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task

ROBOT = load_robot("arm")
TASK = load_task("grasp")
HOME = ROBOT.home_positions
TIMES = np.arange(1, 6) * 0.02
RAMP = (TIMES / TIMES[-1]) ** 3  # of constant jerk: safety has nothing to smooth
ELSEWHERE = HOME - np.eye(len(HOME))[0] * 0.3  # where somebody may have moved the robot by hand


class Rig:
    """A driver, a supervisor and a policy around one safety node; each may fall silent."""

    def __init__(self, bench: Any, *, joint_period: float = 0.01, **parameters: object) -> None:
        self.bench = bench
        self.measured = HOME
        self.driver_lives = self.supervisor_lives = True
        self.lag_ns = 0  # by which the driver's stamps are behind
        self.joints = bench.publisher(topics.JOINT_STATES)
        self.episodes = bench.publisher(topics.EPISODE)
        self.commands = bench.publisher(topics.POLICY_COMMAND)
        self.executed: list[JointTrajectory] = bench.collect(topics.SAFETY_COMMAND)
        interface = ROBOT.interfaces[0]
        self.joint = interface.joints[0]
        self.sent: list[JointTrajectory] = []
        kind = topics.INTERFACES[interface.type].type
        bench.node.create_subscription(kind, interface.topic, self.sent.append, QoSProfile(depth=9))
        session = Session(SessionPlan("arm", "script", episodes=0), TASK)
        session.begin(0)
        session.on_reset(0, "done", "")
        assert session.episode is not None
        self.values = session.episode.to_values()
        bench.node.create_timer(joint_period, self.drive)
        bench.node.create_timer(0.1, self.supervise)
        bench.start("safety", **({"pace": "1.0"} | parameters))
        bench.until(lambda: "safety" in bench.health)

    def drive(self) -> None:
        if self.driver_lives:
            message = joint_state_message(
                ROBOT.joint_names, now() - self.lag_ns, self.measured, 0 * HOME
            )
            self.joints.publish(message)

    def supervise(self) -> None:
        if self.supervisor_lives:
            self.episodes.publish(status_message(now(), "episode", "running", self.values))

    def command(self, offset: float = 0.0, start: np.ndarray = HOME) -> None:
        """Send a smooth motion that still moves at its end, based on what was `offset` s ago."""
        stamp = now() + round(offset * 1e9)
        self.commands.publish(trajectory_message(nudge(start), stamp))
        time.sleep(0.02)

    def move(self) -> None:
        """Command until a command is what was executed last."""
        before = len(self.executed)
        self.bench.until(
            lambda: len(self.executed) > before and self.source() == "policy", self.command
        )

    def source(self) -> str:
        return self.executed[-1].header.frame_id if self.executed else ""

    def stands(self) -> bool:
        """Whether the node's last word was a hold that ends at rest, on both topics."""
        if self.source() != "hold" or not self.sent:
            return False
        ends = [positions(self.executed[-1])[-2:], positions(self.sent[-1])[-2:]]
        return all(np.array_equal(*end) for end in ends)

    def stays_silent(self) -> bool:
        """Whether nothing is sent for a while."""
        before = len(self.executed), len(self.sent)
        self.bench.spin(0.5)
        return (len(self.executed), len(self.sent)) == before

    def enable(self, wanted: bool = True) -> Any:
        return self.bench.call(SetBool, "safety/enable", SetBool.Request(data=wanted))

    def said(self, text: str) -> bool:
        return any(text in problem for problem in self.bench.problems)


def now() -> int:
    return time.time_ns()


def nudge(start: np.ndarray = HOME) -> Motion:
    path = np.tile(start, (5, 1))
    path[:, 0] += 0.005 * RAMP
    return Motion(ROBOT.joint_names, TIMES, path)


def positions(message: JointTrajectory) -> np.ndarray:
    return np.array([point.positions for point in message.points])


def test_commands_are_executed_and_a_silent_policy_is_braked_for(bench: Any) -> None:
    rig = Rig(bench, enabled=True)
    rig.move()
    first = next(done for done in rig.executed if done.header.frame_id == "policy")
    np.testing.assert_allclose(positions(first), nudge().positions, atol=1e-9)
    bench.until(rig.stands)
    assert positions(rig.executed[-1])[-1, 0] > HOME[0]  # it stands where it came to


@pytest.mark.parametrize(("offset", "said"), [(-1.0, "s ago, more than"), (5.0, "in the future")])
def test_a_stamp_out_of_time_is_refused(bench: Any, offset: float, said: str) -> None:
    rig = Rig(bench, enabled=True)
    bench.until(rig.stands)
    bench.until(lambda: rig.said(said), lambda: rig.command(offset))
    assert {done.header.frame_id for done in rig.executed} == {"hold"}


def test_without_joint_states_it_brakes_and_begins_anew_where_the_robot_is(bench: Any) -> None:
    rig = Rig(bench, enabled=True)
    rig.move()
    rig.driver_lives = False
    bench.until(lambda: rig.said("joint_states stopped") and rig.stands(), rig.command)
    bench.until(rig.stays_silent)
    rig.measured, rig.driver_lives = ELSEWHERE, True
    before = len(rig.executed)
    bench.until(lambda: len(rig.executed) > before)
    assert rig.executed[before].header.frame_id == "hold"
    np.testing.assert_array_equal(positions(rig.executed[before]), np.tile(ELSEWHERE, (5, 1)))
    rig.move()


def test_disabled_it_brakes_and_leaves_the_robot_alone(bench: Any) -> None:
    rig = Rig(bench, enabled=False)
    assert rig.stays_silent()
    assert not rig.executed
    bench.until(lambda: rig.enable().success)
    rig.move()
    assert rig.enable(False).success
    bench.until(rig.stands)
    bench.until(rig.stays_silent)
    rig.command()
    assert rig.stays_silent()
    rig.driver_lives = False
    bench.spin(1.0)  # so that what was measured before is too old to begin from
    rig.measured, rig.driver_lives = ELSEWHERE, True
    before = len(rig.executed)
    bench.until(lambda: rig.enable().success)
    bench.until(lambda: len(rig.executed) > before)
    np.testing.assert_array_equal(positions(rig.executed[before]), np.tile(ELSEWHERE, (5, 1)))
    bench.until(lambda: rig.said("older than the robot's start"), lambda: rig.command(-0.2))
    rig.move()


def test_it_is_not_enabled_while_nobody_knows_where_the_robot_is(bench: Any) -> None:
    rig = Rig(bench, enabled=False)
    rig.driver_lives = False
    bench.spin(1.0)
    refused = rig.enable()
    assert not refused.success
    assert "joint_states" in refused.message
    rig.driver_lives = True
    bench.until(lambda: rig.enable().success)
    rig.move()


def press(bench: Any, way: str) -> None:
    if way == "service":
        assert bench.call(Trigger, "safety/emergency_stop", Trigger.Request()).success
        return
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    quality = {"volatile": QoSProfile(depth=10), "best effort": best_effort}
    button = bench.node.create_publisher(Bool, "emergency_stop", quality[way])
    # Again and again: discovery is pairwise, and what is said before it is lost.
    bench.until(
        lambda: bench.health["safety"].get("emergency_stop") == "true",
        lambda: button.publish(Bool(data=True)),
    )


@pytest.mark.parametrize("way", ["volatile", "best effort", "service"])
def test_an_emergency_stop_brakes_at_once_and_stays(bench: Any, way: str) -> None:
    # Slow: a period is two seconds here, so that "at once" is within the motion under way.
    rig = Rig(bench, enabled=True, pace="0.05")
    rig.move()
    press(bench, way)
    bench.until(lambda: rig.source() == "hold")
    assert positions(rig.executed[-1])[0, 0] < nudge().positions[-1, 0]
    bench.until(lambda: bench.health["safety"].get("emergency_stop") == "true")
    stopped = len(rig.executed)
    for _ in range(10):
        rig.command()
        bench.spin(0.02)
    assert {done.header.frame_id for done in rig.executed[stopped:]} <= {"hold"}
    assert not rig.enable().success


def test_disabling_brakes_at_once(bench: Any) -> None:
    rig = Rig(bench, enabled=True, pace="0.05")
    rig.move()
    assert rig.enable(False).success
    bench.until(lambda: rig.source() == "hold")
    assert positions(rig.executed[-1])[0, 0] < nudge().positions[-1, 0]


def test_a_stop_that_was_pressed_before_it_started_is_heard(bench: Any) -> None:
    button = bench.publisher(topics.EMERGENCY_STOP)
    button.publish(Bool(data=True))
    rig = Rig(bench, enabled=True)
    bench.until(lambda: bench.health["safety"].get("emergency_stop") == "true")
    bench.until(lambda: not rig.executed or rig.stands())
    bench.until(rig.stays_silent)


def test_a_silent_supervisor_ends_the_episode(bench: Any) -> None:
    rig = Rig(bench, enabled=True)
    rig.move()
    rig.supervisor_lives = False
    bench.until(lambda: rig.said("supervisor is silent") and rig.stands(), rig.command)
    rig.supervisor_lives = True
    rig.move()


def test_ages_are_judged_in_the_robots_time(bench: Any) -> None:
    """At a twentieth of real time, joint states twice a second are quick enough."""
    rig = Rig(bench, enabled=True, pace="0.05", joint_period=0.5)
    rig.move()
    for _ in range(50):
        rig.command()
        bench.spin(0.02)
    assert not rig.said("joint_states stopped")


@pytest.mark.parametrize("lag", [0.9, -0.5])
def test_joint_states_of_another_time_do_not_tell_where_the_robot_is(
    bench: Any, lag: float
) -> None:
    """What a process says that was halted is long past when it arrives."""
    rig = Rig(bench, enabled=True)
    rig.move()
    rig.lag_ns = round(lag * 1e9)
    bench.until(lambda: rig.said("not relied on"))
    bench.until(rig.stands)
    request = SetBool.Request(data=False)
    assert bench.call(SetBool, "safety/enable", request).success
    reply = bench.call(SetBool, "safety/enable", SetBool.Request(data=True))
    assert not reply.success
    assert "no joint_states are coming" in reply.message


class Pusher:
    """A policy that pushes a joint on from where it was commanded last; the robot follows."""

    def __init__(self, bench: Any) -> None:
        # At half the pace, so that a machine that is busy keeps up.
        self.rig = Rig(bench, enabled=True, pace="0.5", joint_period=0.05)
        bench.node.create_timer(0.05, self.follow)
        self._timer = bench.node.create_timer(0.2, self.push)

    def follow(self) -> None:
        if self.rig.executed:
            self.rig.measured = positions(self.rig.executed[-1])[-1]

    def push(self) -> None:
        path = np.tile(self.rig.measured, (5, 1))
        path[:, 5] += 0.3 * TIMES / TIMES[-1]
        motion = Motion(ROBOT.joint_names, TIMES, path)
        self.rig.commands.publish(trajectory_message(motion, now()))

    def die(self) -> None:
        self._timer.cancel()

    def sources(self) -> list[str]:
        """The sources of what was executed, without repetitions and without holds."""
        names = [done.header.frame_id for done in self.rig.executed]
        moving = [name for name in names if name != "hold"]
        return [name for i, name in enumerate(moving) if i == 0 or moving[i - 1] != name]


def test_recovery_takes_over_from_a_stuck_policy_and_hands_back(bench: Any) -> None:
    pusher = Pusher(bench)
    bench.until(lambda: pusher.sources()[:3] == ["policy", "recovery", "policy"])
    bench.until(lambda: pusher.rig.said("recovery took over from policy: limit, wrist_3"))
    bench.until(lambda: int(bench.health["safety"].get("recoveries_limit", "0")) >= 1)


def test_recovery_ends_its_work_when_the_policy_dies(bench: Any) -> None:
    pusher = Pusher(bench)
    bench.until(lambda: pusher.rig.source() == "recovery")
    pusher.die()
    room = ROBOT.safety["recovery"]["clear"]["joint"]
    executed = pusher.rig.executed
    bench.until(lambda: positions(executed[-1])[-1, 5] < ROBOT.upper[5] - room)
    bench.until(pusher.rig.stands)


def test_an_emergency_stop_ends_recovery(bench: Any) -> None:
    pusher = Pusher(bench)
    bench.until(lambda: pusher.rig.source() == "recovery")
    press(bench, "service")
    bench.until(pusher.rig.stands)
    bench.until(pusher.rig.stays_silent)
