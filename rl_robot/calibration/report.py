"""What is said of a calibration: tables for a terminal, and the same as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rl_robot.calibration.coverage import Coverage
from rl_robot.calibration.extrinsics import Extrinsics
from rl_robot.calibration.intrinsics import Intrinsics
from rl_robot.calibration.session import Calibration
from rl_robot.calibration.views import inverse
from rl_robot.evaluation.tables import Table
from rl_robot.robots.description import Camera

LENS_NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")
_WORST = 8  # pictures listed by themselves


def tables(found: Calibration, camera: Camera | None) -> list[Table]:
    """Return the tables of a calibration; ``camera`` is what the robot's YAML says so far."""
    made = [_pictures(found)]
    if found.intrinsics is not None:
        made.append(_lens(found, found.intrinsics, camera))
    if found.extrinsics is not None:
        made.append(_pose(found.extrinsics))
    made.append(_errors(found))
    return made


def figures(found: Calibration) -> dict[str, Any]:
    """Return all that is known, as what JSON can hold; SI units and px."""
    return {
        "board": {
            "columns": found.board.columns,
            "rows": found.board.rows,
            "square": found.board.square,
            "marker": found.board.marker,
            "dictionary": found.board.dictionary,
        },
        "pictures": {
            "size": list(found.gathered.size),
            "with_board": len(found.gathered.views),
            "left_out": found.left_out,
            "refused": dict(found.gathered.refused),
            "damaged": found.gathered.damaged,
            "covered": found.coverage.covered,
            "cells": found.coverage.cells.tolist(),
            "tilts": list(found.coverage.tilts),
        },
        "intrinsics": None if found.intrinsics is None else _lens_figures(found.intrinsics),
        "extrinsics": None if found.extrinsics is None else _pose_figures(found.extrinsics),
        "entry": found.values,
        "advice": found.advice,
    }


def camera_difference(pose: Any, camera: Camera) -> tuple[float, float]:
    """Return how far, in m and rad, a pose (4, 4) is from where the YAML has the camera."""
    between = inverse(camera.pose) @ pose
    turn = Rotation.from_matrix(between[:3, :3]).magnitude()
    return float(np.linalg.norm(between[:3, 3])), float(turn)


def _pictures(found: Calibration) -> Table:
    gathered, coverage = found.gathered, found.coverage
    rows = [("used", str(len(gathered.views) - len(found.left_out)))]
    if found.left_out:
        rows.append(("left out, contradicting the others", ", ".join(found.left_out)))
    strays = {
        "for the lens": found.intrinsics.strays if found.intrinsics else 0,
        "for the robot": found.extrinsics.strays if found.extrinsics else 0,
    }
    told = ", ".join(f"{count} {what}" for what, count in strays.items() if count)
    if told:
        rows.append(("corners left out, contradicting their picture", told))
    rows += [(reason, str(count)) for reason, count in gathered.refused.most_common()]
    rows += [("damaged", text) for text in gathered.damaged]
    rows += _covered(coverage)
    width, height = gathered.size
    return Table(f"Pictures of {width}x{height} px, {found.board}", ("what", ""), rows)


def _covered(coverage: Coverage) -> list[tuple[str, str]]:
    sideways, upwards = (math.degrees(tilt) for tilt in coverage.tilts)
    rows = [
        ("parts of the picture with corners", f"{100 * coverage.covered:.0f} %"),
        ("range of the board's tilt", f"{sideways:.0f}° left/right, {upwards:.0f}° up/down"),
    ]
    if coverage.turn is not None:
        told = f"{math.degrees(coverage.turn):.0f}° RMS about the second axis"
        rows.append(("turns of the hand", told))
    return rows


def _lens(whole: Calibration, found: Intrinsics, camera: Camera | None) -> Table:
    sigmas = found.sigma if whole.extrinsics is None else whole.extrinsics.lens_sigma
    before: list[float | None] = [None] * len(LENS_NAMES)
    if camera is not None and (camera.width, camera.height) == (
        found.lens.width,
        found.lens.height,
    ):
        before = [camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion]
    rows = [
        (
            name,
            _number(value, i),
            "fixed" if sigma == 0.0 else _number(sigma, i),
            "" if old is None else _number(old, i),
        )
        for i, (name, value, sigma, old) in enumerate(
            zip(LENS_NAMES, whole.lens.values, sigmas, before, strict=True)
        )
    ]
    note = f"Reprojection {found.rms:.3f} px RMS, held out {found.held_out:.3f} px"
    note += "; refined with the extrinsics." if whole.extrinsics is not None else "."
    return Table("Intrinsics", ("", "value", "1 sigma", "YAML's"), rows, note)


def _number(value: float, place: int) -> str:
    return f"{value:.2f}" if place < 4 else f"{value:.5f}"


def _pose(found: Extrinsics) -> Table:
    camera_on, board_on = ("base", "hand") if found.mount == "base" else ("hand", "base")
    rows = []
    for what, pose, sigma in (
        (f"camera in the {camera_on}'s frame", found.camera, found.camera_sigma),
        (f"board in the {board_on}'s frame", found.board, found.board_sigma),
    ):
        place = ", ".join(f"{1e3 * value:.2f}" for value in pose[:3, 3])
        turn = ", ".join(f"{v:.6f}" for v in Rotation.from_matrix(pose[:3, :3]).as_quat())
        shifts = ", ".join(f"{1e3 * value:.2f}" for value in sigma[:3])
        turns = ", ".join(f"{math.degrees(value):.3f}" for value in sigma[3:])
        rows += [
            (f"{what}: position", f"{place} mm", f"{shifts} mm"),
            ("    quaternion x y z w", turn, f"{turns} degrees"),
        ]
    rows.append(
        (
            "squares, by the robot's motion",
            f"{100 * found.scale:.2f} % of what is said",
            f"{100 * found.scale_sigma:.2f} %",
        )
    )
    note = (
        f"Reprojection {found.rms:.3f} px RMS, held out {found.held_out:.3f} px: "
        f"{1e3 * found.pixel * found.held_out:.2f} mm at the board, {found.distance:.2f} m away.\n"
        "1 sigma of turns: about the camera's, or the board's, own x, y and z axes."
    )
    return Table("Extrinsics", ("what", "value", "1 sigma"), rows, note)


def _errors(found: Calibration) -> Table:
    lens = found.intrinsics.errors if found.intrinsics else {}
    pose = found.extrinsics.errors if found.extrinsics else {}
    worst = sorted(
        lens | pose, key=lambda name: max(lens.get(name, 0.0), pose.get(name, 0.0)), reverse=True
    )
    rows = [
        (
            name,
            f"{lens[name]:.3f}" if name in lens else "",
            f"{pose[name]:.3f}" if name in pose else "",
            "left out" if name in found.left_out else "",
        )
        for name in worst[:_WORST]
    ]
    title = f"Reprojection errors, the {len(rows)} greatest of {len(worst)}, px RMS"
    return Table(title, ("picture", "lens", "robot", ""), rows)


def _lens_figures(found: Intrinsics) -> dict[str, Any]:
    return {
        **dict(zip(LENS_NAMES, found.lens.values, strict=True)),
        "sigma": dict(zip(LENS_NAMES, found.sigma.tolist(), strict=True)),
        "rms": found.rms,
        "held_out": found.held_out,
        "errors": found.errors,
        "left_out": list(found.left_out),
        "strays": found.strays,
    }


def _pose_figures(found: Extrinsics) -> dict[str, Any]:
    def placed(pose: Any, sigma: Any) -> dict[str, Any]:
        return {
            "position": pose[:3, 3].tolist(),
            "quaternion": Rotation.from_matrix(pose[:3, :3]).as_quat().tolist(),
            "sigma_position": sigma[:3].tolist(),
            "sigma_turn": sigma[3:].tolist(),
        }

    return {
        "mount": found.mount,
        "camera": placed(found.camera, found.camera_sigma),
        "board": placed(found.board, found.board_sigma),
        "lens": dict(zip(LENS_NAMES, found.lens.values, strict=True)),
        "lens_sigma": dict(zip(LENS_NAMES, found.lens_sigma.tolist(), strict=True)),
        "scale": found.scale,
        "scale_sigma": found.scale_sigma,
        "rms": found.rms,
        "held_out": found.held_out,
        "distance": found.distance,
        "errors": found.errors,
        "left_out": list(found.left_out),
        "strays": found.strays,
    }
