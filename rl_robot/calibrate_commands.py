"""``rl_robot calibrate``: a camera's intrinsics and place on the robot, from a ChArUco board."""

import argparse
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_robot.errors import UserError

if TYPE_CHECKING:
    from rl_robot.calibration.board import Board
    from rl_robot.calibration.extrinsics import Mount
    from rl_robot.calibration.session import Calibration
    from rl_robot.robots.description import Camera, Robot

LIVE = "live"
_ROBOT = "robot:="
_MOST_POSES = 200


def add_calibrate_commands(commands: Any) -> None:
    """Add the command ``calibrate`` with commands of its own."""
    calibrate = commands.add_parser("calibrate", help="calibrate a camera with a ChArUco board")
    own = calibrate.add_subparsers(dest="calibrate_command", required=True, metavar="COMMAND")

    board = own.add_parser("board", help="a board to print, to scale")
    form = board.add_mutually_exclusive_group(required=True)
    form.add_argument("--png", metavar="FILE", help="write it as PNG, 254 dots per inch")
    form.add_argument("--pdf", metavar="FILE", help="write it as PDF")
    board.add_argument("--paper", default="a4", help="a4 (default), a3 or letter")
    _add_board_options(board)
    board.set_defaults(run_command=_board)

    for kind, told in (
        ("intrinsics", "focal lengths, principal point, distortion"),
        ("extrinsics", "where the camera is, by the robot's motion"),
        ("all", "intrinsics, then extrinsics, from the same pictures"),
    ):
        _add_kind(own.add_parser(kind, help=told), kind)


def _add_kind(parser: Any, kind: str) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="bags, runs, folders of pictures, or live; robot:=NAME is --robot",
    )
    parser.add_argument("--robot", help="robot by name or YAML")
    parser.add_argument("--camera", help="which camera of the robot's YAML (the first)")
    parser.add_argument("--topic", default="", help="of the pictures (the YAML's)")
    parser.add_argument(
        "--joint-states", default="", metavar="TOPIC", help="of the joint states (the YAML's)"
    )
    parser.add_argument(
        "--speed", type=_positive, help="of a joint, from which on it is in motion (0.01 rad/s)"
    )
    if kind != "intrinsics":
        parser.add_argument(
            "--mount",
            default="base",
            choices=("base", "hand"),
            help="what the camera is fixed to; the board is on the other (base)",
        )
    if kind != "extrinsics":
        parser.add_argument("--k3", action="store_true", help="also the third radial coefficient")
    parser.add_argument("--poses", type=_count, help="live: pictures that are enough (20)")
    parser.add_argument("--keep", metavar="FOLDER", help="live: where the pictures are kept")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw coverage and residuals (.png, .svg, .pdf)"
    )
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    parser.add_argument(
        "--write", action="store_true", help="write the entry into the robot's YAML"
    )
    parser.add_argument(
        "--frame", metavar="NAME", help="with --write: a new frame_id for the camera"
    )
    _add_board_options(parser)
    parser.set_defaults(run_command=_calibrate, kind=kind)


def _add_board_options(parser: Any) -> None:
    group = parser.add_argument_group("the board")
    group.add_argument("--squares", default="7x5", metavar="CxR", help="columns x rows (7x5)")
    group.add_argument("--square", type=_positive, default=36.0, metavar="MM", help="edge (36)")
    group.add_argument("--marker", type=_positive, metavar="MM", help="edge (3/4 of a square)")
    group.add_argument("--dictionary", default="4X4_50", help="of the markers (4X4_50)")


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST_POSES:
        raise ValueError
    return value


_positive.__name__, _count.__name__ = "positive number", f"count of 1 to {_MOST_POSES}"


def _board_of(options: argparse.Namespace) -> "Board":
    from rl_robot.calibration.board import Board

    try:
        columns, rows = (int(side) for side in options.squares.lower().split("x"))
    except ValueError:
        raise UserError(
            f"--squares {options.squares!r}: expected columns x rows, such as 7x5"
        ) from None
    marker = 0.75 * options.square if options.marker is None else options.marker
    return Board(columns, rows, options.square * 1e-3, marker * 1e-3, options.dictionary)


def _board(options: argparse.Namespace) -> int:
    from rl_robot.calibration.board_page import PAPERS, save_page

    board = _board_of(options)
    paper = options.paper.lower()
    if paper not in PAPERS:
        raise UserError(f"--paper {options.paper!r}: give one of {', '.join(PAPERS)}")
    kind = "png" if options.png else "pdf"
    path = Path(options.png or options.pdf)
    save_page(board, path, kind, paper)
    print(f"{path}: {board}\nprint it at 100 %, measure it, and calibrate with {board.options}")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from rl_robot.calibration.collector import SPEED
    from rl_robot.calibration.gathering import Topics, gather
    from rl_robot.calibration.session import calibrate

    board = _board_of(options)
    robot, sources = _robot_and_sources(options)
    camera = _camera(robot, options.camera)
    mount: Mount = getattr(options, "mount", "base")
    _check(options, robot, camera, sources, mount)
    if LIVE in sources:
        folder = _capture(options, board, robot, camera)
        sources = [str(folder) if source == LIVE else source for source in sources]
    gathered = gather(
        sources,
        board,
        robot,
        topics=Topics(options.topic or (camera.topic if camera else ""), options.joint_states),
        camera_asked=bool(options.topic),
        speed=options.speed or SPEED,
        with_robot=options.kind != "intrinsics",
    )
    found = calibrate(
        options.kind,
        board,
        gathered,
        camera,
        mount=mount,
        third_radial=getattr(options, "k3", False),
    )
    _show(options, found, camera)
    if options.write:
        assert robot is not None
        assert camera is not None
        _write(options, found, robot, camera)
    return 0


def _robot_and_sources(options: argparse.Namespace) -> "tuple[Robot | None, list[str]]":
    from rl_robot.robots.description import load_robot

    sources = [source for source in options.sources if not source.startswith(_ROBOT)]
    given = [source[len(_ROBOT) :] for source in options.sources if source.startswith(_ROBOT)]
    given += [options.robot] if options.robot else []
    if len(given) > 1:
        raise UserError(f"the robot is given twice: {' and '.join(given)}")
    for source in sources:
        if ":=" in source:
            raise UserError(f"{source}: the only argument of this form is robot:=")
    if not sources:
        raise UserError("what to calibrate from? Name a bag, a folder of pictures, or live")
    return (load_robot(given[0]) if given else None), sources


def _camera(robot: "Robot | None", name: str | None) -> "Camera | None":
    if robot is None:
        if name:
            raise UserError("--camera is one of a robot's YAML: say --robot too")
        return None
    if name:
        return robot.camera(name)
    if not robot.cameras:
        raise UserError(f"robot {robot.name} has no camera: list one in its YAML")
    return robot.cameras[0]


def _check(
    options: argparse.Namespace,
    robot: "Robot | None",
    camera: "Camera | None",
    sources: Sequence[str],
    mount: str,
) -> None:
    """Refuse what could not work before anything takes time."""
    from rl_robot.calibration.entry import check_own_file

    if options.plot:
        from rl_robot.calibration.plot import check_plot

        check_plot(Path(options.plot))
    if options.kind != "intrinsics" and robot is None:
        raise UserError(f"calibrate {options.kind} needs the robot: say robot:=NAME or its YAML")
    if options.kind == "extrinsics" and camera is None:
        raise UserError("extrinsics need the camera's intrinsics: calibrate all")
    if options.write and robot is None:
        raise UserError("--write writes into the robot's YAML: say robot:= with its path")
    if options.write and mount == "hand":
        raise UserError("--write: a robot's YAML has no place for a camera on the hand")
    if options.write and robot is not None:
        check_own_file(robot.source)
    if options.frame and not options.write:
        raise UserError("--frame is for --write")
    if LIVE not in sources and (options.keep or options.poses):
        raise UserError("--keep and --poses are for the source live")
    if sources.count(LIVE) > 1:
        raise UserError("live is given twice")


def _capture(
    options: argparse.Namespace,
    board: "Board",
    robot: "Robot | None",
    camera: "Camera | None",
) -> Path:
    """Run the calibrator node until it has enough or Ctrl-C; return where the pictures are.

    Raises:
        UserError: the node failed, or took no picture.
    """
    stem = robot.name if robot else "camera"
    named = options.keep or f"calibration/{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(named)
    name, topic = (camera.name, camera.topic) if camera else ("camera", "image_raw")
    values: dict[str, Any] = {
        "folder": folder,
        "camera": name,
        "columns": board.columns,
        "rows": board.rows,
        "square": board.square,
        "marker": board.marker,
        "dictionary": board.dictionary,
    }
    if robot is not None and options.kind != "intrinsics":
        values["robot"] = robot.source
    values |= {"speed": options.speed} if options.speed else {}
    values |= {"enough": options.poses} if options.poses else {}
    command = [sys.executable, "-m", "rl_robot.nodes.calibrator", "--ros-args"]
    for key, value in values.items():
        command += ["-p", f"{key}:={value}"]
    command += ["-r", f"{name}/image_raw:={options.topic or topic}"]
    if options.joint_states and robot is not None:
        command += ["-r", f"{robot.joint_state_topic}:={options.joint_states}"]
    print(f"pictures are kept in {folder}; Ctrl-C when it is enough", file=sys.stderr)
    # Ctrl-C is for the node, which then ends properly: what it took is calibrated from.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # What the node says is no part of the figures, which go to standard output.
        code = subprocess.run(command, stdout=2, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    taken = any(folder.glob("*.png"))
    if code:
        kept = f"; what it took is in {folder}" if taken else ""
        raise UserError(f"the capture ended with status {code}{kept}")
    if not taken:
        raise UserError("no picture was taken")
    return folder


def _show(options: argparse.Namespace, found: "Calibration", camera: "Camera | None") -> None:
    from rl_robot.calibration.entry import entry_text
    from rl_robot.calibration.report import camera_difference, figures, tables
    from rl_robot.evaluation.tables import as_text

    if options.plot:
        from rl_robot.calibration.plot import save_plot

        save_plot(found, Path(options.plot))
    if options.json:
        print(json.dumps(figures(found), indent=2, allow_nan=False))
        return
    print("\n\n".join(map(as_text, tables(found, camera))))
    for text in found.advice:
        print(f"\nBetter: {text}")
    on_base = found.extrinsics is not None and found.extrinsics.mount == "base"
    if found.extrinsics is not None and on_base and camera is not None:
        shift, turn = camera_difference(found.extrinsics.camera, camera)
        print(
            f"\nThat is {1e3 * shift:.1f} mm and {math.degrees(turn):.2f} degrees from where the "
            "YAML has the camera."
        )
    if found.values:
        print(f"\n{entry_text(camera.name if camera else 'camera', found.values)}")


def _write(
    options: argparse.Namespace, found: "Calibration", robot: "Robot", camera: "Camera"
) -> None:
    from rl_robot.calibration.entry import write_entry

    values = dict(found.values)
    if options.frame:
        values["frame_id"] = options.frame
    if found.intrinsics and found.extrinsics and not camera.calibrated:
        values["calibrated"] = True
    backup = write_entry(robot, camera.name, values)
    print(f"\nwritten into {robot.source}; as it was before: {backup}", file=sys.stderr)
