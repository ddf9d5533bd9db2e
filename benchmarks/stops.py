"""A robot in motion under the graph at real time, and what it does when a process is hit.

The nodes are processes of their own, as in a session. A supervisor of the benchmark's own keeps one
episode running without end, so that hundreds of trials fit into it. Camera and encoders of the
simulated robot speak through relays, which stand for the drivers of a real one. What is measured is
taken from the simulator's own joint states, before the relay.
"""

import math
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sweep
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from rl_robot.bags.cdr import numbers_bytes, read_joint_state
from rl_robot.bringup.graph import NodeSpec, Value
from rl_robot.bringup.process import NodeProcess, node_command
from rl_robot.errors import UserError
from rl_robot.robots.description import Joint, Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_message
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task

SIGNALS = ("SIGKILL", "SIGSTOP")
VICTIMS = ("policy", "camera", "perception", "joint_states", "safety")
STANDS = 1e-3  # of a joint's velocity limit, at most, for it to stand
MOVES = 0.1  # of a joint's velocity limit, at least, for a trial to begin
TIMEOUT = 2.5  # control periods without news after which safety brakes
GRACE = 2.0  # control periods for everything else
UNDISTURBED = 20.0  # s of undisturbed motion, to compare with
AFTERWARDS = 0.3  # s that the robot has moved again when a trial ends
WATCHED = 0.3  # s after the bound in which the robot must not begin to move again
PATIENCE = 60.0  # s for the robot to move (again)


class Sample(NamedTuple):
    """One joint state: wall clock at which it was published, its stamp (ns), velocities (n,)."""

    published_ns: int
    stamp_ns: int
    velocities: np.ndarray


class Trial(NamedTuple):
    """One hit, in s and shares of the joints' limits.

    Attributes:
        stopped: from the hit to the last joint state of a robot in motion, by the robot's clock.
        bound: from the hit to when it had to stand.
        wall: what ``stopped`` is by the wall clock.
        silence: longest time between two joint states until then, by the wall clock.
        speed, acceleration: measured peaks until the robot has moved again.
    """

    stopped: float
    bound: float
    wall: float
    silence: float
    speed: float
    acceleration: float


def stopping_time(joint: Joint, speed: float) -> float:
    """Return the time (s) in which a joint stops under its limits, from ``speed`` (rad/s or m/s).

    Of all states with that speed the worst: speeding up as hard as it may. First that ends, then
    the joint brakes, with ramps of the acceleration at the limit of jerk.
    """
    ramp = joint.acceleration / joint.jerk
    top = speed + 0.5 * joint.acceleration * ramp
    if top < joint.acceleration * ramp:  # it stops before the full deceleration is reached
        return ramp + 2.0 * math.sqrt(top / joint.jerk)
    return ramp + top / joint.acceleration + ramp


class Rig:
    """Processes, supervisor and listener; see the module's text."""

    def __init__(self, folder: Path) -> None:
        """Start the graph, logging into ``folder``; ROS is initialized, in a domain of its own."""
        self._folder = folder
        self._robot = load_robot("arm")
        self._task = load_task(sweep.TASK)
        self._random = random.Random(0)
        self._samples: list[Sample] = []
        self._node = Node("kill_nodes", start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._supervise()
        quality = topics.JOINT_STATES.quality.profile()
        self._node.create_subscription(
            JointState,
            topics.JOINT_STATES.name + topics.FAULTLESS,
            self._take_joints,
            quality,
            raw=True,
        )
        self._specs = {spec.name: spec for spec in _specs(self._robot, folder)}
        self._processes: dict[str, NodeProcess] = {}
        for name in self._specs:
            self._start(name)

    def _supervise(self) -> None:
        """Say that an episode runs, and go on deciding its ticks."""
        session = Session(SessionPlan(self._robot.name, sweep.POLICY), self._task)
        session.begin(0)
        episode = session.on_reset(0, "done", "")
        assert episode is not None
        self._episode = self._publisher(topics.EPISODE)  # latched: those who start later hear it
        self._episode.publish(status_message(0, "episode", episode.phase, episode.to_values()))
        ticks = self._publisher(topics.EPISODE_TICK)
        decision = {"id": float(episode.id), "steps": 0.0, "lost_periods": 0.0}
        self._node.create_timer(
            self._task.period, lambda: ticks.publish(numbers_bytes(decision, time.time_ns()))
        )

    def _publisher(self, topic: topics.Topic) -> Publisher:
        return self._node.create_publisher(topic.type, topic.name, topic.quality.profile())

    def _take_joints(self, raw: bytes, info: dict[str, int]) -> None:
        state = read_joint_state(raw)
        order = [state.names.index(name) for name in self._robot.joint_names]
        velocities = state.velocities[order]
        self._samples.append(Sample(info["source_timestamp"], state.stamp_ns, velocities))

    def _start(self, name: str) -> None:
        self._processes[name] = NodeProcess(
            node_command(self._specs[name]),
            self._folder / f"{name}.log",
            os.environ,
            show_output=False,
        )

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()
        self._node.destroy_node()

    def undisturbed(self) -> Trial:
        """Return what a trial without a hit gives."""
        self._wait_until_moving()
        self._samples.clear()
        self._spin(UNDISTURBED)
        return Trial(0.0, 0.0, 0.0, self._silence(), *self._peaks())

    def run_trial(self, victim: str, hit: str) -> Trial:
        """Hit a process while the robot moves, measure the stop, and get the process back.

        Raises:
            UserError: the robot does not move again.
        """
        self._wait_until_moving()
        self._spin(self._random.uniform(0.0, 0.1))  # so that every part of a period is hit
        before = self._samples[-1]
        self._samples = [before]
        process = self._processes[victim]
        hit_at = time.time_ns()
        if hit == "SIGKILL":
            process.kill()
        else:
            os.kill(process.pid, signal.SIGSTOP)
        by_stamp = before.stamp_ns + hit_at - before.published_ns
        timeout = self._timeout(victim)
        longest = self._bound(timeout, self._robot.velocity)
        self._hear_until(by_stamp + round((longest + WATCHED) * 1e9))
        # Until the timeout the robot may go on, and faster than it was.
        last_ns = by_stamp + round(timeout * 1e9)
        until_then = [s.velocities for s in self._samples if s.stamp_ns <= last_ns]
        bound = self._bound(timeout, np.abs(until_then).max(axis=0))
        moving = [sample for sample in self._samples if self._share(sample) > STANDS]
        last = max(moving, key=lambda sample: sample.stamp_ns)
        silence = self._silence()
        if hit == "SIGSTOP":
            os.kill(process.pid, signal.SIGCONT)
        else:
            self._start(victim)
        self._wait_until_moving()
        self._spin(AFTERWARDS)
        return Trial(
            max(last.stamp_ns - by_stamp, 0) * 1e-9,
            bound,
            max(last.published_ns - hit_at, 0) * 1e-9,
            silence,
            *self._peaks(),
        )

    def _timeout(self, victim: str) -> float:
        """Return the time (s) after which the silence of the victim makes the robot brake."""
        if victim == "safety":
            return max(interface.timeout for interface in self._robot.interfaces)
        return TIMEOUT * self._task.period

    def _bound(self, timeout: float, speeds: np.ndarray) -> float:
        """Return the time (s) after which a robot with these speeds (n,) has to stand."""
        stopping = max(map(stopping_time, self._robot.joints, speeds.tolist()))
        return timeout + stopping + GRACE * self._task.period

    def _share(self, sample: Sample) -> float:
        """Return the speed of the fastest joint, as a share of its limit."""
        return float((np.abs(sample.velocities) / self._robot.velocity).max())

    def _silence(self) -> float:
        """Return the longest time (s) between two joint states."""
        times = [sample.published_ns for sample in self._samples]
        return float(np.diff(times).max()) * 1e-9

    def _peaks(self) -> tuple[float, float]:
        """Return the greatest speed and acceleration of what was heard, as shares of the limits."""
        velocities = np.array([sample.velocities for sample in self._samples])
        accelerations = np.diff(velocities, axis=0) * self._robot.joint_state_rate
        limits = np.array([joint.acceleration for joint in self._robot.joints])
        return (
            float((np.abs(velocities) / self._robot.velocity).max()),
            float((np.abs(accelerations) / limits).max()),
        )

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def _hear_more(self) -> None:
        """Listen until there is another joint state.

        Raises:
            UserError: none comes for too long.
        """
        heard = len(self._samples)
        deadline = time.monotonic() + PATIENCE
        while len(self._samples) == heard:
            if time.monotonic() > deadline:
                raise UserError(f"no joint states for {PATIENCE:.0f} s: {self._last_words()}")
            self._executor.spin_once(timeout_sec=0.1)

    def _hear_until(self, stamp_ns: int) -> None:
        """Listen until the robot's clock is there.

        Raises:
            UserError: it stands still for too long.
        """
        while self._samples[-1].stamp_ns < stamp_ns:
            self._hear_more()

    def _wait_until_moving(self) -> None:
        """Listen until a joint state that comes now shows a robot in motion.

        Raises:
            UserError: none does for too long.
        """
        deadline = time.monotonic() + PATIENCE
        self._hear_more()
        while self._share(self._samples[-1]) < MOVES:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the robot does not move for {PATIENCE:.0f} s: {self._last_words()}"
                )
            self._hear_more()

    def _last_words(self) -> str:
        """Return what each process said last."""
        said = {name: process.last_lines(2) for name, process in self._processes.items()}
        return "; ".join(f"{name}: {' '.join(lines)}" for name, lines in said.items() if lines)


def _specs(robot: Robot, folder: Path) -> list[NodeSpec]:
    """Return the processes; ``folder`` takes the relays' files."""
    common: dict[str, Value] = {"robot": robot.name, "task": sweep.TASK, "pace": "1.0"}
    relayed = {
        "camera": topics.IMAGE_RAW.named(camera=robot.cameras[0].name),
        "joint_states": topics.JOINT_STATES.name,
    }
    return [
        NodeSpec(
            "simulator",
            "simulator",
            common,
            remappings={topic: topic + topics.FAULTLESS for topic in relayed.values()},
        ),
        *(_relay(common, name, topic, folder) for name, topic in relayed.items()),
        NodeSpec("perception", "perception", common),
        NodeSpec("policy", "policy", {**common, "policy": sweep.POLICY}),
        NodeSpec("safety", "safety", {**common, "enabled": True, "use_sim_time": True}),
    ]


def _relay(common: Mapping[str, Value], name: str, topic: str, folder: Path) -> NodeSpec:
    """Return a process that hands on one topic and changes nothing, from a file made for it."""
    plan = folder / f"{name}.yaml"
    plan.write_text(f"topics: {{{topic}: []}}\n")
    return NodeSpec("faults", name, {**common, "faults": str(plan)})
