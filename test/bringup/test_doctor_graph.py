"""The doctor's graph: who is in it, and which arguments are refused."""

from pathlib import Path

import pytest
import yaml

from rl_robot.bringup.doctor_graph import DOCTOR
from rl_robot.bringup.graph import NodeSpec, parse_arguments
from rl_robot.errors import UserError
from rl_robot.resources import resource_path


def nodes(*arguments: str) -> dict[str, NodeSpec]:
    values = DOCTOR.resolve(parse_arguments(arguments))
    return {spec.name: spec for spec in DOCTOR.nodes(values)}


def test_the_safety_node_starts_disabled_and_the_doctor_may_ask() -> None:
    graph = nodes()
    assert set(graph) == {"safety", "doctor"}
    assert graph["safety"].parameters["enabled"] is False
    assert graph["doctor"].required
    assert graph["doctor"].asks
    assert graph["doctor"].parameters["motion"] == "ask"


def test_a_stand_in_takes_the_arms_place_with_its_fault() -> None:
    graph = nodes("stand_in:=true", "fault:=dead_stop", "robot:=ur5e", "namespace:=left")
    assert set(graph) == {"stand_in", "safety", "doctor"}
    assert graph["stand_in"].parameters["fault"] == "dead_stop"
    assert graph["doctor"].parameters["stand_in"] is True
    for spec in graph.values():
        assert spec.namespace == "left"
        assert spec.remappings["camera/image_raw"] == "camera/color/image_raw"
        assert spec.remappings["camera/camera_info"] == "camera/color/camera_info"


def test_a_cameras_info_is_where_its_pictures_are(tmp_path: Path) -> None:
    for topic, info in (("pictures", "camera_info"), ("/eye/rgb", "/eye/camera_info")):
        values = yaml.safe_load(resource_path("config/robots/arm.yaml").read_text())
        values["urdf"] = "package://rl_robot/urdf/arm.urdf"
        values["cameras"]["camera"]["topic"] = topic
        robot = tmp_path / "mine.yaml"
        robot.write_text(yaml.safe_dump(values))
        assert nodes(f"robot:={robot}")["doctor"].remappings["camera/camera_info"] == info


def test_a_camera_without_a_driver_gets_our_node() -> None:
    assert nodes("camera:=0")["camera"].parameters["source"] == "0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fault:=dead_stop"], "give stand_in:=true"),
        (["stand_in:=true", "fault:=evil"], "expected one of none, wrong_joint_order"),
        (["only:=rate,everything"], "only 'everything': expected some of joint_states"),
        (["stand_in:=true", "camera:=0"], "cameras of its own"),
        (["robot:=nobody"], "unknown robot 'nobody'"),
        (["only:=rate,stop", "motion:=false"], "only 'stop' moves the arm"),
        (["motion:=maybe"], "motion 'maybe'"),
        (["json:=findings.txt"], "ends in .json"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        nodes(*arguments)
