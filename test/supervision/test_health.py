"""Who is alive, by the reports of the nodes."""

from rl_robot.supervision.health import Roll


def test_a_node_is_missing_until_heard_and_after_its_silence() -> None:
    roll = Roll(["policy", "safety"], silence=3.0)
    assert roll.missing(0.0) == ["policy", "safety"]
    roll.hear("policy", {"pid": "1"}, 0.0)
    roll.hear("safety", {"pid": "2"}, 2.0)
    assert roll.missing(3.0) == []
    assert roll.missing(3.1) == ["policy"]


def test_another_process_under_the_same_name_was_restarted() -> None:
    roll = Roll(["policy"])
    roll.hear("policy", {"pid": "1"}, 0.0)
    roll.hear("policy", {"pid": "1"}, 1.0)
    assert roll.take_restarted() == []
    roll.hear("policy", {"pid": "9"}, 2.0)
    assert roll.take_restarted() == ["policy"]
    assert roll.take_restarted() == []


def test_strangers_are_not_counted() -> None:
    roll = Roll(["policy"])
    roll.hear("rqt", {"pid": "1"}, 0.0)
    roll.hear("rqt", {"pid": "2"}, 0.0)
    assert roll.take_restarted() == []
    assert roll.missing(0.0) == ["policy"]


def test_what_a_node_said_last_can_be_asked() -> None:
    roll = Roll(["policy"])
    assert roll.value("policy", "version", "0") == "0"
    roll.hear("policy", {"pid": "1", "version": "7"}, 0.0)
    assert roll.value("policy", "version", "0") == "7"


def test_who_did_not_say_so_is_named() -> None:
    roll = Roll(["policy", "safety"])
    roll.hear("safety", {"pid": "1", "heard": "4"}, 0.0)
    followers = ["policy", "safety", "recorder"]  # of whom this session has no recorder
    assert roll.without(followers, "heard", "4") == ["policy"]
    roll.hear("policy", {"pid": "2", "heard": "3"}, 0.0)
    assert roll.without(followers, "heard", "4") == ["policy"]
    roll.hear("policy", {"pid": "2", "heard": "4"}, 0.0)
    assert roll.without(followers, "heard", "4") == []


def test_after_a_fault_every_node_must_speak_again() -> None:
    roll = Roll(["policy"])
    roll.hear("policy", {"pid": "1"}, 1.0)
    assert roll.missing(2.0) == []
    assert roll.missing(2.0, since=1.5) == ["policy"]
    roll.hear("policy", {"pid": "1"}, 1.6)
    assert roll.missing(2.0, since=1.5) == []
