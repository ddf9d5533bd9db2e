"""A whole training session, tiny, that is killed on the way and goes on."""

import json
import os
import signal
from pathlib import Path

import numpy as np
from sessions import TINY_TRAINING, finish, launch, node_process, until

from rl_robot.bags import BagReader
from rl_robot.experience.runs import RunFolder
from rl_robot.policies import policy_version
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import low_pass_gains
from rl_robot.rewards import squared_jerk
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.rebuild import read_transitions

TRAIN = "train.launch.py"
TINY = TINY_TRAINING | {
    "noise_correlation": 0.25,
    "action_cutoff": 1.5,
    "jerk_weight": 0.5,
}


def test_a_killed_session_goes_on_with_every_closed_bag(tmp_path: Path) -> None:
    first = launch(TRAIN, tmp_path, **TINY)
    run = RunFolder(tmp_path / "tiny")
    until(lambda: run.episodes.is_dir() and len(run.list_episodes()) >= 4, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = {path: path.stat().st_mtime_ns for path in run.list_episodes()}

    second = launch(TRAIN, tmp_path, resume="tiny")
    until(lambda: len(run.list_episodes()) > len(kept) + 1, second)
    os.kill(node_process(second, "trainer"), signal.SIGKILL)
    output = finish(second)
    assert second.returncode == 0, output
    assert "trainer ended (killed by SIGKILL): starting it again" in output

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    episodes = [BagReader(path).episode for path in run.list_episodes()]
    whole = [episode for episode in episodes if episode.outcome != "broken"]
    counts: dict[str, int] = {}
    for episode in whole:
        counts[episode.extra["stage"]] = counts.get(episode.extra["stage"], 0) + 1
    assert counts["demonstrations"] == 3
    for name in ("demonstrator", "imitation", "learned"):
        assert counts[f"test {name}"] == 2
    assert counts["validate 1"] == counts["validate 2"] == 1
    explored = [e for e in whole if e.extra["stage"].startswith("explore")]
    assert sum(e.steps for e in explored) >= 60
    starts = [(e.extra["stage"], e.split, e.index) for e in whole]
    assert len(set(starts)) == len(starts)  # none was run twice
    assert all(e.lost_periods == 0 for e in whole)

    session = run.read_session()
    rows = {row["name"]: row for row in session["stages"]}
    assert rows["demonstrations"]["episodes"] == 3
    assert session["chosen"] in ("milestone_01.safetensors", "milestone_02.safetensors")
    assert policy_version(str(run.policies / "learned.safetensors")) > 0
    assert json.loads(run.result.read_text())
    assert run.report.is_file()

    # How smoothly is acted was asked for once, and holds for the session that goes on too.
    learned = NetworkPolicy.load(run.policies / "learned.safetensors").spec
    assert learned.noise_correlation == 0.25
    assert learned.low_pass == low_pass_gains(load_task("reach"), 1.5)
    bag = BagReader(run.list_episodes()[-1])
    judged = [
        dict(zip(m.message.name, m.message.position, strict=True)) for m in bag.decoded(["reward"])
    ]
    history = [np.zeros(4), np.zeros(4)]
    episode = read_transitions(bag.path, load_task("reach"), load_robot("arm"))
    history += [action[:4] for action in episode.executed]
    charged = [-0.5 * squared_jerk(*history[step : step + 3]) for step in range(len(judged))]
    np.testing.assert_allclose([terms["jerk"] for terms in judged], charged, atol=1e-5)
