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


# At real time nobody may be held up by another's death. To open the shared-memory port of a process
# that has just been started Fast DDS sleeps for a third of a second, and for a whole one if the
# process before it was killed: meanwhile a publisher says nothing to anybody. UDP waits for nobody.
REAL_TIME_DEFAULTS: Mapping[str, str] = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}


def bare_defaults(*, real_time: bool) -> dict[str, str]:
    """Return what a bare run adds: it keeps to this machine, with our middleware profile."""
    profile = "fastdds_real_time.xml" if real_time else "fastdds.xml"
    return {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(resource_path(f"config/{profile}")),
        "PYTHONUNBUFFERED": "1",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **NODE_DEFAULTS,
    }


def unset_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return those defaults that the environment leaves open: what a person set always wins."""
    return {name: value for name, value in defaults.items() if name not in environment}
