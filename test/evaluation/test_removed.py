"""Episodes whose bags a quota removed, and pictures that were stored compressed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from rl_robot.bags import BagReader, EpisodeWriter
from rl_robot.bags.pictures import COMPRESSED_IMAGE, Kind, compress, compressed_topic
from rl_robot.evaluation import film
from rl_robot.evaluation.episodes import read_episode, to_values
from rl_robot.evaluation.evaluate import evaluate
from rl_robot.evaluation.report import write_report
from rl_robot.evaluation.summary import summarize
from rl_robot.experience.removed import RemovedEpisode, remove_bag
from rl_robot.experience.runs import RunFolder

OUTCOMES = [("success", "", 9), ("truncated", "out of time", 14), ("success", "", 10)]
CAMERA = "camera/image_raw"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create("three", root=tmp_path)
    synthetic.write_run(folder, OUTCOMES)
    return folder


def remove(run: RunFolder, number: int) -> None:
    """As the recorder does it."""
    bag = run.episode_path(number)
    episode = RemovedEpisode(bag.name, BagReader(bag).episode, 1, to_values(read_episode(bag)))
    remove_bag(run.path, episode)


def test_removed_bags_count_in_all_figures(run: RunFolder) -> None:
    before, evaluated = summarize(run), evaluate([run])
    for number in (0, 1):
        remove(run, number)
    assert json.dumps(summarize(run) | {"removed": 0}) == json.dumps(before)
    assert evaluate([run])["runs"][0] == evaluated["runs"][0] | {"removed": 2}
    page = write_report(run).read_text()
    assert "The bags of 2 of them were removed to keep the quota" in page
    assert page.count("data:image/jpeg") == film.FRAMES  # of the bag that is left


def test_a_run_of_removed_bags_only_has_its_report(run: RunFolder) -> None:
    for number in range(3):
        remove(run, number)
    page = write_report(run).read_text()
    assert "data:image/jpeg" not in page
    assert json.loads(run.result.read_text())["successes"] == 2


def test_figures_of_another_kind_are_left_out(run: RunFolder) -> None:
    remove(run, 0)
    file = run.path / "removed.jsonl"
    values = json.loads(file.read_text())
    values["figures"] |= {"latencies": "none", "seconds": [], "path": "/etc", "more": 1}
    file.write_text(json.dumps(values))
    summary = summarize(run)
    assert summary["episodes"] == 3
    assert summary["control_steps"] == 33


@pytest.mark.parametrize(("kind", "difference"), [("png", 0.0), ("jpeg", 3.0)])
def test_film_of_compressed_pictures(tmp_path: Path, kind: Kind, difference: float) -> None:
    plain = synthetic.write_episode(tmp_path / "plain", synthetic.metadata(0, "success", 9))
    types = synthetic.TYPES | {compressed_topic(CAMERA): COMPRESSED_IMAGE}
    writer = EpisodeWriter(tmp_path / "compressed", types)
    for sent in synthetic.episode_messages(10_000_000_000, 9, wall_ns=10**18):
        if sent.topic == CAMERA:
            data = compress(sent.raw, kind)
            writer.write(compressed_topic(CAMERA), data, sent.stamp_ns, sent.publish_ns)
        else:
            writer.write(*sent)
    small = writer.close(synthetic.metadata(0, "success", 9))
    times = np.linspace(0.0, 0.9, film.FRAMES)
    frames: list[Any] = [film._frames(path, times) for path in (plain, small)]
    assert [time for time, _ in frames[0]] == [time for time, _ in frames[1]]
    for (_, one), (_, other) in zip(*frames, strict=True):
        assert np.abs(one.astype(int) - other).mean() <= difference
    assert len(frames[0]) == film.FRAMES
