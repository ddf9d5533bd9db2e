"""Numpy archives: what was written comes back, and what was not written by us is refused."""

import io
import random
import zipfile
from pathlib import Path

import aligned_episodes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_robot.errors import UserError
from rl_robot.exchange import export_npz, load_npz
from rl_robot.experience.aligned import AlignedEpisode

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
names = st.from_regex(r"[a-z][a-z0-9_]{0,5}(/[a-z]{1,4})?", fullmatch=True)


@st.composite
def episodes(draw: st.DrawFn) -> AlignedEpisode:
    """Any episode at all: of any number of steps, observations and shapes."""
    steps = draw(st.integers(0, 4))
    actions = draw(st.integers(0, 3))

    def numbers(*shape: int, dtype: type = np.float32) -> np.ndarray:
        values = floats if dtype is not np.int64 else st.integers(0, 2**62)
        return draw(hnp.arrays(dtype, shape, elements=values))

    observed = draw(st.lists(names, max_size=3, unique=True))
    observations: dict[str, np.ndarray] = {}
    for name in observed:
        if draw(st.booleans()):
            observations[name] = numbers(steps + 1, draw(st.integers(0, 3)))
        else:
            observations[name] = draw(hnp.arrays(np.uint8, (steps + 1, 2, 3, 3)))
    return AlignedEpisode(
        ticks_ns=numbers(steps + 1, dtype=np.int64),
        observations=observations,
        ages={name: numbers(steps + 1, dtype=np.float64) for name in observed},
        action=numbers(steps, actions),
        proposed=numbers(steps, actions),
        action_names=tuple(draw(st.lists(words, min_size=actions, max_size=actions))),
        rewards=numbers(steps),
        latencies=numbers(steps),
        terminated=draw(st.booleans()),
        truncated=draw(st.booleans()),
        gaps=tuple(draw(st.lists(st.integers(0, 100), max_size=3))),
        components={name: tuple(draw(st.lists(words, max_size=2))) for name in observed[:1]},
        counts=draw(st.dictionaries(words, st.integers(0, 9), max_size=2)),
        metadata=aligned_episodes.episode(steps=1).metadata if draw(st.booleans()) else None,
        origin=draw(words),
    )


@settings(max_examples=50)
@given(episode=episodes())
def test_an_episode_comes_back(
    tmp_path_factory: pytest.TempPathFactory, episode: AlignedEpisode
) -> None:
    folder = tmp_path_factory.mktemp("npz") / "out"
    [path] = export_npz([episode], folder)
    aligned_episodes.same(load_npz(path), episode)


def test_numpy_alone_reads_it_in_the_words_of_gymnasium(tmp_path: Path) -> None:
    told: list[int] = []
    given_episodes = [aligned_episodes.episode(i, outcome="truncated") for i in range(2)]
    paths = export_npz(given_episodes, tmp_path / "out", progress=told.append)
    assert [p.name for p in paths] == ["episode_000000.npz", "episode_000001.npz"]
    assert told == [1, 2]
    with np.load(paths[1], allow_pickle=False) as arrays:
        np.testing.assert_array_equal(
            arrays["observations/camera/image_raw"],
            given_episodes[1].observations["camera/image_raw"],
        )
        assert arrays["actions"].shape == (6, 4)
        assert arrays["truncations"].tolist() == [False] * 5 + [True]
        assert not arrays["terminations"].any()
        assert arrays["ticks_ns"].dtype == np.int64


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    export_npz([aligned_episodes.episode()], tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        export_npz([aligned_episodes.episode()], tmp_path / "out")

    def failing() -> object:
        yield aligned_episodes.episode()
        raise UserError("the second bag is damaged")

    with pytest.raises(UserError, match="the second bag"):
        export_npz(failing(), tmp_path / "other")
    with pytest.raises(UserError, match="no episode"):
        export_npz([], tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "other.part").mkdir()
    with pytest.raises(UserError, match="cut short: remove it"):
        export_npz([aligned_episodes.episode()], tmp_path / "other")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*nothing\.npz"):
        load_npz(tmp_path / "nothing.npz")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    [path] = export_npz([aligned_episodes.episode(steps=1)], tmp_path / "out")
    contents = path.read_bytes()
    for size in range(0, len(contents), 499):
        path.write_bytes(contents[:size])
        with pytest.raises(UserError, match=r"is not an episode that export_npz wrote"):
            load_npz(path)


def test_a_flipped_bit_raises_nothing_else(tmp_path: Path) -> None:
    [path] = export_npz([aligned_episodes.episode(steps=1)], tmp_path / "out")
    contents = path.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        flipped = bytearray(contents)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            load_npz(path)
        except UserError:
            refused += 1
    assert refused > 200  # all but those in what is not read, such as times of files


def test_foreign_and_hostile_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(UserError, match="metadata"):
        load_npz(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="Python objects"):
        load_npz(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(UserError, match=r"a\.npy holds 128 bytes, not 8000000000128"):
        load_npz(path)
    [whole] = export_npz([aligned_episodes.episode()], tmp_path / "out")
    with pytest.raises(UserError, match="more than the 1000 allowed"):
        load_npz(whole, max_bytes=1000)
