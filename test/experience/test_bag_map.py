"""The mapping of a foreign bag's topics: what it says is taken, every mistake is one clear line."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.experience.bag_map import BagMap, Source, load_bag_map

WHOLE = """
ticks: {period: 0.05}
observations:
  joints: {topic: /joint_states, fields: [position, velocity], names: [shoulder, elbow]}
  front: {topic: /camera/compressed, size: [64, 48], offset: -0.03, max_age: 0.2, stamp: log}
action: {topic: /arm_controller/joint_trajectory}
proposed: {topic: /policy/action}
reward: {topic: /reward, names: [total]}
terminated: {topic: /reward, names: [terminated]}
"""
LEAST = """
observations: {joints: {topic: joint_states}}
action: {topic: command}
"""


def load(folder: Path, text: str | bytes) -> BagMap:
    path = folder / "map.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_bag_map(path)


def test_all_that_a_map_can_say(tmp_path: Path) -> None:
    found = load(tmp_path, WHOLE)
    assert found == BagMap(
        observations={
            "joints": Source(
                "/joint_states", fields=("position", "velocity"), names=("shoulder", "elbow")
            ),
            "front": Source(
                "/camera/compressed",
                size=(64, 48),
                offset_ns=-30_000_000,
                max_age=0.2,
                stamp="log",
            ),
        },
        action=Source("/arm_controller/joint_trajectory"),
        period=0.05,
        proposed=Source("/policy/action"),
        reward=Source("/reward", names=("total",)),
        terminated=Source("/reward", names=("terminated",)),
    )
    assert found.topics == [
        "/joint_states",
        "/camera/compressed",
        "/arm_controller/joint_trajectory",
        "/policy/action",
        "/reward",
    ]


def test_what_a_map_need_not_say(tmp_path: Path) -> None:
    found = load(tmp_path, LEAST)
    assert (found.ticks, found.period) == ("", 0.1)
    assert (found.proposed, found.reward, found.terminated) == (None, None, None)
    joints = found.observations["joints"]
    assert (joints.fields, joints.names, joints.size) == ((), (), (64, 64))
    assert (joints.stamp, joints.offset_ns, joints.max_age) == ("header", 0, math.inf)


def test_ticks_of_a_topic_with_or_without_a_period(tmp_path: Path) -> None:
    found = load(tmp_path, LEAST + "ticks: {topic: /camera}")
    assert (found.ticks, found.period) == ("/camera", 0.0)
    assert found.topics == ["joint_states", "command", "/camera"]
    assert load(tmp_path, LEAST + "ticks: {topic: /camera, period: 0.2}").period == 0.2


def test_names_as_the_reader_of_bags_gives_them(tmp_path: Path) -> None:
    found = load(tmp_path, WHOLE + "").relative()
    assert found.topics == [
        "joint_states",
        "camera/compressed",
        "arm_controller/joint_trajectory",
        "policy/action",
        "reward",
    ]
    assert found.observations["front"].offset_ns == -30_000_000
    assert found.relative() == found
    assert found.relative("/left") == found
    left = LEAST.replace("joint_states", "/left/joint_states").replace("command", "/clock")
    assert load(tmp_path, left).relative("/left").topics == ["joint_states", "/clock"]
    ticks = load(tmp_path, LEAST + "ticks: {topic: /camera}").relative()
    assert ticks.ticks == "camera"
    assert ticks.reward is None


SOURCE = "action: {{topic: a}}\nobservations: {{o: {{topic: t, {}}}}}"
MISTAKES = {
    "": "expected a mapping of names to values, got None",
    "- a list": "expected a mapping of names to values, got ['a list']",
    "a: [": "is no YAML: while parsing a flow node",
    "a: b: c": "is no YAML: mapping values are not allowed here",
    "day: 2001-99-99": "is no YAML: month must be in 1..12",
    "[" * 999: "is no YAML: maximum recursion depth exceeded",
    "!!python/object/apply:os.getcwd []": "is no YAML: could not determine a constructor",
    "a: 1": "observations is missing",
    "observations: 3": "observations: expected a mapping of names to values, got 3",
    "observations: {}": "observations: at least one is needed",
    "observations: {3: {topic: a}}": "observations: the name 3 must be text",
    "observations: {'its action': {topic: a}}": "the name 'its action' must be of letters",
    "observations: {a: {topic: b}}": "action is missing",
    "observations: {a: b}\naction: {topic: b}": "observations: a: expected a mapping",
    "observations: {a: {}}\naction: {topic: b}": "observations: a: topic is missing",
    "observations: {a: {topic: 3}}\naction: {topic: b}": "topic is 3, it must be text",
    "observations: {a: {topic: ''}}\naction: {topic: b}": "topic is '', it must be text",
    LEAST + "ticks: {}": "ticks: a topic or a period is needed",
    LEAST + "ticks:": "ticks: expected a mapping of names to values, got None",
    LEAST + "ticks: {period: 0}": "ticks: period is 0, it must be above 0",
    LEAST + "ticks: {period: -1}": "ticks: period is -1, it must be above 0",
    LEAST + "ticks: {period: .nan}": "ticks: period is nan, it must be finite",
    LEAST + "ticks: {period: 1.0e-12}": "period is 1e-12 s, it must be 0.0001 to 10000",
    LEAST + "ticks: {period: 1.0e+300}": "period is 1e+300 s, it must be 0.0001 to 10000",
    LEAST + "ticks: {period: fast}": "ticks: period is 'fast', it must be a number",
    LEAST + "ticks: {period: true}": "ticks: period is True, it must be a number",
    LEAST + f"ticks: {{period: 1{'0' * 400}}}": "it must be finite",
    LEAST + "ticks: {perod: 1}": "ticks: unknown key perod",
    LEAST + "reward: total": "reward: expected a mapping of names to values, got 'total'",
    LEAST + "rewards: {topic: r}": "unknown key rewards; known are action, observations, proposed",
    SOURCE.format("topics: b"): "observations: o: unknown key topics; known are fields",
    SOURCE.format("fields: position"): "fields is 'position', it must be a list of names",
    SOURCE.format("fields: []"): "fields is [], it must be a list of names",
    SOURCE.format("names: [1, 2]"): "names has 1, names must be text",
    SOURCE.format("size: 64"): "size is 64, it must be [width, height] in pixels",
    SOURCE.format("size: [64]"): "size is [64], it must be [width, height] in pixels",
    SOURCE.format("size: '64'"): "size is '64', it must be [width, height] in pixels",
    SOURCE.format("size: [0, 64]"): "size is [0, 64], it must be [width, height] in pixels",
    SOURCE.format("size: [64, 9999]"): "it must be [width, height] in pixels, at most 4096",
    SOURCE.format("size: [6.4, 64]"): "size is [6.4, 64], it must be [width, height] in pixels",
    SOURCE.format("size: [true, true]"): "size is [True, True], it must be [width, height]",
    SOURCE.format("stamp: arrival"): "stamp is arrival, it must be header or log",
    SOURCE.format("offset: late"): "offset is 'late', it must be a number",
    SOURCE.format("offset: .inf"): "offset is inf, it must be finite",
    SOURCE.format("offset: 1.0e+12"): "offset is 1e+12 s, it must be within 4e+09",
    SOURCE.format("offset: -1.0e+300"): "offset is -1e+300 s, it must be within 4e+09",
    SOURCE.format("max_age: 0"): "max_age is 0, it must be above 0",
    SOURCE.format("max_age: old"): "max_age is 'old', it must be a number",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: repr(text[-40:]))
def test_every_mistake_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, text)
    line = str(refused.value)
    assert MISTAKES[text] in line
    assert line.startswith(f"{tmp_path / 'map.yaml'}")
    assert "\n" not in line


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    for contents in (b"\xff\xfe\x00", b"\x00", b"a: \x80"):
        with pytest.raises(UserError, match="is no YAML") as refused:
            load(tmp_path, contents)
        assert "\n" not in str(refused.value)


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.yaml: No such file"):
        load_bag_map(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_bag_map(tmp_path)


@given(text=st.text(alphabet="abco:{}[],' \n-&*!|>0.", max_size=60))
def test_whatever_the_file_says_it_is_a_map_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        load(tmp_path_factory.getbasetemp(), text)
    except UserError as error:
        words = str(error)
    else:
        words = ""
    assert "\n" not in words
