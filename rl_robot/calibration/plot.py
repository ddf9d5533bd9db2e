"""A calibration as a picture: where corners were seen, how far off, and by which picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_robot.calibration.session import Calibration
from rl_robot.calibration.views import board_pose, moved
from rl_robot.errors import UserError
from rl_robot.evaluation.figures import AMBER, BLUE, INK, LINE, MUTED

_KINDS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a file that could not be drawn, before anything takes time.

    Raises:
        UserError: there is no such folder, or it is another kind of file.
    """
    if path.suffix.lower() not in _KINDS:
        raise UserError(f"--plot {path}: expected a name that ends in {', '.join(_KINDS)}")
    if not path.parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.parent}")


def save_plot(found: Calibration, path: Path) -> None:
    """Draw coverage and residuals as .png, .svg or .pdf.

    Raises:
        UserError: the file can't be written.
    """
    figure = Figure(figsize=(12.0, 4.4), layout="constrained")
    coverage, residuals, pictures = figure.subplots(1, 3, width_ratios=(1.2, 1.0, 1.2))
    _draw_coverage(coverage, found)
    _draw_residuals(residuals, found)
    _draw_pictures(pictures, found)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: can't be written ({error})") from None


def _draw_coverage(axes: Axes, found: Calibration) -> None:
    width, height = found.gathered.size
    for view in found.gathered.views:
        colour = AMBER if view.name in found.left_out else BLUE
        axes.plot(*view.corners.pixels.T, ".", color=colour, markersize=2.5)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_aspect("equal")
    _title(axes, "corners seen, px (amber: left out)")


def _draw_residuals(axes: Axes, found: Calibration) -> None:
    """What the lens leaves of each corner: the board's pose in each picture is free."""
    offsets = []
    for view in found.gathered.views:
        if view.name in found.left_out:
            continue
        pose, _ = board_pose(found.board, view.corners, found.lens)
        points = moved(pose, found.board.corners[view.corners.ids])
        offsets.append(view.corners.pixels - found.lens.project(points))
    if offsets:
        axes.plot(*np.concatenate(offsets).T, ".", color=BLUE, markersize=2.0, alpha=0.6)
    axes.axhline(0.0, color=LINE, zorder=0)
    axes.axvline(0.0, color=LINE, zorder=0)
    axes.set_aspect("equal", adjustable="datalim")
    _title(axes, "corners' residuals by the lens, px")


def _draw_pictures(axes: Axes, found: Calibration) -> None:
    names = [view.name for view in found.gathered.views]
    for part, colour, label in (
        (found.extrinsics, AMBER, "robot"),
        (found.intrinsics, BLUE, "lens"),
    ):
        if part is not None:
            heights = [part.errors.get(name, float("nan")) for name in names]
            axes.plot(range(len(names)), heights, "o", color=colour, markersize=4, label=label)
    for place, name in enumerate(names):
        if name in found.left_out:
            axes.annotate(name, (place, 0), rotation=90, fontsize=6, color=AMBER, ha="center")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("picture", color=MUTED)
    axes.legend(frameon=False)
    _title(axes, "reprojection error of each picture, px RMS")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, color=INK)
    axes.tick_params(labelsize=7, colors=MUTED)
