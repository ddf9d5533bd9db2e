"""A run's figures come from its bags and are the same in the page and in the table."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic
import training_session

from rl_robot.bags import EpisodeWriter
from rl_robot.errors import UserError
from rl_robot.evaluation.report import write_report
from rl_robot.evaluation.statistics import wilson
from rl_robot.evaluation.summary import summarize
from rl_robot.experience.runs import RunFolder

OUTCOMES = [
    ("success", "", 9),
    ("success", "", 11),
    ("truncated", "out of <time>", 14),
    ("broken", "node 'policy' died", 5),
    ("success", "", 10),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder.create("five", root=tmp_path_factory.mktemp("runs"))
    synthetic.write_run(folder, OUTCOMES)
    folder.write_session({"policy": "script", "pace": "paced", "wall_seconds": 3.25})
    return folder


@pytest.fixture(scope="module")
def summary(run: RunFolder) -> dict[str, Any]:
    return summarize(run)


def test_success_is_counted_with_its_interval(summary: dict[str, Any]) -> None:
    (group,) = summary["groups"]
    assert (summary["successes"], summary["episodes"], summary["broken"]) == (3, 4, 1)
    assert (group["successes"], group["episodes"], group["broken"]) == (3, 4, 1)
    expected = wilson(3, 4)
    assert group["success_interval"] == pytest.approx([expected.low, expected.high], abs=1e-4)
    assert group["steps_to_success"]["mean"] == 10.0
    assert group["seconds_to_success"]["mean"] == 1.0
    assert group["steps_to_success"]["n"] == 3


def test_steps_time_and_pace(summary: dict[str, Any]) -> None:
    steps = sum(steps for _, _, steps in OUTCOMES)
    assert summary["control_steps"] == steps
    assert summary["seconds"] == pytest.approx(steps * 0.1)
    # The synthetic wall clock goes 6 ms per step.
    assert summary["real_time_factor"] == pytest.approx(0.1 / 0.006, rel=0.1)
    assert summary["lost_periods"] == 0


def test_rewards_and_failures(summary: dict[str, Any]) -> None:
    rows = summary["episode_table"]
    assert [row["outcome"] for row in rows] == [outcome for outcome, _, _ in OUTCOMES]
    assert rows[0]["reward"] == pytest.approx(9 * -0.1 + 1)
    assert rows[0]["best_terms"] == {"step": -0.1}
    assert [row["episode"] for row in summary["failures"]] == [2]
    assert summary["failures"][0]["reason"] == "out of <time>"
    assert [row["episode"] for row in summary["broken_episodes"]] == [3]


def test_latency_is_measured_on_the_wall_clock(run: RunFolder, summary: dict[str, Any]) -> None:
    latency = summary["latency_ms"]
    assert latency["n"] == summary["control_steps"]
    assert sum(latency["histogram"]["counts"]) == latency["n"]
    assert latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    # From the clock's message, 0.3 ms before the picture, to the executed command.
    commands = [
        sent.publish_ns - (10**18 + step * 6_000_000) + 300_000
        for step, sent in enumerate(
            s
            for s in synthetic.episode_messages(10_000_000_000, 9, wall_ns=10**18)
            if s.topic == "safety/command"
        )
    ]
    alone = RunFolder.create("alone", root=run.path.parent)
    shutil.copytree(run.episode_path(0), alone.episode_path(0))
    found = summarize(alone)["latency_ms"]
    assert found["n"] == len(commands)
    assert found["max"] == pytest.approx(max(commands) * 1e-6, abs=1e-3)


def test_latency_of_a_robot_whose_stamps_are_wall_time(tmp_path: Path) -> None:
    run = RunFolder.create("robot", root=tmp_path)
    stamp_ns = 1_700_000_000_000_000_000
    writer = EpisodeWriter(run.episode_path(0), synthetic.TYPES)
    for sent in synthetic.small_step(stamp_ns, stamp_ns + 40_000_000):
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    writer.close(synthetic.metadata(0, "truncated", 1))
    assert summarize(run)["latency_ms"]["p50"] == pytest.approx(43.0)


def test_interventions_by_limit(summary: dict[str, Any]) -> None:
    limits = summary["interventions"]["by_limit"]
    steps = [range(n) for _, _, n in OUTCOMES]
    velocity = sum(step % 7 == 3 for episode in steps for step in episode)
    acceleration = sum(step % 11 == 5 for episode in steps for step in episode)
    assert limits == {"velocity/joint_2": velocity, "acceleration/joint_1": acceleration}
    assert summary["interventions"]["steps"] == velocity + acceleration


class Page(HTMLParser):
    """Text, pictures and tags of a page; fails on tags that do not nest."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if tag == "img" and name == "src":
                self.images.append(value or "")
            elif name in ("src", "href"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("line", "rect", "circle", "polyline", "polygon")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_page_says_what_the_table_says(run: RunFolder, summary: dict[str, Any]) -> None:
    path = write_report(run)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    text = " ".join(page.texts)
    low, high = summary["groups"][0]["success_interval"]
    assert f"95 % interval {low:.0%} to {high:.0%} (Wilson, n = 4)" in text
    assert "1 broken, not counted" in text
    assert "out of <time>" in text
    assert "node 'policy' died" in text
    assert f"{summary['latency_ms']['p50']:.1f} ms" in text
    assert json.loads(run.result.read_text()) == json.loads(json.dumps(summary))


def test_page_needs_no_other_file_and_shows_the_episode(run: RunFolder) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.addresses == []
    assert len(page.images) == 8
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    text = " ".join(page.texts)
    assert "Episode 4 as the camera saw it" in text  # the success of median length
    assert "0.0 s" in text
    assert "1.0 s" in text


def test_report_leaves_nothing_else_behind(run: RunFolder) -> None:
    write_report(run.path)
    names = {path.name for path in run.path.iterdir()}
    assert names == {"episodes", "log", "session.json", "report.html", "result.json"}


def test_damaged_and_unfinished_bags_are_named(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    file = next(copy.episode_path(1).glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-100])
    EpisodeWriter(copy.episode_path(9), synthetic.TYPES)
    page = " ".join(Page(write_report(copy).read_text(encoding="utf-8")).texts)
    result = json.loads(copy.result.read_text())
    assert (result["successes"], result["episodes"], result["unfinished"]) == (2, 3, 1)
    assert "episode_000001.mcap is damaged" in result["unreadable"][0]
    assert "episode_000001.mcap is damaged" in page
    assert "1 never finished" in page


def test_policies_are_not_counted_together(tmp_path: Path) -> None:
    run = RunFolder.create("mixed", root=tmp_path)
    for index, (policy, outcome) in enumerate(
        [("script", "success"), ("random", "truncated"), ("script", "success")]
    ):
        meta = synthetic.metadata(index, outcome, 2, policy=policy)
        synthetic.write_episode(run.episode_path(index), meta)
    summary = summarize(run)
    counts = {g["policy"]: (g["successes"], g["episodes"]) for g in summary["groups"]}
    assert counts == {"script": (2, 2), "random": (0, 1)}
    text = " ".join(Page(write_report(run).read_text(encoding="utf-8")).texts)
    assert "policy random" in " ".join(text.split())


def test_run_of_broken_episodes_only(tmp_path: Path) -> None:
    run = RunFolder.create("broken", root=tmp_path)
    meta = synthetic.metadata(0, "broken", 0, reason="reset: the block fell")
    synthetic.write_episode(run.episode_path(0), synthetic.metadata(0, "broken", 1))
    EpisodeWriter(run.episode_path(1), synthetic.TYPES).close(meta)  # it never ran: no message
    text = " ".join(Page(write_report(run).read_text(encoding="utf-8")).texts)
    assert "no episode to count" in text
    assert json.loads(run.result.read_text())["groups"][0]["success_rate"] is None


def test_run_without_episodes(tmp_path: Path) -> None:
    run = RunFolder.create("empty", root=tmp_path)
    with pytest.raises(UserError, match="holds no finished episode: record one first"):
        write_report(run)
    with pytest.raises(UserError, match=r"there is no run .*nothing: the runs in .* are empty"):
        write_report("nothing", root=tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder.create("trained", root=tmp_path_factory.mktemp("runs"))
    training_session.write_session(folder)
    return folder


def test_training_session_shows_its_tests_side_by_side(trained: RunFolder) -> None:
    page = Page(write_report(trained).read_text(encoding="utf-8"))
    assert page.open == []
    text = " ".join(" ".join(page.texts).split())
    training = json.loads(trained.result.read_text())["training"]
    pair = training["comparison"]["pairs"][0]
    low, high = (f"{100 * bound:.0f}" for bound in pair["steps"]["interval"])
    assert f"{100 * pair['steps']['ratio']:.0f} % ({low} to {high} %) of the time of" in text
    assert "4.7 control steps for 9.0, on the 3 of 4 starts that both solve" in text
    assert "First validation with 90 % or more: validate 2 , after 30 control steps" in text
    assert "120 /s" in text
    assert "learned.safetensors (milestone_02.safetensors, best in validation)" in text
    assert "1.5 min" in text  # waited
    assert "block steps" in text
    assert "test demonstrator: 1" in text  # its failures
    # Three strips of one start: as many pictures as the longest one has room for.
    assert "The same start as the camera saw it" in text
    assert 3 * 3 < len(page.images) <= 3 * 8
    assert page.addresses == []


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_unfinished_training_session_has_a_page(tmp_path: Path, stages: int) -> None:
    run = RunFolder.create("unfinished", root=tmp_path)
    writer = training_session.SessionWriter(run)
    for name, role, policy, split, tries in (
        ("demonstrations", "demonstration", "weak_script", "train", [3, None]),
        ("test demonstrator", "test", "weak_script", "test", [None, None]),
        ("explore 1", "exploration", "learned", "train", [None, 4]),
        ("validate 1", "validation", "milestone_01.safetensors", "validation", [None]),
    )[:stages]:
        writer.stage(name, role, policy, split, tries)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.open == []
    text = " ".join(page.texts)
    assert ("No policy has been tested yet" in text) == (stages == 1)
    assert "demonstrations" in text
    assert not json.loads(run.result.read_text())["training"]["trainer"]
