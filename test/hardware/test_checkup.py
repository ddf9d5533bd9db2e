"""The whole checklist in simulated time: sound arms pass, and each planted fault is named."""

import json
from collections.abc import Sequence

import pytest
from simulated_graph import SimulatedGraph

from rl_robot.hardware.checkup import CHECKS, LISTENING, MOVING, Checkup
from rl_robot.hardware.faults import FAULTS, NONE
from rl_robot.hardware.findings import (
    FAIL,
    PASS,
    SKIPPED,
    SOUND,
    UNKNOWN,
    UNSOUND,
    Finding,
    as_json,
    exit_status,
    table,
)
from rl_robot.robots.description import load_robot

ROBOTS = ("arm", "ur5e", "ur5e_servo", "fr3", "iiwa")  # of each controller's type

# What each fault is called by the check that finds it.
NAMED = {
    "wrong_joint_order": ("motion", "wrong joint order"),
    "inverted_joint": ("motion", "moves the wrong way"),
    "scaled_joint": ("motion", "check its units and gear ratio"),
    "unknown_names": ("joint_states", "is not published"),
    "stale_stamps": ("stamps", "stale stamps"),
    "frozen_stamps": ("stamps", "the stamp stands still"),
    "clock_ahead": ("clock", "ahead"),
    "clock_behind": ("clock", "behind"),
    "swapped_limits": ("limits", "swapped limits"),
    "dead_stop": ("stop", "dead stop button"),
    "ignores_stop": ("stop", "the controller does not obey"),
    "slow_rate": ("rate", "joint states come at 50.0 Hz"),
    "missing_camera": ("camera", "no pictures"),
    "frozen_camera": ("camera", "frozen"),
    "late_pictures": ("camera", "stale pictures"),
    "ignores_timeout": ("timeout", "still moves"),
    "latency": ("motion", "late"),
}


def examine(graph: SimulatedGraph, **options: object) -> list[Finding]:
    told: list[Finding] = []
    checkup = Checkup(graph, told.append, **options)  # type: ignore[arg-type]
    for _ in checkup.run():
        graph.tick()
        assert graph.now() < 120.0, "the checklist does not end"
    assert told == checkup.findings
    return told


def failures(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == FAIL]


@pytest.mark.parametrize("name", ROBOTS)
def test_a_sound_arm_passes(name: str) -> None:
    graph = SimulatedGraph(load_robot(name))
    findings = examine(graph)
    assert exit_status(findings) == SOUND, table(findings)
    checked = {finding.check.split()[0] for finding in findings}
    assert checked == set(CHECKS)
    assert not graph.enabled
    assert not graph.paused


def test_every_fault_has_a_name_to_be_found_by() -> None:
    assert set(NAMED) == set(FAULTS) - {NONE}


@pytest.mark.parametrize("fault", NAMED)
def test_a_planted_fault_is_found_and_named(fault: str) -> None:
    check, words = NAMED[fault]
    graph = SimulatedGraph(load_robot("arm"), fault)
    findings = examine(graph, only=(check,))
    assert exit_status(findings) == UNSOUND
    found = failures(findings)[0]
    assert found.check.split()[0] == check, table(findings)
    assert words in f"{found.wrong} {found.right}", found
    assert not graph.enabled


@pytest.mark.parametrize("fault", ["wrong_joint_order", "dead_stop", "inverted_joint"])
@pytest.mark.parametrize("name", ["fr3", "iiwa", "ur5e_servo"])
def test_it_is_found_through_every_type_of_controller(name: str, fault: str) -> None:
    check, words = NAMED[fault]
    found = failures(examine(SimulatedGraph(load_robot(name), fault), only=(check,)))
    assert words in f"{found[0].wrong} {found[0].right}", found
    assert found[0].check.split()[0] in (check, "enable")


@pytest.mark.parametrize("name", ["fr3", "ur5e_servo"])
def test_a_stream_without_a_timeout_is_found(name: str) -> None:
    found = failures(examine(SimulatedGraph(load_robot(name), "ignores_timeout")))
    assert found[0].check in ("stop", "silence", "timeout")


def test_a_failure_on_a_machine_that_is_held_up_says_so() -> None:
    graph = SimulatedGraph(load_robot("arm"), "dead_stop")
    checkup = Checkup(graph, lambda _: None, only=("stop",))
    for number, _ in enumerate(checkup.run()):
        for _ in range(30 if number % 100 == 0 else 1):
            graph.tick()
    assert "too busy: it was held up for 0.30 s" in failures(checkup.findings)[0].right


@pytest.mark.parametrize(("busy", "presses"), [(True, 2), (False, 1)])
def test_a_stop_that_a_busy_machine_lost_is_pressed_again_and_no_other(
    monkeypatch: pytest.MonkeyPatch, busy: bool, presses: int
) -> None:
    graph, pressed = SimulatedGraph(load_robot("arm")), []
    press = graph.press_stop

    def press_the_second_time() -> None:
        pressed.append(graph.now())
        if len(pressed) > 1:
            press()

    monkeypatch.setattr(graph, "press_stop", press_the_second_time)
    checkup = Checkup(graph, lambda _: None, only=("stop",))
    for _ in checkup.run():
        held_up = busy and len(pressed) == 1 and graph.now() - pressed[0] < 0.1
        for _ in range(20 if held_up else 1):
            graph.tick()
    assert len(pressed) == presses
    assert exit_status(checkup.findings) == (SOUND if busy else UNSOUND)


def test_a_driver_that_a_busy_machine_held_up_is_listened_to_again() -> None:
    graph = SimulatedGraph(load_robot("arm"))
    lost = graph.joints
    checkup = Checkup(graph, lambda _: None, only=("rate",))
    for number, _ in enumerate(checkup.run()):
        for _ in range(40 if number == 100 else 1):
            graph.tick()
        if number == 100:
            del lost[-30:]  # the queue was full
    assert exit_status(checkup.findings) == SOUND
    graph = SimulatedGraph(load_robot("arm"))
    checkup = Checkup(graph, lambda _: None, only=("rate",))
    for _ in checkup.run():
        graph.tick()
        graph.joints[:] = [one for one in graph.joints if one.stamp % 0.5 > 0.2]
    assert exit_status(checkup.findings) == UNSOUND


def test_nothing_moves_after_a_failure_of_what_is_heard() -> None:
    graph = SimulatedGraph(load_robot("arm"), "clock_ahead")
    findings = examine(graph)
    assert not graph.sent
    assert {f.check for f in findings if f.status == SKIPPED} == set(MOVING)


def test_pictures_that_are_wrong_do_not_keep_it_from_moving() -> None:
    graph = SimulatedGraph(load_robot("arm"), "frozen_camera")
    findings = examine(graph)
    assert [f.check for f in failures(findings)] == ["camera camera"]
    assert graph.sent


def test_a_person_who_says_no_is_obeyed() -> None:
    graph = SimulatedGraph(load_robot("arm"))
    graph.answer = False
    findings = examine(graph, ask=True)
    assert "shoulder_pan" in graph.asked[0]
    assert not graph.sent
    assert exit_status(findings) == UNKNOWN
    assert all(f.status == PASS for f in findings if f.check.split()[0] in LISTENING)


def test_only_what_is_asked_for_is_told_unless_it_fails() -> None:
    told = examine(SimulatedGraph(load_robot("arm")), only=("stop",))
    assert [finding.check for finding in told] == ["stop"]
    told = examine(SimulatedGraph(load_robot("arm"), "clock_behind"), only=("rate",))
    assert [finding.check for finding in told] == ["rate", "clock"]


def test_the_kill_test_is_left_out_unless_it_is_wanted() -> None:
    graph = SimulatedGraph(load_robot("arm"))
    told = examine(graph, only=("timeout",), kill_test=False)
    assert [finding.status for finding in told] == [SKIPPED]


def test_an_arm_of_which_nothing_is_heard_fails_and_is_not_moved() -> None:
    graph = SimulatedGraph(load_robot("arm"))
    graph.tick = lambda: setattr(graph, "_time", graph.now() + 0.01)  # type: ignore[method-assign]
    told = examine(graph)
    assert failures(told)[0].check == "joint_states"
    assert not graph.sent


def test_findings_as_json_say_the_same() -> None:
    told = examine(SimulatedGraph(load_robot("arm"), "swapped_limits"), only=LISTENING)
    document = json.loads(as_json("arm", told))
    assert document["status"] == "unsound"
    assert [one["check"] for one in document["findings"]] == [one.check for one in told]
    assert "1 fail" in table(told)
