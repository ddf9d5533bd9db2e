"""Packages of another Debian release in a folder: fetched without root, kept, checked, unpacked.

What was fetched is kept with its SHA-256 sums, and checked by those each time before it is used.
Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apt_release import PACKAGE_FILE, Apt, Package, Request, Unavailable
from setup_environment import SetupError

SUMS = "SHA256SUMS"
TOOLS = ("apt-get", "dpkg-deb", "tar")
BATCH = 25
NOT_UNPACKED = ("doc", "man", "locale", "icons")


# --- decisions, free of side effects -------------------------------------------------------------


def write_sums(request: Request, packages: Iterable[Package]) -> str:
    """Return the text of a list of sums, as `sha256sum --check` reads it."""
    lines = [f"{package.sha256}  {package.file}" for package in packages]
    return "\n".join([f"# {request}", *lines, ""])


def read_sums(request: Request, text: str) -> dict[str, str]:
    """Return sums by file name; none if the list is another request's or is not whole."""
    first, *lines = text.splitlines() or [""]
    pairs = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in lines]
    if first != f"# {request}" or not text.endswith("\n"):
        return {}
    return {pair[2]: pair[1] for pair in pairs if pair and PACKAGE_FILE.fullmatch(pair[2])}


def unsuited(machine: str, libc: tuple[str, str], tools: Iterable[str]) -> str | None:
    """Say why bullseye's programs can't run here, or None if they can.

    Args:
        machine: as ``platform.machine``.
        libc: as ``platform.libc_ver``.
        tools: the names of those programs of ``TOOLS`` that are there.
    """
    if machine != "x86_64":
        return f"its packages are for x86-64, and this machine is {machine}"
    name, version = libc
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < (2, 31):
        return f"it needs glibc 2.31 or newer, and this machine has {name or 'none'} {version}"
    missing = [tool for tool in TOOLS if tool not in tools]
    if missing:
        return f"not a Debian system: no {', '.join(missing)}"
    return None


# --- fetching ------------------------------------------------------------------------------------


class Progress:
    """One line that says how far it is, rewritten in place on a terminal."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._last_stage = ""

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    def say(self, stage: str, detail: str = "") -> None:
        """Say what is being done; off a terminal only when that is something new."""
        if sys.stdout.isatty():
            text = f"{self._title}: {stage} {detail}".rstrip()
            print(f"\r\x1b[K{text}, {self.seconds:.0f} s", end="", flush=True)
        elif stage != self._last_stage:
            print(f"{self._title}: {stage}", flush=True)
        self._last_stage = stage

    def clear(self) -> None:
        """Make room for what others have to say."""
        if sys.stdout.isatty():
            print("\r\x1b[K", end="", flush=True)

    def finish(self, text: str) -> None:
        """Say the last word, with the time that all took."""
        self.clear()
        print(f"{self._title}: {text}, {self.seconds:.0f} s", flush=True)


def fetch(request: Request, cache: Path, progress: Progress) -> list[Path]:
    """Return the request's package files, whole and checked, from the cache or from a mirror.

    Raises:
        Unavailable: some are not in the cache, and no mirror gives them.
    """
    reason = unsuited(platform.machine(), platform.libc_ver(), filter(shutil.which, TOOLS))
    if reason:
        raise Unavailable(reason)
    folder = cache / request.release
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        progress.say("checking the kept packages")
        sums = _kept_sums(request, folder)
        missing = missing_files(folder, sums)
        if missing or not sums:
            try:
                sums = _download(request, folder, progress)
            except Unavailable as reason:
                if not missing:
                    raise
                what = f"{missing[0]} is missing or damaged in {folder}"
                raise Unavailable(f"{what}, and {reason}") from None
    return [folder / file for file in sums]


def missing_files(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are not there, or are not what they should be."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(sums, pool.map(lambda file: sha256(folder / file), sums), strict=True))
    return [file for file in sums if found[file] != sums[file]]


def sha256(file: Path) -> str | None:
    """Return a file's SHA-256 sum, None if there is no such file."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _kept_sums(request: Request, folder: Path) -> dict[str, str]:
    sums = folder / SUMS
    return read_sums(request, sums.read_text()) if sums.is_file() else {}


def _download(request: Request, folder: Path, progress: Progress) -> dict[str, str]:
    """Fetch what is missing; return the sums of everything."""
    apt = Apt(folder / "apt", request.release)
    progress.say(f"asking the mirror for {request.release}")
    packages = apt.resolve(request)
    sums = {package.file: package.sha256 for package in packages}
    (folder / SUMS).write_text(write_sums(request, packages))
    for file in folder.glob("*.deb"):
        if file.name not in sums:
            file.unlink()  # of an older list
    missing = set(missing_files(folder, sums))
    wanted = [package for package in packages if package.file in missing]
    total, done = sum(package.size for package in wanted), 0
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        progress.say(
            f"downloading {len(wanted)} packages, {total / 1e6:.0f} MB:", f"{done / 1e6:.0f} MB"
        )
        for package in batch:  # what is there of it is not what it should be
            (folder / package.file).unlink(missing_ok=True)
        apt.download(batch, folder)
        done += sum(package.size for package in batch)
    if damaged := missing_files(folder, {package.file: package.sha256 for package in wanted}):
        raise SetupError(f"{damaged[0]} is not what the release's list says, fresh from the mirror")
    return sums


# --- unpacking -----------------------------------------------------------------------------------


def unpack(files: Sequence[Path], target: Path, say: Callable[[str], None]) -> None:
    """Unpack packages into a folder, without their documentation and without running their scripts.

    Args:
        files: the packages.
        target: made if it is not there.
        say: told how far it is.

    Raises:
        SetupError: one can't be unpacked.
    """
    target.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for count, _ in enumerate(pool.map(lambda file: _unpack(file, target), files), 1):
            say(f"{count} of {len(files)}")


def _unpack(file: Path, target: Path) -> None:
    # Nothing gets an owner or special rights, whoever runs this.
    options = ["--no-same-owner", "--no-same-permissions"]
    options += [f"--exclude=./usr/share/{name}/*" for name in NOT_UNPACKED]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as source:
        tar = ["tar", "-x", "-C", str(target), *options]
        done = subprocess.run(
            tar, stdin=source.stdout, stderr=subprocess.PIPE, text=True, check=False
        )
    if source.returncode or done.returncode:
        reason = (done.stderr.strip().splitlines() or ["its archive is damaged"])[0]
        raise SetupError(f"{file.name} can't be unpacked: {reason}")
