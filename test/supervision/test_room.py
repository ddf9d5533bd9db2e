"""Whether there is room for another episode."""

from rl_robot.supervision.room import PATIENCE, Room


def test_the_first_reason_counts_and_stays() -> None:
    room = Room()
    room.hear({"id": "3", "full": "the disk is full", "waits": ""})
    room.hear({"pid": "17"})
    room.fill("something else")
    assert room.full == "the disk is full"


def test_what_is_waited_for_comes_and_goes() -> None:
    room = Room()
    room.hear({"waits": "the trainer"})
    assert room.waits == "the trainer"
    room.hear({"waits": ""})
    assert not room.waits


def test_it_is_in_vain_when_the_trainer_is_done_for_long() -> None:
    room = Room()
    room.hear({"waits": "the trainer"})
    assert not room.in_vain(0.0, trainer_done=False)
    assert not room.in_vain(1000.0, trainer_done=True)
    assert not room.in_vain(1000.0 + PATIENCE, trainer_done=True)
    assert room.in_vain(1000.1 + PATIENCE, trainer_done=True)
    assert not room.in_vain(2000.0, trainer_done=False)  # it has found something to do


def test_another_wait_is_another_patience() -> None:
    room = Room()
    room.hear({"waits": "the trainer"})
    assert not room.in_vain(0.0, trainer_done=True)
    room.hear({"waits": ""})
    room.hear({"waits": "the trainer"})
    assert not room.in_vain(100.0, trainer_done=True)
