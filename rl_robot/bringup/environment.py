"""The environment that node processes start with."""

from collections.abc import Mapping

from rl_robot.resources import resource_path

_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"

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


def real_time_defaults() -> dict[str, str]:
    """Return what nodes at real time start with: nobody waits for a process that died.

    Before Fast DDS writes to another process through shared memory it checks that its port there is
    in order, and sleeps for a third of a second between two looks. So a process that was killed and
    started again can silence each of those that speak to it. UDP asks nobody.
    """
    return {**NODE_DEFAULTS, _PROFILES: str(resource_path("config/fastdds_real_time.xml"))}


def bare_defaults(*, real_time: bool) -> dict[str, str]:
    """Return what a bare run adds: it keeps to this machine, with our middleware profile."""
    return {
        _PROFILES: str(resource_path("config/fastdds.xml")),
        "PYTHONUNBUFFERED": "1",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **(real_time_defaults() if real_time else NODE_DEFAULTS),
    }


def unset_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return those defaults that the environment leaves open: what a person set always wins."""
    return {name: value for name, value in defaults.items() if name not in environment}
