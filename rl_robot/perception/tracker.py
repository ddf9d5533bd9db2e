"""Holds the last pose that was seen while the tool hides the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rl_robot.perception.block import Detection

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeldPose:
    """The newest trusted pose.

    stamp_ns is when it was seen, so the pose's age grows while it is held. position (3,) m in the
    base frame, yaw rad.
    """

    stamp_ns: int
    position: Array
    yaw: float


class PoseTracker:
    """Keeps the newest detection by capture time."""

    def __init__(self) -> None:
        self._held: HeldPose | None = None

    def update(self, stamp_ns: int, detection: Detection | None) -> HeldPose | None:
        """Take what the image of ``stamp_ns`` showed; return the newest pose seen, if any.

        A detection no newer than the held one changes nothing.
        """
        newer = self._held is None or stamp_ns > self._held.stamp_ns
        if detection is not None and newer:
            self._held = HeldPose(stamp_ns, detection.position.copy(), detection.yaw)
        return self._held

    def clear(self) -> None:
        """Forget the pose, as when the clock was set back."""
        self._held = None
