"""The graph of a training session, and of a training without a robot."""

import math
from collections.abc import Mapping
from dataclasses import replace

from rl_robot.bringup.arguments import (
    BOOLEANS,
    POLICY,
    ROBOT,
    ROBOT_ARGUMENTS,
    SEED,
    TASK,
    check_bags,
    check_map,
    count_argument,
    number_argument,
    pace_argument,
    whole_number,
)
from rl_robot.bringup.graph import Argument, Graph, NodeSpec, Value
from rl_robot.bringup.session_graphs import check_session, graph_of_session, make_run, run_folder
from rl_robot.errors import UserError
from rl_robot.experience.bag_map import load_bag_map
from rl_robot.experience.runs import RunFolder
from rl_robot.experience.sources import parse_mixture
from rl_robot.policies.policy import low_pass_gains
from rl_robot.tasks import load_task
from rl_robot.training.mapped import MappedReader

_ROOM = ("quota", "reserve")  # may be given anew with resume:=, for a session that ended for them
LEARNERS = ("sac",)
DEMONSTRATIONS = 100


def _prepare_training(values: dict[str, str]) -> dict[str, str]:
    if values["resume"]:
        return _resumed(values)
    _check_mapped(values)
    if values["offline"] == "true":
        if not values["bags"]:
            raise UserError("offline:=true needs bags to train on: give bags:=runs/<name>")
        return make_run(values)
    check_session(values)
    low_pass_gains(load_task(values["task"]), float(values["action_cutoff"]))
    if not values["demonstrations"]:
        values |= {"demonstrations": "0" if values["bags"] else str(DEMONSTRATIONS)}
    if int(values["steps"]) < int(values["blocks"]) or not int(values["blocks"]):
        raise UserError(
            f"steps '{values['steps']}' in {values['blocks']} blocks: expected at least one step "
            "per block, and one block"
        )
    values = make_run(values)
    run = RunFolder(run_folder(values))
    if run.list_episodes() or run.removed_episodes():
        raise UserError(
            f"run {run.path} holds episodes already: go on with it by resume:={run.name}, or learn "
            f"from them in a new run by bags:={run.path}"
        )
    return values


def _check_mapped(values: Mapping[str, str]) -> None:
    """Refuse a map without bags, or without something that the task observes."""
    if not values["map"]:
        return
    if not values["bags"]:
        raise UserError("map says what the topics of bags:= mean: give bags:= as well")
    MappedReader(load_task(values["task"]), load_bag_map(values["map"]))


def _resumed(values: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that the run to go on with was started with.

    Raises:
        UserError: there is no such training session, or another argument is given.
    """
    run = RunFolder.open(values["resume"], values["root"])
    stored = run.read_session().get("arguments", {})
    if "demonstrations" not in stored:
        raise UserError(f"run {run.path} is no training session: only those can be resumed")
    defaults = {argument.name: argument.default for argument in TRAIN.arguments}
    for name, value in values.items():
        if name in ("resume", "root", *_ROOM):
            continue
        if value not in (defaults[name], stored.get(name)):
            raise UserError(
                f"resume takes its arguments from run {run.name}, where {name} is "
                f"'{stored.get(name)}': leave out {name}:={value}"
            )
    room = {name: values[name] for name in _ROOM if values[name] != defaults[name]}
    return {**defaults, **stored, **room, "run": run.path.name, "root": str(run.path.parent)}


def _training(values: Mapping[str, str]) -> list[NodeSpec]:
    offline = values["offline"] == "true"
    trained: dict[str, Value] = {
        "learner": values["learner"],
        "bags": values["bags"],
        "map": values["map"],
        "mixture": values["mixture"],
        "pretraining_updates": int(values["pretraining_updates"]),
        "imitation_updates": int(values["imitation_updates"]),
        "noise_correlation": float(values["noise_correlation"]),
        "action_cutoff": float(values["action_cutoff"]),
    }
    if offline:
        trained |= {name: values[name] for name in ("robot", "task")}
        trained |= {"run": str(run_folder(values)), "seed": int(values["seed"])}
        trained |= {"offline": True, "updates": int(values["updates"]), "nice": 0}
        return [NodeSpec("trainer", "trainer", trained, required=True)]
    blocks = int(values["blocks"])
    shared: dict[str, Value] = {
        "demonstrations": int(values["demonstrations"]),
        "blocks": blocks,
        "block_steps": int(values["steps"]) // blocks,
    }
    supervised: dict[str, Value] = {
        "train": True,
        "validation": int(values["validation"]),
        "test": int(values["test"]),
        "compare": values["compare"] == "true",
    }
    trained |= {"updates_per_step": float(values["updates_per_step"])}
    return graph_of_session(values, supervised | shared, trainer=trained | shared)


TRAIN = Graph(
    name="train",
    description="Learn a task: demonstrations, training, evaluation",
    arguments=(
        ROBOT,
        TASK,
        replace(
            POLICY,
            default="weak_script",
            description=f"who demonstrates the task: {POLICY.description}",
        ),
        pace_argument("paced"),
        Argument(
            "demonstrations",
            "",
            f"episodes by that policy (default: {DEMONSTRATIONS}, with bags:= none)",
            check=lambda v: v and whole_number("demonstrations", v),
        ),
        count_argument("steps", 4000, "control steps of exploration"),
        count_argument("blocks", 4, "parts of that, with a validation after each"),
        count_argument("validation", 25, "episodes of a validation"),
        count_argument("test", 100, "held-out starts of the final test"),
        Argument("compare", "true", "test the demonstrator and imitation too", choices=BOOLEANS),
        Argument("learner", "sac", "what learns", choices=LEARNERS),
        count_argument("imitation_updates", 4000, "updates of imitation alone, at most"),
        count_argument("pretraining_updates", 2000, "updates on demonstrations before exploring"),
        number_argument(
            "updates_per_step",
            "1.0",
            "updates for each control step of exploration",
            lambda value: 0.0 < value <= 100.0,
            "a number above 0, up to 100",
        ),
        number_argument(
            "noise_correlation",
            "0.7",
            "part of the exploration noise that stays from one control step to the next",
            lambda value: 0.0 <= value < 1.0,
            "a number from 0 (white noise), below 1",
        ),
        number_argument(
            "action_cutoff",
            "0",
            "cut-off frequency of the low-pass on the policy's actions in Hz, 0 for none",
            lambda value: 0.0 <= value < math.inf,
            "a frequency in Hz, or 0 for no low-pass",
        ),
        number_argument(
            "jerk_weight",
            "",
            "what the reward charges for jerk (default: what the task says)",
            lambda value: 0.0 <= value < math.inf,
            "a number, 0 or more",
        ),
        Argument(
            "bags", "", "bags to learn from as well: runs or folders, by comma", check=check_bags
        ),
        Argument(
            "map",
            "",
            "what the topics of those bags mean, where others recorded them: a YAML",
            check=check_map,
        ),
        Argument(
            "mixture",
            "",
            "what batches are made of: kind/robot/task=weight by comma, kinds demonstration, "
            "offline, online, * for any (half demonstrations)",
            check=parse_mixture,
        ),
        Argument("resume", "", "name or folder of a training run to go on with"),
        Argument("offline", "false", "no robot: train on bags:= only", choices=BOOLEANS),
        count_argument("updates", 5000, "offline: how many"),
        SEED,
        *ROBOT_ARGUMENTS,
    ),
    nodes=_training,
    log_folder=lambda values: run_folder(values) / "log",
    prepare=_prepare_training,
)
