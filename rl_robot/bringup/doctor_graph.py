"""The graph of an arm's bring-up checklist: doctor, safety node, and the arm or a stand-in."""

import time
from collections.abc import Mapping
from pathlib import Path

from rl_robot.bringup.arguments import (
    BOOLEANS,
    NAMESPACE_ARGUMENT,
    ROBOT,
    RUN_ARGUMENTS,
    TASK,
    check_file,
)
from rl_robot.bringup.graph import Argument, Graph, NodeSpec, Value
from rl_robot.bringup.session_graphs import make_acquainted, robot_remappings
from rl_robot.errors import UserError
from rl_robot.hardware.checkup import CHECKS
from rl_robot.hardware.faults import FAULTS, NONE
from rl_robot.hardware.moving import MOVING
from rl_robot.robots.commands import check_messages
from rl_robot.robots.description import load_robot
from rl_robot.safety.chain import make_filter
from rl_robot.tasks import load_task


def check_only(value: str) -> None:
    """Refuse what is no list of checks."""
    for name in filter(None, value.split(",")):
        if name not in CHECKS:
            raise UserError(f"only '{name}': expected some of {', '.join(CHECKS)}")


def _prepare(values: dict[str, str]) -> dict[str, str]:
    if values["stand_in"] == "false" and values["fault"] != NONE:
        raise UserError(
            f"fault '{values['fault']}' is for the stand-in: give stand_in:=true as well"
        )
    if values["stand_in"] == "true" and values["camera"]:
        raise UserError("camera is for a real robot: the stand-in has cameras of its own")
    moving = [check for check in values["only"].split(",") if check in MOVING]
    if values["motion"] == "false" and moving:
        raise UserError(f"only '{moving[0]}' moves the arm, which motion:=false forbids: drop one")
    check_messages(load_robot(values["robot"]))
    make_filter(load_robot(values["robot"]), period=load_task(values["task"]).period)
    return values | {"run": values["run"] or f"doctor-{time.strftime('%Y%m%d-%H%M%S')}"}


def _nodes(values: Mapping[str, str]) -> list[NodeSpec]:
    common: dict[str, Value] = {name: values[name] for name in ("robot", "task")}
    namespace = values["namespace"].strip("/")
    # A driver's camera_info is where its pictures are.
    remappings = robot_remappings(values) | {
        f"{camera.name}/camera_info": f"{''.join(camera.topic.rpartition('/')[:2])}camera_info"
        for camera in load_robot(values["robot"]).cameras
    }
    stand_in = values["stand_in"] == "true"

    def node(name: str, **own: Value) -> NodeSpec:
        doctor = name == "doctor"
        return NodeSpec(
            executable=name,
            name=name,
            parameters={**common, **own},
            remappings=remappings,
            namespace=namespace,
            required=doctor,
            asks=doctor,
            real_time=True,
        )

    checked = {name: values[name] for name in ("motion", "only", "json")}
    return make_acquainted(
        [
            *([node("stand_in", fault=values["fault"])] if stand_in else []),
            *([node("camera", source=values["camera"])] if values["camera"] else []),
            # Disabled, as on any physical robot: the doctor enables it when it comes to moving.
            node("safety", pace="1.0", enabled=False),
            node("doctor", stand_in=stand_in, kill_test=values["kill_test"] == "true", **checked),
        ]
    )


DOCTOR = Graph(
    name="doctor",
    description="Check an arm before it is trusted: drivers, clocks, limits, motion, stops",
    arguments=(
        ROBOT,
        TASK,
        Argument("stand_in", "false", "a stand-in takes the arm's place", choices=BOOLEANS),
        Argument("fault", NONE, "what is wrong with the stand-in", choices=tuple(FAULTS)),
        Argument(
            "motion",
            "ask",
            "whether the arm may be moved: ask waits for a y at the terminal",
            choices=("ask", *BOOLEANS),
        ),
        Argument(
            "only", "", f"checks by comma: {', '.join(CHECKS)} (default: all)", check=check_only
        ),
        Argument(
            "kill_test",
            "false",
            "halt the safety node in a slow motion, to see the driver stop by itself",
            choices=BOOLEANS,
        ),
        Argument(
            "json", "", "file for the findings", check=lambda v: check_file("json", v, ".json")
        ),
        Argument("camera", "", "a camera without a driver: device number, video or stream address"),
        *RUN_ARGUMENTS,
        NAMESPACE_ARGUMENT,
    ),
    nodes=_nodes,
    log_folder=lambda values: Path(values["root"]) / values["run"] / "log",
    prepare=_prepare,
)
