"""apt-get with a state of its own: what another Debian release has, and its packages.

It asks the mirrors that the machine's own apt is set up for, and believes only what the release's
signed list says. The system's state is neither read nor written. Standard library only.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setup_environment import SetupError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_SUITES = (
    *("bullseye", "bookworm", "trixie", "forky", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
)
PACKAGE_FILE = re.compile(r"[a-z0-9][a-z0-9.+-]*_[\w.+~%-]+\.deb")


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
        if match and PACKAGE_FILE.fullmatch(match[1]):
            found.append(Package(match[1], int(match[2]), match[3]))
    return found


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


def complaint(said: str) -> str:
    """Return the first complaint in what apt said."""
    lines = [line[2:].strip() for line in said.splitlines() if line.startswith(("E:", "W:"))]
    return next(filter(None, lines), "no reason given")


# --- apt itself ----------------------------------------------------------------------------------


def machines_mirrors() -> list[str]:
    """Return the Debian mirrors that the machine's apt is set up for, as it reads its sources."""
    line = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    # One line for each list of binary packages, also where apt has fetched no list yet.
    query = ["indextargets", "--no-release-info", "--format", line, "Created-By: Packages"]
    return debian_mirrors(_apt_get(query).stdout)


def _apt_get(
    arguments: Sequence[str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", *arguments],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )


class Apt:
    """apt-get with a state of its own."""

    def __init__(self, folder: Path, release: str) -> None:
        if not KEYRING.is_file():
            raise Unavailable(f"no {KEYRING} to check packages by: not a Debian system")
        mirrors = machines_mirrors()
        if not mirrors:
            raise Unavailable("apt's sources name no Debian mirror")
        for name in ("lists/partial", "archives/partial", "none"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in apt_configuration(folder, mirrors, release).items():
            (folder / name).write_text(text)
        self._options = ["-c", str(folder / "apt.conf")]
        self._said = _apt_get([*self._options, "-qq", "update"]).stderr

    def resolve(self, request: Request) -> list[Package]:
        """Return the request's packages, those included that they depend on."""
        print_uris = [*self._options, "-qq", "--print-uris"]
        done = _apt_get([*print_uris, "--yes", "install", *request.packages])
        needed = re.findall(r"^'[^']+' ([^_\s]+)_", done.stdout, re.MULTILINE)
        if done.returncode or not needed:
            raise Unavailable(
                f"no mirror gives Debian {request.release}: {complaint(self._said + done.stderr)}"
            )
        names = [name for name in needed if name not in request.left_out]
        names = list(dict.fromkeys([*names, *request.alone]))
        packages = package_files(_apt_get([*print_uris, "download", *names]).stdout)
        if unlisted := sorted(set(names) - {package.name for package in packages}):
            raise Unavailable(f"Debian {request.release} on the mirror has no {unlisted[0]}")
        return packages

    def download(self, packages: Sequence[Package], folder: Path) -> None:
        """Fetch packages into a folder; apt checks each by the release's list."""
        names = [package.name for package in packages]
        done = _apt_get([*self._options, "-qq", "download", *names], folder)
        if done.returncode:
            raise Unavailable(f"downloading failed: {complaint(done.stderr)}")
