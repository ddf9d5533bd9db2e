"""One source at most, and none unless somebody enabled it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.safety.arbiter import PHASES, SOURCES, Arbiter


def enabled(driver: str = "policy") -> Arbiter:
    arbiter = Arbiter(driver=driver)
    assert arbiter.enable()
    return arbiter


def test_nothing_moves_until_enabled() -> None:
    arbiter = Arbiter()
    assert {arbiter.active_source(phase, SOURCES) for phase in PHASES} == {None}


@pytest.mark.parametrize(
    ("phase", "live", "source"),
    [
        ("resetting", (), "reset"),
        ("resetting", ("policy", "script"), "reset"),
        ("running", (), "policy"),
        ("running", ("script", "reset"), "policy"),
        ("running", ("policy", "teleop"), "teleop"),
        ("running", ("policy", "teleop", "recovery"), "recovery"),
        ("resetting", ("reset", "teleop"), "teleop"),
        ("ended", ("policy", "reset", "script"), None),
        ("ended", ("teleop",), "teleop"),
        ("no such phase", ("policy",), None),
        ("", SOURCES[2:], None),
    ],
)
def test_the_source_follows_from_phase_and_priority(
    phase: str, live: tuple[str, ...], source: str | None
) -> None:
    assert enabled().active_source(phase, live) == source


def test_the_script_drives_where_it_is_the_driver() -> None:
    assert enabled("script").active_source("running", ("policy",)) == "script"
    with pytest.raises(ValueError, match="teleop"):
        Arbiter(driver="teleop")


def test_going_on_after_a_stop_takes_two_deliberate_calls() -> None:
    arbiter = enabled()
    arbiter.stop("button")
    arbiter.stop("second button")
    assert (arbiter.stopped, arbiter.enabled, arbiter.stop_reason) == (True, False, "button")
    assert arbiter.active_source("running", SOURCES) is None
    assert not arbiter.enable()
    arbiter.clear()
    assert not arbiter.stopped
    assert arbiter.active_source("running", SOURCES) is None
    assert arbiter.enable()
    assert arbiter.active_source("running") == "policy"


CALLS = ["enable", "disable", "stop", "clear"]


@given(st.lists(st.sampled_from(CALLS)), st.text(), st.sets(st.sampled_from(SOURCES)))
def test_motion_always_follows_an_enable_with_no_stop_since(
    calls: list[str], phase: str, live: set[str]
) -> None:
    arbiter = Arbiter()
    for call in calls:
        getattr(arbiter, call)(*(["why"] if call == "stop" else []))
    since_stop = calls[len(calls) - calls[::-1].index("stop") :] if "stop" in calls else None
    cleared = (
        calls
        if since_stop is None
        else since_stop[since_stop.index("clear") :]
        if "clear" in since_stop
        else []
    )
    switches = [call for call in cleared if call in ("enable", "disable")]
    may_move = bool(switches) and switches[-1] == "enable"
    assert arbiter.enabled == may_move
    assert (arbiter.active_source("running") is not None) == may_move
    if not may_move:
        assert arbiter.active_source(phase, live) is None
