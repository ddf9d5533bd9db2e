"""Gazebo's set-up: which mirror, which packages, what is kept, and why it may not be had."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import apt_release as release  # noqa: E402
import debian_packages as debian  # noqa: E402
import gazebo_environment as gazebo  # noqa: E402
from setup_environment import SetupError  # noqa: E402

REQUEST = release.Request("bullseye", ("gazebo",), ("libgazebo-dev",), ("libc6",))
ONE_LINE = """# a comment
deb [arch=amd64] http://one.example/debian bookworm main contrib
deb-src http://source.example/debian bookworm main
deb http://one.example/debian-security bookworm-security main
"""
DEB822 = """Types: deb
URIs: http://two.example/debian
  http://three.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://other.example/apt
Suites: nodistro
Components: main
"""
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="not a Debian system")


def sums_of(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.deb")
    }


@pytest.fixture
def progress() -> debian.Progress:
    return debian.Progress("test")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A full cache of two packages."""
    folder = tmp_path / "cache" / "bullseye"
    folder.mkdir(parents=True)
    for name in ("gazebo_11.1.0+dfsg-6_amd64.deb", "libgazebo-dev_11.1.0+dfsg-6_amd64.deb"):
        (folder / name).write_bytes(name.encode() * 100)
    packages = [release.Package(file, 0, total) for file, total in sums_of(folder).items()]
    (folder / debian.SUMS).write_text(debian.write_sums(REQUEST, packages))
    return folder


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise release.Unavailable("apt's sources name no Debian mirror")

    monkeypatch.setattr(debian, "Apt", refuse)
    monkeypatch.setattr(debian, "unsuited", lambda *_: None)


def test_mirrors_are_debians_own_each_once_in_order():
    listing = """http://a/debian/ bookworm main
http://a/debian/ bookworm main
http://a/debian/ bookworm contrib
http://a/debian/ bookworm-updates main
http://b/debian/ bullseye main
http://packages.example/apt nodistro main
http://archive.example/ubuntu noble main
W: a complaint of three words
"""
    assert release.debian_mirrors(listing) == ["http://a/debian/", "http://b/debian/"]
    assert release.debian_mirrors("") == []


@pytest.mark.skipif(not shutil.which("apt-get"), reason="not a Debian system")
@pytest.mark.parametrize(
    ("name", "text", "mirrors"),
    [
        ("a.list", ONE_LINE, ["http://one.example/debian/"]),
        ("a.sources", DEB822, ["http://two.example/debian/", "http://three.example/debian/"]),
    ],
)
def test_apt_itself_reads_both_formats_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, mirrors: list[str]
):
    (tmp_path / name).write_text(text)
    (tmp_path / "lists").mkdir()
    settings = {
        "Dir::Etc::sourceparts": tmp_path,
        "Dir::Etc::sourcelist": tmp_path / "none",
        "Dir::State::lists": tmp_path / "lists",
    }
    config = tmp_path / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(config))
    assert release.machines_mirrors() == mirrors


def test_apts_state_is_its_own_and_takes_nothing_unsigned(tmp_path: Path):
    files = release.apt_configuration(
        tmp_path, ["http://a/debian/", "http://b/debian/"], "bullseye"
    )
    assert files["sources.list"].splitlines() == [
        f"deb [arch=amd64 signed-by={release.KEYRING}] http://{host}/debian/ bullseye main"
        for host in "ab"
    ]
    assert f'Dir::State "{tmp_path}";' in files["apt.conf"]
    assert 'APT::Get::AllowUnauthenticated "false";' in files["apt.conf"]


def test_packages_are_listed_only_with_a_sha256_sum_and_a_plain_file_name():
    good = "0123456789abcdef" * 4
    listing = f"""'http://m/g/gazebo_11%2bdfsg_amd64.deb' gazebo_11+dfsg_amd64.deb 764 SHA256:{good}
'http://m/pool/l/libcrypt1_1%3a4_amd64.deb' libcrypt1_1%3a4_amd64.deb 9 SHA256:{good}
'http://m/pool/x/x_1_amd64.deb' x_1_amd64.deb 1 MD5Sum:8ad775342ca4fd0adca5a516849b6498
'http://m/pool/y/y_1_amd64.deb' ../y_1_amd64.deb 1 SHA256:{good}
"""
    found = release.package_files(listing)
    assert [(package.name, package.size) for package in found] == [
        ("gazebo", 764),
        ("libcrypt1", 9),
    ]
    assert found[0].sha256 == good


def test_sums_are_read_back_and_another_requests_or_a_cut_list_is_not():
    packages = [release.Package(f"p{i}_1_amd64.deb", i, f"{i:064x}") for i in range(3)]
    text = debian.write_sums(REQUEST, packages)
    assert debian.read_sums(REQUEST, text) == {p.file: p.sha256 for p in packages}
    other = release.Request("bullseye", ("gazebo",), (), ())
    assert debian.read_sums(other, text) == {}
    assert debian.read_sums(REQUEST, text[:-1]) == {}
    assert debian.read_sums(REQUEST, "") == {}


def test_a_full_cache_needs_no_mirror(kept: Path, no_mirror: None, progress: debian.Progress):
    files = debian.fetch(REQUEST, kept.parent, progress)
    assert sorted(files) == sorted(kept.glob("*.deb"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_package_is_noticed_and_named(
    kept: Path, no_mirror: None, progress: debian.Progress, damage: str
):
    victim = next(kept.glob("gazebo_*.deb"))
    content = bytearray(victim.read_bytes())
    if damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "flipped":
        content[50] ^= 1
        victim.write_bytes(content)
    else:
        victim.unlink()
    with pytest.raises(
        release.Unavailable, match=rf"^{victim.name[:6]}.* missing or damaged .*no Debian mirror"
    ):
        debian.fetch(REQUEST, kept.parent, progress)


def test_what_is_missing_is_downloaded_and_what_is_whole_is_not(
    kept: Path, monkeypatch: pytest.MonkeyPatch, progress: debian.Progress
):
    whole = sums_of(kept)
    content = {file: (kept / file).read_bytes() for file in whole}
    victim = next(file for file in whole if file.startswith("gazebo_"))
    (kept / victim).write_bytes(b"half of it")
    (kept / "left_over_amd64.deb").write_bytes(b"of an older list")
    asked = []

    class Mirror:
        def __init__(self, folder: Path, _: str) -> None:
            pass

        def resolve(self, request: release.Request) -> list[release.Package]:
            return [release.Package(file, 1, total) for file, total in whole.items()]

        def download(self, packages: list[release.Package], folder: Path) -> None:
            for package in packages:
                assert not (folder / package.file).exists()
                asked.append(package.file)
                (folder / package.file).write_bytes(content[package.file])

    monkeypatch.setattr(debian, "Apt", Mirror)
    monkeypatch.setattr(debian, "unsuited", lambda *_: None)
    debian.fetch(REQUEST, kept.parent, progress)
    assert asked == [victim]
    assert sums_of(kept) == whole


@pytest.mark.parametrize(
    ("machine", "libc", "tools", "reason"),
    [
        ("aarch64", ("glibc", "2.36"), debian.TOOLS, "x86-64, and this machine is aarch64"),
        ("x86_64", ("glibc", "2.28"), debian.TOOLS, "glibc 2.31 or newer"),
        ("x86_64", ("", ""), debian.TOOLS, "glibc 2.31 or newer"),
        ("x86_64", ("glibc", "2.36"), ["tar"], "no apt-get, dpkg-deb"),
        ("x86_64", ("glibc", "2.31"), debian.TOOLS, None),
        ("x86_64", ("glibc", "2.41"), debian.TOOLS, None),
    ],
)
def test_a_machine_that_cant_run_them_is_told_why(machine, libc, tools, reason):
    found = debian.unsuited(machine, libc, tools)
    assert found is None if reason is None else reason in found


@given(st.text(max_size=300))
def test_whatever_apt_says_the_reason_is_one_line(said: str):
    assert len(release.complaint(said).splitlines()) == 1


@needs_dpkg
def test_packages_are_unpacked_without_documentation_and_special_rights(tmp_path: Path):
    tree = tmp_path / "tree"
    for file in ("usr/bin/tool", "usr/share/doc/tool/copyright", "usr/share/tool/data"):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text(file)
    (tree / "usr/bin/tool").chmod(0o6755)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1\nArchitecture: all\n"
        "Maintainer: m <m@m.example>\nDescription: t\n"
    )
    package = tmp_path / "tool_1_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, package],
        check=True,
        capture_output=True,
    )
    said: list[str] = []
    debian.unpack([package], tmp_path / "out", said.append)
    files = {
        str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*") if f.is_file()
    }
    assert files == {"usr/bin/tool", "usr/share/tool/data"}
    mode = (tmp_path / "out/usr/bin/tool").stat().st_mode
    assert mode & 0o7000 == 0
    assert mode & 0o100
    assert said == ["1 of 1"]
    package.write_bytes(package.read_bytes()[:-20])
    with pytest.raises(SetupError, match=r"tool_1_all\.deb can't be unpacked"):
        debian.unpack([package], tmp_path / "again", said.append)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose `.gazebo` is out of date, and whose packages are a file of text."""
    folder = tmp_path / ".gazebo"
    folder.mkdir()
    (folder / "old").write_text("old")
    monkeypatch.setattr(gazebo, "CHECKOUT", folder)
    monkeypatch.setattr(gazebo, "PART", tmp_path / ".gazebo.part")
    monkeypatch.setattr(gazebo, "STAMP", folder / "setup.stamp")
    monkeypatch.setattr(gazebo, "fetch", lambda *_: [tmp_path / "one.deb"])
    return folder


def test_an_installation_is_replaced_by_a_whole_one(checkout, monkeypatch, progress):
    def unpack(files: list[Path], target: Path, say: object) -> None:
        target.mkdir()
        (target / "new").write_text("new")

    monkeypatch.setattr(gazebo, "unpack", unpack)
    gazebo.install(progress)
    assert sorted(os.listdir(checkout)) == ["new", "setup.stamp"]
    assert not gazebo.PART.exists()


def test_an_installation_that_breaks_off_leaves_the_old_one(checkout, monkeypatch, progress):
    def unpack(files: list[Path], target: Path, say: object) -> None:
        target.mkdir()
        (target / "half").write_text("half")
        raise SetupError("no space left")

    monkeypatch.setattr(gazebo, "unpack", unpack)
    with pytest.raises(SetupError):
        gazebo.install(progress)
    assert os.listdir(checkout) == ["old"]


def test_what_cant_be_had_is_a_status_of_its_own_and_one_line(monkeypatch, capsys, tmp_path):
    def unavailable() -> None:
        raise release.Unavailable("apt's sources name no Debian mirror")

    def broken() -> None:
        raise SetupError("librl_robot_joints.so does not compile")

    lock = tmp_path / "lock"
    monkeypatch.setattr(gazebo, "set_up", unavailable)
    assert gazebo.run_alone(gazebo.set_up_or_skip, lock, title=gazebo.TITLE) == 3
    assert capsys.readouterr().out == (
        "SKIPPED: no Gazebo 11 here: apt's sources name no Debian mirror\n"
    )
    monkeypatch.setattr(gazebo, "set_up", broken)
    assert gazebo.run_alone(gazebo.set_up_or_skip, lock, title=gazebo.TITLE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Gazebo set-up: librl_robot_joints.so does not compile\n"


def test_a_program_of_the_machine_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(gazebo.shutil, "which", lambda name: None)
    assert gazebo.missing_on_host() == ["g++", "xvfb"]
    with pytest.raises(release.Unavailable, match=r"g\+\+, xvfb"):
        gazebo.prepare_host()
