"""How far the perceived pose of an unoccluded block is from the true one, in simulation.

Places the block at random over the work area, the arm at home, and compares what BlockDetector
finds in the camera's noisy image with the simulator's ground truth. The last line is JSON.
"""

import math
import sys
import time

import cv2
import numpy as np
from common import Goal, Result, options, report

from rl_robot.perception.block import BlockDetector
from rl_robot.robots.description import load_robot
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

CENTRE = (0.40, 0.0)  # of the work area, m
SIDE = 0.20  # of the work area, m
GOALS = (
    Goal("position_median_mm", at_most=3.0),
    Goal("yaw_median_deg", at_most=3.0),
    Goal("position_p95_mm", at_most=6.0),
    Goal("unseen", at_most=0.01),  # part of the unoccluded poses
)


def measure(poses: int, seed: int) -> Result:
    """Return the errors' statistics over so many random poses."""
    random = np.random.default_rng(seed)
    robot, scene = load_robot("arm"), load_scene("table")
    camera = robot.cameras[0]
    simulator = Simulator(robot, scene, seed=seed)
    detector = BlockDetector(camera, size=scene.objects["block"].size)
    simulator.reset({})
    distances, turns, seconds = [], [], []
    for _ in range(poses):
        x, y = CENTRE + SIDE * (random.random(2) - 0.5)
        yaw = random.uniform(-math.pi, math.pi)
        simulator.place("block", float(x), float(y), yaw)
        image = simulator.render(camera.name)
        began = time.perf_counter()
        detection = detector.detect(image)
        seconds.append(time.perf_counter() - began)
        if detection is None:
            continue
        truth, _ = simulator.object_pose("block")
        distances.append(1e3 * float(np.linalg.norm(detection.position - truth)))
        quarter = math.pi / 2
        turns.append(math.degrees(abs((detection.yaw - yaw + quarter / 2) % quarter - quarter / 2)))
    simulator.close()
    return {
        "poses": poses,
        "unseen": 1.0 - len(distances) / poses,
        **_statistics("position", "mm", distances),
        **_statistics("yaw", "deg", turns),
        "time_median_ms": 1e3 * float(np.median(seconds)),
        "time_p95_ms": 1e3 * float(np.percentile(seconds, 95)),
    }


def _statistics(name: str, unit: str, errors: list[float]) -> dict[str, float]:
    if not errors:
        errors = [math.inf]
    return {
        f"{name}_median_{unit}": float(np.median(errors)),
        f"{name}_p95_{unit}": float(np.percentile(errors, 95)),
        f"{name}_max_{unit}": float(np.max(errors)),
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    rows = [f"{result['poses']:.0f} poses, {result['unseen']:.1%} of them not seen", ""]
    rows.append(f"{'':10}{'median':>10}{'p95':>10}{'max':>10}")
    for name, unit in (("position", "mm"), ("yaw", "deg")):
        values = [result[f"{name}_{kind}_{unit}"] for kind in ("median", "p95", "max")]
        rows.append(f"{name:10}" + "".join(f"{value:10.3f}" for value in values) + f"  {unit}")
    times = (result["time_median_ms"], result["time_p95_ms"])
    rows.append(f"{'time':10}" + "".join(f"{value:10.3f}" for value in times) + f"{'ms':>14}")
    return "\n".join(rows)


def main() -> int:
    """Run the benchmark; 1 with --check when a goal is missed."""
    parser = options(__doc__, quick="100 poses")
    parser.add_argument("--poses", type=int, default=500, help="how many random poses")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.poses < 1:
        parser.error("--poses must be at least 1")
    cv2.setNumThreads(1)  # the time is that of one core
    poses = 100 if given.quick else given.poses
    return report(lambda: measure(poses, given.seed), table, GOALS, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
