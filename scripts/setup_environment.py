"""Set up everything that rl_robot needs on this machine: `.venv`, wheels, Debian packages.

Runs before anything is installed, so it uses the standard library alone. A second run does
nothing until the pins, setup.py, this script or the machine change; two runs at once take turns.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.stamp"
LOCK = ROOT / ".setup-lock"
INPUTS = ("constraints.txt", "setup.py", "scripts/setup_environment.py")

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 14)
TORCH = "torch==2.13.0"
# MuJoCo renders offscreen through EGL and Mesa; OpenCV's wheel links to GL and GLib. Each entry
# holds the names under which the releases of Debian and Ubuntu have one package.
DEBIAN_PACKAGES = (
    ("libegl1",),
    ("libgl1",),
    ("libgl1-mesa-dri",),
    ("libgles2",),
    ("libglib2.0-0", "libglib2.0-0t64"),
)
GPU_PACKAGE_PREFIXES = ("nvidia-", "cuda-", "triton")


class SetupError(Exception):
    """Set-up cannot go on; the message is one line that says what to do about it."""


# --- decisions, free of side effects -------------------------------------------------------------


def python_supported(version: tuple[int, int]) -> bool:
    """Tell whether wheels of everything exist for this CPython version."""
    return OLDEST_PYTHON <= version <= NEWEST_PYTHON


def choose_python(found: Iterable[tuple[str, tuple[int, int]]]) -> str:
    """Return the first interpreter that is new enough, out of (path, version) pairs.

    Raises:
        SetupError: none is, with those found named.
    """
    seen = []
    for path, version in found:
        if python_supported(version):
            return path
        seen.append(".".join(map(str, version)))
    span = " to ".join(".".join(map(str, v)) for v in (OLDEST_PYTHON, NEWEST_PYTHON))
    raise SetupError(
        f"Python {span} is needed, and only {', '.join(seen) or 'none'} was found: "
        "install one and name it, for example `make setup PYTHON=python3.12`"
    )


def missing_packages(installed: Callable[[str], bool], *, ensurepip: bool) -> list[str]:
    """Return the Debian packages to install; ``ensurepip`` tells whether Python can make a venv."""
    missing = [names[0] for names in DEBIAN_PACKAGES if not any(map(installed, names))]
    return missing if ensurepip else [*missing, "python3-venv"]


def install_commands(
    packages: Sequence[str], *, is_root: bool, free_sudo: bool
) -> list[list[str]] | None:
    """Return the commands that install Debian packages, or None where this user may not."""
    if not is_root and not free_sudo:
        return None
    prefix = [] if is_root else ["sudo", "-n"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
    return [[*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]]


def torch_backend(report: Mapping, *, has_gpu: bool) -> str | None:
    """Decide how to install torch, from pip's plan for it (`pip install --dry-run --report`).

    Returns:
        None: pip's own choice is right. Otherwise the PyTorch build to ask for: "cpu" where pip
        would bring several GB of CUDA packages to a machine without an NVIDIA GPU, and "auto",
        the build that suits the driver, where there is one.
    """
    names = [str(item["metadata"]["name"]).lower() for item in report.get("install", [])]
    if not any(name.startswith(GPU_PACKAGE_PREFIXES) for name in names):
        return None
    return "auto" if has_gpu else "cpu"


def requirement(*, ros: str | None) -> str:
    """Return what to install: ROS 2 wheels as well where no ROS distribution is installed."""
    return ".[dev]" if ros else ".[bare,dev]"


def fingerprint(contents: Mapping[str, bytes], facts: Mapping[str, str | None]) -> str:
    """Return a hash of everything that set-up depends on."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


# --- this machine --------------------------------------------------------------------------------


def succeeds(command: Sequence[str]) -> bool:
    """Tell whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def output(command: Sequence[str]) -> str:
    """Return what a command prints, nothing if it is not there."""
    try:
        return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()
    except OSError:
        return ""


def _pythons() -> Iterable[tuple[str, tuple[int, int]]]:
    # The real path: inside an activated environment this is still the Python it was made from.
    yield os.path.realpath(sys.executable), (sys.version_info[0], sys.version_info[1])
    for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path and succeeds([path, "-c", ""]):
            yield path, (3, minor)


def installed_in_debian(package: str) -> bool:
    """Tell whether a Debian package of this name is installed."""
    status = output(["dpkg-query", "-W", "-f=${db:Status-Status}", package])
    return status.startswith("installed")


def _ros_distribution(python: str) -> str | None:
    """Return the ROS distribution that ``python`` can use without our wheels, if any."""
    if os.environ.get("ROS_DISTRO"):
        return os.environ["ROS_DISTRO"]
    return "unknown" if succeeds([python, "-c", "import rclpy"]) else None


def run(command: Sequence[str], what: str, *, title: str = "set-up") -> None:
    """Run a command whose output matters only when it fails.

    Raises:
        SetupError: it fails, or is not there.
    """
    print(f"{title}: {what}", flush=True)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise SetupError(f"{what}: {error}") from error
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SetupError(f"{what}: failed, see above ({' '.join(map(str, command[:6]))} ...)")


def _pip(*arguments: str, what: str) -> None:
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install"]
    run([*pip, "--quiet", "--constraint", "constraints.txt", *arguments], what)


# --- the steps -----------------------------------------------------------------------------------


def install_packages(packages: Sequence[str], *, title: str = "set-up") -> None:
    """Install Debian packages.

    Raises:
        SetupError: this user may not, which names them, or it failed.
    """
    commands = install_commands(
        packages,
        is_root=os.geteuid() == 0,
        free_sudo=succeeds(["sudo", "-n", "true"]),
    )
    if commands is None:
        raise SetupError(
            "Debian packages are missing, and installing them needs your password: "
            f"sudo apt-get install {' '.join(packages)}"
        )
    for command in commands:
        run(command, f"Debian packages: {' '.join(packages)}", title=title)


def install_debian_packages(python: str) -> None:
    """Install the Debian packages that are missing, or name them where this user may not."""
    if not shutil.which("dpkg-query"):
        print(
            "set-up: not a Debian or Ubuntu system: offscreen rendering needs EGL and Mesa, "
            "OpenCV needs libGL and GLib"
        )
        return
    ensurepip = succeeds([python, "-c", "import ensurepip, venv"])
    missing = missing_packages(installed_in_debian, ensurepip=ensurepip)
    if not missing:
        return
    install_packages(missing)


def make_venv(python: str, *, ros: str | None) -> None:
    """Make `.venv` unless a working one is there; it sees the system's packages beside ROS."""
    if succeeds([str(VENV_PYTHON), "-c", "import pip"]):
        return
    options = ["--system-site-packages"] if ros else []
    run([python, "-m", "venv", "--clear", *options, str(VENV)], f"{VENV.name} from {python}")


def install_torch(*, has_gpu: bool) -> None:
    """Install torch without CUDA packages where no GPU could use them."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        _pip("--dry-run", "--report", str(plan), TORCH, what="torch: which build?")
        backend = torch_backend(json.loads(plan.read_text()), has_gpu=has_gpu)
    if backend is None:
        _pip(TORCH, what=f"torch: {TORCH}")
        return
    # uv knows where PyTorch keeps its builds for each kind of machine.
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(VENV_PYTHON)]
    run(
        [*uv, "--constraint", "constraints.txt", f"--torch-backend={backend}", TORCH],
        f"torch: {TORCH}, build {backend}",
    )


def check_imports() -> None:
    """Import what is compiled, so that a missing system library shows here and not later."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("_ROS_WHEELS_")}
    script = "import cv2, gymnasium, mujoco, rclpy, sensor_msgs.msg, torch, rl_robot"
    done = subprocess.run(
        [str(VENV_PYTHON), "-c", script],
        cwd=ROOT,
        env={"MUJOCO_GL": "egl", **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError(f"installed, but does not import: {reason}")


def set_up() -> None:
    """Bring this machine to the state that the files ask for.

    Raises:
        SetupError: it cannot; the message says what a person has to do.
    """
    python = choose_python(_pythons())
    ros = _ros_distribution(python)
    has_gpu = bool(output(["nvidia-smi", "-L"]))
    wanted = fingerprint(
        {name: (ROOT / name).read_bytes() for name in INPUTS},
        {"python": python, "ros": ros, "gpu": "yes" if has_gpu else "no", "root": str(ROOT)},
    )
    if STAMP.is_file() and STAMP.read_text() == wanted and VENV_PYTHON.exists():
        return
    started = time.monotonic()
    install_debian_packages(python)
    make_venv(python, ros=ros)
    STAMP.unlink(missing_ok=True)
    _pip("pip", "setuptools", "uv", what="pip, setuptools, uv")
    install_torch(has_gpu=has_gpu)
    _pip("--no-build-isolation", "--editable", requirement(ros=ros), what="everything else")
    check_imports()
    STAMP.write_text(wanted)
    print(f"set-up: done in {time.monotonic() - started:.0f} s, in {VENV.name}")


def run_alone(steps: Callable[[], int | None], lock: Path, *, title: str = "set-up") -> int:
    """Run a set-up under a lock; return the exit status, which is its own if it has one."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{title}: waiting for the one already running", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            return steps() or 0
        except SetupError as error:
            print(f"{title}: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(run_alone(set_up, LOCK))
