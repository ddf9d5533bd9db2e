"""What Gazebo lacks and we bring along, made for one installation: the plugin and the messages.

Gazebo 11's own transport has no joint commands, hence the plugin, and there is no Python package
of its messages, hence those are compiled from its own .proto files. Both are keyed by all that
they are made from: made on first use, and again when something of that changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.simulation.gazebo.prefix import Prefix

_HERE = Path(__file__).resolve().parent
PLUGIN = "librl_robot_joints.so"
LOOPBACK = "librl_robot_loopback.so"
_COMPILER = "g++"
_FLAGS = ("-O2", "-fPIC", "-shared", "-std=c++17", "-w")
# Gazebo 11 uses names that newer Boosts put elsewhere.
_PLUGIN_FLAGS = ("-DBOOST_BIND_GLOBAL_PLACEHOLDERS",)
_GAZEBO_LIBRARIES = ("physics", "ode", "transport", "common", "msgs")
_KEY = "made-from"
Say = Callable[[str], None]
_LOG = "failed.log"


def build(prefix: Prefix, folder: Path, say: Say = lambda what: None) -> tuple[Path, Path]:
    """Make plugin and messages for an installation, unless they are there already.

    Args:
        prefix: the Gazebo to make them for.
        folder: where they are kept; made if it is not there.
        say: told what is made, just before that.

    Returns:
        The folder with the plugin, and the folder with the messages' Python modules.

    Raises:
        UserError: a compiler is missing or has failed, or the folder can't be written.
    """
    plugins, messages = folder / "plugins", folder / "messages"
    try:
        with _room(plugins, _plugin_key(prefix)) as room:
            if room:
                say("the plugin")
                _compile_plugin(prefix, room)
        with _room(messages, _messages_key(prefix)) as room:
            if room:
                say("the messages")
                _compile_messages(prefix, room)
    except OSError as error:
        raise UserError(
            f"Gazebo's plugin and messages can't be kept in {folder}: {error}"
        ) from None
    return plugins, messages


# --- what is made from what ----------------------------------------------------------------------


def _sources(name: str, pattern: str = "*.cc") -> list[Path]:
    return sorted((_HERE / name).glob(pattern))


def _digest(files: Iterable[Path], *facts: str) -> str:
    digest = hashlib.sha256("\0".join(facts).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _plugin_key(prefix: Prefix) -> str:
    code = [*_sources("plugin", "*.cc"), *_sources("plugin", "*.hh"), *_sources("loopback")]
    flags = (*_FLAGS, *_PLUGIN_FLAGS, *_GAZEBO_LIBRARIES)
    return _digest(code, str(prefix.usr), prefix.version or "", *flags)


def _definitions(prefix: Prefix) -> list[Path]:
    return sorted((prefix.headers / "gazebo" / "msgs" / "proto").glob("*.proto"))


def _messages_key(prefix: Prefix) -> str:
    protobuf = _version("protobuf")
    if protobuf is None:
        raise _no_tools()
    return _digest(_definitions(prefix), protobuf)


def _version(package: str) -> str | None:
    """Return the version of an installed Python package, None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# --- making it -----------------------------------------------------------------------------------


@contextmanager
def _room(folder: Path, key: str) -> Iterator[Path | None]:
    """Give an empty folder whose files come into ``folder``; None if that is made for the key."""
    stamp = folder / _KEY
    if _read(stamp) == key:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        if _read(stamp) == key:  # by another process, while this one waited
            yield None
            return
        yield Path(part)
        stamp.unlink(missing_ok=True)
        for made in Path(part).iterdir():
            made.replace(folder / made.name)
        stamp.write_text(key)


def _read(stamp: Path) -> str | None:
    return stamp.read_text() if stamp.is_file() else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile_plugin(prefix: Prefix, target: Path) -> None:
    if not shutil.which(_COMPILER):
        raise UserError("no g++ to compile Gazebo's plugin with: sudo apt-get install g++")
    usr_include = prefix.usr / "include"
    includes = [prefix.headers, prefix.headers / "gazebo" / "msgs"]
    includes += sorted([*usr_include.glob("ignition/*"), *usr_include.glob("sdformat-*")])
    options = [f"-I{folder}" for folder in includes]
    if not prefix.is_system:  # the compiler's own folder has to keep its place
        options += ["-isystem", str(usr_include)]
    libraries = [f"-l:libgazebo_{name}.so.11" for name in _GAZEBO_LIBRARIES]
    # What Gazebo's libraries need in turn is not the plugin's concern.
    linking = [f"-L{prefix.libraries}", *libraries, "-Wl,--allow-shlib-undefined"]
    _compile(target / PLUGIN, _sources("plugin"), [*_PLUGIN_FLAGS, *options], linking)
    _compile(target / LOOPBACK, _sources("loopback"), [], ["-ldl"])


def _compile(
    library: Path, sources: list[Path], options: Iterable[str], linking: Iterable[str]
) -> None:
    command = [_COMPILER, *_FLAGS, *options, "-o", str(library), *map(str, sources), *linking]
    _run(command, library, f"{library.name} does not compile")


def _compile_messages(prefix: Prefix, target: Path) -> None:
    if _version("grpcio-tools") is None:
        raise _no_tools()
    definitions = _definitions(prefix)
    where = [f"--proto_path={definitions[0].parent}", f"--python_out={target}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *where, *map(str, definitions)]
    _run(command, target / "messages", "Gazebo's messages do not compile")


def _run(command: list[str], made: Path, failure: str) -> None:
    """Run a compiler; when it fails, keep what it said beside what it should have made."""
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        log = made.parent.parent / _LOG
        log.write_text(done.stdout)
        errors = (line.strip() for line in done.stdout.splitlines() if "error" in line)
        reason = next(errors, "no reason given")
        raise UserError(f"{failure}: {reason} (all of it: {log})")


def _no_tools() -> UserError:
    return UserError(
        "Gazebo's messages are compiled by grpcio-tools, which is not installed: "
        "pip install 'rl_robot[gazebo]'"
    )
