"""How far a camera's calibration is from the truth, over the number of poses, in simulation.

A robot holds a ChArUco board before its camera in random poses; pictures are drawn with the lens'
distortion and the sensor's noise, the board is found in them, and what comes out is compared with
what is known. The last line is JSON.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from common import Goal, Result, options, report
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board
from rl_robot.calibration.extrinsics import Extrinsics, calibrate_extrinsics
from rl_robot.calibration.hand_eye import solve_closed_form
from rl_robot.calibration.intrinsics import calibrate_intrinsics
from rl_robot.calibration.rehearsal import Rehearsal
from rl_robot.calibration.session import lens_guess
from rl_robot.calibration.views import Lens, View, board_pose, inverse
from rl_robot.robots.description import Camera, load_robot
from rl_robot.simulation.world import load_scene

SIZE = (640, 480)
LENS = Lens(*SIZE, (800.0, 804.0, 322.0, 238.0, -0.10, 0.05, 0.001, -0.0005, 0.0))
JOINT_ERROR = 0.0005  # rad, standard deviation, in the third of the cases
CLOSED = "closed form alone, lens known"  # the peer
KNOWN, ALL, WORN = "extrinsics, lens known", "all", "all, joints off by 0.5 mrad"
GOALS = (
    Goal("focal_worst_percent_20", at_most=0.3),
    Goal("position_worst_mm_20", at_most=1.0),
    Goal("turn_worst_deg_20", at_most=0.1),
)


def measure(counts: Sequence[int], seeds: int) -> Result:
    """Return errors of each case, number of poses and seed."""
    robot, board = load_robot("arm"), Board()
    camera = LENS.on(robot.cameras[0])  # one that distorts, and has more pixels
    trials = []
    for seed in range(seeds):
        rehearsal = Rehearsal(robot, load_scene("table"), board, camera, seed=seed)
        joints = rehearsal.poses(max(counts))
        views = [_view(rehearsal, f"{i}", q) for i, q in enumerate(joints)]
        random = np.random.default_rng(seed)
        worn = [
            replace(view, hand=rehearsal.hand(q + random.normal(0.0, JOINT_ERROR, len(q))))
            for view, q in zip(views, joints, strict=True)
        ]
        rehearsal.close()
        for count in counts:
            trials += list(_trials(board, camera, views[:count], worn[:count], count))
    summary = [_summary(case, n, trials) for case in (CLOSED, KNOWN, ALL, WORN) for n in counts]
    goal = next(row for row in summary if row["case"] == ALL and row["poses"] == 20)
    named = ("focal_worst_percent", "position_worst_mm", "turn_worst_deg")
    return {"seeds": seeds, "rows": summary} | {f"{name}_20": goal[name] for name in named}


def _view(rehearsal: Rehearsal, name: str, joints: np.ndarray) -> View:
    corners = rehearsal.board.find(rehearsal.picture(joints))
    while corners is None:  # of a pose in which it was found, with other noise
        corners = rehearsal.board.find(rehearsal.picture(joints))
    return View(name, corners, rehearsal.hand(joints))


def _trials(
    board: Board, camera: Camera, views: list[View], worn: list[View], count: int
) -> Iterator[Result]:
    seen = np.array([board_pose(board, view.corners, LENS)[0] for view in views])
    closed = solve_closed_form(np.array([view.hand for view in views]), seen)
    yield {"case": CLOSED, "poses": count, "focal": 0.0, **_offsets(closed.z, camera)}
    known = calibrate_extrinsics(board, views, LENS)
    yield {"case": KNOWN, "poses": count, "focal": 0.0, **_errors(known, camera)}
    found = calibrate_intrinsics(board, views, SIZE)
    guess = lens_guess(board, found)
    for case, seen in ((ALL, views), (WORN, worn)):
        placed = calibrate_extrinsics(board, seen, found.lens, guess=guess)
        focal = max(abs(placed.lens.values[i] / LENS.values[i] - 1.0) for i in (0, 1))
        yield {"case": case, "poses": count, "focal": focal, **_errors(placed, camera)}


def _errors(found: Extrinsics, camera: Camera) -> Result:
    offsets = _offsets(found.camera, camera)
    ratios = np.concatenate([offsets["shift"], offsets["turned"]]) / found.camera_sigma
    left_out = len(found.left_out)
    return offsets | {"sigmas": ratios, "held_out": found.held_out, "left_out": left_out}


def _offsets(pose: np.ndarray, camera: Camera) -> Result:
    shift = pose[:3, 3] - camera.pose[:3, 3]
    turn = Rotation.from_matrix((inverse(camera.pose) @ pose)[:3, :3]).as_rotvec()
    return {
        "shift": shift,
        "turned": turn,
        "position": float(np.linalg.norm(shift)),
        "turn": float(np.linalg.norm(turn)),
    }


def _summary(case: str, poses: int, trials: list[Result]) -> Result:
    chosen = [one for one in trials if (one["case"], one["poses"]) == (case, poses)]
    positions = [1e3 * one["position"] for one in chosen]
    turns = [math.degrees(one["turn"]) for one in chosen]
    focal = [100.0 * one["focal"] for one in chosen]
    judged = [one for one in chosen if "sigmas" in one]
    ratios = [one["sigmas"] for one in judged]
    return {
        "case": case,
        "poses": poses,
        "position_median_mm": float(np.median(positions)),
        "position_worst_mm": max(positions),
        "turn_median_deg": float(np.median(turns)),
        "turn_worst_deg": max(turns),
        "focal_median_percent": float(np.median(focal)),
        "focal_worst_percent": max(focal),
        "errors_in_sigmas": float(np.sqrt(np.mean(np.square(ratios)))) if judged else None,
        "held_out_px": float(np.median([one["held_out"] for one in judged])) if judged else None,
        "left_out": sum(one["left_out"] for one in judged),
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = [
        f"{result['seeds']} seeds; median (worst)",
        f"{'':30}{'poses':>6}{'position mm':>16}{'turn deg':>18}{'focal %':>16}"
        f"{'RMS error':>12}{'held out':>10}{'left out':>10}",
    ]
    for row in result["rows"]:
        position = f"{row['position_median_mm']:.2f} ({row['position_worst_mm']:.2f})"
        turn = f"{row['turn_median_deg']:.3f} ({row['turn_worst_deg']:.3f})"
        focal = f"{row['focal_median_percent']:.2f} ({row['focal_worst_percent']:.2f})"
        line = f"{row['case']:30}{row['poses']:6}{position:>16}{turn:>18}{focal:>16}"
        if row["held_out_px"] is not None:
            line += f"{row['errors_in_sigmas']:9.2f} sig{row['held_out_px']:7.2f} px"
            line += f"{row['left_out']:10}"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; 1 with --check when a goal is missed."""
    parser = options(__doc__, quick="10 and 20 poses, 2 seeds")
    parser.add_argument("--seeds", type=int, default=8, help="how many")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    counts, seeds = ((10, 20), 2) if given.quick else ((10, 20, 40), given.seeds)
    return report(lambda: measure(counts, seeds), table, GOALS, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
