"""Control steps per second of wall time with the real Gazebo 11 as simulator, in lock-step.

For a camera of 64x64 pixels and the robot's own: gzserver running freely on the same world (control
periods per second; its camera takes as many pictures, nobody commands the joints, and after each
step the scene is updated, which the backend spares); the backend alone, which is told a command on
every interface, advances one control period and takes the picture; and the whole paced graph as in
`paced_rate.py`. Perception can't see the block in 64x64 pixels, so with these the graph's task is
`reach`, else `grasp`. They take turns. The last line is JSON.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml
from camera_rate import PERIOD, Circling
from common import Goal, Result, options, report
from paced_rate import graph_rate

from rl_robot.resources import resource_path
from rl_robot.robots.commands import interface_motion
from rl_robot.robots.description import Camera, Robot, load_robot
from rl_robot.simulation.gazebo.backend import PHYSICS_STEP, GazeboSimulator
from rl_robot.simulation.gazebo.installation import find_installation
from rl_robot.simulation.gazebo.messages import Messages
from rl_robot.simulation.gazebo.sdf import classic_world
from rl_robot.simulation.gazebo.server import GazeboServer
from rl_robot.simulation.gazebo.transport import Transport
from rl_robot.simulation.world import load_scene

GOAL = 60.0  # control steps per second at 64x64 on two cores
SMALL = 64  # pixels
WARM_UP = 20  # steps
_STATISTICS_TIMEOUT = 20.0  # s


def small_camera(camera: Camera) -> Camera:
    """Return the camera with a square picture of few pixels and the same angle of view."""
    scale = SMALL / camera.width
    centre = (SMALL - 1) / 2.0
    return replace(
        camera,
        width=SMALL,
        height=SMALL,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=centre,
        cy=centre,
    )


def write_robot(camera: Camera, file: Path) -> None:
    """Write the YAML of the built-in robot with another camera of the same place."""
    own = resource_path("config/robots/arm.yaml")
    description = yaml.safe_load(own.read_text())["cameras"]
    description[camera.name] |= {
        key: getattr(camera, key) for key in ("width", "height", "fx", "fy", "cx", "cy")
    }
    file.write_text(yaml.safe_dump({"extends": str(own), "cameras": description}))


def free_rate(robot: Robot, seconds: float) -> float:
    """Return control periods per second of a gzserver that nobody steps."""
    found = find_installation()
    messages = Messages(found.messages)
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "free.world"
        text = classic_world(robot, load_scene("table"), physics_step=PHYSICS_STEP, plugin=None)
        limited = "<real_time_update_rate>5000<"
        assert limited in text
        world.write_text(text.replace(limited, "<real_time_update_rate>0<"))
        with GazeboServer(found, world, Path(folder) / "log") as server:
            transport = Transport(messages, server.port)
            seen: list[tuple[float, float]] = []

            def take(data: bytes) -> None:
                now = messages.parse("WorldStatistics", "world_stats", data).sim_time
                seen.append((time.perf_counter(), now.sec + now.nsec * 1e-9))

            transport.subscribe("~/world_stats", "WorldStatistics", take, _STATISTICS_TIMEOUT)
            transport.wait(lambda: len(seen) > 2, _STATISTICS_TIMEOUT, "statistics")
            first = len(seen) - 1
            transport.wait(
                lambda: seen[-1][0] - seen[first][0] >= seconds,
                seconds + _STATISTICS_TIMEOUT,
                "statistics",
            )
            transport.close()
    (began, then), (ended, now) = seen[first], seen[-1]
    return (now - then) / PERIOD / (ended - began)


def backend_rate(robot: Robot, steps: int) -> float:
    """Return control steps per second of the backend without a graph."""
    simulator = GazeboSimulator(robot, load_scene("table"))
    circling = Circling(robot)
    try:
        for step in range(-WARM_UP, steps):
            if step == 0:
                began = time.perf_counter()
            motion = circling.next()
            for interface in robot.interfaces:
                part = interface_motion(interface, motion, PERIOD)
                simulator.command(interface.name, part.times, part.positions)
            simulator.advance(PERIOD)
            simulator.render(robot.cameras[0].name)
        return steps / (time.perf_counter() - began)
    finally:
        simulator.close()


def measure(rounds: int, steps: int, episodes: int) -> Result:
    """Return the medians over ``rounds`` turns."""
    robot = load_robot("arm")
    small = replace(robot, cameras=tuple(small_camera(camera) for camera in robot.cameras))
    turns: dict[str, list[float]] = {}
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small.yaml"
        write_robot(small.cameras[0], file)
        for _ in range(rounds):
            for name, one, path, task in (
                ("64x64", small, str(file), "reach"),
                ("320x240", robot, "arm", "grasp"),
            ):
                turns.setdefault(f"free_{name}", []).append(free_rate(one, steps / 100.0))
                turns.setdefault(f"backend_{name}", []).append(backend_rate(one, steps))
                graph = graph_rate("script", episodes, simulator="gazebo", robot=path, task=task)
                turns.setdefault(f"graph_{name}", []).append(graph["steps_per_second"])
                lost = max(lost, graph["lost_periods"])
    figures = {name: statistics.median(rates) for name, rates in turns.items()}
    return {"rounds": rounds, "steps": steps, **figures, "lost_periods": lost}


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = ["control steps per second   64x64   320x240"]
    for side, what in (
        ("free", "gzserver running freely"),
        ("backend", "backend alone"),
        ("graph", "whole paced graph"),
    ):
        cells = [f"{result[f'{side}_{size}']:9.1f}" for size in ("64x64", "320x240")]
        lines.append(f"{what:24}{''.join(cells)}")
    return "\n".join([*lines, f"lost periods: {result['lost_periods']}"])


def main() -> int:
    """Run the benchmark."""
    parser = options(__doc__, quick="one turn of 200 steps and 4 episodes")
    given = parser.parse_args()
    rounds, steps, episodes = (1, 200, 4) if given.quick else (3, 500, 10)
    return report(
        lambda: measure(rounds, steps, episodes),
        table,
        [
            Goal("backend_64x64", at_least=GOAL),
            Goal("graph_64x64", at_least=GOAL),
            Goal("lost_periods", at_most=0),
        ],
        check=given.check,
    )


if __name__ == "__main__":
    sys.exit(main())
