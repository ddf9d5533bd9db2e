"""The arguments that graphs have in common, and the checks of their values."""

import math
import re
from collections.abc import Callable
from pathlib import Path

from rl_robot.bags.pictures import KINDS, RAW
from rl_robot.bringup.graph import Argument
from rl_robot.errors import UserError
from rl_robot.experience.bag_map import load_bag_map
from rl_robot.experience.disk_room import NO_LIMIT, parse_size
from rl_robot.experience.tape import named_bags
from rl_robot.faults.plan import FOLDER, NO_FAULTS, load_plan
from rl_robot.robots.description import load_robot
from rl_robot.ros.pace import parse_pace
from rl_robot.safety.chain import parse_off
from rl_robot.simulation.simulators import MUJOCO, SIMULATORS
from rl_robot.tasks import SPLITS, load_task

_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")
FASTEST = "max"  # the rate of a replay that goes as fast as the nodes that run again keep up
BOOLEANS = ("true", "false")
MOST_CANDIDATES = 64


# --- checks of single values ---------------------------------------------------------------------


def whole_number(name: str, value: str) -> int:
    """Return the number that an argument's value is; raises a UserError for any other value."""
    if not re.fullmatch(r"\d{1,9}", value):
        raise UserError(f"{name} '{value}': expected a whole number, 0 or more")
    return int(value)


def count_argument(name: str, default: int, description: str) -> Argument:
    """Return an argument that is a whole number, 0 or more."""
    return Argument(name, str(default), description, check=lambda v: whole_number(name, v))


def number_argument(
    name: str, default: str, description: str, fits: Callable[[float], bool], expected: str
) -> Argument:
    """Return an argument that is a number; ``expected`` says in words which ones fit."""

    def check(value: str) -> None:
        try:
            good = fits(float(value))
        except ValueError:
            good = False
        if not good and value != default:
            raise UserError(f"{name} '{value}': expected {expected}")

    return Argument(name, default, description, check=check)


def _check_candidates(value: str) -> None:
    if not 1 <= whole_number("candidates", value) <= MOST_CANDIDATES:
        raise UserError(f"candidates '{value}': expected 1 to {MOST_CANDIDATES}")


def check_rate(value: str) -> None:
    """Refuse what is no rate of a replay."""
    parse_rate(value)


def parse_rate(value: str) -> float:
    """Return a replay's factor of real time, 0 for ``max``."""
    if value == FASTEST:
        return 0.0
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < math.inf:
        raise UserError(f"rate '{value}': expected a factor of real time, or {FASTEST}")
    return rate


def _check_namespace(value: str) -> None:
    if value and not _NAMESPACE.fullmatch(value):
        raise UserError(f"namespace '{value}': expected a ROS namespace such as robot1 or lab/left")


def _check_run(value: str) -> None:
    if value and (value.startswith(".") or "/" in value):
        raise UserError(f"run '{value}': expected a plain folder name; its parent is root:=")


def check_replayed(value: str) -> None:
    """Refuse what names no bags."""
    named_bags(value)


def check_file(name: str, value: str, *endings: str) -> None:
    """Refuse a file's name that does not end as it should."""
    if value and not Path(value).absolute().parent.is_dir():
        raise UserError(f"{name} '{value}': there is no folder {Path(value).parent}")
    if value and Path(value).suffix not in endings:
        raise UserError(f"{name} '{value}': expected a file that ends in {' or '.join(endings)}")


def check_bags(value: str) -> None:
    """Refuse what does not exist."""
    for name in filter(None, value.split(",")):
        if not Path(name.strip()).exists():
            raise UserError(f"bags '{name.strip()}': no such run or folder, as in bags:=runs/mine")


def check_map(value: str) -> None:
    """Refuse a map that says something that can't be."""
    if value:
        load_bag_map(value)


def _check_faults(value: str) -> None:
    if value != NO_FAULTS:
        load_plan(value)


# --- arguments -----------------------------------------------------------------------------------

ROBOT = Argument("robot", "arm", "robot by name, or the path of its YAML", check=load_robot)
TASK = Argument("task", "grasp", "task by name, or your own as module:Class", check=load_task)
NAMESPACE_ARGUMENT = Argument(
    "namespace", "", "namespace of every node and topic, one per robot", check=_check_namespace
)


def pace_argument(default: str) -> Argument:
    """Return the argument that says how fast a session runs."""
    return Argument(
        "pace",
        default,
        "paced (as fast as the graph keeps up), or a factor of real time such as 1.0",
        check=parse_pace,
    )


SEED = count_argument("seed", 0, "seed of everything random")
POLICY = Argument(
    "policy",
    "script",
    "script, weak_script, random, a .safetensors file, or your own as module:Class",
)
RUN_ARGUMENTS = (
    Argument("run", "", "name of the run's folder (default: by time)", check=_check_run),
    Argument("root", "runs", "folder that holds the runs"),
)
# What every graph with a robot has.
ROBOT_ARGUMENTS = (
    *RUN_ARGUMENTS,
    NAMESPACE_ARGUMENT,
    Argument(
        "simulator",
        MUJOCO,
        "what takes the place of the robot's drivers: gazebo is Gazebo 11, stand_in rehearses a "
        "physical arm's, none leaves the robot to them",
        (*SIMULATORS, "stand_in", "none"),
    ),
    Argument(
        "use_sim_time",
        "false",
        "with simulator:=none: time is what the topic clock says, as Gazebo's drivers publish it",
        choices=BOOLEANS,
    ),
    Argument("camera", "", "a real robot's camera: device number, video file or stream address"),
    Argument(
        "processes",
        "auto",
        "one (the nodes of a tick share one), each, or auto: one when paced",
        choices=("auto", "one", "each"),
    ),
    Argument(
        "candidates",
        "1",
        "actions that an exploring policy samples per control step, to choose a safe one of",
        check=_check_candidates,
    ),
    Argument(
        "safety_off",
        "",
        "constraints of the safety filter to switch off, by comma: ablations in simulation only",
        check=parse_off,
    ),
    Argument(
        "quota",
        NO_LIMIT,
        "size of the run's bags, such as 20GB, from which on the oldest exploration is removed",
        check=lambda v: parse_size("quota", v),
    ),
    Argument(
        "reserve",
        "500MB",
        "size of the disk that is left free: no episode begins below it",
        check=lambda v: parse_size("reserve", v),
    ),
    Argument(
        "pictures", RAW, "how bags hold the cameras' full-size pictures", choices=(RAW, *KINDS)
    ),
    Argument(
        "faults",
        NO_FAULTS,
        f"what goes wrong with which topics: a file in {FOLDER} by name, or your own by path.yaml",
        check=_check_faults,
    ),
)


def session_arguments(*, pace: str, episodes: int, split: str, record: str) -> tuple[Argument, ...]:
    """Return the arguments of a session that runs one policy."""
    return (
        ROBOT,
        TASK,
        POLICY,
        pace_argument(pace),
        count_argument("episodes", episodes, "number of episodes, 0 = until stopped"),
        Argument("split", split, "where the starts come from", choices=tuple(SPLITS)),
        count_argument("first", 0, "index of the first start within the split"),
        SEED,
        *ROBOT_ARGUMENTS,
        Argument("record", record, "one MCAP bag per episode", choices=BOOLEANS),
    )
