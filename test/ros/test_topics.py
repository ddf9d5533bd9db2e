"""The table of topics."""

import pytest

from rl_robot.robots.description import load_robot
from rl_robot.robots.interfaces import GRAPHS_OWN
from rl_robot.ros import topics
from rl_robot.ros.topics import named_topics
from rl_robot.ros.writers import DRY_RUN
from rl_robot.safety.arbiter import SOURCES
from rl_robot.tasks import load_task


def test_names_are_filled_in_for_every_choice() -> None:
    assert topics.OBJECT_POSE.expanded(object=["a", "b"]) == [
        "perception/a/pose",
        "perception/b/pose",
    ]
    assert topics.REWARD.expanded(object=["a"]) == ["reward"]
    assert topics.OBJECT_POSE.expanded(object=[]) == []


def test_no_controller_may_listen_where_the_graph_speaks() -> None:
    own = {topic.name.split("/")[0] for topic in topics.TOPICS if topic.name[0] != "<"}
    assert own | set(SOURCES) | {"joint_states"} <= {*GRAPHS_OWN, "joint_states"}
    assert DRY_RUN.rstrip("/") in GRAPHS_OWN


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


def test_a_robots_controllers_are_topics_of_their_types_but_for_a_grippers_action() -> None:
    task = load_task("reach")
    servo = named_topics(load_robot("ur5e_servo"), task)
    assert servo["servo_node/delta_twist_cmds"].type_name == "geometry_msgs/msg/TwistStamped"
    assert servo["gripper_position_controller/commands"] is topics.ARRAY_INTERFACE
    action = named_topics(load_robot("fr3_gripper_action"), task)
    assert "forward_velocity_controller/commands" in action
    assert not [name for name in action if "gripper" in name]
