"""Have a Gazebo 11 to test with: the machine's own, or Debian bullseye's in `.gazebo`.

Debian has it in bullseye only, whose packages run on newer releases from a plain folder: they are
unpacked there, without root, and rl_robot's plugin and Gazebo's messages compiled for them. Runs
with the Python of `.venv`; a second run does nothing until this script or the plugin changes.

    exit status 0   there is one
    exit status 2   it should have worked, and didn't
    exit status 3   it can't be had here; the one line on standard output says why
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from apt_release import Request, Unavailable
from debian_packages import Progress, fetch, unpack
from setup_environment import (
    ROOT,
    SetupError,
    fingerprint,
    install_packages,
    installed_in_debian,
    run_alone,
)

from rl_robot.errors import UserError
from rl_robot.simulation.gazebo.installation import (
    CHECKOUT,
    cache_folder,
    find_prefix,
    install_additions,
)
from rl_robot.simulation.gazebo.prefix import prefix_in

TITLE = "Gazebo set-up"
LOCK = ROOT / ".setup-gazebo-lock"
PART = CHECKOUT.with_name(f"{CHECKOUT.name}.part")
STAMP = CHECKOUT / "setup.stamp"
INPUTS = ("apt_release.py", "debian_packages.py", "gazebo_environment.py")
REQUEST = Request(
    release="bullseye",
    packages=("gazebo", "gazebo-plugin-base", "libgl1-mesa-dri"),
    # The headers that the plugin is compiled with; what they depend on is for other purposes.
    alone=(
        "libboost1.74-dev",
        "libgazebo-dev",
        "libignition-cmake-dev",
        "libignition-common-dev",
        "libignition-fuel-tools-dev",
        "libignition-math-dev",
        "libignition-msgs-dev",
        "libignition-transport-dev",
        "libprotobuf-dev",
        "libsdformat-dev",
        "libtbb-dev",
        "libtinyxml2-dev",
    ),
    # An older C or C++ library than the machine's would not serve the drivers and Python.
    left_out=("libc6", "libcrypt1", "libgcc-s1", "libstdc++6"),
)
# Programs that come from the machine itself, and Mesa, by which Xvfb draws.
HOST_PROGRAMS = {"g++": "g++", "Xvfb": "xvfb"}
HOST_LIBRARIES = ("libgl1-mesa-dri",)
DISK_SPACE = 1_500_000_000
UNAVAILABLE = 3


def missing_on_host() -> list[str]:
    """Return the Debian packages that the machine itself lacks."""
    missing = [package for program, package in HOST_PROGRAMS.items() if not shutil.which(program)]
    if not shutil.which("dpkg-query"):
        return missing
    return [*missing, *(name for name in HOST_LIBRARIES if not installed_in_debian(name))]


def prepare_host() -> None:
    """Install what has to come from the machine itself.

    Raises:
        Unavailable: this user may not, or it isn't to be had.
    """
    missing = missing_on_host()
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise Unavailable(f"not on this machine: {', '.join(missing)}")
    try:
        install_packages(missing, title=TITLE)
    except SetupError as error:
        raise Unavailable(str(error)) from None


def wanted_stamp() -> str:
    """Return what the stamp of an up-to-date `.gazebo` says."""
    scripts = {name: (Path(__file__).parent / name).read_bytes() for name in INPUTS}
    return fingerprint(scripts, {})


def usable_prefix() -> bool:
    """Tell whether there is a Gazebo 11 already; one in `.gazebo` has to be up to date."""
    prefix = find_prefix()
    if prefix is None or prefix != prefix_in(CHECKOUT):
        return prefix is not None
    return STAMP.is_file() and STAMP.read_text() == wanted_stamp()


def install(progress: Progress) -> None:
    """Unpack bullseye's Gazebo into `.gazebo`, all of it or nothing."""
    if shutil.disk_usage(ROOT).free < DISK_SPACE:
        raise Unavailable(f"it takes {DISK_SPACE / 1e9:.1f} GB, and {ROOT} has less free")
    files = fetch(REQUEST, cache_folder(), progress)
    shutil.rmtree(PART, ignore_errors=True)
    stage = f"unpacking {len(files)} packages:"
    unpack(files, PART, lambda detail: progress.say(stage, detail))
    (PART / STAMP.name).write_text(wanted_stamp())
    if CHECKOUT.exists():
        shutil.rmtree(CHECKOUT)
    PART.rename(CHECKOUT)


def set_up() -> None:
    """Have a Gazebo 11, with rl_robot's plugin and messages.

    Raises:
        Unavailable: it can't be had on this machine.
        SetupError: it should have worked, and didn't.
    """
    progress = Progress(TITLE)
    try:
        there = usable_prefix()
        prepare_host()
        if not there:
            install(progress)
        prefix = find_prefix()
        if prefix is None:
            raise SetupError(f"installed, but: {prefix_in(CHECKOUT).problem()}")
        installation = install_additions(prefix, lambda what: progress.say(f"compiling {what}"))
    except UserError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(f"{error.strerror or error}: {error.filename or ROOT}") from error
    finally:
        progress.clear()
    if not there:
        progress.finish(f"Gazebo {installation.version} in {installation.root}")


def set_up_or_skip() -> int:
    """Set up, or say why not; return the exit status.

    Raises:
        SetupError: as ``set_up``.
    """
    try:
        set_up()
    except Unavailable as reason:
        print(f"SKIPPED: no Gazebo 11 here: {reason}", flush=True)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(run_alone(set_up_or_skip, LOCK, title=TITLE))
