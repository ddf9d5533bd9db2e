import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.perception.block import Detection
from rl_robot.perception.tracker import PoseTracker


def seen(x: float, yaw: float = 0.1) -> Detection:
    return Detection(np.array([x, 0.0, 0.02]), yaw, 1.0)


def test_nothing_is_held_before_the_first_sight() -> None:
    tracker = PoseTracker()
    assert tracker.update(10, None) is None


def test_the_last_pose_is_held_with_its_own_stamp() -> None:
    tracker = PoseTracker()
    tracker.update(10, seen(0.3))
    for stamp in (20, 30, 40):
        held = tracker.update(stamp, None)
        assert held is not None
        assert held.stamp_ns == 10
        assert held.position[0] == 0.3
    held = tracker.update(50, seen(0.4))
    assert held is not None
    assert (held.stamp_ns, held.position[0]) == (50, 0.4)


def test_changing_a_detection_later_does_not_change_what_is_held() -> None:
    tracker = PoseTracker()
    detection = seen(0.3)
    tracker.update(10, detection)
    detection.position[0] = 9.0
    held = tracker.update(20, None)
    assert held is not None
    assert held.position[0] == 0.3


def test_cleared_means_forgotten() -> None:
    tracker = PoseTracker()
    tracker.update(10, seen(0.3))
    tracker.clear()
    assert tracker.update(5, None) is None
    held = tracker.update(6, seen(0.5))
    assert held is not None
    assert held.stamp_ns == 6


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.booleans())))
def test_the_stamp_never_goes_back_and_is_one_that_was_seen(
    updates: list[tuple[int, bool]],
) -> None:
    tracker = PoseTracker()
    stamps: list[int] = []
    newest = -1
    for stamp, visible in updates:
        if visible:
            stamps.append(stamp)
        held = tracker.update(stamp, seen(0.3) if visible else None)
        assert (held is None) == (not stamps)
        if held is not None:
            assert held.stamp_ns == max(stamps)
            assert held.stamp_ns >= newest
            newest = held.stamp_ns
