"""Set up `.venv-lerobot`: lerobot itself, to read our exports with and to write what we import.

It has an environment of its own because it wants older versions of what we use. Runs with the
Python of `.venv`; a second run does nothing until the pins or this script change.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from setup_environment import (
    ROOT,
    VENV,
    SetupError,
    install_commands,
    torch_backend,
)

TARGET = ROOT / ".venv-lerobot"
PYTHON = TARGET / "bin" / "python"
STAMP = TARGET / "setup.stamp"
REQUIREMENTS = ROOT / "test" / "lerobot" / "requirements.txt"
# The CPU builds: what is tested is reading, and CUDA's packages are several GB.
TORCH = ("torch==2.13.0", "torchvision==0.28.0")
DECODER = [str(PYTHON), "-c", "import torchcodec.decoders"]


def works(command: Sequence[str]) -> bool:
    """Tell whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(command: Sequence[str], what: str) -> None:
    """Run a command whose output matters only when it fails."""
    print(f"lerobot set-up: {what}", flush=True)
    done = subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SetupError(f"{what}: failed, see above")


def install_torch() -> None:
    """Install torch without CUDA packages, by pip where its index has such a build, or by uv."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        run([*pip, "--dry-run", "--report", str(plan), TORCH[0]], "torch: which build?")
        backend = torch_backend(json.loads(plan.read_text()), has_gpu=False)
    if backend is None:
        run([*pip, *TORCH], f"{', '.join(TORCH)}")
        return
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
    run([*uv, f"--torch-backend={backend}", *TORCH], f"{', '.join(TORCH)}, build {backend}")


def install_ffmpeg() -> None:
    """Install the libraries by which lerobot decodes videos, where they are missing."""
    if works(DECODER):
        return
    free_sudo = works(["sudo", "-n", "true"])
    commands = install_commands(["ffmpeg"], is_root=os.geteuid() == 0, free_sudo=free_sudo)
    if commands is None:
        raise SetupError("lerobot decodes videos by FFmpeg: sudo apt-get install ffmpeg")
    for command in commands:
        run(command, "Debian packages: ffmpeg")
    run(DECODER, "does torchcodec load?")


def set_up() -> None:
    """Bring the environment to the state that the files ask for.

    Raises:
        SetupError: it cannot; the message says what a person has to do.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + Path(__file__).read_bytes())
    wanted = digest.hexdigest() + sys.version
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    run([sys.executable, "-m", "venv", "--clear", str(TARGET)], TARGET.name)
    install_torch()
    # Without what they depend on: lerobot's list has a hundred packages for robots and training,
    # and its upper bounds on torch are older than the torch that is at hand everywhere.
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    alone = [line for line in lines if line.startswith(("lerobot", "torchcodec"))]
    rest = [line for line in lines if line and line not in alone]
    run([*pip, *rest], "what lerobot reads data sets with")
    run([*pip, "--no-deps", *alone], ", ".join(alone))
    install_ffmpeg()
    STAMP.write_text(wanted)


def main() -> int:
    """Set up; return the exit status."""
    try:
        set_up()
    except SetupError as error:
        print(f"lerobot set-up: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
