"""A folder with Gazebo 11 in it, and where in it everything is.

Standard library only: set-up uses it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What a user has set for another Gazebo must not reach this one.
_FOREIGN = ("GAZEBO_", "IGN_", "OGRE_", "SDF_")


@dataclass(frozen=True)
class Prefix:
    """Gazebo 11 below ``usr``: ``bin/gzserver``, its libraries, headers and resources."""

    usr: Path

    @property
    def is_system(self) -> bool:
        """Whether loader and compiler look here without being told."""
        return self.usr == Path("/usr")

    @property
    def server(self) -> Path:
        """The program gzserver."""
        return self.usr / "bin" / "gzserver"

    @property
    def headers(self) -> Path:
        """Gazebo's own headers, with the .proto files of its messages below them."""
        return self.usr / "include" / "gazebo-11"

    @property
    def libraries(self) -> Path:
        """The folder with Gazebo's own shared libraries."""
        found = sorted(self.usr.glob("lib/*-linux-gnu/libgazebo.so.11"))
        return found[0].parent if found else self.usr / "lib"

    @property
    def version(self) -> str | None:
        """The version, such as "11.1.0", by the development files; None where these are missing."""
        about = self.libraries / "pkgconfig" / "gazebo.pc"
        if not about.is_file() or not self.headers.is_dir():
            return None
        found = re.search(r"^Version: *(\S+)", about.read_text(), re.MULTILINE)
        return found[1] if found else None

    def problem(self) -> str | None:
        """Say why this Gazebo can't be used, or return None if it can."""
        if not self.server.is_file():
            return f"there is no {self.server}"
        if self.version is None:
            return f"the Gazebo in {self.usr} is not version 11 with its development files"
        if not self.version.startswith("11."):
            return f"the Gazebo in {self.usr} is version {self.version}, not 11"
        return None

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment that Gazebo's programs run in.

        Args:
            base: the environment that it begins with, for example ``os.environ``.
        """
        environment = {k: v for k, v in base.items() if not k.startswith(_FOREIGN)}
        share = self.usr / "share" / "gazebo-11"
        environment |= {
            "GAZEBO_RESOURCE_PATH": str(share),
            "GAZEBO_MODEL_PATH": str(share / "models"),
            "GAZEBO_PLUGIN_PATH": str(self.libraries / "gazebo-11" / "plugins"),
            # Nothing is fetched from, nor announced to, other machines.
            "GAZEBO_MODEL_DATABASE_URI": "",
            "GAZEBO_IP": "127.0.0.1",
            "IGN_IP": "127.0.0.1",
            # A simulator makes no sound; without this it looks for a sound card and complains.
            "ALSOFT_DRIVERS": "null",
        }
        if self.is_system:
            return environment
        return environment | self._relocated(base.get("LD_LIBRARY_PATH", ""))

    def _relocated(self, library_path: str) -> dict[str, str]:
        """What a Gazebo that isn't where it was compiled for has to be told."""
        libraries, lib = self.libraries, self.usr / "lib"
        # A Debian package's alternatives and private folders: nobody ran its scripts here.
        private = [libraries / name for name in ("blas", "lapack", "pulseaudio")]
        folders = [libraries, *private, lib, self.usr.parent / "lib" / libraries.name]
        found = [str(folder) for folder in folders if folder.is_dir()]
        changes = {"LD_LIBRARY_PATH": os.pathsep.join([*found, *filter(None, [library_path])])}
        for name, pattern in (
            ("OGRE_RESOURCE_PATH", f"lib/{libraries.name}/OGRE-*"),
            ("SDF_PATH", "share/sdformat*/[0-9]*"),
        ):
            if places := sorted(self.usr.glob(pattern)):
                changes[name] = str(places[-1])
        if (libraries / "dri").is_dir():
            # Its own Mesa, which is older than the machine's drivers: it draws in software.
            changes |= {"LIBGL_DRIVERS_PATH": str(libraries / "dri"), "LIBGL_ALWAYS_SOFTWARE": "1"}
        return changes


def prefix_in(root: Path) -> Prefix:
    """Return the prefix in ``root``, be it an installation prefix or unpacked Debian packages."""
    usr = root / "usr"
    return Prefix(usr if (usr / "bin").is_dir() else root)
