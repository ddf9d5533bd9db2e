"""Where Gazebo 11 is on this machine, with what rl_robot adds to it."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.simulation.gazebo.build import LOOPBACK, Say, build
from rl_robot.simulation.gazebo.prefix import Prefix, prefix_in

VARIABLE = "RL_ROBOT_GAZEBO"
CACHE_VARIABLE = "RL_ROBOT_GAZEBO_CACHE"
CHECKOUT = Path(__file__).resolve().parents[3] / ".gazebo"


@dataclass(frozen=True)
class Installation:
    """A Gazebo 11 that can be run.

    Attributes:
        root: the folder that it is in.
        version: such as "11.1.0".
        server: the program gzserver.
        plugins: folder with the compiled plugin, ``librl_robot_joints.so``.
        messages: folder with the compiled protobuf messages, ``*_pb2.py``; the modules import each
            other by these names, so the folder has to be on ``sys.path``.
    """

    root: Path
    version: str
    server: Path
    plugins: Path
    messages: Path

    def environment(self) -> dict[str, str]:
        """Return the environment that Gazebo's programs run in: ours, and where everything is.

        They find the plugin by its name, and their sockets stay on the loopback interface.
        """
        environment = prefix_in(self.root).environment(os.environ)
        stock = environment["GAZEBO_PLUGIN_PATH"]
        environment["GAZEBO_PLUGIN_PATH"] = os.pathsep.join([str(self.plugins), stock])
        preloaded = [str(self.plugins / LOOPBACK), *filter(None, [os.environ.get("LD_PRELOAD")])]
        return environment | {"LD_PRELOAD": os.pathsep.join(preloaded)}


def find_installation() -> Installation:
    """Find Gazebo 11, and compile the plugin and the messages for it where that was not done yet.

    Looked at in this order: the prefix that the environment variable ``RL_ROBOT_GAZEBO`` names, the
    checkout's own ``.gazebo/``, the ``gzserver`` on ``PATH``. Compiling takes about half a minute,
    once; the results are kept in ``.gazebo/rl_robot``, and for other prefixes in the cache folder.

    Raises:
        UserError: there is none, or not one that can be used; the message says how to get one.
    """
    prefix = find_prefix()
    if prefix is None:
        raise UserError(
            "no Gazebo 11 on this machine: `make gazebo-test` in a checkout of rl_robot installs "
            f"one there; one that is elsewhere is named by {VARIABLE}=<its prefix>"
        )
    return install_additions(prefix)


def find_prefix() -> Prefix | None:
    """Return the Gazebo 11 to use, in the order of ``find_installation``; None if there is none.

    Raises:
        UserError: the one that ``RL_ROBOT_GAZEBO`` names can't be used.
    """
    if named := os.environ.get(VARIABLE):
        prefix = prefix_in(Path(named).expanduser().resolve())
        if problem := prefix.problem():
            raise UserError(f"{VARIABLE}={named}: {problem}")
        return prefix
    server = shutil.which("gzserver")
    candidates = [prefix_in(CHECKOUT)]
    if server:
        candidates.append(Prefix(Path(server).resolve().parent.parent))
    return next((prefix for prefix in candidates if prefix.problem() is None), None)


def install_additions(prefix: Prefix, say: Say = lambda what: None) -> Installation:
    """Compile the plugin and the messages for a Gazebo 11, unless that was done.

    Args:
        prefix: the Gazebo.
        say: told what is compiled, just before that.

    Raises:
        UserError: as ``build``.
    """
    plugins, messages = build(prefix, _additions_folder(prefix), say)
    root = prefix.usr.parent if prefix_in(prefix.usr.parent) == prefix else prefix.usr
    return Installation(root, prefix.version or "", prefix.server, plugins, messages)


def cache_folder() -> Path:
    """Return the folder for what is worth keeping: packages, and what is made for other prefixes.

    It is ``$RL_ROBOT_GAZEBO_CACHE``, or ``rl_robot/gazebo`` in the user's cache folder.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rl_robot" / "gazebo"


def _additions_folder(prefix: Prefix) -> Path:
    if prefix == prefix_in(CHECKOUT):
        return CHECKOUT / "rl_robot"
    # Others' folders are left as they are. Two checkouts may have different plugins for one Gazebo.
    pair = f"{prefix.usr}\0{Path(__file__).parent}"
    return cache_folder() / f"additions-{hashlib.sha256(pair.encode()).hexdigest()[:12]}"
