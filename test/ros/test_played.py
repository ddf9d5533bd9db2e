"""What of a bag is played, and what is not, so that nothing of it moves a robot."""

import pytest

from rl_robot.nodes.recorder import recorded_topics
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.played import is_private, playable, said_again
from rl_robot.tasks import load_task

ROBOT, TASK = load_robot("arm"), load_task("grasp")
ROWS = recorded_topics(ROBOT, TASK)
TYPES = {name: row.type_name for name, row in ROWS.items()}
CONTROLLERS = {interface.topic for interface in ROBOT.interfaces}
COMMANDS = {"policy/command", "reset/command"}
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


@pytest.mark.parametrize("again", [(), ("perception",), ("perception", "policy", "reward")])
def test_what_could_move_a_robot_is_not_played(again: tuple[str, ...]) -> None:
    strange = {
        "teleop/command": TRAJECTORY,
        "other_controller/joint_trajectory": TRAJECTORY,
        "cmd_vel": "geometry_msgs/msg/Twist",
        "goal": "std_msgs/msg/Float64MultiArray",
    }
    played = playable(TYPES | strange, again)
    moving = CONTROLLERS | COMMANDS | {"emergency_stop"}
    assert not (moving | strange.keys()) & played.keys()
    assert {"joint_states", "camera/image_raw", "safety/command"} <= played.keys()


def test_a_safety_node_that_runs_again_hears_commands_and_no_controller_does() -> None:
    played = playable(TYPES | {"teleop/command": TRAJECTORY}, ("safety",)).keys()
    assert COMMANDS | {"episode", "episode/tick", "joint_states"} <= played
    assert not (CONTROLLERS | {"emergency_stop", "safety/command", "teleop/command"}) & played
    assert "policy/command" not in playable(TYPES, ("policy", "safety"))


@pytest.mark.parametrize("again", [(), ("safety",)])
@pytest.mark.parametrize("name", ["safety/command", "policy/command", "joint_states"])
def test_the_robots_interfaces_are_not_played_whatever_they_are_called(
    name: str, again: tuple[str, ...]
) -> None:
    assert name not in playable(TYPES, again, interfaces=[name])
    assert name not in playable(TYPES, again, interfaces=[f"/{name}"])
    assert f"/{name}" not in playable({f"/{name}": TYPES[name]}, again, interfaces=[f"/{name}"])


@pytest.mark.parametrize("topic", ["episode", "episode/tick"])
def test_an_episode_is_played_for_those_who_act_by_it(topic: str) -> None:
    assert topic not in playable(TYPES, ())
    assert topic not in playable(TYPES, ("perception",))
    for again in (("policy",), ("perception", "reward"), ("safety",)):
        assert topic in playable(TYPES, again)


def test_what_runs_again_is_not_played() -> None:
    assert "perception/ages" in playable(TYPES, ("policy",))
    perceived = {"perception/ages", "perception/image", "perception/block/pose"}
    assert not perceived & playable(TYPES, ("perception",)).keys()
    assert "diagnostics" not in playable(TYPES, ())


@pytest.mark.parametrize("node", ["perception", "policy", "reward", "safety"])
def test_what_is_said_again_is_what_is_not_played_of_a_node(node: str) -> None:
    said = said_again([node], ROBOT, TASK).keys()
    assert said == {name for name, row in ROWS.items() if row.publisher == node}
    assert not said & playable(TYPES, (node,)).keys()


def test_only_a_namespace_that_ends_in_replay_is_private() -> None:
    assert is_private("/replay")
    assert is_private("/lab/left/replay/")
    assert not is_private("/")
    assert not is_private("/replay/left")
    assert not is_private("/my_replay")


def test_types_are_named_as_ros_does() -> None:
    assert TYPES["policy/command"] == TRAJECTORY
    assert topics.IMAGE_RAW.type_name == "sensor_msgs/msg/Image"
