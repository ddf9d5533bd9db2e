import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.policies import PolicySpec, load_policy, policy_version, script
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import load_robot
from rl_robot.tasks import Grasp, Reach, ScriptStrength

ROBOT = load_robot("arm")
TASKS = {"grasp": Grasp(), "reach": Reach()}


def random_observation(task, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: generator.uniform(entry.low, entry.high, entry.shape).astype(np.float32)
        for name, entry in task.observation_spec.items()
    }


def network(task=TASKS["grasp"], version=3, seed=0):
    torch.manual_seed(seed)
    return NetworkPolicy(PolicySpec.of(task, ROBOT, version), hidden=(32, 16))


@pytest.mark.parametrize("name", ["script", "weak_script", "random"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_policies_act_within_bounds_and_repeat_under_one_seed(name, task):
    policy = load_policy(name, task, ROBOT)

    def episode(seed):
        policy.reset(seed)
        return [policy.act(random_observation(task, k), explore=True) for k in range(10)]

    first, again, other = np.array(episode(1)), np.array(episode(1)), np.array(episode(2))
    assert first.shape == (10, 5)
    assert first.dtype == np.float32
    assert np.all(np.abs(first) <= 1.0)
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name == "script")


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(sorted(TASKS)))
def test_a_network_policy_survives_its_file(tmp_path_factory, seed, task_name):
    task = TASKS[task_name]
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    saved = network(task, version=seed, seed=seed)
    saved.save(path)
    loaded = load_policy(str(path), task, ROBOT)
    assert loaded.spec == saved.spec
    assert loaded.spec.version == seed
    observation = random_observation(task, seed)
    for explore in (False, True):
        saved.reset(seed)
        loaded.reset(seed)
        action = loaded.act(observation, explore=explore)
        assert np.array_equal(action, saved.act(observation, explore=explore))
        assert action.shape == (5,)
        assert np.all(np.abs(action) <= 1.0)


def test_exploration_is_random_and_exploitation_is_not():
    policy = network()
    policy.reset(0)
    observation = random_observation(TASKS["grasp"])
    assert np.array_equal(
        policy.act(observation, explore=False), policy.act(observation, explore=False)
    )
    assert not np.array_equal(
        policy.act(observation, explore=True), policy.act(observation, explore=True)
    )


def test_the_files_header_names_what_the_policy_is_for(tmp_path):
    data = network().to_bytes()
    size = int.from_bytes(data[:8], "little")
    spec = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["spec"])
    assert spec["robot"] == "arm"
    assert spec["task"] == "grasp"
    assert spec["version"] == 3
    assert spec["observation"]["tool_position"]["unit"] == "m"
    assert spec["action_names"] == ["x", "y", "z", "yaw", "gripper"]


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_policy_is_refused_and_never_half_loaded(data):
    whole = network().to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(UserError, match="damaged"):
        NetworkPolicy.from_bytes(whole[:cut])
    with pytest.raises(UserError, match="damaged"):
        NetworkPolicy.from_bytes(data.draw(st.binary(max_size=200)))


def test_weights_that_are_not_finite_are_refused():
    policy = network()
    with torch.no_grad():
        policy.actor.head.bias[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        NetworkPolicy.from_bytes(policy.to_bytes())


def test_a_policy_made_for_something_else_is_refused_and_both_are_named(tmp_path):
    path = tmp_path / "policy.safetensors"
    network(TASKS["grasp"]).save(path)
    cases = {
        "task grasp, this is reach": (TASKS["reach"], ROBOT),
        "version of task grasp 1, this is 2": (replace(TASKS["grasp"], version=2), ROBOT),
        "robot arm, this is crane": (TASKS["grasp"], replace(ROBOT, name="crane")),
        "observation tool_position": (
            replace(TASKS["grasp"], workspace=((0, 0, 0), (1, 1, 1))),
            ROBOT,
        ),
    }
    for message, (task, robot) in cases.items():
        with pytest.raises(UserError, match=message):
            load_policy(str(path), task, robot)


def test_unknown_and_missing_policies_are_refused():
    with pytest.raises(UserError, match="script, weak_script, random"):
        load_policy("clever", TASKS["grasp"], ROBOT)
    with pytest.raises(UserError, match="No such file"):
        load_policy("nowhere.safetensors", TASKS["grasp"], ROBOT)
    with pytest.raises(UserError, match="no scripted expert"):
        load_policy("script", replace(TASKS["grasp"], name="juggle"), ROBOT)


OWN = """
from rl_robot.policies import PolicySpec
from rl_robot.tasks import Reach


class Still:
    def __init__(self, task, robot):
        self.spec = PolicySpec.of(task, robot)

    def reset(self, seed):
        pass

    def act(self, observation, *, explore):
        return [0.0, 0.0, 0.0, 0.0, 1.0]


class ForReach(Still):
    def __init__(self, task, robot):
        super().__init__(Reach(), robot)


class WithoutArguments:
    pass


class Actless:
    def __init__(self, task, robot):
        pass


class Unspecified(Still):
    def __init__(self, task, robot):
        self.spec = task.name
"""


@pytest.fixture
def own_policies(tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(OWN)
    (tmp_path / "my_typo.py").write_text("def broken(:")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_policies", None)


def test_a_policy_of_ones_own_is_named_by_module_and_class(own_policies):
    policy = load_policy("my_policies:Still", TASKS["grasp"], ROBOT)
    assert policy.spec == PolicySpec.of(TASKS["grasp"], ROBOT)
    assert policy.act({}, explore=True) == [0, 0, 0, 0, 1]
    assert policy_version("my_policies:Still") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Still", "no module 'nowhere'.*PYTHONPATH"),
        ("my_policies:Stil", "AttributeError.*Stil"),
        ("my_policies:", "AttributeError"),
        (":Still", "ValueError"),
        ("my_typo:Still", "SyntaxError.*my_typo.py"),
        ("my_policies:WithoutArguments", "TypeError"),
        ("my_policies:Actless", "no spec, reset, act"),
        ("my_policies:Unspecified", r"PolicySpec\.of\(task, robot\)"),
        ("my_policies:ForReach", "made for task reach, this is grasp"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(own_policies, name, message):
    with pytest.raises(UserError, match=message) as refused:
        load_policy(name, TASKS["grasp"], ROBOT)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


def test_the_expert_goes_to_the_block_opens_its_way_down_and_closes_there():
    task = TASKS["grasp"]
    expert = script(task, ROBOT)
    seen = {name: np.zeros(entry.shape) for name, entry in task.observation_spec.items()}
    seen["tool_yaw"] = np.array([1.0, 0.0])
    seen["block_yaw"] = np.array([1.0, 0.0])
    seen["block_relative"] = np.array([0.1, -0.1, -0.1])
    action = expert.act(seen, explore=False)
    assert action[0] > 0.5
    assert action[1] < -0.5
    assert action[4] > 0
    seen["block_relative"] = np.array([0.0, 0.0, -0.1])
    action = expert.act(seen, explore=False)
    assert action[2] < -0.5
    assert action[4] > 0
    seen["block_relative"] = np.zeros(3)
    assert expert.act(seen, explore=False)[4] < 0
    seen["block_held"] = np.ones(1)
    action = expert.act(seen, explore=False)
    assert action[2] > 0.5
    assert action[4] < 0


def test_a_weakened_expert_believes_the_target_elsewhere():
    task = TASKS["reach"]
    seen = {name: np.zeros(entry.shape) for name, entry in task.observation_spec.items()}
    at_goal = script(task, ROBOT).act(seen, explore=False)
    off = script(task, ROBOT, ScriptStrength(offset=(0.01, 0, 0))).act(seen, explore=False)
    assert at_goal[0] == 0.0
    assert off[0] > 0.0


def test_the_expert_that_closed_on_nothing_rises_until_it_sees_the_block_again():
    task = TASKS["grasp"]
    expert = script(task, ROBOT)
    seen = {name: np.zeros(entry.shape) for name, entry in task.observation_spec.items()}
    seen["tool_yaw"] = np.array([1.0, 0.0])
    seen["block_yaw"] = np.array([1.0, 0.0])
    seen["block_age"] = np.array([1.0])
    for _ in range(expert.CLOSING_STEPS):
        assert expert.act(seen, explore=False)[4] < 0
    for _ in range(3):
        action = expert.act(seen, explore=False)
        assert action[2] > 0.5
        assert action[4] > 0
    seen["block_age"] = np.zeros(1)
    seen["block_relative"] = np.array([0.1, 0.0, -0.06])
    action = expert.act(seen, explore=False)
    assert action[0] > 0.5
    assert abs(action[2]) < 0.1
