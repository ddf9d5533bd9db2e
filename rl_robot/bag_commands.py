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

from rl_robot.bags.found import EPISODE_NAME, find_bags
from rl_robot.errors import UserError

if TYPE_CHECKING:
    from rl_robot.bags import BagReader
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
    info.set_defaults(run_command=_info)

    check = own.add_parser("check", help="look for everything that can be wrong with bags")
    check.add_argument("targets", **targets)
    check.set_defaults(run_command=_check)

    repair = own.add_parser("repair", help="make a whole bag of what is whole of a damaged one")
    repair.add_argument("bag", metavar="BAG", help="a damaged bag, or one cut short (.part)")
    repair.add_argument("--out", metavar="FOLDER", help="the new bag (its name, or .repaired)")
    repair.set_defaults(run_command=_repair)

    relabel = own.add_parser("relabel", help="judge old bags by another reward")
    relabel.add_argument("targets", **targets)
    relabel.add_argument("--task", required=True, help="whose reward: a name, or module:Class")
    relabel.add_argument("--robot", help="robot by name or YAML (the bags' own)")
    relabel.add_argument("--out", required=True, metavar="FOLDER", help="for the new bags")
    relabel.set_defaults(run_command=_relabel)

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
    export.set_defaults(run_command=_export)

    load = own.add_parser("import", help="a LeRobotDataset as bags")
    load.add_argument("dataset", metavar="FOLDER", help="with meta/info.json in it")
    load.add_argument("--out", required=True, metavar="FOLDER", help="for the bags")
    load.add_argument("--episodes", type=_numbers, metavar="N,N", help="only these")
    load.set_defaults(run_command=_import)


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
        problems = check(path)
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
            problems.append(f"left out: {error}")
            continue
        before[bag.episode.outcome] += 1
        after[new] += 1
    for problem in problems:
        print(problem, file=sys.stderr)
    if not after:
        return UNSOUND
    print(f"{after.total()} bags in {out}: {_counted(before)}; now {_counted(after)}")
    return UNSOUND if problems else 0


def _export(options: argparse.Namespace) -> int:
    from rl_robot.exchange import export_lerobot, export_npz

    bags = find_bags(options.targets)
    episodes = _aligned(bags, options)
    first = next(episodes)
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
                task=options.text or _task_name(first),
                fps=options.fps or _rate(first),
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
    return 0


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
        map_file.write_text(as_yaml(map_of_import(BagReader(bags[0]))), encoding="utf-8")
        print(f"{map_file}: what their topics mean, for --map")
    return 0


# --- what they share -----------------------------------------------------------------------------


def _aligned(bags: Iterable[Path], options: argparse.Namespace) -> Iterator["AlignedEpisode"]:
    """The episodes of bags as tables: by a map, or as the task saw them."""
    from rl_robot.bags import BagReader
    from rl_robot.experience.aligning import align
    from rl_robot.experience.bag_map import load_bag_map

    if options.map:
        bag_map = load_bag_map(options.map)
        for path in bags:
            yield from align(path, bag_map)
        return
    find = _reader_of(options)
    for path in bags:
        bag = BagReader(path)
        yield find(bag).read_table(bag, sensors=True)


def _reader_of(options: argparse.Namespace) -> Callable[["BagReader"], Any]:
    """Return what finds the reader for a bag of ours, by its task and robot."""
    from rl_robot.robots.description import load_robot
    from rl_robot.tasks import load_task
    from rl_robot.training.rebuild import TransitionReader

    readers: dict[tuple[str, str], TransitionReader] = {}

    def find(bag: "BagReader") -> TransitionReader:
        try:
            metadata = bag.episode
        except UserError as error:
            raise UserError(f"{error}: say with --map what its topics mean") from None
        key = (options.task or metadata.task, options.robot or metadata.robot)
        if key not in readers:
            readers[key] = TransitionReader(load_task(key[0]), load_robot(key[1]))
        return readers[key]

    return find


def _task_name(episode: "AlignedEpisode") -> str:
    return episode.metadata.task if episode.metadata else "unknown"


def _rate(episode: "AlignedEpisode") -> float:
    """Ticks per second, of the median period."""
    import numpy as np

    return float(round(1e9 / float(np.median(np.diff(episode.ticks_ns))), 6))


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
    value = float(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: a number above 0 is needed")
    return value


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


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
