"""Graphs as data: arguments and nodes, and no more than `ros2 launch` and a bare machine share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rl_robot.errors import UserError

OWN_PACKAGE = "rl_robot"
PROGRAM = ""  # the package of what is no ROS executable but a program on PATH
BAD_INPUT = 2  # a node's exit status for a UserError: starting it again would not help

Value = bool | int | float | str


@dataclass(frozen=True)
class Argument:
    """A launch argument. ``check`` raises UserError for a value that could not work."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] | None = None
    check: Callable[[str], object] = str

    def validate(self, value: str) -> None:
        """Raise UserError unless ``value`` is one of the choices and passes the check."""
        if self.choices is not None and value not in self.choices:
            raise UserError(f"{self.name} '{value}': expected one of {', '.join(self.choices)}")
        self.check(value)


@dataclass(frozen=True)
class NodeSpec:
    """One process of a graph.

    Attributes:
        executable: module in ``rl_robot.nodes`` and name under ``lib/rl_robot``; of another
            package, name under its ``lib`` folder.
        members: for the executable ``container``, the nodes that share its process; its parameters
            are theirs, and they keep their own names.
        required: the graph ends when this node ends, with its exit code.
        respawn: started again when it dies (a required node never is).
        package: whose executable it is; ``PROGRAM`` for a program on PATH, which is given its
            arguments only.
        arguments: of the command line, before what ROS adds.
        environment: variables that it has beside those of all.
        once: its work is done when it ends with status 0; another one ends the graph.
        shown: its output goes to the terminal, as that of a required node does, not to its log.
        real_time: the wall clock goes on without it, so that it must wait for no other process.
    """

    executable: str
    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    remappings: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    required: bool = False
    respawn: bool = True
    members: tuple[str, ...] = ()
    real_time: bool = False
    package: str = OWN_PACKAGE
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    shown: bool = False


def _unchanged(values: dict[str, str]) -> dict[str, str]:
    return values


@dataclass(frozen=True)
class Graph:
    """What a launch file describes.

    Attributes:
        prepare: checks arguments against each other and fills in those that depend on the moment.
        nodes: the processes, from prepared arguments.
        log_folder: where the bare runner keeps the nodes' output, from prepared arguments.
    """

    name: str
    description: str
    arguments: tuple[Argument, ...]
    nodes: Callable[[Mapping[str, str]], list[NodeSpec]]
    log_folder: Callable[[Mapping[str, str]], Path]
    prepare: Callable[[dict[str, str]], dict[str, str]] = _unchanged

    def resolve(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return a value for every argument: the given ones, checked, and defaults.

        Raises:
            UserError: an unknown argument or a value that could not work.
        """
        known = [argument.name for argument in self.arguments]
        for name in given:
            if name not in known:
                raise UserError(
                    f"{self.name}.launch.py has no argument '{name}': expected one of "
                    f"{', '.join(known)}"
                )
        values = {argument.name: argument.default for argument in self.arguments} | dict(given)
        for argument in self.arguments:
            argument.validate(values[argument.name])
        return self.prepare(values)


def parse_arguments(texts: Sequence[str]) -> dict[str, str]:
    """Parse ``name:=value`` texts; the last one of a name wins, as for `ros2 launch`.

    Raises:
        UserError: a text of another form.
    """
    given = {}
    for text in texts:
        name, separator, value = text.partition(":=")
        if not (name and separator and value):
            raise UserError(f"malformed argument '{text}': expected name:=value")
        given[name] = value
    return given


def describe_arguments(graph: Graph) -> str:
    """Return what ``--show-args`` prints, as `ros2 launch` prints it."""
    blocks = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for argument in graph.arguments:
        text = argument.description
        if argument.choices is not None:
            text += f". Valid choices are: {list(argument.choices)}"
        blocks.append(
            f"    '{argument.name}':\n        {text}\n        (default: '{argument.default}')"
        )
    return "\n\n".join(blocks)
