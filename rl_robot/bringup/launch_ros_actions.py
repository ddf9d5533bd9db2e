"""Graphs as `launch` and `launch_ros` actions, for `ros2 launch`."""

import os
import shutil
from collections.abc import Callable

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from rl_robot.bringup.environment import NODE_DEFAULTS, real_time_defaults, unset_defaults
from rl_robot.bringup.graph import BAD_INPUT, Graph, NodeSpec

# launch leaves its processes running when it is ended by anything but Ctrl-C. With this (from
# util-linux, so on every Debian and Ubuntu) the kernel interrupts them in its place.
_PREFIX = "setpriv --pdeathsig INT" if shutil.which("setpriv") else None
_RESPAWN_DELAY = 0.5  # s: the time that a required node's end needs to stop the others


def launch_description(graph: Graph) -> LaunchDescription:
    """Return what a launch file's ``generate_launch_description`` returns for a graph."""

    def start(context: LaunchContext) -> list[Node]:
        given = {a.name: context.launch_configurations[a.name] for a in graph.arguments}
        return [_node(spec) for spec in graph.nodes(graph.resolve(given))]

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


def _node(spec: NodeSpec) -> Node:
    defaults = real_time_defaults() if spec.real_time else NODE_DEFAULTS
    return Node(
        package="rl_robot",
        executable=spec.executable,
        name=None if spec.members else spec.name,
        exec_name=spec.name,
        arguments=list(spec.members),
        namespace=spec.namespace,
        # Typed, because launch would guess: a pace of '1.0' or a run called '7' is a string.
        parameters=[
            {
                name: ParameterValue(value, value_type=type(value))
                for name, value in spec.parameters.items()
            }
        ],
        remappings=list(spec.remappings.items()),
        additional_env=unset_defaults(os.environ, defaults),
        output="screen",
        emulate_tty=spec.required,
        prefix=_PREFIX,
        respawn=spec.respawn and not spec.required,
        respawn_delay=_RESPAWN_DELAY,
        on_exit=_on_exit(spec),
        sigterm_timeout="4",
        sigkill_timeout="0.5",
    )


def _on_exit(spec: NodeSpec) -> Callable[[ProcessExited, LaunchContext], list[Shutdown] | None]:
    def ended(event: ProcessExited, context: LaunchContext) -> list[Shutdown] | None:
        if context.is_shutdown or not (spec.required or event.returncode == BAD_INPUT):
            return None
        reason = f"{spec.name} ended with exit status {event.returncode}"
        if event.returncode:
            # An exception is how launch comes to end with a status that is not 0.
            raise RuntimeError(reason)
        return [Shutdown(reason=reason)]

    return ended
