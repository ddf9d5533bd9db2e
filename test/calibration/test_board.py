"""The board: found where it is, printed to scale, refused where it can't be."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from rl_robot.calibration.board import Board
from rl_robot.calibration.board_page import save_page
from rl_robot.errors import UserError


@pytest.mark.parametrize("square", [24, 36, 60, 100])
def test_corners_are_found_where_they_are_drawn(square: int) -> None:
    """The centre of the first pixel is (0, 0): an edge between pixels 99 and 100 is at 99.5."""
    page = np.full((700, 1000), 255, np.uint8)
    page[50 : 50 + 5 * square, 40 : 40 + 7 * square] = Board().drawn(square)
    found = Board().find(cv2.GaussianBlur(page, (3, 3), 0))  # as by a lens
    assert found is not None
    np.testing.assert_array_equal(found.ids, np.arange(24))
    expected = Board().corners[:, :2] / Board().square * square + (40, 50) - 0.5
    np.testing.assert_allclose(found.pixels, expected, atol=0.02)


def test_a_part_of_the_board_is_enough_but_not_one_line() -> None:
    page = np.full((400, 500), 255, np.uint8)
    page[50:350, 40:460] = Board().drawn(60)
    part = page.copy()
    part[:, 250:] = 128
    found = Board().find(part)
    assert found is not None
    assert 6 <= len(found.ids) < 24
    assert (found.pixels[:, 0] < 250).all()
    line = page.copy()
    line[180:] = 128
    assert Board().find(line) is None
    assert Board().find(np.full((40, 40, 3), 7, np.uint8)) is None


@pytest.mark.parametrize("board", [Board(), Board(9, 6, 0.0295, 0.021, "5X5_100")], ids=str)
def test_the_page_is_to_scale(board: Board, tmp_path: Path) -> None:
    save_page(board, tmp_path / "board.png", "png", "a4")
    page = cv2.imread(str(tmp_path / "board.png"), cv2.IMREAD_GRAYSCALE)
    assert page.shape == (2100, 2970)  # tenths of a millimetre
    found = board.find(page)
    assert found is not None
    assert len(found.ids) == (board.columns - 1) * (board.rows - 1)
    np.testing.assert_allclose(
        found.pixels - found.pixels[0],
        (board.corners - board.corners[0])[:, :2] * 1e4,
        atol=0.1,  # that is 0.01 mm
    )


def test_the_pdf_is_a4_and_says_what_it_is(tmp_path: Path) -> None:
    save_page(Board(), tmp_path / "board.pdf", "pdf", "a4")
    raw = (tmp_path / "board.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", raw)
    assert box is not None
    sides = [float(side) * 25.4 / 72 for side in box.groups()]
    assert sides == pytest.approx([297.0, 210.0], abs=0.01)
    assert "--squares 7x5 --square 36 --marker 27 --dictionary 4X4_50" in Board().options


def test_a_board_too_large_for_the_paper_is_refused_with_what_fits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="squares of at most 37 mm do"):
        save_page(Board(square=0.04, marker=0.03), tmp_path / "board.png", "png", "a4")
    assert not list(tmp_path.iterdir())
    save_page(Board(square=0.04, marker=0.03), tmp_path / "board.pdf", "pdf", "a3")


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be written"):
        save_page(Board(), tmp_path / "no" / "board.pdf", "pdf", "a4")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": 2}, "each side needs 3 to 40"),
        ({"rows": 1000}, "each side needs 3 to 40"),
        ({"square": float("nan")}, "expected 1 to 1000 mm"),
        ({"square": 36.0, "marker": 27.0}, "expected 1 to 1000 mm"),
        ({"marker": 0.036}, "expected 0.3 to 0.9 of a square"),
        ({"dictionary": "4X4_51"}, "give one of 4X4_50"),
        ({"columns": 15, "rows": 15}, "holds 50 markers, a board of 15x15 squares needs 112"),
    ],
)
def test_boards_that_cannot_be_are_refused(arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Board(**arguments)
