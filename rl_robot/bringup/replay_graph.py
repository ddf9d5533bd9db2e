"""The graph that plays bags back."""

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rl_robot.bringup.arguments import (
    FASTEST,
    NAMESPACE_ARGUMENT,
    check_file,
    check_rate,
    check_replayed,
    number_argument,
    parse_rate,
)
from rl_robot.bringup.graph import Argument, Graph, NodeSpec, Value
from rl_robot.bringup.session_graphs import make_acquainted
from rl_robot.errors import UserError
from rl_robot.evaluation.replayed import parse_tolerance
from rl_robot.experience.tape import Tape, named_bags, parse_names
from rl_robot.policies import LEARNED, load_policy
from rl_robot.robots.description import load_robot
from rl_robot.ros.pace import PACED
from rl_robot.tasks import load_task


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
    if values["rate"] == FASTEST and not again:
        raise UserError("rate 'max' waits for nodes that run again: with nodes:=none give a factor")
    for name in ("compare", "plot", "tolerance"):
        if values[name] and not again:
            raise UserError(
                f"{name} is for what nodes say again: with nodes:=none nothing is compared"
            )
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
    played |= {"rate": parse_rate(values["rate"]), "patience": float(values["patience"])}
    return make_acquainted([*nodes, node("player", common | played, required=True)])


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
        Argument("bag", "", "bags, runs or folders of bags, by comma", check=check_replayed),
        Argument(
            "rate",
            "1.0",
            "factor of real time, or max: as fast as the nodes that run again keep up",
            check=check_rate,
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
            check=lambda v: check_file("compare", v, ".json"),
        ),
        Argument(
            "plot",
            "",
            "picture of what differs most",
            check=lambda v: check_file("plot", v, ".png", ".svg", ".pdf"),
        ),
        Argument(
            "tolerance",
            "",
            "largest difference, beyond which the exit status is not 0; or topic=number, by comma",
            check=parse_tolerance,
        ),
        number_argument(
            "patience",
            "5.0",
            "s of wall time that a node's answer to a tick is waited for",
            lambda value: 0.0 < value < math.inf,
            "a number above 0",
        ),
        replace(
            NAMESPACE_ARGUMENT,
            description=f"namespace in which the replay has its own, {_PRIVATE}",
        ),
    ),
    nodes=_replay,
    prepare=_prepare_replay,
    log_folder=lambda _values: Path(tempfile.gettempdir()) / f"rl_robot-{os.getuid()}" / "replay",
)
