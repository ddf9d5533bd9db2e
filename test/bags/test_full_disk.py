"""A disk that is full while a bag is written: one error, and nothing of the bag is left."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import synthetic

from rl_robot.bags import EpisodeWriter
from rl_robot.bags.mcap_writer import McapWriter

# A disk of 2 MB of a process's own, on which it writes until there is no room.
ON_SMALL_DISK = """
import errno, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import synthetic
from rl_robot.bags import BagReader, EpisodeWriter

folder = Path(sys.argv[1])
closed = synthetic.write_episode(folder / "episode_000000", synthetic.metadata(0, "success", 3))
before = closed.stat().st_mtime_ns, [f.read_bytes() for f in sorted(closed.iterdir())]
writer = EpisodeWriter(folder / "episode_000001", synthetic.TYPES)
written = 0
try:
    while written < 100:
        for sent in synthetic.episode_messages(10**10, 3, wall_ns=10**18):
            writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
        written += 1
    raise SystemExit("the disk took all of it")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
writer.abort()
assert [path.name for path in folder.iterdir()] == ["episode_000000"]
assert before == (closed.stat().st_mtime_ns, [f.read_bytes() for f in sorted(closed.iterdir())])
assert len(list(BagReader(closed).messages())) > 50
(folder / "report.html").write_text("there is room to end properly" * 1000)
filler = folder / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
try:
    EpisodeWriter(folder / "episode_000002", synthetic.TYPES)
    raise SystemExit("the disk had room for another")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert not (folder / "episode_000002.part").exists()
print("as it should be")
"""


class FullStream:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self._room = room

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("room", [10, 100, 20_000, 300_000])
def test_the_error_of_a_full_disk_comes_through(room: int) -> None:
    stream: Any = FullStream(room)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        mcap = McapWriter(stream, profile="ros2", library="test")
        channel = mcap.add_channel("/a", "cdr", mcap.add_schema("b", "ros2msg", b""), {})
        for i in range(100):
            mcap.write(channel, i, i, os.urandom(9000))
        mcap.finish()


def test_on_a_disk_that_is_full_indeed(tmp_path: Path) -> None:
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    prepare = f"{mount} -t tmpfs -o size=2m tmpfs {disk}"
    if unshare is None or mount is None:
        pytest.skip("no unshare or mount here")
    own = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*own, prepare], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk of his own")
    script = tmp_path / "write.py"
    script.write_text(textwrap.dedent(ON_SMALL_DISK))
    tests = Path(synthetic.__file__).parent
    command = f"{prepare} && exec {sys.executable} {script} {disk} {tests}"
    done = subprocess.run([*own, command], capture_output=True, text=True, check=False)
    assert done.stdout == "as it should be\n", done.stderr


def test_a_bag_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_writer: McapWriter) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(McapWriter, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        EpisodeWriter(tmp_path / "bag", synthetic.TYPES)
    assert list(tmp_path.iterdir()) == []


def test_a_bag_that_is_left_can_be_read_as_far_as_it_came(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "bag", synthetic.TYPES)
    for sent in synthetic.episode_messages(10**10, 3, wall_ns=10**18):
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    for now in (0.0, 1.0):
        writer.write_out_old(now)
    size = (tmp_path / "bag.part" / "bag.mcap").stat().st_size
    writer.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["bag.part"]
    assert (tmp_path / "bag.part" / "bag.mcap").stat().st_size == size > 100_000
