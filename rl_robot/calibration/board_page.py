"""The board as a page to print: to scale, with its parameters written under it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from rl_robot.calibration.board import Board
from rl_robot.errors import UserError

PAPERS = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "letter": (279.4, 215.9)}  # mm, landscape
_DOTS_PER_MM = 10  # of a PNG: edges of squares in whole tenths of a millimetre are exact
_MM_PER_INCH = 25.4
_BORDER = 6.0  # mm that printers leave white
_TEXT = 9.0  # mm under the board for what it is, and a ruler


def save_page(board: Board, path: Path, kind: str, paper: str) -> None:
    """Write the board's page.

    Args:
        board: what to print.
        path: the file.
        kind: "png" or "pdf".
        paper: one of `PAPERS`.

    Raises:
        UserError: the board does not fit the paper, or the file can't be written.
    """
    width, height = PAPERS[paper]
    board_width, board_height = (1e3 * side for side in board.size)
    free = (width - 2 * _BORDER, height - 2 * _BORDER - _TEXT)
    if board_width > free[0] or board_height > free[1]:
        largest = min(free[0] / board.columns, free[1] / board.rows)
        raise UserError(
            f"a board of {board_width:g} x {board_height:g} mm does not fit on {paper}: squares of "
            f"at most {int(largest)} mm do, or fewer of them, or --paper a3"
        )
    figure = Figure(figsize=(width / _MM_PER_INCH, height / _MM_PER_INCH))
    left = round((width - board_width) / 2, 1)
    bottom = round((height - board_height + _TEXT) / 2, 1)
    axes = figure.add_axes(
        (left / width, bottom / height, board_width / width, board_height / height)
    )
    axes.set_axis_off()
    axes.imshow(
        board.drawn(round(1e3 * board.square * _DOTS_PER_MM)),
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="none",
        aspect="auto",
    )
    below = (bottom - 4.0) / height
    figure.text(
        left / width,
        below,
        f'{board}. Print at 100 % (not "fit to page"), then measure: '
        f"{board.columns} squares = {board_width:g} mm.",
        fontsize=7,
        va="center",
    )
    figure.text(left / width, (bottom - 7.5) / height, board.options, fontsize=7, va="center")
    try:
        figure.savefig(path, format=kind, dpi=_DOTS_PER_MM * _MM_PER_INCH)
    except OSError as error:
        raise UserError(f"--{kind} {path}: can't be written ({error})") from None
