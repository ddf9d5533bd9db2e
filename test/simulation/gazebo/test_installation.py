"""Which Gazebo 11 is used, what it is told, and when something is compiled for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl_robot.errors import UserError
from rl_robot.simulation.gazebo import build, installation
from rl_robot.simulation.gazebo.prefix import Prefix, prefix_in

ARCHITECTURE = "x86_64-linux-gnu"


def make_prefix(usr: Path, version: str = "11.1.0") -> Path:
    """Make files where a Gazebo has them."""
    libraries = usr / "lib" / ARCHITECTURE
    protos = usr / "include" / "gazebo-11" / "gazebo" / "msgs" / "proto"
    for folder in (usr / "bin", libraries / "pkgconfig", libraries / "OGRE-1.9.0", protos):
        folder.mkdir(parents=True)
    (usr / "bin" / "gzserver").write_text("")
    (usr / "bin" / "gzserver").chmod(0o755)
    (libraries / "libgazebo.so.11").write_text("")
    (libraries / "pkgconfig" / "gazebo.pc").write_text(f"Name: Gazebo\nVersion: {version}\n")
    (protos / "time.proto").write_text('syntax = "proto2";')
    return usr


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Gazebo anywhere."""
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv(installation.VARIABLE, raising=False)
    monkeypatch.setenv(installation.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(installation, "CHECKOUT", tmp_path / "checkout" / ".gazebo")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Compilers that make empty files; returns what they were asked to make."""
    made: list[str] = []

    def run(command: list[str], where: Path, failure: str) -> None:
        names = [build.PLUGIN, build.LOOPBACK, "messages"]
        made.append(
            next(name for name in names if any(name in word for word in [*command, where.name]))
        )
        target = where if where.suffix == ".so" else where.parent / "time_pb2.py"
        target.write_text("")

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(build, "_version", lambda package: "7.0")
    (tmp_path / "path" / "g++").write_text("")
    (tmp_path / "path" / "g++").chmod(0o755)
    return made


def test_without_one_it_is_said_how_to_get_one():
    with pytest.raises(UserError, match=r"make gazebo-test.*RL_ROBOT_GAZEBO") as caught:
        installation.find_installation()
    assert "\n" not in str(caught.value)


def test_the_named_one_comes_first_then_the_checkouts_then_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    system = make_prefix(tmp_path / "system")
    monkeypatch.setenv("PATH", str(system / "bin"), prepend=os.pathsep)
    assert installation.find_prefix() == Prefix(system)
    unpacked = make_prefix(installation.CHECKOUT / "usr")
    assert installation.find_prefix() == Prefix(unpacked)
    named = make_prefix(tmp_path / "named" / "usr")
    monkeypatch.setenv(installation.VARIABLE, str(tmp_path / "named"))
    assert installation.find_prefix() == Prefix(named)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda usr: (usr / "bin" / "gzserver").unlink(), "there is no .*gzserver"),
        (
            lambda usr: (usr / "include" / "gazebo-11").rename(usr / "elsewhere"),
            "development files",
        ),
        (
            lambda usr: (usr / "lib" / ARCHITECTURE / "pkgconfig" / "gazebo.pc").write_text(
                "Version: 9.16.0\n"
            ),
            "version 9.16.0, not 11",
        ),
    ],
)
def test_one_that_cant_be_used_is_refused_by_name_and_passed_over_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil, reason: str
):
    usr = make_prefix(tmp_path / "some")
    spoil(usr)
    monkeypatch.setenv("PATH", str(usr / "bin"), prepend=os.pathsep)
    assert installation.find_prefix() is None
    monkeypatch.setenv(installation.VARIABLE, str(usr))
    with pytest.raises(UserError, match=rf"RL_ROBOT_GAZEBO=.*{reason}"):
        installation.find_prefix()


def test_an_unpacked_one_is_told_where_everything_is(tmp_path: Path):
    usr = make_prefix(tmp_path / "unpacked" / "usr")
    base = {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/ros/lib",
        "GAZEBO_PLUGIN_PATH": "/other",
        "IGN_IP": "10.0.0.1",
    }
    told = prefix_in(tmp_path / "unpacked").environment(base)
    assert told["LD_LIBRARY_PATH"].split(":")[0] == str(usr / "lib" / ARCHITECTURE)
    assert told["LD_LIBRARY_PATH"].split(":")[-1] == "/ros/lib"
    assert told["OGRE_RESOURCE_PATH"] == str(usr / "lib" / ARCHITECTURE / "OGRE-1.9.0")
    assert told["GAZEBO_PLUGIN_PATH"] == str(usr / "lib" / ARCHITECTURE / "gazebo-11" / "plugins")
    assert told["PATH"] == "/bin"
    for environment in (told, Prefix(Path("/usr")).environment(base)):
        assert environment["IGN_IP"] == environment["GAZEBO_IP"] == "127.0.0.1"
        assert environment["GAZEBO_MODEL_DATABASE_URI"] == ""
    assert Prefix(Path("/usr")).environment(base)["LD_LIBRARY_PATH"] == "/ros/lib"


def test_the_server_finds_our_plugin_before_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
):
    make_prefix(installation.CHECKOUT / "usr")
    found = installation.find_installation()
    environment = found.environment()
    assert found.root == installation.CHECKOUT
    assert environment["GAZEBO_PLUGIN_PATH"].split(os.pathsep)[0] == str(found.plugins)
    assert environment["LD_PRELOAD"].split(os.pathsep)[0] == str(found.plugins / build.LOOPBACK)


def test_what_is_compiled_is_kept_and_nothing_is_written_to_others_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
):
    system = make_prefix(tmp_path / "system")
    before = sorted(system.rglob("*"))
    monkeypatch.setenv("PATH", str(system / "bin"), prepend=os.pathsep)
    first = installation.find_installation()
    assert sorted(compiled) == sorted([build.PLUGIN, build.LOOPBACK, "messages"])
    assert first.plugins.is_relative_to(tmp_path / "cache")
    assert (first.plugins / build.PLUGIN).is_file()
    assert (first.messages / "time_pb2.py").is_file()
    assert installation.find_installation() == first
    assert len(compiled) == 3
    assert sorted(system.rglob("*")) == before


def test_a_changed_source_and_changed_messages_are_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
):
    usr = make_prefix(installation.CHECKOUT / "usr")
    for name in ("plugin", "loopback"):
        (tmp_path / "sources" / name).mkdir(parents=True)
        (tmp_path / "sources" / name / "a.cc").write_text("// a")
    monkeypatch.setattr(build, "_HERE", tmp_path / "sources")
    installation.find_installation()
    compiled.clear()
    (tmp_path / "sources" / "plugin" / "a.cc").write_text("// b")
    installation.find_installation()
    assert compiled == [build.PLUGIN, build.LOOPBACK]
    compiled.clear()
    proto = usr / "include" / "gazebo-11" / "gazebo" / "msgs" / "proto" / "time.proto"
    proto.write_text('syntax = "proto3";')
    installation.find_installation()
    assert compiled == ["messages"]


def test_a_compiler_that_fails_is_quoted_and_leaves_what_was_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
):
    usr = make_prefix(installation.CHECKOUT / "usr")
    made = installation.find_installation()
    proto = usr / "include" / "gazebo-11" / "gazebo" / "msgs" / "proto" / "time.proto"
    proto.write_text("changed")

    def fail(command: list[str], where: Path, failure: str) -> None:
        raise UserError(failure)

    monkeypatch.setattr(build, "_run", fail)
    for _ in range(2):
        with pytest.raises(UserError, match="messages do not compile"):
            installation.find_installation()
    assert (made.messages / "time_pb2.py").is_file()


def test_what_a_compiler_said_is_shown_in_one_line_and_kept(tmp_path: Path):
    room = tmp_path / "plugins" / ".part"
    room.mkdir(parents=True)
    script = "echo 'In file a.cc:'; echo 'a.cc:3: error: no such type'; echo more; exit 1"
    with pytest.raises(
        UserError, match=r"^it fails: a\.cc:3: error: no such type \(all of it: "
    ) as caught:
        build._run(["/bin/sh", "-c", script], room / "x.so", "it fails")
    assert "\n" not in str(caught.value)
    assert "more" in (tmp_path / "plugins" / "failed.log").read_text()


def test_without_a_compiler_it_is_named(tmp_path: Path):
    make_prefix(installation.CHECKOUT / "usr")
    with pytest.raises(UserError, match=r"no g\+\+"):
        installation.find_installation()


@pytest.mark.parametrize("absent", ["protobuf", "grpcio-tools"])
def test_without_the_extra_packages_it_is_said_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, compiled: list[str], absent: str
):
    make_prefix(installation.CHECKOUT / "usr")
    monkeypatch.setattr(build, "_version", lambda package: None if package == absent else "7.0")
    with pytest.raises(UserError, match=r"pip install 'rl_robot\[gazebo\]'"):
        installation.find_installation()


def test_a_cache_that_cant_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
):
    system = make_prefix(tmp_path / "system")
    monkeypatch.setenv("PATH", str(system / "bin"), prepend=os.pathsep)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(installation.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't be kept in .*file"):
        installation.find_installation()


def test_the_cache_folder_follows_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert installation.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(installation.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert installation.cache_folder() == tmp_path / "xdg" / "rl_robot" / "gazebo"


def test_the_loopback_library_compiles_and_binds_to_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", os.defpath)
    if not shutil.which("g++"):
        pytest.skip("no g++ here; `make gazebo-test` has one")
    build._compile(tmp_path / build.LOOPBACK, build._sources("loopback"), [], ["-ldl"])
    script = (
        "import socket\n"
        "for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "    s = socket.socket(socket.AF_INET, kind)\n"
        "    s.bind(('0.0.0.0', 0))\n"
        "    print(s.getsockname()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        env={"LD_PRELOAD": str(tmp_path / build.LOOPBACK)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["127.0.0.1", "127.0.0.1"]
