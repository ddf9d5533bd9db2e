"""The safety node: what it refuses, what stops it, and what it takes to go on."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rclpy.qos import QoSProfile
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


class Rig:
    """Plays the rest of a paced graph around one safety node."""

    def __init__(self, bench: Any, **parameters: object) -> None:
        self.bench = bench
        self.stamp = TASK.period_ns
        self.joints = bench.publisher(topics.JOINT_STATES)
        self.episodes = bench.publisher(topics.EPISODE)
        self.commands = bench.publisher(topics.POLICY_COMMAND)
        self.executed: list[JointTrajectory] = bench.collect(topics.SAFETY_COMMAND)
        self.session = Session(SessionPlan("arm", "script", episodes=0), TASK)
        self.session.begin(0)
        self.session.on_reset(0, "done", "")
        bench.start("safety", pace="paced", **parameters)
        bench.until(lambda: "safety" in bench.health)
        interface = ROBOT.interfaces[0]
        self.sent: list[Any] = []
        kind = topics.INTERFACES[interface.type].type
        bench.node.create_subscription(kind, interface.topic, self.sent.append, QoSProfile(depth=9))

    def tick(
        self, motion: Motion, stamp: int | None = None, measured: np.ndarray = HOME
    ) -> JointTrajectory:
        """Play one tick with this command and return what was executed for it."""
        before = len(self.executed)
        self.joints.publish(joint_state_message(ROBOT.joint_names, self.stamp, measured, 0 * HOME))
        going = {"success": 0.0, "terminated": 0.0, "lost_periods": 0.0}
        episode = self.session.on_reward(self.stamp, going) or self.session.episode
        assert episode is not None
        values = episode.to_values()
        self.episodes.publish(status_message(self.stamp, "episode", episode.phase, values))
        self.commands.publish(trajectory_message(motion, stamp or self.stamp))
        self.bench.until(lambda: len(self.executed) > before)
        self.stamp += TASK.period_ns
        return self.executed[-1]


def hold() -> Motion:
    return Motion(ROBOT.joint_names, TIMES, np.tile(HOME, (5, 1)))


def nudge(joint: int = 0, size: float = 0.005, periods: int = 0) -> Motion:
    """A motion of one joint with constant jerk, well within its limits; ``periods`` after it began.

    What safety makes smooth by itself passes it unchanged.
    """
    positions = np.tile(HOME, (5, 1))
    positions[:, joint] += size * (periods + TIMES / TIMES[-1]) ** 3
    return Motion(ROBOT.joint_names, TIMES, positions)


def positions(message: JointTrajectory) -> np.ndarray:
    return np.array([point.positions for point in message.points])


def test_a_good_command_passes_unchanged_to_the_controllers(bench: Any) -> None:
    rig = Rig(bench, enabled=True)
    rig.tick(hold())
    wanted = nudge()
    executed = rig.tick(wanted)
    assert executed.header.frame_id == "policy"
    np.testing.assert_allclose(positions(executed), wanted.positions, atol=1e-9)
    bench.until(lambda: len(rig.sent) == 2)
    sent = positions(rig.sent[-1])
    columns = [ROBOT.joint_names.index(name) for name in rig.sent[-1].joint_names]
    np.testing.assert_allclose(sent, wanted.positions[:, columns], atol=1e-9)
    assert (rig.sent[-1].header.stamp.sec, rig.sent[-1].header.stamp.nanosec) == (0, 0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("nan", "nan"),
        ("names", "no joint is called"),
        ("twice", "more than once"),
        ("missing", "lacks"),
        ("empty", "no points"),
    ],
)
def test_bad_commands_are_refused_and_the_period_is_held(
    bench: Any, damage: str, said: str
) -> None:
    rig = Rig(bench, enabled=True)
    for _ in range(5):
        rig.tick(hold())
    motion = nudge()
    names, rows = list(motion.names), motion.positions
    if damage == "nan":
        rows = rows.copy()
        rows[2, 1] = math.nan
    elif damage == "names":
        names[0] = "tentacle"
    elif damage == "twice":
        names[1] = names[0]
    elif damage == "missing":
        names, rows = names[1:], rows[:, 1:]
    elif damage == "empty":
        rows = rows[:0]
    times = TIMES[: len(rows)]
    message = trajectory_message(Motion(tuple(names), times, rows), rig.stamp)
    before = len(rig.executed)
    rig.joints.publish(joint_state_message(ROBOT.joint_names, rig.stamp, HOME, 0 * HOME))
    publish_running(rig)
    rig.commands.publish(message)
    bench.until(lambda: len(rig.executed) > before)
    assert rig.executed[-1].header.frame_id == "hold"
    np.testing.assert_allclose(positions(rig.executed[-1]), np.tile(HOME, (5, 1)), atol=1e-9)
    bench.until(lambda: any(said in problem for problem in bench.problems))


def publish_running(rig: Rig) -> None:
    assert rig.session.episode is not None
    values = rig.session.episode.to_values()
    rig.episodes.publish(status_message(rig.stamp, "episode", "running", values))


@pytest.mark.parametrize("periods", [-4, -1, 20])
def test_a_command_for_another_tick_moves_nothing(bench: Any, periods: int) -> None:
    """Paced, stamps tell the tick: one that is over never comes again, a later one is not yet."""
    rig = Rig(bench, enabled=True)
    for _ in range(5):
        rig.tick(hold())
    before = len(rig.executed)
    rig.joints.publish(joint_state_message(ROBOT.joint_names, rig.stamp, HOME, 0 * HOME))
    publish_running(rig)
    rig.commands.publish(trajectory_message(nudge(2), rig.stamp + periods * TASK.period_ns))
    bench.spin(0.5)
    assert all(done.header.frame_id == "hold" for done in rig.executed[before:])
    wanted = nudge()
    np.testing.assert_allclose(positions(rig.tick(wanted)), wanted.positions, atol=1e-9)


@pytest.mark.parametrize("between", [[True], [False, True]])
def test_enabling_does_not_stop_what_moves(bench: Any, between: list[bool]) -> None:
    rig = Rig(bench, enabled=True)
    rig.tick(nudge())
    for enabled in between:
        assert bench.call(SetBool, "safety/enable", SetBool.Request(data=enabled)).success
    further = nudge(periods=1)
    np.testing.assert_allclose(positions(rig.tick(further)), further.positions, atol=1e-9)


def test_disabled_it_holds_until_it_is_enabled_deliberately(bench: Any) -> None:
    rig = Rig(bench, enabled=False)
    assert rig.tick(nudge()).header.frame_id == "hold"
    assert bench.call(SetBool, "safety/enable", SetBool.Request(data=True)).success
    assert rig.tick(nudge()).header.frame_id == "policy"


@pytest.mark.parametrize("way", ["service", "topic"])
def test_an_emergency_stop_is_latched(bench: Any, way: str) -> None:
    rig = Rig(bench, enabled=True)
    assert rig.tick(nudge()).header.frame_id == "policy"
    if way == "service":
        assert bench.call(Trigger, "safety/emergency_stop", Trigger.Request()).success
    else:
        button = bench.publisher(topics.EMERGENCY_STOP)
        button.publish(Bool(data=True))
        bench.until(lambda: bench.health["safety"]["emergency_stop"] == "true")
        button.publish(Bool(data=False))  # letting the button go is not going on
    assert rig.tick(nudge()).header.frame_id == "hold"
    refused = bench.call(SetBool, "safety/enable", SetBool.Request(data=True))
    assert not refused.success
    assert "clear" in refused.message
    assert bench.call(Trigger, "safety/clear", Trigger.Request()).success
    assert rig.tick(nudge()).header.frame_id == "hold"  # cleared is not enabled
    assert bench.call(SetBool, "safety/enable", SetBool.Request(data=True)).success
    assert rig.tick(nudge()).header.frame_id == "policy"


def test_a_source_that_the_phase_does_not_call_for_moves_nothing(
    bench: Any, tmp_path: Path
) -> None:
    rig = Rig(bench, enabled=True)
    rig.tick(hold())
    resets = bench.publisher(topics.RESET_COMMAND)
    before = len(rig.executed)
    rig.joints.publish(joint_state_message(ROBOT.joint_names, rig.stamp, HOME, 0 * HOME))
    publish_running(rig)
    bench.until(lambda: resets.get_subscription_count() > 0)
    resets.publish(trajectory_message(nudge(), rig.stamp))
    bench.spin(0.5)
    assert len(rig.executed) == before
    assert rig.tick(nudge()).header.frame_id == "policy"


def test_a_period_without_a_command_is_held_and_counted(bench: Any) -> None:
    rig = Rig(bench, enabled=True, watchdog=0.5)
    rig.tick(hold())
    before = len(rig.executed)
    rig.joints.publish(joint_state_message(ROBOT.joint_names, rig.stamp, HOME, 0 * HOME))
    bench.until(lambda: len(rig.executed) > before)
    assert rig.executed[-1].header.frame_id == "hold"
    bench.until(lambda: int(bench.health["safety"]["lost"]) >= 1)


def test_recovery_takes_over_from_a_stuck_policy_and_hands_back(bench: Any) -> None:
    """The policy goes on pushing a joint into its limit; the robot follows what is commanded."""
    rig = Rig(bench, enabled=True)
    interventions = bench.collect(topics.SAFETY_INTERVENTIONS)
    at, pushed, sources = HOME, 5, [""]
    while sources[-2:] != ["recovery", "policy"]:
        goal = np.tile(at, (5, 1))
        goal[:, pushed] += 0.3 * TIMES / TIMES[-1]
        executed = rig.tick(Motion(ROBOT.joint_names, TIMES, goal), measured=at)
        at = positions(executed)[-1]
        sources.append(executed.header.frame_id)
        assert len(sources) < 120
    assert set(sources[1:]) == {"policy", "recovery"}
    bench.until(lambda: bench.health["safety"].get("recoveries_limit") == "1")
    bench.until(lambda: any("recovery took over from policy: limit" in p for p in bench.problems))
    assert any(f"recovery/limit {ROBOT.joint_names[pushed]}" in m.name for m in interventions)


def test_recovery_that_gives_up_stops_the_robot(bench: Any, tmp_path: Path) -> None:
    """Measured, the arm stays elsewhere: something holds it, and going back does not help."""
    impatient = yaml.safe_load(ROBOT.source.read_text())
    impatient["safety"]["recovery"]["patience"] = 1.0
    impatient["urdf"] = str(ROBOT.urdf_path)
    (tmp_path / "impatient.yaml").write_text(yaml.safe_dump(impatient))
    rig = Rig(bench, enabled=True, robot=str(tmp_path / "impatient.yaml"))
    rig.tick(hold())
    sources = ["policy"]
    while sources[-1] != "hold":
        sources.append(rig.tick(hold(), measured=HOME - 0.5).header.frame_id)
    assert sources.index("recovery") < sources.index("hold")
    bench.until(lambda: any("something is in the way" in problem for problem in bench.problems))
    bench.until(lambda: bench.health["safety"]["emergency_stop"] == "true")
    assert not bench.call(SetBool, "safety/enable", SetBool.Request(data=True)).success
