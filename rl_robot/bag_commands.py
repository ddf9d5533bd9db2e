"""``rl_robot bag``: what a bag holds, whether it is sound, and what can be made of it."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_robot.bag_tables import aligned, task_name, tick_rate
from rl_robot.bags.found import EPISODE_NAME, find_bags
from rl_robot.errors import UserError

if TYPE_CHECKING:
    from rl_robot.experience.aligned import AlignedEpisode
    from rl_robot.supervision.progress import StatusLine

UNSOUND = 1  # exit status when something is wrong with a bag, which is no mistake of the caller's
FORMATS = ("lerobot", "npz")


def add_bag_commands(commands: Any) -> None:
    """Add the command ``bag`` with commands of its own."""
    bag = commands.add_parser("bag", help="look at bags, check, repair, judge anew, export, import")
    own = bag.add_subparsers(dest="bag_command", required=True, metavar="COMMAND")
    targets: dict[str, Any] = {
        "nargs": "+",
        "metavar": "BAG|RUN",
        "help": "bags, folders of bags, or folders of runs",
    }

    info = own.add_parser("info", help="what bags hold: rates, gaps, delays, outcome")
    info.add_argument("targets", **targets)
    info.add_argument("--json", action="store_true", help="all facts as JSON")
    info.add_argument("--plot", metavar="FILE", help="draw one bag's timeline (.png, .svg)")
    info.set_defaults(run_command=_in_a_line(_info))

    check = own.add_parser("check", help="look for everything that can be wrong with bags")
    check.add_argument("targets", **targets)
    check.set_defaults(run_command=_in_a_line(_check))

    repair = own.add_parser("repair", help="make a whole bag of what is whole of a damaged one")
    repair.add_argument("bag", metavar="BAG", help="a damaged bag, or one cut short (.part)")
    repair.add_argument("--out", metavar="FOLDER", help="the new bag (its name, or .repaired)")
    repair.set_defaults(run_command=_in_a_line(_repair))

    relabel = own.add_parser("relabel", help="judge old bags by another reward")
    relabel.add_argument("targets", **targets)
    relabel.add_argument("--task", required=True, help="whose reward: a name, or module:Class")
    relabel.add_argument("--robot", help="robot by name or YAML (the bags' own)")
    relabel.add_argument("--out", required=True, metavar="FOLDER", help="for the new bags")
    relabel.set_defaults(run_command=_in_a_line(_relabel))

    export = own.add_parser("export", help="bags as a data set for others")
    export.add_argument("targets", **targets)
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument("--out", required=True, metavar="FOLDER", help="of the data set")
    export.add_argument("--map", metavar="FILE", help="YAML that maps a foreign bag's topics")
    export.add_argument("--task", help="of bags of ours: module:Class, where not known by name")
    export.add_argument("--robot", help="of bags of ours: its YAML, where not known by name")
    export.add_argument("--text", help="lerobot: what is done, in words (the task's name)")
    export.add_argument("--fps", type=_positive, help="lerobot: steps per second (by the ticks)")
    export.add_argument(
        "--keep-last", action="store_true", help="lerobot: a row for the last observation too"
    )
    export.set_defaults(run_command=_in_a_line(_export))

    load = own.add_parser("import", help="a LeRobotDataset as bags")
    load.add_argument("dataset", metavar="FOLDER", help="with meta/info.json in it")
    load.add_argument("--out", required=True, metavar="FOLDER", help="for the bags")
    load.add_argument("--episodes", type=_numbers, metavar="N,N", help="only these")
    load.set_defaults(run_command=_in_a_line(_import))


def _in_a_line(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Make one line of what the disk, or the name of a file, is the reason of."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except BrokenPipeError:  # nobody reads what is printed: the caller knows what to do
            raise
        except OSError as error:
            place = error.filename or getattr(options, "out", None)
            why = error.strerror or " ".join(str(error).split()) or type(error).__name__
            what = f"{place} can't be read or written: {why}" if place else why
            raise UserError(what) from None

    return run


# --- the commands --------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    from rl_robot.bags import BagReader
    from rl_robot.evaluation.bag_info import as_json, as_lines, as_page, bag_facts

    bags = find_bags(options.targets)
    if options.plot and len(bags) > 1:
        raise UserError(f"--plot draws one bag, these are {len(bags)}")
    facts, unreadable = [], []
    for path in _with_progress(bags, "read"):
        try:
            facts.append(bag_facts(BagReader(path)))
        except UserError as error:
            if len(bags) == 1:
                raise
            unreadable.append(str(error))
    if options.json:
        shown = [as_json(one) for one in facts]
        print(json.dumps(shown[0] if len(bags) == 1 else shown, indent=2, allow_nan=False))
    elif len(bags) == 1:
        print(as_page(facts[0]))
    else:
        print(as_lines(facts))
    if options.plot:
        from rl_robot.evaluation.bag_timeline import save_timeline

        save_timeline(facts[0], Path(options.plot))
    for text in unreadable:
        print(text, file=sys.stderr)
    return UNSOUND if unreadable else 0


def _check(options: argparse.Namespace) -> int:
    from rl_robot.bags.check import check

    bags = find_bags(options.targets, unfinished=True)
    unsound = 0
    for path in _with_progress(bags, "checked"):
        try:
            problems = check(path)
        except UserError as error:  # what is no bag, or can't be read
            if len(bags) == 1:
                raise
            problems = [str(error).removeprefix(f"{path} ")]
        unsound += bool(problems)
        for problem in problems:
            print(f"{path}: {problem}")
    print(f"{len(bags) - unsound} of {len(bags)} bags are sound")
    return UNSOUND if unsound else 0


def _repair(options: argparse.Namespace) -> int:
    from rl_robot.bags.check import check
    from rl_robot.bags.repair import find_mcap, repair

    bag = Path(options.bag)
    find_mcap(bag)
    if not check(bag):
        print(f"{bag} is sound: there is nothing to repair")
        return 0
    done = repair(bag, Path(options.out) if options.out else None)
    for loss in done.losses:
        print(loss)
    for topic, count in sorted(done.missing.items()):
        print(f"{topic}: {count} messages are known to be lost")
    if done.unverified:
        print(f"{done.unverified} parts were kept that the file has no checksum for")
    if done.path is None:
        print("nothing could be kept")
        return UNSOUND
    print(f"{done.path}: {sum(done.kept.values())} messages of {len(done.kept)} topics")
    if EPISODE_NAME.fullmatch(bag.name) and done.path.parent == bag.parent:
        print(
            f"it counts as an episode of the run once it has the name {bag}, instead of the "
            "damaged one"
        )
    return 0


def _relabel(options: argparse.Namespace) -> int:
    from rl_robot.bags import BagReader
    from rl_robot.robots.description import load_robot
    from rl_robot.tasks import load_task
    from rl_robot.training.relabel import Relabeller

    task = load_task(options.task)
    bags = find_bags(options.targets)
    out = Path(options.out)
    targets = [out / (path.stem if path.is_file() else path.name) for path in bags]
    for target in targets:
        if target.exists() or targets.count(target) > 1:
            raise UserError(f"{target} would be written over: name another folder with --out")
    makers: dict[str, Relabeller] = {}
    if options.robot:
        makers[options.robot] = Relabeller(task, load_robot(options.robot))
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    problems = []
    for path, target in zip(_with_progress(bags, "judged"), targets, strict=True):
        try:
            bag = BagReader(path)
            robot = options.robot or bag.episode.robot
            if robot not in makers:
                makers[robot] = Relabeller(task, load_robot(robot))
            new = BagReader(makers[robot].relabel(bag, target)).episode.outcome
        except UserError as error:
            if len(bags) == 1:
                raise
            problems.append(str(error))
            continue
        before[bag.episode.outcome] += 1
        after[new] += 1
    if after:
        print(f"{after.total()} bags in {out}: {_counted(before)}; now {_counted(after)}")
    return _left_out(problems)


def _export(options: argparse.Namespace) -> int:
    from rl_robot.exchange import export_lerobot, export_npz

    _check_export(options)
    bags = find_bags(options.targets)
    problems: list[str] = []
    episodes = aligned(bags, options, problems)
    first = next(episodes, None)
    if first is None:
        return _left_out(problems)
    counts: dict[str, int] = {}

    def noted() -> Iterator["AlignedEpisode"]:
        for episode in chain([first], episodes):
            for kind, count in episode.counts.items():
                counts[kind] = counts.get(kind, 0) + count
            yield episode

    with _progress_line() as line:

        def told(done: int) -> None:
            line.write(f"exported {done} of {len(bags)} bags")

        if options.format == "npz":
            files = export_npz(noted(), Path(options.out), progress=told)
            summary = f"{len(files)} episodes"
        else:
            exported = export_lerobot(
                (episode.with_vectors() for episode in noted()),
                Path(options.out),
                task=options.text or task_name(first),
                fps=options.fps or tick_rate(first),
                robot_type=first.metadata.robot if first.metadata else "unknown",
                keep_last=options.keep_last,
                progress=told,
            )
            summary = f"{exported.episodes} episodes, {exported.rows} rows"
            for origin in exported.skipped:
                print(f"{origin} holds no step: left out", file=sys.stderr)
    print(f"{options.out}: {summary}")
    for kind, count in sorted(counts.items()):
        print(f"  {kind}: {count}")
    return _left_out(problems)


def _check_export(options: argparse.Namespace) -> None:
    """Refuse what the format has no use for."""
    lerobot_only = {"--text": options.text, "--fps": options.fps, "--keep-last": options.keep_last}
    for name, given in lerobot_only.items():
        if given and options.format != "lerobot":
            raise UserError(f"{name} is for --format lerobot: leave it out")


def _import(options: argparse.Namespace) -> int:
    from rl_robot.bags import BagReader
    from rl_robot.exchange import import_lerobot
    from rl_robot.exchange.imported_map import map_of_import
    from rl_robot.experience.bag_map import as_yaml

    out = Path(options.out)
    with _progress_line() as line:
        bags = import_lerobot(
            Path(options.dataset),
            out,
            episodes=options.episodes,
            progress=lambda done: line.write(f"imported {done} bags"),
        )
    print(f"{out}: {len(bags)} bags")
    if bags:
        map_file = out / "map.yaml"
        text = as_yaml(map_of_import(BagReader(bags[0])))
        if map_file.exists() and map_file.read_bytes() != text.encode():
            print(f"{map_file} says something else already, and is kept: see whether it fits")
            return 0
        map_file.write_text(text, encoding="utf-8")
        print(f"{map_file}: what their topics mean, for --map")
    return 0


# --- what they share -----------------------------------------------------------------------------


def _left_out(problems: Iterable[str]) -> int:
    """Name the bags that were left out, and why; return the exit status."""
    status = 0
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
        status = UNSOUND
    return status


def _with_progress(bags: Sequence[Path], what: str) -> Iterator[Path]:
    """Give one bag after the other, and say on a terminal how many are done."""
    with _progress_line() as line:
        for index, path in enumerate(bags):
            yield path
            if len(bags) > 1:
                line.write(f"{what} {index + 1} of {len(bags)} bags")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}': expected a number above 0")
    return value


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected whole numbers with commas between, as 0,3,4"
        ) from None


@contextmanager
def _progress_line() -> Iterator["StatusLine"]:
    """A progress line on standard error, where that is a terminal."""
    from rl_robot.supervision.progress import StatusLine

    with ExitStack() as stack:
        is_terminal = sys.stderr.isatty()
        stream = sys.stderr if is_terminal else stack.enter_context(open(os.devnull, "w"))
        line = StatusLine(stream)
        try:
            yield line
        finally:
            line.end()
