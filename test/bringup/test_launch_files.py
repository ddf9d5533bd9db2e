"""The launch files under the real `launch` and `launch_ros`, with small scripts for nodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ros_launch import launch_command, launch_environment, make_prefix

from rl_robot.bringup.graphs import COLLECT, GRAPHS
from rl_robot.resources import resource_path

pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed here")

# A node that notes how it was started and how it was ended; the supervisor's fate is given.
FAKE_NODE = """\
#!{python}
import json, os, signal, sys, time
from pathlib import Path

name = Path(sys.argv[0]).name
here = Path({folder!r})

def interrupted(*_):
    (here / f"{{name}}.interrupted").touch()
    sys.exit(0)

signal.signal(signal.SIGINT, interrupted)
parameters = [Path(a).read_text() for a in sys.argv[1:] if a.startswith("/") and Path(a).is_file()]
(here / f"{{name}}.new").write_text(
    json.dumps({{"argv": sys.argv[1:], "parameters": parameters, "pid": os.getpid()}})
)
(here / f"{{name}}.new").rename(here / f"{{name}}.started")
fate = json.loads((here / "fates").read_text()).get(name)
while fate is None or len(list(here.glob("*.started"))) < 8:
    time.sleep(0.02)
sys.exit(fate)
"""
EACH = {"processes": "each"}
NODES = [node.name for node in COLLECT.nodes(COLLECT.resolve(EACH))]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a launch file of ours over fake executables; return its process."""
    prefix = make_prefix(tmp_path, ["rl_robot"])
    folder = prefix / "lib" / "rl_robot"
    folder.mkdir(parents=True)
    for name in (*NODES, "faults"):
        executable = folder / name
        executable.write_text(FAKE_NODE.format(python=sys.executable, folder=str(tmp_path)))
        executable.chmod(0o755)
    (prefix / "share" / "rl_robot").mkdir()
    for name, value in launch_environment(tmp_path, prefix).items():
        monkeypatch.setenv(name, value)

    def start_file(*arguments: str, fates: dict[str, int]) -> "Launch":
        (tmp_path / "fates").write_text(json.dumps(fates))
        return Launch([*launch_command("collect"), "processes:=each", *arguments], tmp_path)

    return start_file


class Launch:
    """A running launch, whose output can be read while it runs."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._file = folder / "output"
        with self._file.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._file.read_text()

    def wait(self) -> int:
        return self.process.wait(timeout=60)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_a_launch_file_declares_the_arguments_of_its_graph(name):
    from launch.launch_description_sources import get_launch_description_from_any_launch_file

    path = str(resource_path(f"launch/{name}.launch.py"))
    declared = get_launch_description_from_any_launch_file(path).get_launch_arguments()
    assert [(a.name, a.default_value[0].text if a.default_value else "") for a in declared] == [
        (a.name, a.default) for a in GRAPHS[name].arguments
    ]


def test_every_node_starts_with_typed_parameters_and_ends_with_the_supervisor(start, tmp_path):
    launch = start("run:=7", "namespace:=left", fates={"supervisor": 0})
    assert launch.wait() == 0, launch.output
    assert "[perception-2]: process started" in launch.output
    given = EACH | {"run": "7", "namespace": "left"}
    specs = {spec.name: spec for spec in COLLECT.nodes(COLLECT.resolve(given))}
    for name in NODES:
        started = json.loads((tmp_path / f"{name}.started").read_text())
        assert "__ns:=/left" in started["argv"]
        assert (tmp_path / f"{name}.interrupted").exists() == (name != "supervisor")
        (text,) = started["parameters"]
        (values,) = yaml.safe_load(text).values()
        assert values["ros__parameters"] == specs[name].parameters


def test_nodes_that_share_a_process_keep_their_names():
    from rl_robot.bringup.launch_ros_actions import _process

    (container,) = (
        spec for spec in COLLECT.nodes(COLLECT.resolve({"run": "x"})) if spec.name == "container"
    )
    action = _process(container)
    words = [part.text for parts in action.cmd for part in parts if hasattr(part, "text")]
    assert set(container.members) <= set(words)
    assert not [word for word in words if "__node:=" in word]


def test_a_remapping_for_one_node_reaches_its_process(start, tmp_path):
    launch = start("faults:=flaky_camera", fates={})
    started = [tmp_path / f"{name}.started" for name in (*NODES, "faults")]
    launch.until(lambda: all(file.exists() for file in started))
    launch.interrupt()
    argv = json.loads((tmp_path / "simulator.started").read_text())["argv"]
    assert "simulator:camera/image_raw:=camera/image_raw/faultless" in argv


def test_a_supervisor_that_fails_gives_launch_a_status_that_is_not_0(start):
    launch = start(fates={"supervisor": 3})
    assert launch.wait() == 1
    assert "supervisor ended with exit status 3" in launch.output


def test_bad_input_found_by_any_node_ends_the_launch(start):
    launch = start(fates={"policy": 2})
    assert launch.wait() == 1
    assert "policy ended with exit status 2" in launch.output


def test_an_argument_that_cannot_work_ends_the_launch_with_the_reason(start):
    launch = start("task:=dance", fates={})
    assert launch.wait() == 1
    assert "unknown task 'dance'" in launch.output


def test_an_interrupted_launch_interrupts_every_node(start, tmp_path):
    launch = start(fates={})
    launch.until(lambda: all((tmp_path / f"{name}.started").exists() for name in NODES))
    assert launch.interrupt() == 0, launch.output
    assert all((tmp_path / f"{name}.interrupted").exists() for name in NODES)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="util-linux's setpriv is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launch_that_is_killed_leaves_no_node(start, tmp_path, number):
    launch = start(fates={})
    launch.until(lambda: all((tmp_path / f"{name}.started").exists() for name in NODES))
    launch.process.send_signal(number)
    assert launch.wait() == -number
    deadline = time.monotonic() + 30
    while not all((tmp_path / f"{name}.interrupted").exists() for name in NODES):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_that_dies_is_started_again(start, tmp_path):
    launch = start(fates={})
    launch.until(lambda: all((tmp_path / f"{name}.started").exists() for name in NODES))
    started = tmp_path / "reward.started"
    killed = json.loads(started.read_text())["pid"]
    started.unlink()
    os.kill(killed, signal.SIGKILL)
    launch.until(started.exists)
    again = json.loads(started.read_text())["pid"]
    # launch loses a process that it is asked to stop before it has noted its start.
    launch.until(lambda: f"process started with pid [{again}]" in launch.output)
    launch.interrupt()
    assert again != killed
