"""Packages of another Debian release in a folder: fetched without root, checked, kept, unpacked.

apt does the fetching, with a state of its own beside the system's: it reads the signed list of the
release from the machine's own mirror and checks every package by it. What was fetched is kept with
its SHA-256 sums, and checked again by those before it is used. Standard library only.
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
from dataclasses import dataclass
from pathlib import Path

from setup_environment import SetupError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUMS = "SHA256SUMS"
DEBIAN_SUITES = (
    *("bullseye", "bookworm", "trixie", "forky", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
)
TOOLS = ("apt-get", "dpkg-deb", "tar")
BATCH = 25
NOT_UNPACKED = ("doc", "man", "locale", "icons")
_PACKAGE_FILE = re.compile(r"[a-z0-9][a-z0-9.+-]*_[\w.+~%-]+\.deb")


class Unavailable(SetupError):  # noqa: N818 - nothing went wrong, it just isn't to be had here
    """What is asked for can't be had on this machine; the message is one line that says why."""


@dataclass(frozen=True)
class Request:
    """Which packages of which release.

    Attributes:
        release: code name, such as "bullseye".
        packages: these, with everything that they depend on.
        alone: these, without what they depend on.
        left_out: what the machine has itself, newer.
    """

    release: str
    packages: tuple[str, ...]
    alone: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        alone, left_out = " ".join(self.alone), " ".join(self.left_out)
        return f"{self.release}: {' '.join(self.packages)} alone: {alone} without: {left_out}"


@dataclass(frozen=True)
class Package:
    """One file as the release's signed list describes it."""

    file: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The package's name."""
        return self.file.split("_")[0]


# --- decisions, free of side effects -------------------------------------------------------------


def debian_mirrors(listing: str) -> list[str]:
    """Return the Debian mirrors among apt's sources, each once, in apt's order.

    Args:
        listing: lines "URI suite component".
    """
    lines = [line.split() for line in listing.splitlines()]
    found = [
        line[0]
        for line in lines
        if len(line) == 3 and line[1] in DEBIAN_SUITES and line[2] == "main"
    ]
    return list(dict.fromkeys(found))


def package_files(uris: str) -> list[Package]:
    """Return the packages that `apt-get --print-uris download` names, those with a SHA-256 sum.

    Args:
        uris: lines "'URI' file size SHA256:sum".
    """
    found = []
    for line in uris.splitlines():
        match = re.fullmatch(r"'[^']+' (\S+) (\d+) SHA256:([0-9a-f]{64})", line.strip())
        if match and _PACKAGE_FILE.fullmatch(match[1]):
            found.append(Package(match[1], int(match[2]), match[3]))
    return found


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
    return {pair[2]: pair[1] for pair in pairs if pair and _PACKAGE_FILE.fullmatch(pair[2])}


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


def apt_configuration(folder: Path, mirrors: Sequence[str], release: str) -> dict[str, str]:
    """Return the files, text by name, that give apt a state of its own in ``folder``."""
    options = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "none",
        "Dir::Etc::preferences": folder / "preferences",
        "Dir::Etc::preferencesparts": folder / "none",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Get::AllowUnauthenticated": "false",
        # Root's apt would otherwise work as a user who may not enter a home folder.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "Debug::NoLocking": "true",
    }
    sources = [
        f"deb [arch=amd64 signed-by={KEYRING}] {mirror} {release} main" for mirror in mirrors
    ]
    return {
        "apt.conf": "".join(f'{name} "{value}";\n' for name, value in options.items()),
        "sources.list": "".join(f"{line}\n" for line in sources),
        "preferences": "",
        "status": "",  # nothing is installed: everything that is depended on is fetched
    }


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
    apt = _Apt(folder / "apt", request.release)
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


class _Apt:
    """apt-get with a state of its own."""

    def __init__(self, folder: Path, release: str) -> None:
        if not KEYRING.is_file():
            raise Unavailable(f"no {KEYRING} to check packages by: not a Debian system")
        listing = self._run(
            ["indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
        ).stdout
        mirrors = debian_mirrors(listing)
        if not mirrors:
            raise Unavailable("apt's sources name no Debian mirror")
        for name in ("lists/partial", "archives/partial", "none"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in apt_configuration(folder, mirrors, release).items():
            (folder / name).write_text(text)
        self._options = ["-c", str(folder / "apt.conf")]
        self._said = self._run([*self._options, "-qq", "update"]).stderr

    def resolve(self, request: Request) -> list[Package]:
        """Return the request's packages, those included that they depend on."""
        print_uris = [*self._options, "-qq", "--print-uris"]
        done = self._run([*print_uris, "--yes", "install", *request.packages])
        needed = re.findall(r"^'[^']+' ([^_\s]+)_", done.stdout, re.MULTILINE)
        if done.returncode or not needed:
            raise Unavailable(
                f"no mirror gives Debian {request.release}: {_reason(self._said + done.stderr)}"
            )
        names = [name for name in needed if name not in request.left_out]
        names = list(dict.fromkeys([*names, *request.alone]))
        packages = package_files(self._run([*print_uris, "download", *names]).stdout)
        if unlisted := sorted(set(names) - {package.name for package in packages}):
            raise Unavailable(f"Debian {request.release} on the mirror has no {unlisted[0]}")
        return packages

    def download(self, packages: Sequence[Package], folder: Path) -> None:
        """Fetch packages into a folder; apt checks each by the release's list."""
        names = [package.name for package in packages]
        done = self._run([*self._options, "-qq", "download", *names], folder)
        if done.returncode:
            raise Unavailable(f"downloading failed: {_reason(done.stderr)}")

    @staticmethod
    def _run(arguments: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess:
        environment = {**os.environ, "LC_ALL": "C"}
        return subprocess.run(
            ["apt-get", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )


def _reason(said: str) -> str:
    """Return the first complaint in what apt said."""
    lines = [line[2:].strip() for line in said.splitlines() if line.startswith(("E:", "W:"))]
    return lines[0] if lines else "no reason given"


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
