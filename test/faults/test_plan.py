"""Faults files: what they say, and one clear line for each mistake."""

import math

import pytest

from rl_robot.errors import UserError
from rl_robot.faults import available_plans, load_plan
from rl_robot.faults.plan import KINDS, Corrupt, Delay, Drop, parse_plan


def parse(*faults):
    return parse_plan({"topics": {"joint_states": list(faults)}}, "here").topics["joint_states"]


def test_a_fault_has_its_settings_and_defaults():
    drop, delay, corrupt = parse(
        {"drop": {"probability": 0.1, "burst": 3}},
        {"delay": {"from": 2, "until": 5.5, "seconds": 0.2, "keep_order": False}},
        {"corrupt": {"what": "nan"}},
    )
    assert drop == Drop(probability=0.1, burst=3)
    assert (drop.start, drop.until) == (0.0, math.inf)
    assert delay == Delay(start=2.0, until=5.5, seconds=0.2, keep_order=False)
    assert corrupt == Corrupt(what="nan")


def test_a_topic_may_pass_without_any_fault():
    assert parse() == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "expected one key, topics"),
        ({"topic": {}}, "expected one key, topics"),
        ({"topics": {"clock": []}, "seed": 1}, "expected one key, topics"),
        ({"topics": {}}, "topics is {}"),
        ({"topics": ["clock"]}, r"topics is \['clock'\]"),
        ({"topics": {"clock": {"drop": {}}}}, "clock: expected a list of faults"),
        ({"topics": {"clock": ["drop"]}}, "clock: expected a fault such as drop"),
        ({"topics": {"clock": [{"drop": {}, "delay": {}}]}}, "expected a fault such as drop"),
    ],
)
def test_another_form_is_refused_with_the_form_that_is_right(values, message):
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        parse_plan(values, "here")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"lose": {}}, "unknown fault 'lose': expected one of drop, delay"),
        ({"drop": None}, "drop: expected its settings, {} for none, got None"),
        ({"drop": {"chance": 0.1}}, "drop: unknown key 'chance': expected some of from, until"),
        ({"drop": {"start": 1}}, "drop: unknown key 'start'"),
        ({"drop": {"probability": 2}}, r"probability is 2, expected a number from 0 to 1"),
        ({"drop": {"probability": math.nan}}, "probability is nan, expected a number"),
        ({"drop": {"probability": "0.1"}}, "probability is '0.1', expected a number"),
        ({"drop": {"burst": 0}}, "burst is 0, expected a whole number from 1"),
        ({"drop": {"burst": 1.5}}, "burst is 1.5, expected a whole number"),
        ({"drop": {"burst": True}}, "burst is True, expected a whole number"),
        ({"drop": {"from": -1}}, "from is -1, expected a number from 0"),
        ({"drop": {"from": 3, "until": 3}}, "until 3 s is not after from 3 s"),
        ({"delay": {}}, "delay: seconds is missing"),
        ({"delay": {"seconds": 1, "keep_order": "no"}}, "'no', expected true or false"),
        ({"corrupt": {"what": "zero"}}, "what is 'zero', expected one of bits, nan"),
        ({"stamp": {}}, "stamp: offset is missing"),
        ({"stamp": {"offset": math.inf}}, "offset is inf"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(fault, message):
    with pytest.raises(UserError, match=message) as refused:
        parse(fault)
    text = str(refused.value)
    assert text.startswith("here: joint_states: ")
    assert "\n" not in text


@pytest.mark.parametrize("name", available_plans())
def test_the_files_that_come_with_the_package_are_sound(name):
    plan = load_plan(name)
    assert all(plan.topics.values())


def test_the_files_show_every_kind_of_fault():
    shown = {
        type(fault)
        for name in available_plans()
        for faults in load_plan(name).topics.values()
        for fault in faults
    }
    assert shown == set(KINDS.values())


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match=r"'rain': expected none, flaky_camera.*path\.yaml"):
        load_plan("rain")


def test_ones_own_file_is_given_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("topics: {clock: [{drop: {probability: 0.5}}]}")
    assert load_plan(str(path)).topics == {"clock": (Drop(probability=0.5),)}
    path.write_text("topics: [")
    with pytest.raises(UserError, match=r"mine\.yaml is no YAML"):
        load_plan(str(path))
    with pytest.raises(UserError, match=r"none\.yaml cannot be read"):
        load_plan(str(tmp_path / "none.yaml"))
