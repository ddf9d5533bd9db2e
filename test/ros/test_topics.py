"""The table of topics."""

import pytest

from rl_robot.ros import topics


def test_names_are_filled_in_for_every_choice() -> None:
    assert topics.OBJECT_POSE.expanded(object=["a", "b"]) == [
        "perception/a/pose",
        "perception/b/pose",
    ]
    assert topics.REWARD.expanded(object=["a"]) == ["reward"]
    assert topics.OBJECT_POSE.expanded(object=[]) == []


@pytest.mark.parametrize(
    ("topic", "name", "does"),
    [
        (topics.OBJECT_POSE, "perception/block/pose", True),
        (topics.OBJECT_POSE, "perception/image", False),
        (topics.REWARD, "reward", True),
        (topics.TRAJECTORY_INTERFACE, "reward", False),
    ],
)
def test_a_name_finds_its_row(topic: topics.Topic, name: str, does: bool) -> None:
    assert topic.matches(name) is does


def test_the_nodes_that_must_hear_a_topic_are_counted() -> None:
    nodes = ["policy", "safety", "reward", "recorder", "supervisor"]
    assert topics.POLICY_COMMAND.listeners(nodes) == 2  # safety, and the recorder hears it all
    assert topics.RECORDER_STATUS.listeners(nodes) == 1
    assert topics.POLICY_COMMAND.listeners([]) == 0
    assert topics.POLICY_COMMAND.listeners(["policy", "player"]) == 1  # a replay's recorder
    assert topics.RECORDER_STATUS.listeners(["player"]) == 0


def test_no_name_stands_in_the_table_twice_with_one_type() -> None:
    rows = [(topic.name, topic.type) for topic in topics.TOPICS]
    assert len(rows) == len(set(rows))
