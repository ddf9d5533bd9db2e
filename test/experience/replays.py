"""Episodes that say where each of their values is from, and processes that write and read them."""

import random
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rl_robot.experience.replay import Batch, Replay
from rl_robot.experience.ring import Layout
from rl_robot.experience.sources import Mixture, Source
from rl_robot.experience.store import ReplayStore
from rl_robot.experience.transitions import EpisodeTransitions

D, A = 3, 2
PICTURE = (2, 3, 1)
LAYOUT = Layout(D, A, proposed=True, pictures={"camera": PICTURE})
SHOWN = Source("demonstration", "arm", "reach")
OWN = Source("online", "arm", "reach")
ALL = Mixture.of({"*/*/*": 1.0})


def episode(
    steps: int, number: int = 0, *, terminated: bool = False, gaps: tuple[int, ...] = ()
) -> EpisodeTransitions:
    """An episode whose values follow from its number and the step: see `value`."""
    ticks = np.arange(steps + 1)
    observations = np.stack([np.full(steps + 1, number), ticks, value(number, ticks)], axis=1)
    done = value(number, ticks[:-1])
    return EpisodeTransitions(
        observations=observations.astype(np.float32),
        proposed=np.stack([done + 2, done + 3], axis=1).astype(np.float32),
        executed=np.stack([done + 1, -done], axis=1).astype(np.float32),
        rewards=done.astype(np.float32),
        terminated=terminated,
        gaps=gaps,
        pictures={"camera": pictures(number, ticks)},
    )


def value(number: Any, tick: Any) -> Any:
    return (np.asarray(number) * 31 + np.asarray(tick) * 7) % 101


def pictures(number: Any, tick: Any) -> np.ndarray:
    shades = np.asarray(np.asarray(number) * 31 + np.asarray(tick) * 7, np.int64) % 251
    return np.broadcast_to(shades[..., None, None, None], (*shades.shape, *PICTURE)).astype(
        np.uint8
    )


def require_consistent(batch: Batch) -> None:
    """Every row of a batch (n steps, no gaps, no terminals) is of one episode, whole."""
    seen, after = batch.observations.numpy(), batch.next_observations.numpy()
    number, tick = seen[:, 0].astype(int), seen[:, 1].astype(int)
    np.testing.assert_array_equal(after[:, 0], number)
    for array, at in ((seen, tick), (after, after[:, 1].astype(int))):
        np.testing.assert_array_equal(array[:, 2], value(number, at))
    np.testing.assert_array_equal(batch.actions.numpy()[:, 0], value(number, tick) + 1)
    for these, at in ((batch.pictures, tick), (batch.next_pictures, after[:, 1])):
        np.testing.assert_array_equal(these["camera"][:, -1].numpy(), pictures(number, at))
    steps = after[:, 1].astype(int) - tick
    total = [
        sum(value(n, t + k) for k in range(s)) for n, t, s in zip(number, tick, steps, strict=True)
    ]
    np.testing.assert_allclose(batch.returns.numpy(), total)


def write_on(folder: Path, seed: int, capacity: int, written: Any, stop: Any = None) -> None:
    """Add episodes of two sources until killed or told to stop, counting them."""
    store = ReplayStore.write(folder, LAYOUT, capacity)
    lengths = random.Random(seed)
    for number in count(written.value):
        if stop is not None and stop.is_set():
            break
        store.add((OWN, SHOWN)[number % 5 == 0], episode(lengths.randint(1, 30), number))
        written.value = number + 1
    store.close()


def read_on(folder: Path, seed: int, stop: Any, batches: Any, newest: Any) -> None:
    """Sample until told to stop; fails when a row is not what was written."""
    replay = Replay(
        ReplayStore.read(folder), discount=1.0, n_step=3, seed=seed, pictures=["camera"]
    )
    while not stop.is_set():
        batch = replay.sample(64, ALL)
        require_consistent(batch)
        batches.value += 1
        newest.value = max(newest.value, int(batch.observations[:, 0].max()))
