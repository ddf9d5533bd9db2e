"""The real gzserver as a process: it starts, it ends, and nothing of it is ever left behind."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rl_robot.errors import LostProgramError, UserError
from rl_robot.simulation.gazebo.installation import Installation, find_installation
from rl_robot.simulation.gazebo.server import GazeboServer

# Starts a server and waits to be killed; argv: world, log.
OWNER = """
import sys, time
from pathlib import Path
from rl_robot.simulation.gazebo.installation import find_installation
from rl_robot.simulation.gazebo.server import GazeboServer
world, leavings = Path(sys.argv[1]), Path(sys.argv[2])
server = GazeboServer(find_installation(), world, leavings / "log", leavings=[leavings])
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def no_display():
    """Takes a display of the desktop's away, so that the server brings its own X server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DISPLAY", raising=False)
        yield


def processes_of(server_pid: int) -> set[int]:
    """The process ids of gzserver, its guardian and its X server: one session's."""
    session = os.getsid(server_pid)
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == session:
                    found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: set[int]) -> None:
    """Fails if any is there after half a minute, which is far more than it takes."""
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def home_of(pid: int) -> Path:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return Path(next(v for v in variables if v.startswith(b"HOME=")).split(b"=", 1)[1].decode())


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as link:
            return b"version" in link.recv(64)
    except OSError:
        return False


def listening_addresses(pid: int) -> set[str]:
    """The local IPv4 addresses of a process's listening TCP and of its UDP sockets, in hex."""
    mine = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table, state in (("tcp", "0A"), ("udp", "07")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and f"socket:[{fields[9]}]" in mine:
                found.add(fields[1].split(":")[0])
    return found


def test_a_server_starts_answers_and_ends_with_all_that_was_started(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    log = tmp_path / "gazebo.log"
    with GazeboServer(installation, empty_world, log) as server:
        assert server.poll() is None
        assert answers(server.port)
        assert server.uri == f"http://127.0.0.1:{server.port}"
        pids, home = processes_of(server.pid), home_of(server.pid)
        assert len(pids) == 3
        assert home.is_dir()
        assert home != Path.home()
    assert not [pid for pid in pids if alive(pid)]
    assert server.poll() is not None
    assert not home.exists()
    assert not answers(server.port)
    assert "version 11." in log.read_text()


def test_it_listens_on_the_loopback_interface_alone(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    with GazeboServer(installation, empty_world, tmp_path / "log") as server:
        assert listening_addresses(server.pid) == {"0100007F"}


def test_two_servers_run_side_by_side(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    with (
        GazeboServer(installation, empty_world, tmp_path / "a.log") as first,
        GazeboServer(installation, empty_world, tmp_path / "b.log") as second,
    ):
        assert first.port != second.port
        assert answers(first.port)
        assert answers(second.port)
        assert home_of(first.pid) != home_of(second.pid)


def test_a_port_that_is_taken_is_named(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            GazeboServer(installation, empty_world, tmp_path / "log", port=port)


def test_a_world_that_cant_be_read_is_said_in_one_line(
    installation: Installation, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.world"
    broken.write_text("<sdf version='1.6'><world name='default'")
    with pytest.raises(UserError, match=r"can't read the world: .*Unable to read sdf") as caught:
        GazeboServer(installation, broken, tmp_path / "log")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such world"):
        GazeboServer(installation, tmp_path / "none.world", tmp_path / "log")


def test_a_server_that_ends_at_once_is_said_with_its_last_words(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    program = tmp_path / "gzserver"
    program.write_text("#!/bin/sh\necho 'all is well'\necho '[Err] no physics'\nexit 7\n")
    program.chmod(0o755)
    broken = dataclasses.replace(installation, server=program)
    with pytest.raises(
        LostProgramError, match=r"\(exit status 7\): \[Err\] no physics \(log: "
    ) as caught:
        GazeboServer(broken, empty_world, tmp_path / "log")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        GazeboServer(
            dataclasses.replace(installation, server=tmp_path / "none"),
            empty_world,
            tmp_path / "log",
        )


def test_a_killed_server_is_noticed(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    with GazeboServer(installation, empty_world, tmp_path / "log") as server:
        pids = processes_of(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        wait_until_gone(pids)
        assert server.poll() == 128 + signal.SIGKILL


def test_a_server_that_does_not_react_is_ended_all_the_same(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    server = GazeboServer(installation, empty_world, tmp_path / "log")
    pids = processes_of(server.pid)
    os.kill(server.pid, signal.SIGSTOP)
    server.close()
    assert not [pid for pid in pids if alive(pid)]


def test_nothing_is_left_when_the_owner_is_killed(empty_world: Path, tmp_path: Path) -> None:
    leavings = tmp_path / "leavings"
    leavings.mkdir()
    command = [sys.executable, "-c", OWNER, str(empty_world), str(leavings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        pids, home = processes_of(pid), home_of(pid)
        owner.kill()
    wait_until_gone(pids)
    assert not home.exists()
    assert not leavings.exists()


def test_nothing_is_left_when_its_guardian_is_killed(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    with GazeboServer(installation, empty_world, tmp_path / "log") as server:
        pids, home = processes_of(server.pid), home_of(server.pid)
        os.kill(os.getsid(server.pid), signal.SIGKILL)
        wait_until_gone(pids)
        assert server.poll() == 128 + signal.SIGKILL
    assert not home.exists()


def test_a_server_outlives_the_thread_that_started_it(
    installation: Installation, empty_world: Path, tmp_path: Path
) -> None:
    started: list[GazeboServer] = []
    thread = threading.Thread(
        target=lambda: started.append(GazeboServer(installation, empty_world, tmp_path / "log"))
    )
    thread.start()
    thread.join()
    # A second server's start is time enough for a signal at the first thread's end.
    with started[0] as server, GazeboServer(installation, empty_world, tmp_path / "other"):
        assert server.poll() is None
        assert answers(server.port)


def test_the_installation_is_found_again_without_compiling(installation: Installation) -> None:
    made = {path: path.stat().st_mtime_ns for path in installation.plugins.iterdir()}
    assert find_installation() == installation
    assert {path: path.stat().st_mtime_ns for path in installation.plugins.iterdir()} == made
    assert (installation.messages / "world_stats_pb2.py").is_file()
