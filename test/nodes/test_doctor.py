"""Whole doctors: real nodes over real DDS, on the stand-in of each robot that comes along.

A few at once, each in a ROS domain of its own. What is found is judged, never how quickly.
"""

import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rl_robot.bringup.domain import claim_domain
from rl_robot.hardware.checkup import CHECKS
from rl_robot.hardware.findings import SOUND, UNKNOWN, UNSOUND
from rl_robot.robots.description import available_robots, load_robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND

PATIENCE = 240.0  # s: a bound for a busy machine, not a measure
ROBOTS_AT_ONCE = 2
FAULTS_AT_ONCE = 3  # whose doctors don't go through the whole list

# Of each planted fault: the check that finds it, and what it is called.
FAULTS = {
    "wrong_joint_order": ("motion", "wrong joint order"),
    "stale_stamps": ("stamps", "stale stamps"),
    "clock_ahead": ("clock", "ahead"),
    "clock_behind": ("clock", "behind"),
    "swapped_limits": ("limits", "swapped limits"),
    "dead_stop": ("stop", "dead stop button"),
}


def few(names: list[str], at_once: int) -> list[list[str]]:
    return [names[first : first + at_once] for first in range(0, len(names), at_once)]


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


def found(folder: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return document


def available() -> list[str]:
    """The robots whose messages are installed."""
    actions = importlib.util.find_spec("control_msgs") is not None
    return [
        name
        for name in available_robots()
        if actions or all(one.type != GRIPPER_COMMAND for one in load_robot(name).interfaces)
    ]


@pytest.mark.parametrize("names", few(available(), ROBOTS_AT_ONCE), ids="-".join)
def test_each_robot_passes_on_its_stand_in(names: list[str], tmp_path: Path) -> None:
    doctors = [start(tmp_path, name, f"robot:={name}", "stand_in:=true") for name in names]
    with ended(doctors):
        for name, doctor in zip(names, doctors, strict=True):
            output, _ = doctor.communicate(timeout=PATIENCE)
            assert doctor.returncode == SOUND, output
            findings = found(tmp_path, name)["findings"]
            assert {one["status"] for one in findings} == {"PASS"}
            assert {one["check"].split()[0] for one in findings} == set(CHECKS)
            moved = {one["check"] for one in findings if one["check"].startswith("motion ")}
            assert moved == {f"motion {joint}" for joint in load_robot(name).joint_names}
            assert output.count("PASS") == 2 * len(findings)  # as they were made, and the table


@pytest.mark.parametrize("faults", few(list(FAULTS), FAULTS_AT_ONCE), ids="-".join)
def test_each_planted_fault_is_found_and_named(faults: list[str], tmp_path: Path) -> None:
    doctors = [
        start(tmp_path, fault, "stand_in:=true", f"fault:={fault}", f"only:={FAULTS[fault][0]}")
        for fault in faults
    ]
    with ended(doctors):
        for fault, doctor in zip(faults, doctors, strict=True):
            check, words = FAULTS[fault]
            output, _ = doctor.communicate(timeout=PATIENCE)
            assert doctor.returncode == UNSOUND, output
            findings = found(tmp_path, fault)["findings"]
            wrong = [one for one in findings if one["status"] == "FAIL"]
            assert {one["check"].split()[0] for one in wrong} == {check}, output
            assert words in f"{wrong[0]['wrong']} {wrong[0]['right']}"
            assert "FAIL" in output


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


def test_an_arm_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    doctor = start(tmp_path, "nobody", "motion:=false", "only:=joint_states,controllers")
    with ended([doctor]):
        output, _ = doctor.communicate(timeout=PATIENCE)
        assert doctor.returncode == UNSOUND, output
        assert "nothing comes on joint_states, which nobody publishes" in output
        assert "nobody hears arm_controller/joint_trajectory" in output


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
