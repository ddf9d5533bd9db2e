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

from rl_robot.bringup.graph import NodeSpec, Value
from rl_robot.bringup.process import NodeProcess, node_command
from rl_robot.errors import UserError
from rl_robot.robots.description import Joint, Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.cdr import numbers_bytes, read_joint_state
from rl_robot.ros.messages import status_message
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task

SIGNALS = ("SIGKILL", "SIGSTOP")
VICTIMS = ("policy", "camera", "perception", "joint_states", "safety")
STANDS = 1e-2  # of a joint's velocity limit, at most, for it to stand
MOVES = 0.1  # of a joint's velocity limit, at least, for a trial to begin
TIMEOUT = 2.5  # control periods without news after which safety brakes
GRACE = 2.0  # control periods for everything else
WARM_UP = 5.0  # s
WATCHED = 0.3  # s after the bound in which the robot must not begin to move again
PATIENCE = 60.0  # s for the robot to move (again)


class Sample(NamedTuple):
    """One joint state: wall clock at which it was published (ns), velocities (n,)."""

    published_ns: int
    velocities: np.ndarray


class Peaks(NamedTuple):
    """Greatest measured speed and acceleration of any joint, as shares of its limits."""

    speed: float
    acceleration: float


class Trial(NamedTuple):
    """One hit: when the robot last moved and had to stand (s after it), and the peaks around it.

    The peaks are those from the hit until the robot moves again, that included.
    """

    stopped: float
    bound: float
    peaks: Peaks


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
        self._samples.append(Sample(info["source_timestamp"], state.velocities[order]))

    def _start(self, name: str) -> None:
        here = str(Path(__file__).parent)  # the nodes load task and policy from there
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self._processes[name] = NodeProcess(
            node_command(self._specs[name]),
            self._folder / f"{name}.log",
            {**os.environ, "PYTHONPATH": path},
            show_output=False,
        )

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()
        self._node.destroy_node()

    def warm_up(self) -> Peaks:
        """Let the robot move undisturbed; return its peaks."""
        self._wait_until_moving()
        self._samples.clear()
        self._spin(WARM_UP)
        return self._peaks()

    def run_trial(self, victim: str, hit: str) -> Trial:
        """Hit a process while the robot moves, measure the stop, and get the process back.

        Raises:
            UserError: the robot does not move again.
        """
        self._wait_until_moving()
        speeds = np.abs(self._samples[-1].velocities)
        del self._samples[:-1]
        process = self._processes[victim]
        began = time.time_ns()
        if hit == "SIGKILL":
            process.kill()
            self._start(victim)  # it takes longer to come up than the robot may to stop
        else:
            os.kill(process.pid, signal.SIGSTOP)
        bound = self._bound(victim, speeds)
        self._spin(bound + WATCHED)
        moving = [sample.published_ns for sample in self._samples if self._share(sample) > STANDS]
        if hit == "SIGSTOP":
            os.kill(process.pid, signal.SIGCONT)
        self._wait_until_moving()
        self._spin(self._random.uniform(0.3, 0.6))  # so that every part of a period is hit
        return Trial((max([began, *moving]) - began) * 1e-9, bound, self._peaks())

    def _bound(self, victim: str, speeds: np.ndarray) -> float:
        """Return the time (s) after which a robot with these speeds (n,) has to stand."""
        period = self._task.period
        timeout = TIMEOUT * period
        if victim == "safety":
            timeout = max(interface.timeout for interface in self._robot.interfaces)
        stopping = max(map(stopping_time, self._robot.joints, speeds.tolist()))
        return timeout + stopping + GRACE * period

    def _share(self, sample: Sample) -> float:
        """Return the speed of the fastest joint, as a share of its limit."""
        return float((np.abs(sample.velocities) / self._robot.velocity).max())

    def _peaks(self) -> Peaks:
        """Return the greatest speed and acceleration of what was heard, as shares of the limits."""
        velocities = np.array([sample.velocities for sample in self._samples])
        accelerations = np.diff(velocities, axis=0) * self._robot.joint_state_rate
        limits = np.array([joint.acceleration for joint in self._robot.joints])
        return Peaks(
            float((np.abs(velocities) / self._robot.velocity).max()),
            float((np.abs(accelerations) / limits).max()),
        )

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def _wait_until_moving(self) -> None:
        """Listen until the newest joint state shows a robot in motion.

        Raises:
            UserError: none did for too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not (self._samples and self._share(self._samples[-1]) > MOVES):
            if time.monotonic() > deadline:
                raise UserError(
                    f"the robot does not move for {PATIENCE:.0f} s: see {self._folder}/*.log"
                )
            self._executor.spin_once(timeout_sec=0.1)


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
