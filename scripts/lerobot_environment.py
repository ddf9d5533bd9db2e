"""Set up `.venv-lerobot`: lerobot itself, to read our exports with and to write what we import.

It has an environment of its own because it wants older versions of what we use. Runs with the
Python of `.venv`; a second run does nothing until the pins or this script change.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import setup_environment as base
from setup_environment import ROOT, VENV, succeeds, torch_backend

TITLE = "lerobot set-up"
LOCK = ROOT / ".setup-lerobot-lock"
run = partial(base.run, title=TITLE)

TARGET = ROOT / ".venv-lerobot"
PYTHON = TARGET / "bin" / "python"
STAMP = TARGET / "setup.stamp"
REQUIREMENTS = ROOT / "test" / "lerobot" / "requirements.txt"
# The CPU builds: what is tested is reading, and CUDA's packages are several GB.
TORCH = ("torch==2.13.0", "torchvision==0.28.0")
DECODER = [str(PYTHON), "-c", "import torchcodec.decoders"]


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
    if succeeds(DECODER):
        return
    base.install_packages(["ffmpeg"], title=TITLE)
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


if __name__ == "__main__":
    sys.exit(base.run_alone(set_up, LOCK, title=TITLE))
