"""The graphs of a session: collect and deploy, and the nodes that every session has."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rl_robot.bringup.arguments import BOOLEANS, session_arguments
from rl_robot.bringup.graph import Argument, Graph, NodeSpec, Value
from rl_robot.errors import UserError
from rl_robot.experience.runs import RunFolder
from rl_robot.faults.plan import NO_FAULTS, load_plan
from rl_robot.policies import load_policy
from rl_robot.robots.commands import check_messages, check_simulated
from rl_robot.robots.description import Robot, load_robot
from rl_robot.ros.pace import parse_pace
from rl_robot.safety.chain import make_filter, make_recovery, parse_off
from rl_robot.simulation.simulators import SIMULATORS, check_simulator
from rl_robot.tasks import load_task

if TYPE_CHECKING:
    from rl_robot.ros.relays import Relay
# Paced, these work one after the other within a tick.
MEMBERS = ("simulator", "perception", "policy", "safety", "reward", "reset")
# Drivers of a physical arm, or what behaves as they do: nothing of it is simulated time.
PHYSICAL = ("stand_in", "none")


def check_session(values: Mapping[str, str]) -> None:
    """Check what depends on more than one argument."""
    if values["processes"] == "one" and parse_pace(values["pace"]) is not None:
        raise UserError("processes 'one' is for pace:=paced: at real time each node needs its own")
    if values["simulator"] in PHYSICAL:
        if parse_pace(values["pace"]) != 1.0:
            raise UserError(f"pace '{values['pace']}': a real robot runs at pace:=1.0")
        if parse_off(values["safety_off"]):
            raise UserError(
                f"safety_off '{values['safety_off']}': a real robot keeps all its constraints"
            )
    if values["use_sim_time"] == "true" and values["simulator"] != "none":
        raise UserError("use_sim_time is for simulator:=none: a simulator brings its own clock")
    if values["camera"] and values["simulator"] != "none":
        raise UserError("camera is for a real robot: give simulator:=none as well, or no camera")
    if values.get("dry_run") == "true" and values["record"] == "true":
        raise UserError(
            "record: a dry run moves nothing, and its bags would say that commands have no effect"
        )
    task, robot = load_task(values["task"]), load_robot(values["robot"])
    if values["simulator"] in SIMULATORS:
        if values.get("dry_run") == "true":
            raise UserError("dry_run is for a real robot: give simulator:=none as well")
        check_simulated(robot)
        check_simulator(values["simulator"])
    check_messages(robot)
    load_policy(values["policy"], task, robot)
    make_recovery(robot, make_filter(robot, period=task.period))
    _check_relays(values)


def make_run(values: dict[str, str]) -> dict[str, str]:
    """Name the run, and make its folder before anything starts, so that a fault is said then."""
    values |= {"run": values["run"] or time.strftime("%Y%m%d-%H%M%S")}
    RunFolder.create(run_folder(values))
    return values


def _prepare_session(values: dict[str, str]) -> dict[str, str]:
    check_session(values)
    return make_run(values)


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
    return graph_of_session(values, supervised, record=record)


def graph_of_session(
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
    remappings = robot_remappings(values)
    faulty = values["faults"] != NO_FAULTS
    real_time = parse_pace(values["pace"]) is not None

    def node(
        name: str,
        further: Mapping[str, Value] = {},
        *,
        required: bool = False,
        shown: bool = False,
        **own: Value,
    ) -> NodeSpec:
        return NodeSpec(
            executable=name,
            name=name,
            parameters={**common, **own, **further},
            remappings=remappings,
            namespace=namespace,
            required=required,
            shown=shown,
            real_time=real_time,
        )

    dry_run = values.get("dry_run") == "true"
    simulated = values["simulator"] not in PHYSICAL
    # Paced, the sensors' stamps are the clock; at the wall clock's pace safety needs one that runs.
    simulated_clock = simulated and real_time
    nodes = [
        *([node("simulator", seed=seed, simulator=values["simulator"])] if simulated else []),
        *([node("stand_in", seed=seed)] if values["simulator"] == "stand_in" else []),
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
            use_sim_time=simulated_clock or values["use_sim_time"] == "true",
            safety_off=values["safety_off"],
            dry_run=dry_run,
            shown=dry_run,
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
    acquainted = make_acquainted(_relayed([*nodes, supervisor], values))
    together = values["processes"] == "one" or (values["processes"] == "auto" and not real_time)
    return _contained(acquainted) if together else acquainted


def robot_remappings(values: Mapping[str, str]) -> dict[str, str]:
    """Return what a robot's topics are called, where that is not their name in our graph."""
    namespace, remappings = values["namespace"].strip("/"), {}
    if namespace:
        # Simulated time is the robot's own: rclpy would look for it outside the namespace.
        remappings["/clock"] = f"/{namespace}/clock"
    return remappings | _drivers_topics(load_robot(values["robot"]))


def _drivers_topics(robot: Robot) -> dict[str, str]:
    """Return how topics of the graph are called by the robot's drivers, where differently."""
    names = {"joint_states": robot.joint_state_topic}
    names |= {f"{camera.name}/image_raw": camera.topic for camera in robot.cameras}
    return {ours: theirs for ours, theirs in names.items() if ours != theirs}


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


def make_acquainted(nodes: list[NodeSpec]) -> list[NodeSpec]:
    """Tell every node which nodes the session has, so that it knows when all have been found."""
    names = ",".join(spec.name for spec in nodes)
    return [replace(spec, parameters={**spec.parameters, "nodes": names}) for spec in nodes]


COLLECT = Graph(
    name="collect",
    description="Run episodes with any policy and record them",
    arguments=session_arguments(pace="paced", episodes=20, split="train", record="true"),
    nodes=lambda values: _session(values, explore=True),
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_session,
)

DEPLOY = Graph(
    name="deploy",
    description="Run a policy without exploration, until stopped",
    arguments=(
        *session_arguments(pace="1.0", episodes=0, split="test", record="false"),
        Argument(
            "dry_run",
            "false",
            "a real robot is sent nothing: what it would be is said on dry_run/<topic> and here",
            choices=BOOLEANS,
        ),
    ),
    nodes=lambda values: _session(values, explore=False),
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_session,
)
