"""Which topics a faults file may speak of."""

import pytest

from rl_robot.errors import UserError
from rl_robot.faults import available_plans, load_plan
from rl_robot.faults.plan import parse_plan
from rl_robot.robots.description import load_robot
from rl_robot.ros.relays import find_relays
from rl_robot.ros.topics import named_topics
from rl_robot.tasks import load_task

ROBOT, TASK = load_robot("arm"), load_task("grasp")


def find(**topics):
    named = {name.replace("__", "/"): faults for name, faults in topics.items()}
    return find_relays(parse_plan({"topics": named}, "here"), ROBOT, TASK)


def test_a_topic_is_heard_beside_the_name_that_everybody_knows():
    (relay,) = find(camera__image_raw=[])
    assert (relay.name, relay.source) == ("camera/image_raw", "camera/image_raw/faultless")
    assert relay.publishers(["simulator", "perception", "recorder"]) == ["simulator"]
    assert relay.publishers(["camera", "perception"]) == ["camera"]
    assert relay.publishers(["perception"]) == []


def test_a_row_of_the_table_stands_for_all_its_topics():
    relays = find_relays(parse_plan({"topics": {"<interface>": []}}, "here"), ROBOT, TASK)
    assert [relay.name for relay in relays] == [one.topic for one in ROBOT.interfaces]
    assert {tuple(relay.publishers(["safety", "simulator"])) for relay in relays} == {("safety",)}
    (pose,) = find_relays(
        parse_plan({"topics": {"perception/<object>/pose": []}}, "here"), ROBOT, TASK
    )
    assert pose.name == "perception/block/pose"


def test_weights_come_from_the_trainer_who_may_come_and_go():
    assert find(policy__weights=[])[0].publishers(["policy", "trainer"]) == ["trainer"]


@pytest.mark.parametrize(
    "name", ["diagnostics", "emergency_stop", "safety/enable", "camera/picture", "teleop/command"]
)
def test_what_cannot_be_relayed_is_refused_with_what_can(name):
    with pytest.raises(UserError, match=rf"'{name}' is no topic.*camera/image_raw.*clock"):
        find(**{name.replace("/", "__"): []})


def test_a_goal_is_said_by_nobody_where_the_task_has_none():
    plan = parse_plan({"topics": {"goal": []}}, "here")
    assert find_relays(plan, ROBOT, load_task("reach"))
    with pytest.raises(UserError, match="'goal' is no topic that can be relayed"):
        find_relays(plan, ROBOT, TASK)


def test_a_topic_is_named_once():
    topics = {"<camera>/image_raw": [], "camera/image_raw": []}
    with pytest.raises(UserError, match="camera/image_raw is named twice"):
        find_relays(parse_plan({"topics": topics}, "here"), ROBOT, TASK)


@pytest.mark.parametrize(
    ("topic", "fault", "message"),
    [
        ("camera/image_raw", {"corrupt": {"what": "nan"}}, "an? Image has no field for 'nan'"),
        ("clock", {"corrupt": {"what": "names"}}, "Clock has no field for 'names'"),
        ("robot_description", {"stamp": {"offset": 1}}, "String has no stamp"),
        ("policy/weights", {"freeze": {"restamp": True}}, "UInt8MultiArray has no stamp"),
    ],
)
def test_a_fault_that_cannot_happen_to_a_topic_is_refused(topic, fault, message):
    with pytest.raises(UserError, match=message):
        find_relays(parse_plan({"topics": {topic: [fault]}}, "here"), ROBOT, TASK)


def test_every_topic_but_those_of_all_can_be_relayed_with_every_bit_of_it():
    names = set(named_topics(ROBOT, TASK)) - {"diagnostics", "emergency_stop", "goal"}
    plan = parse_plan({"topics": {name: [{"corrupt": {}}] for name in names}}, "here")
    assert {relay.name for relay in find_relays(plan, ROBOT, TASK)} == names


@pytest.mark.parametrize("name", available_plans())
@pytest.mark.parametrize("task", ["grasp", "reach"])
def test_the_files_that_come_with_the_package_are_for_every_task(name, task):
    assert find_relays(load_plan(name), ROBOT, load_task(task))
