"""`rl_robot evaluate`: pooled figures, the same ones in every form, and its complaints."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import training_session
from synthetic import metadata, write_episode

from rl_robot.bags import EpisodeWriter
from rl_robot.bringup.graph import NodeSpec
from rl_robot.cli import BAD_INPUT, main
from rl_robot.evaluation.evaluate import evaluate
from rl_robot.evaluation.statistics import wilson
from rl_robot.evaluation.tables import Table, as_markdown, as_text, tables
from rl_robot.experience.runs import RunFolder
from rl_robot.policies import PolicySpec
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training sessions and a plain run."""
    folder = tmp_path_factory.mktemp("runs")
    training_session.write_session(RunFolder.create("first", root=folder))
    training_session.write_session(
        RunFolder.create("second", root=folder), learned=[5, None, 4, 3], blocks=[(6, 6)]
    )
    plain = RunFolder.create("plain", root=folder)
    for index, steps in enumerate((4, 5)):
        write_episode(plain.episode_path(index), metadata(index, "success", steps))
    EpisodeWriter(plain.episode_path(9), {"clock": "rosgraph_msgs/msg/Clock"})
    return folder


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_runs_are_pooled(root: Path) -> None:
    figures = evaluate([RunFolder.open(name, root) for name in ("first", "second")])
    learned = {c["name"]: c for c in figures["pooled"]["comparison"]["contestants"]}["learned"]
    assert (learned["successes"], learned["episodes"]) == (4 + 3, 8)
    expected = wilson(7, 8)
    assert learned["success_interval"] == pytest.approx([expected.low, expected.high], abs=1e-4)
    pair = figures["pooled"]["comparison"]["pairs"][0]
    assert (pair["first"], pair["second"]) == ("demonstrator", "learned")
    # The demonstrator solves starts 0, 2 and 3 in 10, 8 and 9 steps in both.
    assert pair["both"] == 6
    steps = pair["steps"]
    assert (steps["n"], steps["starts"]) == (6, 3)
    assert steps["ratio"] == pytest.approx((5 + 4 + 5 + 5 + 4 + 3) / (2 * 27), abs=1e-4)
    assert [run["learning"]["control_steps"] for run in figures["runs"]] == [30, 12]
    stages = [g["stage"] for g in figures["pooled"]["groups"]]
    assert len(stages) == len(set(stages)) == 8  # pooled by stage, whatever the files' folders


def test_table_and_json_say_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run_command(capsys, root / "first", root / "second")
    assert code == 0
    low, high = (round(100 * bound) for bound in wilson(7, 8).__dict__.values())
    row = next(
        line for line in text.splitlines() if line.startswith("learned ") and " all " in line
    )
    assert "7 of 8" in row
    assert f"88 % ({low} to {high} %)" in row
    assert "Run first: grasp on arm" in text
    assert "milestone_02.safetensors" in text
    code, text, _ = run_command(capsys, "first", "second", "--root", root, "--json")
    assert code == 0
    runs = [RunFolder.open(name, root) for name in ("first", "second")]
    assert json.loads(text) == json.loads(json.dumps(evaluate(runs)))


def test_markdown_has_the_comparison_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run_command(capsys, "first", "--root", root, "--markdown")
    assert "| learned | test | 4 of 4 | 100 % (51 to 100 %) |" in text
    assert "| learned to demonstrator | 3 of 4 | 1 / 0 | 4.7 for 9.0 |" in text
    assert "| first | 4 | 30 |" in text
    assert "milestone" not in text
    for table in text.split("\n**"):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_plain_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run_command(capsys, root / "plain")
    assert "Run plain: grasp on arm" in text
    assert "2 of 2" in text
    assert "1 bags never finished" in text
    assert "Policies" not in text


def test_plot_is_a_picture(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "curve.png"
    code, _, _ = run_command(capsys, root / "first", root / "second", "--plot", target)
    assert code == 0
    picture = cv2.imread(str(target))
    assert picture is not None
    assert len({tuple(pixel) for row in picture for pixel in row[::7].tolist()}) > 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "there is no run"),
        (["first", "first"], "run first is given twice"),
        (["first", "--episodes", "3"], "--episodes is for a policy file"),
        (["missing.safetensors"], "policy file missing.safetensors can't be read"),
        (["plain", "--plot", "x.png"], "none of these runs has a validation"),
        (["first", "--plot", "nowhere/x.png"], "--plot nowhere/x.png: can't be written"),
        (["first", "--plot", "x.dat"], "--plot x.dat: can't be written"),
        (["first", "--json", "--markdown"], "not allowed with argument"),
        ([], "arguments are required"),
    ],
)
def test_complaints_are_one_line(
    arguments: list[str],
    complaint: str,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, output, error = run_command(capsys, *arguments, "--root", root)
    assert code == BAD_INPUT
    assert complaint in error
    assert error.count("\n") == 1
    assert output == ""


def test_policy_file_is_run_and_recorded_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.safetensors"
    NetworkPolicy(PolicySpec.of(load_task("reach"), load_robot("arm"))).save(file)
    asked: dict[str, dict[str, Any]] = {}

    def record(nodes: Sequence[NodeSpec], log_folder: Path) -> int:
        """Stand in for the graph: one bag, and progress on standard output."""
        asked.update({spec.name: dict(spec.parameters) for spec in nodes})
        os.write(1, b"episode 1/4\n")
        path = RunFolder(log_folder.parent).episode_path(0)
        write_episode(path, metadata(0, "success", 3, policy=str(file), task="reach"))
        return 0

    monkeypatch.setattr("rl_robot.bringup.runner.run_bare", record)
    code = main(["evaluate", str(file), "--episodes", "4", "--root", str(tmp_path), "--json"])
    captured = capfd.readouterr()
    assert code == 0
    (run,) = json.loads(captured.out)["runs"]
    assert run["groups"][0]["successes"] == 1
    assert captured.err == "episode 1/4\n"
    assert run["run"].startswith("evaluate-mine-")
    supervisor = asked["supervisor"]
    assert (supervisor["policy"], supervisor["task"]) == (str(file), "reach")
    assert (supervisor["episodes"], supervisor["split"], supervisor["pace"]) == (4, "test", "paced")
    assert supervisor["record"] is True


def test_what_was_recorded_before_a_session_failed_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.safetensors"
    NetworkPolicy(PolicySpec.of(load_task("reach"), load_robot("arm"))).save(file)
    monkeypatch.setattr("rl_robot.bringup.runner.run_bare", lambda _nodes, _log_folder: 130)
    code = main(["evaluate", str(file), "--run", "new", "--root", str(tmp_path)])
    captured = capfd.readouterr()
    assert (code, captured.out) == (130, "")
    assert captured.err == f"what was recorded: rl_robot evaluate {tmp_path / 'new'}\n"


def test_columns_are_aligned_and_bars_escaped() -> None:
    table = Table("T", ("a", "long head"), [("1", "x|y"), ("22", "z")], "A note.")
    assert as_text(table) == "T\na   long head\n--  ---------\n1   x|y\n22  z\nA note."
    assert as_markdown(table).splitlines()[4] == "| 1 | x\\|y |"


def test_session_that_only_began(tmp_path: Path) -> None:
    run = RunFolder.create("begun", root=tmp_path)
    writer = training_session.SessionWriter(run)
    writer.stage("demonstrations", "demonstration", "weak_script", "train", [4, None])
    (table,) = tables(evaluate([run]))
    assert table.rows[0][:4] == ("demonstrations", "weak_script", "train", "1 of 2")
