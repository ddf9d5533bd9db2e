"""How much of a bare simulation loop's rate is left when the simulator is a node of the graph.

Both loops do the same per control period: inverse kinematics of a Cartesian action, 0.1 s of
physics with joint samples at their rate, one camera picture. The bare loop calls functions; in the
graph, this process sends the commands that the paced simulator node waits for, and gets the joint
states, the clock and the picture as messages. The two take turns. The last line is JSON.
"""

import math
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
from common import Goal, Result, options, own_domain, report
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import CommandInterface, Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import trajectory_message
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

GOAL = 0.9  # of the bare loop's rate
PERIOD = 0.1  # s
START_TIMEOUT = 30.0  # s for the node to come up
REPLY_TIMEOUT = 10.0  # s of wall time for one control period


class Circling:
    """Commands that lead the tool in a circle above the table, one control period at a time."""

    def __init__(self, robot: Robot) -> None:
        self._action_map = CartesianAction(robot, period=PERIOD)
        self._reference = robot.home_positions
        self._step = 0

    def next(self) -> Motion:
        """Return the motion of the next control period."""
        angle = 0.3 * self._step
        self._step += 1
        action = [0.5 * math.cos(angle), 0.5 * math.sin(angle), 0.0, 0.2, 1.0]
        motion = self._action_map.to_motion(self._reference, action)
        self._reference = motion.positions[-1]
        return motion


def _part(robot: Robot, interface: CommandInterface, motion: Motion) -> Motion:
    """Return the interface's joints of a motion of the whole robot."""
    columns = [robot.joint_names.index(name) for name in interface.joints]
    return Motion(interface.joints, motion.times, motion.positions[:, columns])


class BareLoop:
    """The simulation by function calls."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._simulator = Simulator(robot, load_scene("table"))
        self._circling = Circling(robot)

    def rate(self, steps: int) -> float:
        """Return control periods per second of wall time."""
        began = time.perf_counter()
        for _ in range(steps):
            motion = self._circling.next()
            for interface in self._robot.interfaces:
                part = _part(self._robot, interface, motion)
                self._simulator.command(interface.name, part.times, part.positions)
            self._simulator.advance(PERIOD)
            self._simulator.render(self._robot.cameras[0].name)
        return steps / (time.perf_counter() - began)

    def close(self) -> None:
        """Free the renderer."""
        self._simulator.close()


class GraphLoop:
    """The simulation by messages: each picture of the simulator node is answered by a command."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._circling = Circling(robot)
        self._pictures = 0
        self._node = Node("camera_rate", start_parameter_services=False)
        picture, command = topics.IMAGE_RAW, topics.TRAJECTORY_INTERFACE
        self._node.create_subscription(
            picture.type,
            picture.named(camera=robot.cameras[0].name),
            self._see,
            picture.quality.profile(1),
        )
        self._controllers = {
            interface.name: self._node.create_publisher(
                command.type, interface.topic, command.quality.profile()
            )
            for interface in robot.interfaces
        }
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def start(self) -> None:
        """Wait for the simulator node and have it say its present tick.

        Raises:
            UserError: it does not come up.
        """
        again = self._node.create_client(Trigger, "simulator/publish")
        up = again.wait_for_service(START_TIMEOUT)
        if not up or any(c.get_subscription_count() == 0 for c in self._controllers.values()):
            raise UserError("the simulator node did not start: run it alone to see why")
        again.call_async(Trigger.Request())
        self._wait_for_picture()

    def rate(self, steps: int) -> float:
        """Return control periods per second of wall time."""
        began = time.perf_counter()
        for _ in range(steps):
            motion = self._circling.next()
            for interface in self._robot.interfaces:
                message = trajectory_message(_part(self._robot, interface, motion), 0)
                self._controllers[interface.name].publish(message)
            self._wait_for_picture()
        return steps / (time.perf_counter() - began)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()

    def _see(self, _: Image) -> None:
        self._pictures += 1

    def _wait_for_picture(self) -> None:
        seen, began = self._pictures, time.monotonic()
        while self._pictures == seen:
            self._executor.spin_once(timeout_sec=0.5)
            if time.monotonic() - began > REPLY_TIMEOUT:
                raise UserError(f"the simulator node sent nothing for {REPLY_TIMEOUT:.0f} s")


@contextmanager
def _simulator_node() -> Iterator[None]:
    """Run the paced simulator node in a domain of its own, as this process then is too."""
    command = [sys.executable, "-m", "rl_robot.nodes.simulator", "--ros-args", "-p"]
    with own_domain():
        process = subprocess.Popen([*command, "pace:=paced"])
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(steps: int, rounds: int) -> Result:
    """Return the median rates of both loops and of their ratio over ``rounds`` turns."""
    robot = load_robot("arm")
    bare, ratios, rates = BareLoop(robot), [], []
    with _simulator_node():
        rclpy.init()
        graph = GraphLoop(robot)
        try:
            graph.start()
            bare.rate(steps // 4), graph.rate(steps // 4)  # warm up
            for _ in range(rounds):
                rates.append((bare.rate(steps), graph.rate(steps)))
                ratios.append(rates[-1][1] / rates[-1][0])
        finally:
            graph.close()
            rclpy.shutdown()
            bare.close()
    bare_rates, graph_rates = np.array(rates).T
    return {
        "steps": steps,
        "rounds": rounds,
        "bare_per_second": float(np.median(bare_rates)),
        "node_per_second": float(np.median(graph_rates)),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    spread = f"{result['ratio_lowest']:.2f} to {result['ratio_highest']:.2f}"
    return "\n".join(
        [
            "control periods per second of wall time, each with one picture:",
            f"  bare loop       {result['bare_per_second']:8.1f}",
            f"  simulator node  {result['node_per_second']:8.1f}",
            f"  ratio           {result['ratio']:8.2f}   ({spread}; the goal is {GOAL})",
        ]
    )


def main() -> int:
    """Run the benchmark; 1 with --check when the goal is missed."""
    parser = options(__doc__, quick="3 turns of 100 control periods")
    parser.add_argument("--steps", type=int, default=500, help="control periods per turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop")
    given = parser.parse_args()
    if given.steps < 4 or given.rounds < 1:
        parser.error("--steps must be at least 4 and --rounds at least 1")
    steps, rounds = (100, 3) if given.quick else (given.steps, given.rounds)
    goals = (Goal("ratio", at_least=GOAL),)
    return report(lambda: measure(steps, rounds), table, goals, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
