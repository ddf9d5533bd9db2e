"""What every test starts from: offscreen rendering, and discovery kept to this machine."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# The tests beside this file use the helpers of those folders, too.
sys.path[:0] = [
    str(Path(__file__).parent / name)
    for name in ("bags", "bringup", "calibration", "experience", "nodes", "simulation", "training")
]

# The real Gazebo's tests are asked for by name, as `make gazebo-test` does.
collect_ignore = ["gazebo"]

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

# A slow example on a busy machine is not a failure.
settings.register_profile("rl_robot", deadline=None)
settings.load_profile("rl_robot")
