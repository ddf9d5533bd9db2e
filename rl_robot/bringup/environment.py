"""The environment that node processes start with."""

from collections.abc import Mapping

from rl_robot.resources import resource_path

# Nodes are many and each does its numerics on small arrays: a thread pool per process would only
# make them fight for the cores. EGL renders without a display, and Mesa (LP) with the least work in
# the thread that asks for the picture.
NODE_DEFAULTS: Mapping[str, str] = {
    "LP_NUM_THREADS": "0",
    "MKL_NUM_THREADS": "1",
    "MUJOCO_GL": "egl",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def bare_defaults() -> dict[str, str]:
    """Return what a bare run adds: it keeps to this machine, with our middleware profile."""
    return {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(resource_path("config/fastdds.xml")),
        "PYTHONUNBUFFERED": "1",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **NODE_DEFAULTS,
    }


def unset_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return those defaults that the environment leaves open: what a person set always wins."""
    return {name: value for name, value in defaults.items() if name not in environment}
