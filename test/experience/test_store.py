"""The replay on disk: what survives which end of its writer, and what its readers see meanwhile."""

import json
import multiprocessing
import random
import time
from itertools import accumulate

import numpy as np
import pytest
import replays
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replays import ALL, LAYOUT, OWN, SHOWN, A, D, episode, require_consistent

from rl_robot.errors import UserError
from rl_robot.experience.mapped import RingState
from rl_robot.experience.replay import Replay
from rl_robot.experience.ring import Layout
from rl_robot.experience.store import DamagedStoreError, ReplayStore

CAPACITY = 200  # rows
PATIENCE = 60.0  # s, for what takes far less


@pytest.fixture(scope="module")
def context():
    """Processes of their own, which need not import everything anew."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["rl_robot.experience.replay"])
    return made


def filled(folder, numbers, source=OWN):
    """Add ten-step episodes of these numbers; return the store, still open."""
    store = ReplayStore.write(folder, LAYOUT, CAPACITY)
    for number in numbers:
        store.add(source, episode(10, number))
    return store


def numbers(store, seed=0):
    """The numbers of the episodes that it holds; what is sampled of them is whole."""
    sampler = Replay(store, discount=1.0, seed=seed, pictures=["camera"])
    batch = sampler.sample(500, ALL)
    require_consistent(batch)
    held = set()
    for ring in store.rings.values():
        state = ring.state()
        rows = np.empty((state.head - state.tail, 1, LAYOUT.row_floats), np.float32)
        ring.windows(np.arange(state.tail, state.head), state, rows)
        held |= set(rows[:, 0, LAYOUT.column("observation")][:, 0].astype(int).tolist())
    assert set(batch.observations[:, 0].int().tolist()) <= held
    return held


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path):
    store = filled(tmp_path, range(5))
    store.add(SHOWN, episode(7, 5))
    store.close()
    for again in (ReplayStore.write(tmp_path, LAYOUT, CAPACITY), ReplayStore.read(tmp_path)):
        assert set(again.rings) == {OWN, SHOWN}
        assert again.layout == LAYOUT
        assert again.rings[OWN].state() == RingState(head=55, steps=50, episodes=5)
        assert numbers(again) == set(range(6))
        again.close()


def test_the_oldest_episodes_of_a_source_make_room_and_those_of_others_stay(tmp_path):
    store = filled(tmp_path, [100], SHOWN)
    for number in range(1000):
        store.add(OWN, episode(10, number))
    assert numbers(store) == {100, *range(1000 - CAPACITY // 11, 1000)}
    assert (store.episodes("demonstration"), store.episodes("online")) == (1, 18)
    sizes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert sizes < 2 * (1.2 * CAPACITY * LAYOUT.row_bytes + 5000)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30), rest=st.data())
@settings(deadline=None, max_examples=40)
def test_rewound_it_is_as_it_was_and_goes_on_as_it_would_have(lengths, rest):
    """Also when episodes were overwritten since, as long as they are not overwritten for good."""
    capacity = 60
    spare = capacity // 8 + 1  # rows that are overwritten before those that count lose what counted
    at = rest.draw(st.integers(0, len(lengths)))
    stores = [ReplayStore.in_memory(LAYOUT, capacity) for _ in range(2)]
    positions = []
    for number, length in enumerate(lengths):
        positions.append(stores[0].position())
        stores[0].add(OWN, episode(length, number))
    positions.append(stores[0].position())
    more = sum(length + 1 for length in lengths[at:])
    rows_then = [0, *accumulate(length + 1 for length in lengths)][at]
    if more > spare and rows_then:
        try:
            stores[0].rewind(positions[at])
        except DamagedStoreError:
            assert rows_then + more > capacity
            return
    else:
        stores[0].rewind(positions[at])
    for store, begin in zip(stores, (at, 0), strict=True):
        for number, length in list(enumerate(lengths))[begin:]:
            store.add(OWN, episode(length, number))
    batches = [Replay(store, discount=0.9, seed=3).sample(64, ALL) for store in stores]
    assert torch.equal(batches[0].observations, batches[1].observations)
    assert torch.equal(batches[0].returns, batches[1].returns)
    assert stores[0].position()["sources"] == stores[1].position()["sources"]


def test_it_is_not_rewound_to_what_is_overwritten_or_of_another_store(tmp_path):
    store = filled(tmp_path / "one", range(3))
    early = store.position()
    for number in range(3, 60):
        store.add(OWN, episode(10, number))
    with pytest.raises(DamagedStoreError, match=r"holds rows \d+ to 660, asked for are 0 to 33"):
        store.rewind(early)
    late = store.position()
    other = filled(tmp_path / "other", range(60))
    for position, words in (
        (late, "it was made anew since"),
        (None, "nothing was noted"),
        ({"store": other.position()["store"], "sources": {"on": [0, 0]}}, "is no source"),
        ({"store": other.position()["store"], "sources": {OWN: "?"}}, "does not fit"),
    ):
        with pytest.raises(DamagedStoreError, match=words):
            other.rewind(position)
    with pytest.raises(DamagedStoreError, match="row 5 begins no stretch"):
        ReplayStore.rewind(
            filled(tmp_path / "third", [0]),
            json.loads((tmp_path / "third" / "store.json").read_text())
            | {"store": json.loads((tmp_path / "third" / "store.json").read_text())["identity"]}
            | {"sources": {str(OWN): [5, 11]}},
        )
    other.clear()
    assert other.position()["sources"] == {str(OWN): [0, 0]}
    with pytest.raises(DamagedStoreError, match="it was made anew since"):
        other.rewind(late)


def test_a_source_that_came_after_the_position_is_empty_then(tmp_path):
    store = filled(tmp_path, range(3))
    position = store.position()
    store.add(SHOWN, episode(5, 9))
    store.rewind(position)
    assert numbers(store) == {0, 1, 2}
    store.add(SHOWN, episode(5, 10))
    assert numbers(store) == {0, 1, 2, 10}


def test_one_writes_at_a_time_and_readers_do_not(tmp_path):
    store = filled(tmp_path, [0])
    with pytest.raises(UserError, match="in use by process"):
        ReplayStore.write(tmp_path, LAYOUT)
    with pytest.raises(ValueError, match="open to be read"):
        ReplayStore.read(tmp_path).add(OWN, episode(3))
    store.close()
    with pytest.raises(ValueError, match="open to be read"):
        store.add(OWN, episode(3))
    assert numbers(store) == {0}
    ReplayStore.write(tmp_path, LAYOUT).close()
    with pytest.raises(UserError, match="there is no replay in"):
        ReplayStore.read(tmp_path / "nowhere")


def test_a_reader_sees_new_episodes_and_sources_and_when_all_was_made_anew(tmp_path):
    store = filled(tmp_path, [0])
    reader = ReplayStore.read(tmp_path)
    assert numbers(reader) == {0}
    store.add(OWN, episode(10, 1))
    store.add(SHOWN, episode(10, 2))
    assert numbers(reader) == {0, 1, 2}
    store.clear()
    store.add(SHOWN, episode(10, 3))
    assert numbers(reader) == {3}
    store.close()
    ReplayStore.remake(tmp_path, LAYOUT).close()
    with pytest.raises(UserError, match="made anew meanwhile: open it again"):
        numbers(reader)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def overwrite(path, offset, contents):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(contents)


DAMAGE = {
    "no header": (lambda f: cut(f / "store.json"), "store.json is damaged"),
    "a foreign header": (
        lambda f: change(f / "store.json", "rl_robot replay 1", "pickle"),
        "not of format",
    ),
    "a huge header": (lambda f: (f / "store.json").write_text(" " * 100_000), "too long"),
    "sizes": (
        lambda f: change(f / "store.json", '"observation": 3', '"observation": 4'),
        "other transitions",
    ),
    "too large": (
        lambda f: change(f / "store.json", '"observation": 3', f'"observation": {10**15}'),
        "1 to",
    ),
    "more rows": (
        lambda f: change(f / "source_0000/ring.json", '"slots": 226', '"slots": 9999'),
        "bytes, not",
    ),
    "rows without end": (
        lambda f: change(f / "source_0000/ring.json", '"slots": 226', f'"slots": {10**18}'),
        "is damaged",
    ),
    "no source": (lambda f: change(f / "source_0000/ring.json", "online", "dreamt"), "no kind"),
    "short rows": (lambda f: cut(f / "source_0000/rows"), "bytes, not"),
    "no pictures": (lambda f: (f / "source_0000/picture_0").unlink(), "No such file"),
    "another state": (
        lambda f: overwrite(f / "source_0000/state", 0, b"\1" * 8),
        "committed is damaged",
    ),
    "a wrong state": (
        lambda f: overwrite(f / "source_0000/state", 64, b"\7" * 128),
        "committed is damaged",
    ),
    "lost rows": (
        lambda f: overwrite(f / "source_0000/rows", 11 * LAYOUT.row.itemsize, b"\0" * 3000),
        "row 11 begins no stretch",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_store_is_refused_in_one_line_and_made_anew(tmp_path, what):
    damage, words = DAMAGE[what]
    filled(tmp_path, range(5)).close()
    (tmp_path / "mine.txt").write_text("nothing of the store's")
    damage(tmp_path)
    with pytest.raises(DamagedStoreError, match=words) as refused:
        ReplayStore.write(tmp_path, LAYOUT, CAPACITY)
    assert len(str(refused.value).splitlines()) == 1
    made = ReplayStore.remake(tmp_path, LAYOUT, CAPACITY)
    made.add(OWN, episode(5, 77))
    assert numbers(made) == {77}
    assert (tmp_path / "mine.txt").exists()


def test_another_layout_is_refused(tmp_path):
    filled(tmp_path, [0]).close()
    with pytest.raises(DamagedStoreError, match="other transitions than are asked for"):
        ReplayStore.write(tmp_path, Layout(D + 1, A))
    with pytest.raises(UserError, match="should be 1 to"):
        Layout(0, A)


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, monkeypatch):
    store = filled(tmp_path, range(30))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(
            UserError, match=r"takes no more \(No space left on device\): make room"
        ):
            store.add(OWN, episode(10, 30))
    assert max(numbers(store)) == 29
    store.add(OWN, episode(10, 31))
    assert max(numbers(store)) == 31
    assert 30 not in numbers(store)


def test_two_readers_see_what_is_committed_while_a_writer_overwrites_it(context, tmp_path):
    ReplayStore.write(tmp_path, LAYOUT, 60).close()
    stop = context.Event()
    written = context.Value("i", 0, lock=False)
    writer = context.Process(
        daemon=True, target=replays.write_on, args=(tmp_path, 0, 60, written, stop)
    )
    writer.start()
    until(lambda: written.value > 0, writer)
    counts = [
        (context.Value("i", 0, lock=False), context.Value("i", 0, lock=False)) for _ in range(2)
    ]
    readers = [
        context.Process(daemon=True, target=replays.read_on, args=(tmp_path, seed, stop, *own))
        for seed, own in enumerate(counts)
    ]
    for reader in readers:
        reader.start()
    for reader, (batches, newest) in zip(readers, counts, strict=True):
        until(lambda b=batches, n=newest: b.value > 150 and n.value > 500, reader)
    stop.set()
    for process in (*readers, writer):
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_it_opens_to_the_last_committed_episode(context, tmp_path, seed):
    chance = random.Random(seed)
    # Without a lock, which a killed process would keep.
    written = context.Value("i", 0, lock=False)
    for _ in range(4):
        before = written.value
        process = context.Process(
            daemon=True, target=replays.write_on, args=(tmp_path, seed, 150, written)
        )
        process.start()
        until(lambda b=before: written.value > b, process)
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.join()
        store = ReplayStore.write(tmp_path, LAYOUT, 150)
        there = numbers(store)
        # The one that was being written may have been committed, but not counted any more.
        assert {written.value - 1, max(written.value - 2, 0)} <= there
        assert max(there) <= written.value
        store.close()
        written.value = max(there) + 1


def until(done, process):
    """Wait for what a process brings about."""
    patience = time.monotonic() + PATIENCE
    while not done():
        assert process.exitcode is None, "it ended"
        assert time.monotonic() < patience
        time.sleep(0.001)
