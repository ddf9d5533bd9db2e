"""Arguments, their refusals, and the graphs as data."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from rl_robot.bags import EpisodeMetadata, EpisodeWriter
from rl_robot.bringup.graph import (
    Argument,
    Graph,
    NodeSpec,
    describe_arguments,
    parse_arguments,
)
from rl_robot.bringup.graphs import COLLECT, DEPLOY, REPLAY, TRAIN, find_graph
from rl_robot.bringup.session_graphs import MEMBERS
from rl_robot.errors import UserError
from rl_robot.experience.runs import RunFolder
from rl_robot.learners import SacConfig
from rl_robot.resources import resource_path

TINY = Graph(
    name="tiny",
    description="for tests",
    arguments=(
        Argument("colour", "red", "what it looks like", choices=("red", "blue")),
        Argument("size", "1", "how large it is", check=int),
    ),
    nodes=lambda values: [NodeSpec("simulator", "simulator", {"size": int(values["size"])})],
    log_folder=lambda values: values["colour"],
)


def test_arguments_are_defaults_unless_given():
    assert TINY.resolve({}) == {"colour": "red", "size": "1"}
    assert TINY.resolve({"size": "3"}) == {"colour": "red", "size": "3"}


def test_an_unknown_argument_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"no argument 'coulor'.*colour, size"):
        TINY.resolve({"coulor": "red"})


def test_a_value_that_is_no_choice_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"colour 'green'.*red, blue"):
        TINY.resolve({"colour": "green"})


def test_arguments_are_parsed_as_ros2_launch_does():
    assert parse_arguments(["a:=1", "b:=x:=y", "a:=2"]) == {"a": "2", "b": "x:=y"}


@pytest.mark.parametrize("text", ["robot=arm", "robot", ":=arm", "robot:=", "robot: =arm"])
def test_a_malformed_argument_is_refused_with_the_form_that_is_right(text):
    with pytest.raises(UserError, match="expected name:=value"):
        parse_arguments([text])


def test_arguments_are_described_as_ros2_launch_does():
    assert describe_arguments(TINY) == (
        "Arguments (pass arguments as '<name>:=<value>'):\n"
        "\n"
        "    'colour':\n"
        "        what it looks like. Valid choices are: ['red', 'blue']\n"
        "        (default: 'red')\n"
        "\n"
        "    'size':\n"
        "        how large it is\n"
        "        (default: '1')"
    )


def test_a_launch_file_is_found_by_either_name():
    assert find_graph("collect.launch.py") is COLLECT
    assert find_graph("deploy") is DEPLOY
    with pytest.raises(UserError, match=r"'dance\.launch\.py'.*collect.*deploy.*replay"):
        find_graph("dance.launch.py")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"robot": "leg"}, "leg.*arm"),
        ({"task": "dance"}, "dance.*grasp.*reach"),
        ({"policy": "genius"}, "genius.*script.*safetensors"),
        ({"policy": "missing.safetensors"}, r"missing\.safetensors"),
        ({"pace": "fast"}, "fast.*paced"),
        ({"episodes": "-1"}, "episodes '-1'"),
        ({"episodes": "many"}, "episodes 'many'"),
        ({"split": "exam"}, "exam.*train"),
        ({"namespace": "a b"}, "namespace 'a b'"),
        ({"run": "../elsewhere"}, "run '../elsewhere'"),
        ({"simulator": "none"}, "pace 'paced'.*real robot"),
        ({"camera": "0"}, "simulator:=none"),
        ({"record": "maybe"}, "record 'maybe'.*true, false"),
        ({"faults": "rain"}, "unknown faults 'rain'.*none, flaky_camera"),
    ],
)
def test_a_session_refuses_what_cannot_work(given, message):
    with pytest.raises(UserError, match=message):
        COLLECT.resolve(given)


def test_a_session_in_simulation_has_every_node_and_ends_with_the_supervisor():
    values = {"run": "x", "processes": "each"}
    nodes = {node.name: node for node in COLLECT.nodes(COLLECT.resolve(values))}
    assert set(nodes) == {
        "simulator",
        "perception",
        "policy",
        "safety",
        "reward",
        "reset",
        "supervisor",
        "recorder",
    }
    assert [name for name, node in nodes.items() if node.required] == ["supervisor"]
    assert all(node.parameters["robot"] == "arm" for node in nodes.values())
    assert nodes["supervisor"].parameters["run"] == "runs/x"
    assert nodes["recorder"].parameters["run"] == "runs/x"
    watched = nodes["supervisor"].parameters["nodes"].split(",")
    assert set(watched) == set(nodes)
    assert nodes["safety"].parameters["enabled"] is True


def test_paced_the_nodes_of_a_tick_share_a_process():
    nodes = {node.name: node for node in COLLECT.nodes(COLLECT.resolve({"run": "x", "seed": "7"}))}
    assert set(nodes) == {"container", "recorder", "supervisor"}
    container = nodes["container"]
    assert set(container.members) == set(MEMBERS)
    assert container.parameters["seed"] == 7
    assert container.parameters["policy"] == "script"
    assert set(MEMBERS) < set(container.parameters["nodes"].split(","))
    at_real_time = DEPLOY.nodes(DEPLOY.resolve({"run": "x"}))
    assert "container" not in {node.name for node in at_real_time}
    with pytest.raises(UserError, match="processes 'one' is for pace:=paced"):
        DEPLOY.resolve({"processes": "one"})


def test_only_the_nodes_of_a_paced_session_may_wait_for_one_another():
    paced = COLLECT.nodes(COLLECT.resolve({"run": "x", "processes": "each"}))
    assert not [node.name for node in paced if node.real_time]
    for pace in ("1.0", "0.5"):
        nodes = COLLECT.nodes(COLLECT.resolve({"run": "x", "pace": pace}))
        assert all(node.real_time for node in nodes)


def test_the_parameters_of_one_process_have_one_meaning():
    each = COLLECT.nodes(COLLECT.resolve({"run": "x", "processes": "each"}))
    meanings = {}
    for node in each:
        if node.executable in MEMBERS:
            for name, value in node.parameters.items():
                assert meanings.setdefault(name, value) == value, name


def test_training_adds_a_trainer_that_agrees_with_the_supervisor(tmp_path):
    values = TRAIN.resolve({"run": "x", "root": str(tmp_path), "steps": "900", "blocks": "3"})
    nodes = {node.name: node for node in TRAIN.nodes(values)}
    assert {"trainer", "supervisor", "recorder", "container"} == set(nodes)
    for name in ("demonstrations", "blocks", "block_steps", "run", "seed"):
        assert nodes["trainer"].parameters[name] == nodes["supervisor"].parameters[name], name
    assert nodes["trainer"].parameters["block_steps"] == 300
    assert nodes["trainer"].parameters["demonstrations"] == 100


def test_how_smoothly_is_acted_is_told_to_the_trainer_and_the_reward(tmp_path):
    told = {"noise_correlation": "0.0", "action_cutoff": "1.5", "jerk_weight": "0.02"}
    given = {"run": "x", "root": str(tmp_path), "processes": "each"}
    by_default, smooth = (
        {node.name: node.parameters for node in TRAIN.nodes(TRAIN.resolve(given | more))}
        for more in ({}, told)
    )
    assert smooth["reward"]["jerk_weight"] == 0.02
    assert "jerk_weight" not in by_default["reward"]
    for name in ("noise_correlation", "action_cutoff"):
        assert smooth["trainer"][name] == float(told[name])
        assert by_default["trainer"][name] == getattr(SacConfig, name)


def test_offline_the_trainer_is_alone(tmp_path):
    given = {"offline": "true", "bags": str(tmp_path), "run": "x", "root": str(tmp_path)}
    (trainer,) = TRAIN.nodes(TRAIN.resolve(given))
    assert trainer.required
    assert trainer.parameters["offline"] is True
    with pytest.raises(UserError, match="needs bags"):
        TRAIN.resolve({"offline": "true"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": "3", "blocks": "5"}, "at least one step"),
        ({"blocks": "0"}, "one block"),
        ({"learner": "dqn"}, "dqn.*sac"),
        ({"updates_per_step": "-1"}, "updates_per_step '-1'"),
        ({"noise_correlation": "1"}, "noise_correlation '1'.*below 1"),
        ({"noise_correlation": "white"}, "noise_correlation 'white'"),
        ({"action_cutoff": "-1"}, "action_cutoff '-1'.*Hz"),
        ({"action_cutoff": "nan"}, "action_cutoff 'nan'"),
        ({"jerk_weight": "-0.1"}, "jerk_weight '-0.1'"),
        ({"resume": "nowhere"}, "there is no run"),
        ({"policy": "genius"}, "genius"),
        ({"demonstrations": "many"}, "demonstrations 'many'"),
        ({"bags": "runs/nowhere"}, "bags 'runs/nowhere': no such run"),
    ],
)
def test_training_refuses_what_cannot_work(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TRAIN.resolve({"root": str(tmp_path)} | given)


def test_with_bags_nothing_need_be_demonstrated(tmp_path):
    values = TRAIN.resolve({"bags": str(tmp_path), "root": str(tmp_path), "run": "x"})
    assert values["demonstrations"] == "0"
    given = {"bags": str(tmp_path), "root": str(tmp_path), "demonstrations": "5"}
    assert TRAIN.resolve(given)["demonstrations"] == "5"


def test_a_training_run_is_resumed_with_its_own_arguments(tmp_path):
    root = str(tmp_path)
    begun = TRAIN.resolve({"run": "x", "root": root, "steps": "700", "seed": "3"})
    run = RunFolder.open("x", root)
    with pytest.raises(UserError, match="no training session"):
        TRAIN.resolve({"resume": "x", "root": root})
    run.write_session({"arguments": begun})
    again = TRAIN.resolve({"resume": "x", "root": root})
    assert TRAIN.nodes(again)[0].parameters == TRAIN.nodes(begun)[0].parameters
    assert TRAIN.resolve({"resume": str(run.path)})["seed"] == "3"
    with pytest.raises(UserError, match="leave out steps:=800"):
        TRAIN.resolve({"resume": "x", "root": root, "steps": "800"})


def test_a_run_with_episodes_is_not_begun_again(tmp_path):
    root = str(tmp_path)
    TRAIN.resolve({"run": "x", "root": root})
    Path(bag(tmp_path)).rename(tmp_path / "x/episodes/episode_000000")
    with pytest.raises(UserError, match="resume:=x"):
        TRAIN.resolve({"run": "x", "root": root})


def test_a_real_robot_brings_its_own_drivers():
    values = {"simulator": "none", "pace": "1.0", "camera": "0", "namespace": "/lab/left"}
    nodes = {node.name: node for node in COLLECT.nodes(COLLECT.resolve(values))}
    assert "simulator" not in nodes
    assert nodes["camera"].parameters["source"] == "0"
    assert nodes["safety"].parameters["enabled"] is False
    assert {node.namespace for node in nodes.values()} == {"lab/left"}


def test_the_graph_hears_a_physical_arms_drivers_where_they_speak():
    nodes = {n.name: n for n in DEPLOY.nodes(DEPLOY.resolve({"robot": "ur5e", **PHYSICAL}))}
    assert nodes["perception"].remappings == {"camera/image_raw": "camera/color/image_raw"}
    assert nodes["safety"].remappings == nodes["perception"].remappings
    built_in = DEPLOY.nodes(DEPLOY.resolve({"robot": "arm"}))
    assert all(not node.remappings for node in built_in)


PHYSICAL = {"simulator": "none", "task": "reach"}


def test_a_dry_run_is_for_a_real_robot_and_shows_what_safety_says():
    values = DEPLOY.resolve({"robot": "ur5e", **PHYSICAL, "dry_run": "true"})
    nodes = {node.name: node for node in DEPLOY.nodes(values)}
    assert nodes["safety"].parameters["dry_run"] is True
    assert [name for name, node in nodes.items() if node.shown] == ["safety"]
    sent = {node.name: node for node in DEPLOY.nodes(DEPLOY.resolve(PHYSICAL))}
    assert sent["safety"].parameters["dry_run"] is False
    assert not any(node.shown for node in sent.values())
    with pytest.raises(UserError, match="dry_run is for a real robot: give simulator:=none"):
        DEPLOY.resolve({"robot": "ur5e", "dry_run": "true"})
    with pytest.raises(UserError, match="record: a dry run moves nothing"):
        DEPLOY.resolve({"robot": "ur5e", **PHYSICAL, "dry_run": "true", "record": "true"})
    with pytest.raises(UserError, match=r"has no argument .dry_run."):
        COLLECT.resolve({"dry_run": "true"})


@pytest.mark.parametrize("robot", ["fr3", "fr3_gripper_action", "ur5e_servo"])
def test_a_robot_that_takes_no_positions_is_not_simulated(robot):
    with pytest.raises(UserError, match=r"simulators take positions, not .*: give a variant"):
        COLLECT.resolve({"robot": robot, "task": "reach"})


@pytest.mark.parametrize("robot", ["fr3", "ur5e_servo"])
def test_such_a_robot_is_deployed(robot):
    DEPLOY.resolve({"robot": robot, **PHYSICAL})


@pytest.mark.skipif(find_spec("control_msgs") is not None, reason="control_msgs is installed here")
def test_a_grippers_action_without_its_messages_is_refused_before_anything_starts():
    with pytest.raises(UserError, match="gripper: GripperCommand needs the package control_msgs"):
        DEPLOY.resolve({"robot": "fr3_gripper_action", **PHYSICAL})


def faulty(folder, *topics):
    """Write a faults file that names topics; return its path."""
    path = folder / "faults.yaml"
    path.write_text("topics: {" + ", ".join(f"'{topic}': []" for topic in topics) + "}")
    return str(path)


def test_faults_come_between_a_topics_publisher_and_its_hearers(tmp_path):
    file = faulty(tmp_path, "camera/image_raw", "perception/ages", "episode/tick")
    given = {"run": "x", "root": str(tmp_path), "faults": file, "processes": "each", "seed": "5"}
    nodes = {node.name: node for node in COLLECT.nodes(COLLECT.resolve(given))}
    assert nodes["faults"].parameters["faults"] == file
    assert nodes["faults"].parameters["seed"] == 5
    assert "faults" in nodes["supervisor"].parameters["nodes"].split(",")
    assert {name: node.remappings for name, node in nodes.items() if node.remappings} == {
        "simulator": {"simulator:camera/image_raw": "camera/image_raw/faultless"},
        "perception": {"perception:perception/ages": "perception/ages/faultless"},
        "supervisor": {"supervisor:episode/tick": "episode/tick/faultless"},
    }


def test_in_one_process_only_the_publisher_is_sent_elsewhere(tmp_path):
    robot = tmp_path / "mine.yaml"
    arm = resource_path("config/robots/arm.yaml").read_text()
    urdf = resource_path("urdf/arm.urdf")
    arm = arm.replace("../../urdf/arm.urdf", str(urdf))
    robot.write_text(arm.replace("topic: joint_states", "topic: driver/joint_states"))
    file = faulty(tmp_path, "joint_states", "perception/ages", "reward")
    given = {"run": "x", "root": str(tmp_path), "faults": file, "robot": str(robot)}
    nodes = {node.name: node for node in COLLECT.nodes(COLLECT.resolve(given))}
    assert set(nodes) == {"container", "recorder", "supervisor", "faults"}
    rules = nodes["container"].remappings
    assert rules == {
        "simulator:joint_states": "joint_states/faultless",
        "perception:perception/ages": "perception/ages/faultless",
        "reward:reward": "reward/faultless",
        "joint_states": "driver/joint_states",
    }
    assert list(rules)[-1] == "joint_states"  # the first rule that fits is the one that counts
    assert nodes["faults"].remappings == {"joint_states": "driver/joint_states"}


def test_without_faults_nothing_stands_in_between():
    nodes = COLLECT.nodes(COLLECT.resolve({"run": "x"}))
    assert "faults" not in {node.name for node in nodes}
    assert not any(node.remappings for node in nodes)


def test_training_has_faults_as_well(tmp_path):
    given = {"run": "x", "root": str(tmp_path), "faults": faulty(tmp_path, "policy/weights")}
    nodes = {node.name: node for node in TRAIN.nodes(TRAIN.resolve(given))}
    assert nodes["trainer"].remappings == {"trainer:policy/weights": "policy/weights/faultless"}


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("<interface>", "arm_controller/joint_trajectory is what moves the robot.*simulation"),
        ("joint_states", "no node of this session publishes joint_states"),
        ("nowhere", "'nowhere' is no topic that can be relayed"),
    ],
)
def test_on_a_real_robot_faults_stay_away_from_what_moves_it(tmp_path, topic, message):
    file = faulty(tmp_path, topic)
    given = {"root": str(tmp_path), "faults": file, "simulator": "none", "camera": "0"}
    with pytest.raises(UserError, match=message):
        DEPLOY.nodes(DEPLOY.resolve(given))


def test_a_real_robots_own_nodes_may_have_faults(tmp_path):
    file = faulty(tmp_path, "camera/image_raw", "policy/command")
    given = {"root": str(tmp_path), "faults": file, "simulator": "none", "camera": "0"}
    nodes = {node.name: node for node in DEPLOY.nodes(DEPLOY.resolve(given))}
    assert {name for name, node in nodes.items() if node.remappings} == {"camera", "policy"}


def test_deploying_neither_explores_nor_records_unless_asked():
    nodes = {node.name: node for node in DEPLOY.nodes(DEPLOY.resolve({}))}
    assert nodes["supervisor"].parameters["explore"] is False
    assert "recorder" not in nodes
    with_bags = {node.name for node in DEPLOY.nodes(DEPLOY.resolve({"record": "true"}))}
    assert "recorder" in with_bags


def test_runs_are_named_by_time_unless_named():
    assert COLLECT.resolve({"run": "mine"})["run"] == "mine"
    assert COLLECT.resolve({})["run"]


def test_a_map_is_checked_against_the_task_before_anything_is_recorded(tmp_path):
    short = tmp_path / "map.yaml"
    short.write_text("observations: {joints: {topic: /joints}}\naction: {topic: /action}\n")
    given = {"map": str(short), "run": "x", "root": str(tmp_path)}
    with pytest.raises(UserError, match="map says what the topics of bags:= mean: give bags:="):
        TRAIN.resolve(given)
    for offline in ("false", "true"):
        with pytest.raises(UserError, match=r"the map has no observation .* task grasp observes"):
            TRAIN.resolve(given | {"bags": str(tmp_path), "offline": offline})
    assert not (tmp_path / "x").exists()


def test_replay_refuses_a_bag_that_is_not_there_or_none(tmp_path):
    with pytest.raises(UserError, match="bag is missing"):
        REPLAY.resolve({})
    with pytest.raises(UserError, match="there is no bag at"):
        REPLAY.resolve({"bag": str(tmp_path / "none")})
    with pytest.raises(UserError, match=str(tmp_path)):
        REPLAY.resolve({"bag": str(tmp_path)})


def replayed(nodes, **given):
    defaults = {argument.name: argument.default for argument in REPLAY.arguments}
    own = {"bag": "b", "rate": "2", "robot": "arm", "task": "grasp", "nodes": nodes}
    return defaults | own | given


def test_a_replay_runs_nodes_again_by_the_stamps_alone():
    nodes = {node.name: node for node in REPLAY.nodes(replayed("perception,policy"))}
    assert set(nodes) == {"perception", "policy", "player"}
    assert {nodes[name].parameters["pace"] for name in ("perception", "policy")} == {"paced"}
    assert "policy" not in nodes["policy"].parameters  # who acts is said in the episodes
    player = nodes["player"]
    assert player.required
    parameters = {"bag": "b", "rate": 2.0, "robot": "arm", "task": "grasp"}
    assert parameters.items() <= player.parameters.items()
    assert player.parameters["nodes"] == "perception,policy,player"
    shadow = REPLAY.nodes(replayed("policy", policy="weak_script", rate="max"))
    assert all(node.parameters["policy"] == "weak_script" for node in shadow)
    assert shadow[-1].parameters["rate"] == 0.0


@pytest.mark.parametrize(
    ("namespace", "private"), [("", "replay"), ("left", "left/replay"), ("/lab/x", "lab/x/replay")]
)
def test_a_replay_lives_in_a_namespace_in_which_nobody_drives_a_robot(namespace, private):
    nodes = REPLAY.nodes(replayed("perception,safety", namespace=namespace))
    assert {node.namespace for node in nodes} == {private}


def test_a_robot_whose_topics_are_absolute_is_replayed_in_private(tmp_path):
    nodes = REPLAY.nodes(replayed("safety", robot=absolute_arm(tmp_path)))
    topic = "arm_controller/joint_trajectory"
    assert [node.remappings for node in nodes] == [{f"/{topic}": topic}] * 2
    assert all(not node.remappings for node in REPLAY.nodes(replayed("safety")))


def absolute_arm(folder):
    """Write the arm with a controller whose topic is absolute; return the YAML's path."""
    built_in = resource_path("config/robots/arm.yaml")
    text = built_in.read_text().replace("topic: arm_controller", "topic: /arm_controller")
    text = text.replace("../../urdf", str(built_in.parents[2] / "urdf"))
    (folder / "absolute.yaml").write_text(text)
    return str(folder / "absolute.yaml")


@pytest.mark.parametrize("refused", ["trainer", "none,perception", "reset"])
def test_replay_refuses_nodes_that_can_not_run_again(tmp_path, refused):
    with pytest.raises(UserError, match="some of perception, policy, reward, safety"):
        REPLAY.resolve({"bag": bag(tmp_path), "nodes": refused})


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "paced"])
def test_replay_refuses_a_rate_that_is_no_factor_of_real_time(tmp_path, rate):
    with pytest.raises(UserError, match=f"rate '{rate}': expected a factor of real time, or max"):
        REPLAY.resolve({"bag": bag(tmp_path), "rate": rate})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nodes": "none", "rate": "max"}, "rate 'max' waits for nodes that run again"),
        ({"policy": "script"}, "policy is for a policy that runs again"),
        ({"nodes": "none", "compare": "a.json"}, "compare is for what nodes say again"),
        ({"nodes": "none", "plot": "a.png"}, "plot is for what nodes say again"),
        ({"nodes": "none", "tolerance": "0"}, "tolerance is for what nodes say again"),
        ({"nodes": "policy,safety", "policy": "script"}, "don't run again together"),
        ({"nodes": "policy", "policy": "genius"}, "genius.*script.*safetensors"),
        ({"tolerance": "much"}, "tolerance 'much'"),
        ({"remap": "joints"}, "remap 'joints'"),
        ({"compare": "nowhere/a.json"}, "there is no folder nowhere"),
        ({"compare": "a.txt"}, r"ends in \.json"),
        ({"plot": "a.gif"}, r"ends in \.png"),
        ({"patience": "0"}, "patience '0'"),
    ],
)
def test_replay_refuses_what_cannot_work(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        REPLAY.resolve({"bag": bag(tmp_path)} | given)


def test_the_policy_of_an_exploration_is_not_in_its_bag(tmp_path):
    learnt = bag(tmp_path, policy="learned")
    with pytest.raises(UserError, match=r"does not hold the policy that acted: give policy:="):
        REPLAY.resolve({"bag": learnt, "nodes": "policy"})
    assert REPLAY.resolve({"bag": learnt, "nodes": "policy", "policy": "script"})
    assert REPLAY.resolve({"bag": learnt, "nodes": "reward"})


def bag(folder, *, robot="arm", task="grasp", policy="script"):
    """Write a bag without a message; return its path."""
    writer = EpisodeWriter(
        folder / f"{robot}-{task}-{policy}", {"clock": "rosgraph_msgs/msg/Clock"}
    )
    return str(
        writer.close(
            EpisodeMetadata(
                episode=0,
                robot=robot,
                task=task,
                split="test",
                index=0,
                start="{}",
                policy=policy,
                policy_version="1",
                seed=0,
                outcome="success",
            )
        )
    )


def test_replay_is_for_the_robot_and_task_of_the_bag_unless_told(tmp_path):
    recorded = bag(tmp_path)
    values = REPLAY.resolve({"bag": recorded})
    assert (values["robot"], values["task"], values["policy"]) == ("arm", "grasp", "")
    assert REPLAY.resolve({"bag": recorded, "task": "reach"})["task"] == "reach"


def test_replay_of_another_robot_or_task_says_which_argument_is_missing(tmp_path):
    crane = bag(tmp_path, robot="crane")
    with pytest.raises(UserError, match=r"robot 'crane' is not known here: give robot:="):
        REPLAY.resolve({"bag": crane})
    yaml = str(Path(__file__).parents[1] / "robots" / "crane.yaml")
    assert REPLAY.resolve({"bag": crane, "robot": yaml})["robot"] == yaml
    with pytest.raises(UserError, match=r"task 'stack' is not known here: give task:="):
        REPLAY.resolve({"bag": bag(tmp_path, task="stack")})
    with pytest.raises(UserError, match="leg"):
        REPLAY.resolve({"bag": crane, "robot": "leg"})


def test_a_bag_of_an_unknown_robot_can_be_played_alone(tmp_path):
    values = REPLAY.resolve({"bag": bag(tmp_path, robot="crane", task="stack"), "nodes": "none"})
    (player,) = REPLAY.nodes(values)
    assert player.parameters["robot"] == player.parameters["task"] == ""
    assert player.parameters["nodes"] == "player"


def test_every_executable_is_installed_for_ros2_run():
    declared = (Path(__file__).parents[2] / "setup.py").read_text()
    real = COLLECT.resolve({"simulator": "none", "pace": "1.0", "camera": "0"})
    graphs = [
        COLLECT.nodes(COLLECT.resolve({})),
        DEPLOY.nodes(DEPLOY.resolve({})),
        COLLECT.nodes(real),
        TRAIN.nodes(TRAIN.resolve({})),
        DEPLOY.nodes(DEPLOY.resolve({"processes": "each", "faults": "flaky_camera"})),
        REPLAY.nodes(replayed("perception,policy,reward,safety")),
    ]
    assert not [
        node.executable
        for nodes in graphs
        for node in nodes
        if f'"{node.executable}"' not in declared
    ]
