"""The ``rl_robot`` command."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rl_robot import __version__
from rl_robot.bag_commands import add_bag_commands
from rl_robot.calibrate_commands import add_calibrate_commands
from rl_robot.errors import UserError

BAD_INPUT = 2
READER_GONE = 141  # what a shell says of a process that SIGPIPE ended


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


def _doctor(options: argparse.Namespace) -> int:
    options.file = "doctor"
    return _launch(options)


def _report(options: argparse.Namespace) -> int:
    from rl_robot.evaluation.report import write_report

    print(write_report(options.run))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rl_robot.evaluation.evaluate import evaluate
    from rl_robot.evaluation.tables import as_markdown, as_text, tables
    from rl_robot.experience.runs import RunFolder

    given = [name for name in _RECORDING if getattr(options, name) is not None]
    if given and not any(target.endswith(_POLICY_FILE) for target in options.targets):
        raise UserError(f"--{given[0]} is for a policy file: runs are evaluated as they are")
    runs = []
    for target in options.targets:
        if target.endswith(_POLICY_FILE):
            run, code = _record(target, options)
            if code:
                print(f"what was recorded: rl_robot evaluate {run}", file=sys.stderr)
                return code
            runs.append(RunFolder.open(run))
        else:
            runs.append(RunFolder.open(target, options.root))
        if runs[-1].path.resolve() in [run.path.resolve() for run in runs[:-1]]:
            raise UserError(f"run {target} is given twice: its episodes would count twice")
    figures = evaluate(runs)
    if options.plot:
        from rl_robot.evaluation.plots import save_learning_curves

        save_learning_curves(figures, Path(options.plot))
    if options.json:
        print(json.dumps(figures, indent=2, allow_nan=False))
    else:
        form = as_markdown if options.markdown else as_text
        print("\n\n".join(map(form, tables(figures, all_groups=not options.markdown))))
    return 0


_POLICY_FILE = ".safetensors"
_RECORDING = ("episodes", "split", "first", "seed", "robot", "task", "run")  # of a new session


def _record(policy: str, options: argparse.Namespace) -> tuple[Path, int]:
    """Record a paced session of a policy file; return its folder and its exit status.

    Raises:
        UserError: no such policy, or an argument that could not work.
    """
    from rl_robot.bringup.runner import run_bare
    from rl_robot.bringup.session_graphs import DEPLOY, run_folder
    from rl_robot.policies.network import NetworkPolicy

    spec = NetworkPolicy.load(Path(policy)).spec
    name = f"evaluate-{Path(policy).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    given = {"robot": spec.robot, "task": spec.task, "run": name, "episodes": "100"}
    for argument in _RECORDING:
        value = getattr(options, argument)
        given |= {argument: value} if value is not None else {}
    given |= {"policy": policy, "root": options.root, "pace": "paced", "record": "true"}
    values = DEPLOY.resolve(given)
    with _output_on_standard_error():
        return run_folder(values), run_bare(DEPLOY.nodes(values), DEPLOY.log_folder(values))


@contextmanager
def _output_on_standard_error() -> Iterator[None]:
    """Send what child processes print there too: standard output is for the figures."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


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

    doctor = commands.add_parser(
        "doctor", help="check an arm, or a stand-in for one, before it is trusted"
    )
    doctor.add_argument(
        "arguments", nargs="*", metavar="name:=value", help="robot:=ur5e stand_in:=true, say"
    )
    doctor.add_argument("-s", "--show-args", action="store_true", help="list the arguments")
    doctor.set_defaults(run_command=_doctor)

    report = commands.add_parser("report", help="write the report of a run")
    report.add_argument("run", metavar="RUN", help="name or folder of the run")
    report.set_defaults(run_command=_report)

    evaluate = commands.add_parser(
        "evaluate", help="figures of runs, several pooled, or of a policy file tried anew"
    )
    evaluate.add_argument(
        "targets",
        nargs="+",
        metavar="RUN|FILE",
        help="names or folders of runs; a .safetensors policy is run and recorded first",
    )
    form = evaluate.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all figures as JSON")
    form.add_argument("--markdown", action="store_true", help="tables in Markdown")
    evaluate.add_argument(
        "--plot", metavar="FILE", help="draw the learning curves, as .png or .svg"
    )
    evaluate.add_argument("--root", default="runs", help="folder that holds the runs (runs)")
    recorded = evaluate.add_argument_group("for a policy file")
    recorded.add_argument("--episodes", metavar="N", help="how many (100)")
    recorded.add_argument("--split", help="where the starts come from (test)")
    recorded.add_argument("--first", metavar="N", help="index of the first start (0)")
    recorded.add_argument("--seed", metavar="N", help="seed of everything random (0)")
    recorded.add_argument("--robot", help="robot by name or YAML (the policy's)")
    recorded.add_argument("--task", help="task by name or module:Class (the policy's)")
    recorded.add_argument("--run", help="name of the new run's folder")
    evaluate.set_defaults(run_command=_evaluate)

    add_bag_commands(commands)
    add_calibrate_commands(commands)

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
    except BrokenPipeError:
        # Whoever read the output (head, less) has seen enough: nothing is left to be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return READER_GONE


if __name__ == "__main__":
    sys.exit(main())
