"""URDFs with meshes, and URDFs that MuJoCo cannot build."""

import shutil
from pathlib import Path

import pytest

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.model import compile_model, robot_spec

HERE = Path(__file__).parent
TETRAHEDRON = """v 0 0 0
v 0.1 0 0
v 0 0.1 0
v 0 0 0.1
f 1 3 2
f 1 2 4
f 2 3 4
f 3 1 4
"""


def _crane(folder: Path, *changes: tuple[str, str]) -> Robot:
    """Return the crane from a package-like folder, its URDF's text changed."""
    text = (HERE / "crane.urdf").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    urdf = folder / "crane_description" / "urdf" / "crane.urdf"
    urdf.parent.mkdir(parents=True)
    urdf.write_text(text)
    shutil.copy(HERE / "crane.yaml", urdf.parent)
    return load_robot(str(urdf.parent / "crane.yaml"))


BOX = '<box size="0.1 0.1 0.1"/>'


@pytest.mark.parametrize(
    "name", ["package://crane_description/meshes/trolley.obj", "../meshes/trolley.obj"]
)
def test_meshes_are_found_beside_the_urdf_and_in_its_package(tmp_path: Path, name: str) -> None:
    robot = _crane(tmp_path, (BOX, f'<mesh filename="{name}"/>'))
    meshes = tmp_path / "crane_description" / "meshes"
    meshes.mkdir()
    (meshes / "trolley.obj").write_text(TETRAHEDRON)
    model = compile_model(robot_spec(robot), robot)
    assert model.nmesh == 1


def test_an_absent_mesh_is_named(tmp_path: Path) -> None:
    robot = _crane(tmp_path, (BOX, '<mesh filename="trolley.obj"/>'))
    with pytest.raises(UserError, match=r"crane\.urdf.*trolley\.obj"):
        compile_model(robot_spec(robot), robot)


def test_an_absent_package_is_named(tmp_path: Path) -> None:
    robot = _crane(tmp_path, (BOX, '<mesh filename="package://other/trolley.obj"/>'))
    with pytest.raises(UserError, match="no folder above it is called other"):
        robot_spec(robot)


def test_meshes_of_other_types_are_left_out_where_only_seen(tmp_path: Path) -> None:
    visual = '<visual><geometry><mesh filename="trolley.dae"/></geometry></visual>'
    robot = _crane(tmp_path, ('<link name="swivel"/>', f'<link name="swivel">{visual}</link>'))
    assert compile_model(robot_spec(robot), robot).nmesh == 0


def test_collision_meshes_of_other_types_are_refused(tmp_path: Path) -> None:
    robot = _crane(tmp_path, (BOX, '<mesh filename="trolley.dae"/>'))
    with pytest.raises(UserError, match=r"trolley\.dae of link trolley must be one of \.stl"):
        robot_spec(robot)


def test_what_mujoco_cannot_build_is_said_in_one_line(tmp_path: Path) -> None:
    robot = _crane(tmp_path, ('ixx="0.01"', 'ixx="-1"'))
    with pytest.raises(UserError, match="MuJoCo cannot build this robot") as caught:
        compile_model(robot_spec(robot), robot)
    assert "\n" not in str(caught.value)


def test_every_link_keeps_its_frame(tmp_path: Path) -> None:
    robot = load_robot("arm")
    model = compile_model(robot_spec(robot), robot)
    for frame in (robot.base_frame, robot.tool_frame, "camera_optical_frame"):
        assert model.body(frame).name == frame
