import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.experience.alignment import ObjectPose, Snapshot
from rl_robot.robots.description import load_robot
from rl_robot.tasks import (
    SPLITS,
    Grasp,
    Reach,
    Start,
    available_tasks,
    flat_size,
    flatten,
    load_task,
)

CLOSE = np.array([0, 0, 0, 0, -1], dtype=np.float32)
OPEN = np.array([0, 0, 0, 0, 1], dtype=np.float32)
INDICES = st.integers(0, 2**31 - 1)


def snapshot(
    tool=(0.4, 0.0, 0.2),
    tool_yaw=0.0,
    block=(0.4, 0.0, 0.02),
    block_yaw=0.0,
    age=0.0,
    aperture=0.08,
    rate=0.0,
    goal=None,
):
    return Snapshot(
        time_ns=0,
        joint_positions=np.zeros(7),
        joint_velocities=np.zeros(7),
        joint_age=0.0,
        tool_position=np.array(tool),
        tool_yaw=tool_yaw,
        objects={"block": ObjectPose(np.array(block), block_yaw, age)},
        goal=None if goal is None else np.array(goal),
        image=None,
        image_age=math.inf,
        aperture=aperture,
        aperture_rate=rate,
    )


@given(st.sampled_from(available_tasks()), st.sampled_from(SPLITS), INDICES)
def test_starts_repeat_and_lie_inside_the_area(name, split, index):
    task = load_task(name)
    start = task.start(split, index)
    assert start == task.start(split, index)
    (values,) = start.values.values()
    low, high = task.start_area
    assert all(a <= value <= b for a, value, b in zip(low, values, high, strict=True))


@given(st.sampled_from(available_tasks()), INDICES, INDICES)
def test_no_two_splits_share_a_floor_cell(name, first, second):
    task = load_task(name)

    def cell(split, index):
        (values,) = task.start(split, index).values.values()
        return tuple((np.array(values[:2]) - task.start_area[0][:2]) // 0.01)

    assert cell("test", first) != cell("train", second)
    assert cell("test", first) != cell("validation", second)
    assert cell("validation", first) != cell("train", second)


@pytest.mark.parametrize("name", available_tasks())
def test_the_held_out_starts_spread_over_the_area(name):
    task = load_task(name)
    drawn = [next(iter(task.start("test", index).values.values())) for index in range(200)]
    low, high = (np.array(corner) for corner in task.start_area)
    spread = (np.array(drawn) - low) / (high - low)
    assert np.all(spread.min(axis=0) < 0.1)
    assert np.all(spread.max(axis=0) > 0.9)
    assert np.all(np.abs(spread.mean(axis=0) - 0.5) < 0.08)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_a_start_survives_json(values):
    start = Start({"block": tuple(values)})
    assert Start.from_json(start.to_json()) == start


@pytest.mark.parametrize("text", ["", "[]", '{"block": 1}', '{"block": [NaN]}', '{"block": "x"}'])
def test_a_bad_start_is_refused(text):
    with pytest.raises(UserError, match="start"):
        Start.from_json(text)


def test_bad_splits_indices_and_tasks_are_refused_with_the_valid_ones():
    with pytest.raises(UserError, match="train, validation, test"):
        Grasp().start("tests", 0)
    with pytest.raises(UserError, match="0 or more"):
        Grasp().start("test", -1)
    with pytest.raises(UserError, match="grasp, reach"):
        load_task("juggle")
    with pytest.raises(UserError, match="nowhere"):
        load_task("nowhere:Juggle")
    with pytest.raises(UserError, match="not a task"):
        load_task("rl_robot.errors:UserError")


def test_a_users_own_task_loads_by_module_and_class():
    assert load_task("rl_robot.tasks.grasp:Grasp") == Grasp()


@pytest.mark.parametrize("name", available_tasks())
def test_observations_are_what_the_specification_says(name):
    task = load_task(name)
    observed = task.observation(snapshot(goal=(0.4, 0.1, 0.2)), task.initial_history())
    assert list(observed) == list(task.observation_spec)
    for key, spec in task.observation_spec.items():
        assert observed[key].shape == spec.shape
        assert observed[key].dtype == np.float32
    flat = flatten(task.observation_spec, observed)
    assert flat.shape == (flat_size(task.observation_spec),)
    assert flat.dtype == np.float32
    assert np.all(np.abs(flat) <= 1.0)


def test_flatten_scales_each_value_from_its_range():
    task = Reach()
    low, high = task.workspace
    observed = task.observation(snapshot(tool=low, goal=low), task.initial_history())
    assert flatten(task.observation_spec, observed)[:6] == pytest.approx([-1, -1, -1, 0, 0, 0])
    observed = task.observation(snapshot(tool=high, goal=(9, 9, 9)), task.initial_history())
    assert flatten(task.observation_spec, observed)[:6] == pytest.approx([1] * 6)


@given(st.floats(-3, 3), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.integers(-4, 4))
def test_the_block_is_seen_from_the_tool_and_alike_every_quarter_turn(yaw, x, y, quarters):
    task, history = Grasp(), Grasp().initial_history()
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    tool = np.array([0.4, 0.0, 0.1])
    block = tool + np.array([*(turn @ [x, y]), -0.08])
    seen = snapshot(tool, yaw, block, 0.3 + yaw + quarters * math.pi / 2)
    observed = task.observation(seen, history)
    assert observed["block_relative"] == pytest.approx([x, y, -0.08], abs=1e-6)
    assert observed["block_yaw"] == pytest.approx([math.cos(1.2), math.sin(1.2)], abs=1e-5)


def test_a_block_counts_as_held_only_between_resting_closing_fingers():
    task = Grasp()

    def held(action, **sensed):
        return bool(task.observation(snapshot(**sensed), [OPEN, action])["block_held"][0])

    assert held(CLOSE, aperture=0.04)
    assert not held(OPEN, aperture=0.04)
    assert not held(CLOSE, aperture=0.04, rate=-0.1)
    assert not held(CLOSE, aperture=0.0)
    assert not held(CLOSE, aperture=0.08)


def test_grasp_succeeds_when_a_held_block_stays_up_for_three_steps():
    task = Grasp()
    memory = task.new_memory()
    up = snapshot(tool=(0.4, 0, 0.11), aperture=0.04)
    outcomes = [task.reward(memory, up, CLOSE) for _ in range(3)]
    assert [outcome.success for outcome in outcomes] == [False, False, True]
    assert outcomes[1].total == pytest.approx(0.0)
    assert outcomes[2].total == pytest.approx(1.0)
    assert outcomes[2].terminated
    dropped = task.new_memory()
    steps = [up, up, snapshot(tool=(0.4, 0, 0.11), aperture=0.0), up, up]
    assert not any(task.reward(dropped, step, CLOSE).success for step in steps)


def test_grasp_pays_more_the_nearer_it_is_to_done():
    task = Grasp()
    stages = [
        (snapshot(tool=(0.3, 0.1, 0.25)), OPEN),
        (snapshot(tool=(0.4, 0.0, 0.05)), OPEN),
        (snapshot(tool=(0.4, 0.0, 0.02), aperture=0.04), CLOSE),
        (snapshot(tool=(0.4, 0.0, 0.06), aperture=0.04), CLOSE),
        (snapshot(tool=(0.4, 0.0, 0.10), aperture=0.04), CLOSE),
    ]
    totals = [task.reward(task.new_memory(), *stage).total for stage in stages]
    assert totals == sorted(totals)
    assert len(set(totals)) == len(totals)
    assert totals[0] >= -0.1
    assert totals[-1] <= 1e-9


def test_reach_succeeds_when_the_tool_stays_at_the_goal():
    task = Reach()
    memory = task.new_memory()
    near = snapshot(tool=(0.4, 0, 0.2), goal=(0.4, 0.015, 0.2))
    far = snapshot(tool=(0.4, 0, 0.2), goal=(0.4, 0.025, 0.2))
    steps = [near, near, far, near, near, near]
    outcomes = [task.reward(memory, step, OPEN).success for step in steps]
    assert outcomes == [False] * 5 + [True]


def test_grasp_refuses_a_robot_without_a_gripper():
    with pytest.raises(UserError, match="gripper"):
        Grasp().action_map(replace(load_robot("arm"), gripper=None))


@pytest.mark.parametrize("name", available_tasks())
def test_jerk_costs_by_its_weight_and_a_gripper_is_not_in_it(name):
    task = replace(load_task(name), jerk_weight=0.5)
    memory, seen = task.new_memory(), snapshot(goal=(0.6, 0.1, 0.2))
    go, still = np.array([1, 0, 0, 0, -1], np.float32), OPEN
    charges = [task.reward(memory, seen, action).terms["jerk"] for action in (still, go, go, still)]
    assert charges == pytest.approx([0.0, -0.125, -0.125, -0.125])
    free = load_task(name).reward(task.new_memory(), seen, go).terms["jerk"]
    assert free == -0.125 * load_task(name).jerk_weight / 0.5
