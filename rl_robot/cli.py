"""The ``rl_robot`` command."""

import argparse
import sys
from collections.abc import Sequence

from rl_robot import __version__
from rl_robot.errors import UserError

BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(message)


def _launch(options: argparse.Namespace) -> int:
    from rl_robot.bringup.graph import describe_arguments, parse_arguments
    from rl_robot.bringup.graphs import find_graph
    from rl_robot.bringup.runner import run_bare

    graph = find_graph(options.file)
    if options.show_args:
        print(describe_arguments(graph))
        return 0
    values = graph.resolve(parse_arguments(options.arguments))
    return run_bare(graph.nodes(values), graph.log_folder(values))


def _report(options: argparse.Namespace) -> int:
    from rl_robot.evaluation.report import write_report

    print(write_report(options.run))
    return 0


def _topics(_options: argparse.Namespace) -> int:
    from rl_robot.ros.topic_docs import topics_page

    print(topics_page(), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rl_robot", description="A robot control stack whose nodes learn.")
    parser.add_argument("--version", action="version", version=f"rl_robot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    launch = commands.add_parser("launch", help="start a graph on this machine")
    launch.add_argument("file", metavar="FILE", help="a launch file, such as collect.launch.py")
    launch.add_argument("arguments", nargs="*", metavar="name:=value", help="its arguments")
    launch.add_argument("-s", "--show-args", action="store_true", help="list the arguments")
    launch.set_defaults(run_command=_launch)

    report = commands.add_parser("report", help="write the report of a run")
    report.add_argument("run", metavar="RUN", help="name or folder of the run")
    report.set_defaults(run_command=_report)

    topics = commands.add_parser("topics", help="print docs/topics.md: every topic and its QoS")
    topics.set_defaults(run_command=_topics)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input gets one line on standard error and exit status 2."""
    try:
        options = _parser().parse_args(argv)
        return int(options.run_command(options))
    except UserError as error:
        print(f"rl_robot: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
