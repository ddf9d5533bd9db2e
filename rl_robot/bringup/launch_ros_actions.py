"""Graphs as `launch` and `launch_ros` actions, for `ros2 launch`."""

import os
import shutil
from collections.abc import Callable
from typing import Any

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from rl_robot.bringup.environment import NODE_DEFAULTS, real_time_defaults, unset_defaults
from rl_robot.bringup.graph import BAD_INPUT, OWN_PACKAGE, PROGRAM, Graph, NodeSpec

# launch leaves its processes running when it is ended by anything but Ctrl-C. With this (from
# util-linux, so on every Debian and Ubuntu) the kernel interrupts them in its place.
_PREFIX = "setpriv --pdeathsig INT" if shutil.which("setpriv") else None
_RESPAWN_DELAY = 0.5  # s: the time that a required node's end needs to stop the others


def launch_description(graph: Graph) -> LaunchDescription:
    """Return what a launch file's ``generate_launch_description`` returns for a graph."""

    def start(context: LaunchContext) -> list[ExecuteProcess]:
        given = {a.name: context.launch_configurations[a.name] for a in graph.arguments}
        return [_process(spec) for spec in graph.nodes(graph.resolve(given))]

    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=None if argument.choices is None else list(argument.choices),
        )
        for argument in graph.arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def _process(spec: NodeSpec) -> ExecuteProcess:
    """Return the action that starts a node, of this package or another, or a program."""
    defaults = real_time_defaults() if spec.real_time else NODE_DEFAULTS
    common: dict[str, Any] = {
        "additional_env": {**unset_defaults(os.environ, defaults), **spec.environment},
        "output": "screen",
        "emulate_tty": spec.required,
        "prefix": _PREFIX,
        "respawn": spec.respawn and not spec.required and not spec.once,
        "respawn_delay": _RESPAWN_DELAY,
        "on_exit": _on_exit(spec),
        "sigterm_timeout": "4",
        "sigkill_timeout": "0.5",
    }
    if spec.package == PROGRAM:
        return ExecuteProcess(cmd=[spec.executable, *spec.arguments], name=spec.name, **common)
    return Node(
        package=spec.package,
        executable=spec.executable,
        name=None if spec.members or spec.package != OWN_PACKAGE else spec.name,
        exec_name=spec.name,
        arguments=[*spec.members, *spec.arguments],
        namespace=spec.namespace,
        # Typed, because launch would guess: a pace of '1.0' or a run called '7' is a string.
        parameters=[
            {
                name: ParameterValue(value, value_type=type(value))
                for name, value in spec.parameters.items()
            }
        ],
        remappings=list(spec.remappings.items()),
        **common,
    )


def _on_exit(spec: NodeSpec) -> Callable[[ProcessExited, LaunchContext], list[Shutdown] | None]:
    def ended(event: ProcessExited, context: LaunchContext) -> list[Shutdown] | None:
        if context.is_shutdown or (spec.once and event.returncode == 0):
            return None
        if not (spec.required or spec.once or event.returncode == BAD_INPUT):
            return None
        reason = f"{spec.name} ended with exit status {event.returncode}"
        if event.returncode:
            # An exception is how launch comes to end with a status that is not 0.
            raise RuntimeError(reason)
        return [Shutdown(reason=reason)]

    return ended
