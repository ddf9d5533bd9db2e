"""What every test starts from: offscreen rendering, and discovery kept to this machine."""

import os

from hypothesis import settings

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

# A slow example on a busy machine is not a failure.
settings.register_profile("rl_robot", deadline=None)
settings.load_profile("rl_robot")
