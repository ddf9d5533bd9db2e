"""The mailbox of depth one."""

import threading

from rl_robot.ros.slot import LatestSlot


def test_only_the_newest_job_is_kept() -> None:
    slot: LatestSlot[int] = LatestSlot()
    for job in range(4):
        slot.put(job)
    assert slot.take() == 3
    assert slot.dropped == 3


def test_closing_wakes_the_worker() -> None:
    slot: LatestSlot[int] = LatestSlot()
    taken: list[int | None] = []
    worker = threading.Thread(target=lambda: taken.append(slot.take()))
    worker.start()
    slot.close()
    worker.join(timeout=10)
    assert taken == [None]
