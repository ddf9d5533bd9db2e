"""container: several nodes in one process, for a paced simulation.

Paced, the nodes of a tick work one after the other. In one process nobody has to be woken for that,
and a picture does not change hands. At real time each node has a process of its own, so that none
can delay or take down another.
"""

import sys
from importlib import import_module

from rclpy.utilities import remove_ros_args

from rl_robot.bringup.session_graphs import MEMBERS
from rl_robot.ros.node import GraphNode, run_together


def node_class(name: str) -> type[GraphNode]:
    """Return the class of the node that the module ``rl_robot.nodes.<name>`` holds."""
    kind: type[GraphNode] = getattr(
        import_module(f"rl_robot.nodes.{name}"), f"{name.capitalize()}Node"
    )
    return kind


def main(argv: list[str] | None = None) -> int:
    """Run the nodes that the arguments name."""
    given = sys.argv if argv is None else argv
    names = remove_ros_args(given)[1:]
    unknown = [name for name in names if name not in MEMBERS]
    if unknown or not names:
        what = f"node '{unknown[0]}'" if unknown else "no node named"
        print(f"error: container: {what}: expected some of {', '.join(MEMBERS)}", file=sys.stderr)
        return 2
    return run_together([node_class(name) for name in names], given)


if __name__ == "__main__":
    raise SystemExit(main())
