"""The graphs: train, collect, deploy, replay."""

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rl_robot.bags.pictures import KINDS, RAW
from rl_robot.bringup.graph import Argument, Graph, NodeSpec, Value
from rl_robot.errors import UserError
from rl_robot.evaluation.replayed import parse_tolerance
from rl_robot.experience.bag_map import load_bag_map
from rl_robot.experience.runs import RunFolder
from rl_robot.experience.storage import NO_LIMIT, parse_size
from rl_robot.experience.tape import Tape, named_bags, parse_names
from rl_robot.faults.plan import FOLDER, NO_FAULTS, load_plan
from rl_robot.policies import LEARNED, load_policy
from rl_robot.policies.policy import low_pass_gains
from rl_robot.robots.description import load_robot
from rl_robot.ros.pace import PACED, parse_pace
from rl_robot.safety.chain import make_filter, make_recovery, parse_off
from rl_robot.tasks import SPLITS, load_task

if TYPE_CHECKING:
    from rl_robot.ros.relays import Relay

# Paced, these work one after the other within a tick.
MEMBERS = ("simulator", "perception", "policy", "safety", "reward", "reset")
DEMONSTRATIONS = 100
MOST_CANDIDATES = 64
LEARNERS = ("sac",)
_ROOM = ("quota", "reserve")  # may be given anew with resume:=, for a session that ended for them
_BOOLEANS = ("true", "false")
_FASTEST = "max"  # the rate of a replay that goes as fast as the nodes that run again keep up
_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")


# --- checks of single values ---------------------------------------------------------------------


def _whole_number(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise UserError(f"{name} '{value}': expected a whole number, 0 or more")
    return int(value)


def _count(name: str, default: int, description: str) -> Argument:
    return Argument(name, str(default), description, check=lambda v: _whole_number(name, v))


def _check_candidates(value: str) -> None:
    if not 1 <= _whole_number("candidates", value) <= MOST_CANDIDATES:
        raise UserError(f"candidates '{value}': expected 1 to {MOST_CANDIDATES}")


def _check_rate(value: str) -> None:
    _rate(value)


def _rate(value: str) -> float:
    """Return a replay's factor of real time, 0 for ``max``."""
    if value == _FASTEST:
        return 0.0
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < math.inf:
        raise UserError(f"rate '{value}': expected a factor of real time, or {_FASTEST}")
    return rate


def _check_namespace(value: str) -> None:
    if value and not _NAMESPACE.fullmatch(value):
        raise UserError(f"namespace '{value}': expected a ROS namespace such as robot1 or lab/left")


def _check_run(value: str) -> None:
    if value and (value.startswith(".") or "/" in value):
        raise UserError(f"run '{value}': expected a plain folder name; its parent is root:=")


def _check_replayed(value: str) -> None:
    named_bags(value)


def _check_file(name: str, value: str, *endings: str) -> None:
    if value and not Path(value).absolute().parent.is_dir():
        raise UserError(f"{name} '{value}': there is no folder {Path(value).parent}")
    if value and Path(value).suffix not in endings:
        raise UserError(f"{name} '{value}': expected a file that ends in {' or '.join(endings)}")


def _check_bags(value: str) -> None:
    for name in filter(None, value.split(",")):
        if not Path(name.strip()).exists():
            raise UserError(f"bags '{name.strip()}': no such run or folder, as in bags:=runs/mine")


def _check_map(value: str) -> None:
    if value:
        load_bag_map(value)


def _check_faults(value: str) -> None:
    if value != NO_FAULTS:
        load_plan(value)


# --- arguments -----------------------------------------------------------------------------------

_ROBOT = Argument("robot", "arm", "robot by name, or the path of its YAML", check=load_robot)
_TASK = Argument("task", "grasp", "task by name, or your own as module:Class", check=load_task)
_NAMESPACE_ARGUMENT = Argument(
    "namespace", "", "namespace of every node and topic, one per robot", check=_check_namespace
)


def _pace(default: str) -> Argument:
    return Argument(
        "pace",
        default,
        "paced (as fast as the graph keeps up), or a factor of real time such as 1.0",
        check=parse_pace,
    )


_SEED = _count("seed", 0, "seed of everything random")
_POLICY = Argument(
    "policy",
    "script",
    "script, weak_script, random, a .safetensors file, or your own as module:Class",
)
# What every graph with a robot has.
_ROBOT_ARGUMENTS = (
    Argument("run", "", "name of the run's folder (default: by time)", check=_check_run),
    Argument("root", "runs", "folder that holds the runs"),
    _NAMESPACE_ARGUMENT,
    Argument("simulator", "mujoco", "what stands in for the robot's drivers", ("mujoco", "none")),
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


def _session_arguments(
    *, pace: str, episodes: int, split: str, record: str
) -> tuple[Argument, ...]:
    return (
        _ROBOT,
        _TASK,
        _POLICY,
        _pace(pace),
        _count("episodes", episodes, "number of episodes, 0 = until stopped"),
        Argument("split", split, "where the starts come from", choices=tuple(SPLITS)),
        _count("first", 0, "index of the first start within the split"),
        _SEED,
        *_ROBOT_ARGUMENTS,
        Argument("record", record, "one MCAP bag per episode", choices=_BOOLEANS),
    )


# --- a session: collect and deploy ---------------------------------------------------------------


def _check_session(values: Mapping[str, str]) -> None:
    """Check what depends on more than one argument."""
    if values["processes"] == "one" and parse_pace(values["pace"]) is not None:
        raise UserError("processes 'one' is for pace:=paced: at real time each node needs its own")
    if values["simulator"] == "none":
        if parse_pace(values["pace"]) != 1.0:
            raise UserError(f"pace '{values['pace']}': a real robot runs at pace:=1.0")
        if parse_off(values["safety_off"]):
            raise UserError(
                f"safety_off '{values['safety_off']}': a real robot keeps all its constraints"
            )
    elif values["camera"]:
        raise UserError("camera is for a real robot: give simulator:=none as well, or no camera")
    task, robot = load_task(values["task"]), load_robot(values["robot"])
    load_policy(values["policy"], task, robot)
    make_recovery(robot, make_filter(robot, period=task.period))
    _check_relays(values)


def _make_run(values: dict[str, str]) -> dict[str, str]:
    """Name the run, and make its folder before anything starts, so that a fault is said then."""
    values |= {"run": values["run"] or time.strftime("%Y%m%d-%H%M%S")}
    RunFolder.create(run_folder(values))
    return values


def _prepare_session(values: dict[str, str]) -> dict[str, str]:
    _check_session(values)
    return _make_run(values)


def run_folder(values: Mapping[str, str]) -> Path:
    """Return the folder of the run that the arguments of a session name."""
    return Path(values["root"]) / values["run"]


def _session(values: Mapping[str, str], *, explore: bool) -> list[NodeSpec]:
    record = values["record"] == "true"
    supervised: dict[str, Value] = {
        "episodes": int(values["episodes"]),
        "split": values["split"],
        "first": int(values["first"]),
        "explore": explore,
    }
    return _graph_of_session(values, supervised, record=record)


def _graph_of_session(
    values: Mapping[str, str],
    supervised: Mapping[str, Value],
    *,
    record: bool = True,
    trainer: Mapping[str, Value] | None = None,
) -> list[NodeSpec]:
    """Return the nodes of a session.

    Args:
        values: arguments that all sessions have.
        supervised: further parameters of the supervisor.
        record: whether there is a recorder.
        trainer: further parameters of the trainer, if there is one.
    """
    common: dict[str, Value] = {name: values[name] for name in ("robot", "task", "pace")}
    weight = values.get("jerk_weight")
    rewarded = {"jerk_weight": float(weight)} if weight else {}
    recorded = {name: values[name] for name in ("quota", "reserve", "pictures")}
    seed = int(values["seed"])
    run = str(run_folder(values))

    namespace = values["namespace"].strip("/")
    remappings = {}
    if namespace:
        # Simulated time is the robot's own: rclpy would look for it outside the namespace.
        remappings["/clock"] = f"/{namespace}/clock"
    joint_states = load_robot(values["robot"]).joint_state_topic
    if joint_states != "joint_states":
        remappings["joint_states"] = joint_states
    faulty = values["faults"] != NO_FAULTS
    real_time = parse_pace(values["pace"]) is not None

    def node(
        name: str, further: Mapping[str, Value] = {}, *, required: bool = False, **own: Value
    ) -> NodeSpec:
        return NodeSpec(
            executable=name,
            name=name,
            parameters={**common, **own, **further},
            remappings=remappings,
            namespace=namespace,
            required=required,
            real_time=real_time,
        )

    simulated = values["simulator"] != "none"
    # Paced, the sensors' stamps are the clock; at the wall clock's pace safety needs one that runs.
    simulated_clock = simulated and real_time
    nodes = [
        *([node("simulator", seed=seed)] if simulated else []),
        *([node("camera", source=values["camera"])] if values["camera"] else []),
        node("perception"),
        # In one process the first to be started is the first to hear of a tick: the supervisor
        # then decides on the reward while the policy thinks.
        node("reward", rewarded),
        node("policy", policy=values["policy"], candidates=int(values["candidates"])),
        # Hardware starts disabled: a person enables it by a service call.
        node(
            "safety",
            enabled=simulated,
            use_sim_time=simulated_clock,
            safety_off=values["safety_off"],
        ),
        node("reset"),
        *([node("recorder", recorded, run=run)] if record else []),
        *([] if trainer is None else [node("trainer", trainer, run=run, seed=seed)]),
        *([node("faults", faults=values["faults"], seed=seed)] if faulty else []),
    ]
    supervisor = node(
        "supervisor",
        supervised,
        required=True,
        seed=seed,
        policy=values["policy"],
        run=run,
        record=record,
        arguments=json.dumps(dict(values)),
    )
    acquainted = _acquainted(_relayed([*nodes, supervisor], values))
    together = values["processes"] == "one" or (values["processes"] == "auto" and not real_time)
    return _contained(acquainted) if together else acquainted


def _contained(nodes: list[NodeSpec]) -> list[NodeSpec]:
    """Put the nodes of a tick into one process.

    They share their parameters and remappings too: a node takes those that it knows, and none has
    two meanings.
    """
    inside = [spec for spec in nodes if spec.executable in MEMBERS]
    parameters: dict[str, Value] = {}
    remappings: dict[str, str] = {}
    for spec in inside:
        parameters |= spec.parameters
        remappings |= spec.remappings
    # Those for one node come first again.
    remappings = dict(sorted(remappings.items(), key=lambda rule: ":" not in rule[0]))
    container = replace(
        inside[0],
        executable="container",
        name="container",
        parameters=parameters,
        remappings=remappings,
        members=tuple(spec.executable for spec in inside),
    )
    return [container, *(spec for spec in nodes if spec not in inside)]


def _relays(values: Mapping[str, str]) -> "list[Relay]":
    """Return the topics that pass the faults node."""
    if values["faults"] == NO_FAULTS:
        return []
    # Here, because the types of all messages take a while to import.
    from rl_robot.ros.relays import find_relays

    robot, task = load_robot(values["robot"]), load_task(values["task"])
    return find_relays(load_plan(values["faults"]), robot, task)


def _check_relays(values: Mapping[str, str]) -> None:
    """Refuse faults that can't happen, and those that would reach a real robot."""
    real = values["simulator"] == "none"
    commands = [interface.topic for interface in load_robot(values["robot"]).interfaces]
    for relay in _relays(values):
        if real and relay.name in commands:
            raise UserError(
                f"faults: {relay.name} is what moves the robot: its faults are for simulation"
            )


def _relayed(nodes: list[NodeSpec], values: Mapping[str, str]) -> list[NodeSpec]:
    """Have the publishers of topics that pass the faults node speak to that node alone.

    The rules hold for one node each: in one process the topic's readers must not follow them.

    Raises:
        UserError: nobody in this session publishes such a topic.
    """
    rules: dict[str, dict[str, str]] = {}
    for relay in _relays(values):
        publishers = relay.publishers([spec.name for spec in nodes])
        if not publishers:
            raise UserError(f"faults: no node of this session publishes {relay.name}")
        for name in publishers:
            rules.setdefault(name, {})[f"{name}:{relay.name}"] = relay.source
    # Before the others: the first rule that fits a name is the one that counts.
    return [
        replace(spec, remappings=rules.get(spec.name, {}) | dict(spec.remappings)) for spec in nodes
    ]


def _acquainted(nodes: list[NodeSpec]) -> list[NodeSpec]:
    """Tell every node which nodes the session has, so that it knows when all have been found."""
    names = ",".join(spec.name for spec in nodes)
    return [replace(spec, parameters={**spec.parameters, "nodes": names}) for spec in nodes]


COLLECT = Graph(
    name="collect",
    description="Run episodes with any policy and record them",
    arguments=_session_arguments(pace="paced", episodes=20, split="train", record="true"),
    nodes=lambda values: _session(values, explore=True),
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_session,
)

DEPLOY = Graph(
    name="deploy",
    description="Run a policy without exploration, until stopped",
    arguments=_session_arguments(pace="1.0", episodes=0, split="test", record="false"),
    nodes=lambda values: _session(values, explore=False),
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_session,
)


# --- training ------------------------------------------------------------------------------------


def _number(
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


def _prepare_training(values: dict[str, str]) -> dict[str, str]:
    if values["resume"]:
        return _resumed(values)
    if values["offline"] == "true":
        if not values["bags"]:
            raise UserError("offline:=true needs bags to train on: give bags:=runs/<name>")
        return _make_run(values)
    _check_session(values)
    low_pass_gains(load_task(values["task"]), float(values["action_cutoff"]))
    if not values["demonstrations"]:
        values |= {"demonstrations": "0" if values["bags"] else str(DEMONSTRATIONS)}
    if int(values["steps"]) < int(values["blocks"]) or not int(values["blocks"]):
        raise UserError(
            f"steps '{values['steps']}' in {values['blocks']} blocks: expected at least one step "
            "per block, and one block"
        )
    values = _make_run(values)
    run = RunFolder(run_folder(values))
    if run.list_episodes() or run.removed_episodes():
        raise UserError(
            f"run {run.path} holds episodes already: go on with it by resume:={run.name}, or learn "
            f"from them in a new run by bags:={run.path}"
        )
    return values


def _resumed(values: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that the run to go on with was started with.

    Raises:
        UserError: there is no such training session, or another argument is given.
    """
    run = RunFolder.open(values["resume"], values["root"])
    stored = run.read_session().get("arguments", {})
    if "demonstrations" not in stored:
        raise UserError(f"run {run.path} is no training session: only those can be resumed")
    defaults = {argument.name: argument.default for argument in TRAIN.arguments}
    for name, value in values.items():
        if name in ("resume", "root", *_ROOM):
            continue
        if value not in (defaults[name], stored.get(name)):
            raise UserError(
                f"resume takes its arguments from run {run.name}, where {name} is "
                f"'{stored.get(name)}': leave out {name}:={value}"
            )
    room = {name: values[name] for name in _ROOM if values[name] != defaults[name]}
    return {**defaults, **stored, **room, "run": run.path.name, "root": str(run.path.parent)}


def _training(values: Mapping[str, str]) -> list[NodeSpec]:
    offline = values["offline"] == "true"
    trained: dict[str, Value] = {
        "learner": values["learner"],
        "bags": values["bags"],
        "map": values["map"],
        "pretraining_updates": int(values["pretraining_updates"]),
        "imitation_updates": int(values["imitation_updates"]),
        "noise_correlation": float(values["noise_correlation"]),
        "action_cutoff": float(values["action_cutoff"]),
    }
    if offline:
        trained |= {name: values[name] for name in ("robot", "task")}
        trained |= {"run": str(run_folder(values)), "seed": int(values["seed"])}
        trained |= {"offline": True, "updates": int(values["updates"]), "nice": 0}
        return [NodeSpec("trainer", "trainer", trained, required=True)]
    blocks = int(values["blocks"])
    shared: dict[str, Value] = {
        "demonstrations": int(values["demonstrations"]),
        "blocks": blocks,
        "block_steps": int(values["steps"]) // blocks,
    }
    supervised: dict[str, Value] = {
        "train": True,
        "validation": int(values["validation"]),
        "test": int(values["test"]),
        "compare": values["compare"] == "true",
    }
    trained |= {"updates_per_step": float(values["updates_per_step"])}
    return _graph_of_session(values, supervised | shared, trainer=trained | shared)


TRAIN = Graph(
    name="train",
    description="Learn a task: demonstrations, training, evaluation",
    arguments=(
        _ROBOT,
        _TASK,
        replace(
            _POLICY,
            default="weak_script",
            description=f"who demonstrates the task: {_POLICY.description}",
        ),
        _pace("paced"),
        Argument(
            "demonstrations",
            "",
            f"episodes by that policy (default: {DEMONSTRATIONS}, with bags:= none)",
            check=lambda v: v and _whole_number("demonstrations", v),
        ),
        _count("steps", 4000, "control steps of exploration"),
        _count("blocks", 4, "parts of that, with a validation after each"),
        _count("validation", 25, "episodes of a validation"),
        _count("test", 100, "held-out starts of the final test"),
        Argument("compare", "true", "test the demonstrator and imitation too", choices=_BOOLEANS),
        Argument("learner", "sac", "what learns", choices=LEARNERS),
        _count("imitation_updates", 4000, "updates of imitation alone, at most"),
        _count("pretraining_updates", 2000, "updates on demonstrations before exploring"),
        _number(
            "updates_per_step",
            "1.0",
            "updates for each control step of exploration",
            lambda value: 0.0 < value <= 100.0,
            "a number above 0, up to 100",
        ),
        _number(
            "noise_correlation",
            "0.7",
            "part of the exploration noise that stays from one control step to the next",
            lambda value: 0.0 <= value < 1.0,
            "a number from 0 (white noise), below 1",
        ),
        _number(
            "action_cutoff",
            "0",
            "cut-off frequency of the low-pass on the policy's actions in Hz, 0 for none",
            lambda value: 0.0 <= value < math.inf,
            "a frequency in Hz, or 0 for no low-pass",
        ),
        _number(
            "jerk_weight",
            "",
            "what the reward charges for jerk (default: what the task says)",
            lambda value: 0.0 <= value < math.inf,
            "a number, 0 or more",
        ),
        Argument(
            "bags", "", "bags to learn from as well: runs or folders, by comma", check=_check_bags
        ),
        Argument(
            "map",
            "",
            "what the topics of those bags mean, where others recorded them: a YAML",
            check=_check_map,
        ),
        Argument("resume", "", "name or folder of a training run to go on with"),
        Argument("offline", "false", "no robot: train on bags:= only", choices=_BOOLEANS),
        _count("updates", 5000, "offline: how many"),
        _SEED,
        *_ROBOT_ARGUMENTS,
    ),
    nodes=_training,
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_training,
)


# --- replay --------------------------------------------------------------------------------------


def _again(value: str) -> list[str]:
    """Return the nodes that run again.

    Raises:
        UserError: one of them can't.
    """
    names = [] if value == "none" else value.split(",")
    unknown = [name for name in names if name not in _REPLAYABLE]
    if unknown:
        raise UserError(f"nodes '{unknown[0]}': expected none, or some of {', '.join(_REPLAYABLE)}")
    return list(dict.fromkeys(names))


def _prepare_replay(values: dict[str, str]) -> dict[str, str]:
    """Open the first bag, so that a damaged one is refused before anything starts."""
    tape = Tape(named_bags(values["bag"])[0], parse_names(values["remap"]))
    again = _again(values["nodes"])
    _check_again(values, again)
    if not again:
        return values
    episode = tape.reader.episode if tape.is_episode else None
    for name in ("robot", "task"):
        if not values[name] and episode is None:
            raise UserError(
                f"{tape.path} does not say what it is of: give robot:= and task:=, and policy:= "
                "where a policy runs again; or nodes:=none to play only"
            )
    values = dict(values)
    if episode is not None:
        values["robot"] = values["robot"] or _recorded("robot", episode.robot, load_robot)
        values["task"] = values["task"] or _recorded("task", episode.task, load_task)
    if "policy" in again:
        acting = values["policy"] or (episode.policy if episode else "")
        if acting in ("", LEARNED):
            raise UserError(
                f"{tape.path} does not hold the policy that acted: give policy:=script, or a file"
            )
        load_policy(acting, load_task(values["task"]), load_robot(values["robot"]))
    return values


def _check_again(values: Mapping[str, str], again: Sequence[str]) -> None:
    """Refuse what does not go together."""
    if values["rate"] == _FASTEST and not again:
        raise UserError("rate 'max' waits for nodes that run again: with nodes:=none give a factor")
    if values["policy"] and "policy" not in again:
        raise UserError("policy is for a policy that runs again: add it to nodes:=")
    if values["policy"] and "safety" in again:
        raise UserError(
            "policy:= and safety don't run again together: another policy's commands would lead "
            "the set points away from the robot that the bag shows"
        )


def _recorded(argument: str, name: str, load: Callable[[str], object]) -> str:
    """Return the name that the bag gives, if it means something here.

    Raises:
        UserError: it does not.
    """
    try:
        load(name)
    except UserError as error:
        raise UserError(
            f"the bag's {argument} '{name}' is not known here: give {argument}:=, or nodes:=none "
            f"to play only ({error})"
        ) from None
    return name


def _replay(values: Mapping[str, str]) -> list[NodeSpec]:
    # A namespace in which nobody drives a robot, whatever runs beside it.
    namespace = "/".join(filter(None, (values["namespace"].strip("/"), _PRIVATE)))
    again = _again(values["nodes"])
    # Nodes wait for all that belongs to a tick, and nothing for the wall clock.
    common: dict[str, Value] = {name: values[name] for name in ("robot", "task")}
    paced: dict[str, Value] = {**common, "pace": PACED}
    own: dict[str, dict[str, Value]] = {
        "policy": {"policy": values["policy"]} if values["policy"] else {},
        "safety": {"enabled": True, "replayed": True, "watchdog": _NEVER},
    }
    remappings = _kept_private(values["robot"]) if again else {}

    def node(name: str, parameters: Mapping[str, Value], *, required: bool = False) -> NodeSpec:
        return NodeSpec(name, name, parameters, remappings, namespace, required)

    nodes = [node(name, paced | own.get(name, {})) for name in again]
    played: dict[str, Value] = {name: values[name] for name in _PLAYED}
    played |= {"rate": _rate(values["rate"]), "patience": float(values["patience"])}
    return _acquainted([*nodes, node("player", common | played, required=True)])


def _kept_private(robot: str) -> dict[str, str]:
    """Return what keeps the topics inside the namespace that a robot names from the root."""
    topics = [interface.topic for interface in load_robot(robot).interfaces]
    return {topic: topic.lstrip("/") for topic in topics if topic.startswith("/")}


_REPLAYABLE = ("perception", "policy", "reward", "safety")
_PRIVATE = "replay"  # last part of a replay's namespace: see rl_robot/ros/played.py
_PLAYED = ("bag", "policy", "remap", "compare", "plot", "tolerance")  # parameters of the player
_NEVER = 1e9  # s: the safety node waits as long as the player does

REPLAY = Graph(
    name="replay",
    description="Play recorded episodes back into the graph, and compare what nodes say again",
    arguments=(
        Argument("bag", "", "bags, runs or folders of bags, by comma", check=_check_replayed),
        Argument(
            "rate",
            "1.0",
            "factor of real time, or max: as fast as the nodes that run again keep up",
            check=_check_rate,
        ),
        Argument(
            "nodes",
            "perception",
            f"what runs again instead of being played, by comma: {', '.join(_REPLAYABLE)}; or none",
            check=_again,
        ),
        Argument(
            "robot",
            "",
            "what the nodes that run again are for (default: the bag's own)",
            check=lambda v: v and load_robot(v),
        ),
        Argument("task", "", "likewise", check=lambda v: v and load_task(v)),
        Argument("policy", "", "who acts in place of the recorded policy (default: that one)"),
        Argument(
            "remap",
            "",
            "other names for the bag's topics: /their/topic=our/topic, by comma",
            check=parse_names,
        ),
        Argument(
            "compare",
            "",
            "JSON file for the comparison with what was recorded",
            check=lambda v: _check_file("compare", v, ".json"),
        ),
        Argument(
            "plot",
            "",
            "picture of what differs most",
            check=lambda v: _check_file("plot", v, ".png", ".svg", ".pdf"),
        ),
        Argument(
            "tolerance",
            "",
            "largest difference, beyond which the exit status is not 0; or topic=number, by comma",
            check=parse_tolerance,
        ),
        _number(
            "patience",
            "5.0",
            "s of wall time that a node's answer to a tick is waited for",
            lambda value: 0.0 < value < math.inf,
            "a number above 0",
        ),
        replace(
            _NAMESPACE_ARGUMENT,
            description=f"namespace in which the replay has its own, {_PRIVATE}",
        ),
    ),
    nodes=_replay,
    prepare=_prepare_replay,
    log_folder=lambda _values: Path(tempfile.gettempdir()) / f"rl_robot-{os.getuid()}" / "replay",
)

GRAPHS = {graph.name: graph for graph in (TRAIN, COLLECT, DEPLOY, REPLAY)}


def find_graph(file_name: str) -> Graph:
    """Return the graph of a launch file: ``collect.launch.py`` or just ``collect``.

    Raises:
        UserError: there is no such launch file.
    """
    graph = GRAPHS.get(file_name.removesuffix(".launch.py"))
    if graph is None:
        known = ", ".join(f"{name}.launch.py" for name in GRAPHS)
        raise UserError(f"no launch file '{file_name}': expected one of {known}")
    return graph
