"""Whole doctors: real nodes over real DDS, on the stand-in of each robot that comes along.

Some at once, each in a ROS domain of its own. What is found is judged, never how quickly.
"""

import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rl_robot.bringup.domain import claim_domain
from rl_robot.hardware.checkup import CHECKS
from rl_robot.hardware.findings import SOUND, UNKNOWN, UNSOUND
from rl_robot.robots.description import available_robots, load_robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND

NOBODY = "nobody"
PATIENCE = 240.0  # s: a bound for a busy machine, not a measure
AT_ONCE = 3  # doctors

# Of each planted fault: the check that finds it, and what it is called. The others are planted in
# test/hardware/test_checkup.py, without processes.
FAULTS = {
    "wrong_joint_order": ("motion", "wrong joint order"),
    "stale_stamps": ("stamps", "stale stamps"),
    "clock_ahead": ("clock", "ahead"),
    "swapped_limits": ("limits", "swapped limits"),
    "dead_stop": ("stop", "dead stop button"),
}


def start(
    folder: Path, name: str, *arguments: str, domain: int | None = None, **options: Any
) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DOMAIN_ID"}
    environment |= {} if domain is None else {"ROS_DOMAIN_ID": str(domain)}
    command = [sys.executable, "-m", "rl_robot.cli", "doctor", *arguments]
    command += [f"root:={folder}", f"run:={name}", f"json:={folder / name}.json"]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **{"stdin": subprocess.DEVNULL} | options,
    )


@contextmanager
def ended(doctors: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """See that none is left behind."""
    try:
        yield
    finally:
        for doctor in doctors:
            if doctor.poll() is None:
                doctor.send_signal(signal.SIGINT)
                doctor.wait(timeout=10.0)


def available() -> list[str]:
    """The robots whose messages are installed."""
    actions = importlib.util.find_spec("control_msgs") is not None
    return [
        name
        for name in available_robots()
        if actions or all(one.type != GRIPPER_COMMAND for one in load_robot(name).interfaces)
    ]


@dataclass(frozen=True)
class Examined:
    status: int
    output: str
    findings: list[dict[str, Any]]


class Practice:
    """Runs the doctors that the tests of this module will ask for, a few at once."""

    def __init__(self, folder: Path, wanted: dict[str, tuple[str, ...]]) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._results = {
            name: self._pool.submit(self._examine, name, given) for name, given in wanted.items()
        }

    def result(self, name: str) -> Examined:
        return self._results[name].result()

    def _examine(self, name: str, arguments: tuple[str, ...]) -> Examined:
        doctor = start(self._folder, name, *arguments)
        with ended([doctor]):
            output, _ = doctor.communicate(timeout=PATIENCE)
        assert doctor.returncode in (SOUND, UNSOUND, UNKNOWN), output
        document = json.loads((self._folder / f"{name}.json").read_text())
        return Examined(doctor.returncode, output, document["findings"])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def practice(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Practice]:
    wanted: dict[str, tuple[str, ...]] = {}
    for item in request.session.items:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        if item.path == request.path and "robot" in given:
            wanted[given["robot"]] = ("stand_in:=true", f"robot:={given['robot']}")
        elif item.path == request.path and "fault" in given:
            fault = given["fault"]
            only = f"only:={FAULTS[fault][0]}"
            wanted[fault] = ("stand_in:=true", f"fault:={fault}", only)
        elif item.path == request.path and "missing" in item.name:
            wanted[NOBODY] = ("motion:=false", "only:=joint_states,controllers")
    made = Practice(tmp_path_factory.mktemp("doctors"), wanted)
    yield made
    made.close()


@pytest.mark.parametrize("robot", available())
def test_each_robot_passes_on_its_stand_in(practice: Practice, robot: str) -> None:
    one = practice.result(robot)
    assert one.status == SOUND, one.output
    assert {finding["status"] for finding in one.findings} == {"PASS"}
    checks = [finding["check"] for finding in one.findings]
    assert {check.split()[0] for check in checks} == set(CHECKS)
    moved = {check for check in checks if check.startswith("motion ")}
    assert moved == {f"motion {joint}" for joint in load_robot(robot).joint_names}
    assert one.output.count("PASS") == 2 * len(checks)  # as they were made, and the table


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found_and_named(practice: Practice, fault: str) -> None:
    check, words = FAULTS[fault]
    one = practice.result(fault)
    assert one.status == UNSOUND, one.output
    wrong = [finding for finding in one.findings if finding["status"] == "FAIL"]
    assert {finding["check"].split()[0] for finding in wrong} == {check}, one.output
    assert words in f"{wrong[0]['wrong']} {wrong[0]['right']}"
    assert "FAIL" in one.output


def test_a_person_is_asked_before_anything_moves_and_without_a_terminal_nothing_does(
    tmp_path: Path,
) -> None:
    """The stand-in's own doctor is left out: to this one the stand-in is an arm like any other."""
    terminal, process_side = pty.openpty()
    domain = claim_domain()
    command = [sys.executable, "-m", "rl_robot.nodes.stand_in"]
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain.number)}
    arm = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for name, stdin, status in (
            ("alone", subprocess.DEVNULL, UNKNOWN),
            ("asked", process_side, SOUND),
        ):
            checks = "only:=disabled,enable"
            doctor = start(tmp_path, name, checks, stdin=stdin, domain=domain.number)
            with ended([doctor]):
                if name == "asked":
                    os.write(terminal, b"y\n")
                output, _ = doctor.communicate(timeout=PATIENCE)
                assert doctor.returncode == status, output
                assert ("an emergency stop at hand?" in output) == (name == "asked")
                assert ("nobody said y" in output) == (name == "alone")
    finally:
        arm.terminate()
        arm.wait(timeout=10.0)
        os.close(terminal)
        os.close(process_side)
        domain.close()


def test_an_arm_that_is_not_there_is_said_to_be_missing(practice: Practice) -> None:
    one = practice.result(NOBODY)
    assert one.status == UNSOUND, one.output
    assert "nothing comes on joint_states, which nobody publishes" in one.output
    assert "nobody hears arm_controller/joint_trajectory" in one.output


def test_a_doctor_that_is_interrupted_says_that_it_does_not_know(tmp_path: Path) -> None:
    doctor = start(tmp_path, "interrupted", "stand_in:=true")
    with ended([doctor]):
        assert doctor.stdout is not None
        while "joint_states" not in doctor.stdout.readline():
            assert doctor.poll() is None
        doctor.terminate()
        output, _ = doctor.communicate(timeout=PATIENCE)
        assert doctor.returncode == UNKNOWN, output
        assert "interrupted" in output


def test_bad_arguments_get_one_line() -> None:
    command = [sys.executable, "-m", "rl_robot.cli", "doctor", "only:=everything"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "only 'everything': expected some of joint_states" in done.stderr
    assert len(done.stderr.splitlines()) == 1
