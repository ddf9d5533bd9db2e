"""Batches drawn at random from a replay, in the ratio of a mixture of sources."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch

from rl_robot.errors import UserError
from rl_robot.experience.batches import Assembly, Batch, Found
from rl_robot.experience.mapped import Positions, RingState
from rl_robot.experience.ring import Ring, links
from rl_robot.experience.sources import DEMONSTRATION, Mixture, Source
from rl_robot.experience.store import ReplayStore

__all__ = ["Batch", "Replay"]

_ROUNDS = 1000  # of drawing again; only a damaged store needs more


class Replay:
    """Samples transitions from a store that this or another process writes.

    No index is kept: positions are drawn from all rows of a source, and drawn again where a row is
    the last of its stretch, from which no step goes out, or was overwritten meanwhile. So all
    transitions are equally likely, whatever the lengths of their episodes. One seed gives the same
    batches from the same episodes.
    """

    def __init__(
        self,
        store: ReplayStore,
        *,
        discount: float,
        n_step: int = 3,
        seed: int = 0,
        history: int = 0,
        pictures: Sequence[str] = (),
    ) -> None:
        """Sample from ``store``.

        Args:
            store: open to write or to read.
            discount: of the reward of each further step.
            n_step: steps that are summed up, fewer at the end of a stretch.
            seed: of the batches.
            history: K, observations, actions and pictures up to each; 0: no histories, and
                pictures with K = 1.
            pictures: names of those to sample.

        Raises:
            UserError: the store has no such pictures.
        """
        if n_step < 1 or history < 0:
            raise ValueError(f"n_step is {n_step} and history {history}: expected 1 and 0 or more")
        unknown = set(pictures) - set(store.layout.pictures)
        if unknown:
            known = ", ".join(store.layout.pictures) or "none"
            raise UserError(f"the replay has no pictures {', '.join(unknown)}: it has {known}")
        self.store = store
        self.discount = discount
        self.n_step = n_step
        self._names = tuple(pictures)
        self._assembly = Assembly(store.layout, discount, n_step, history)
        self._row_floats = store.layout.row_floats
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def demonstrations(self) -> int:
        """Number of demonstrated transitions."""
        return self._steps(demonstrated=True)

    @property
    def experience(self) -> int:
        """Number of transitions that were explored, here or elsewhere."""
        return self._steps(demonstrated=False)

    def sample(self, size: int, mixture: Mixture) -> Batch:
        """Return one batch; see `samples`."""
        return self.samples(size, 1, mixture)[0]

    def samples(self, size: int, batches: int, mixture: Mixture) -> list[Batch]:
        """Return batches of ``size`` transitions, drawn uniformly within each pattern of a mixture.

        Several at a time take less time each.

        Raises:
            ValueError: there are no transitions yet, or none are asked for.
            UserError: no source with transitions is in the mixture, or the store is damaged.
        """
        if size < 1 or batches < 1:
            raise ValueError(f"{batches} batches of {size} are asked for: expected 1 or more")
        self.store.refresh()
        states = {source: ring.state() for source, ring in sorted(self.store.rings.items())}
        filled = tuple(source for source, state in states.items() if state.steps)
        if not filled:
            raise ValueError("nothing to sample from: no transitions were added")
        wanted = [
            _Wanted(self.store.rings[source], states[source], source.kind == DEMONSTRATION, counts)
            for sources, count in mixture.shares(size, filled)
            for source, counts in self._split(count, batches, {s: states[s].steps for s in sources})
        ]
        found = Found.join(list(self._draw_all(wanted)))
        if batches == 1:
            return [self._assembly.batch(found)]
        order = _batch_by_batch([one.counts for one in wanted])
        return self._assembly.batch(found.only(order)).split(size)

    def generator_state(self) -> torch.Tensor:
        """Return what the coming samples depend on beside the transitions, for a checkpoint."""
        return self._generator.get_state()

    def set_generator_state(self, state: torch.Tensor) -> None:
        """Go on sampling as from ``generator_state``."""
        self._generator.set_state(state)

    def _steps(self, *, demonstrated: bool) -> int:
        return sum(
            ring.state().steps
            for source, ring in self.store.rings.items()
            if (source.kind == DEMONSTRATION) == demonstrated
        )

    def _split(
        self, count: int, batches: int, steps: dict[Source, int]
    ) -> list[tuple[Source, list[int]]]:
        """Split ``count`` among sources, for each batch, as uniform draws from all steps would."""
        if len(steps) == 1:
            return [(source, [count] * batches) for source in steps]
        ends = np.cumsum(list(steps.values()))
        drawn = torch.randint(int(ends[-1]), (batches, count), generator=self._generator).numpy()
        which = np.searchsorted(ends, drawn, side="right")
        return [
            (source, (which == number).sum(axis=1).tolist()) for number, source in enumerate(steps)
        ]

    def _draw_all(self, wanted: list["_Wanted"]) -> Iterator[Found]:
        """Draw until all that is wanted was found."""
        for _ in range(_ROUNDS):
            if not any(one.missing for one in wanted):
                return
            yield self._draw(wanted)
        raise UserError("the replay is damaged: almost no row of it is what it should be")

    def _draw(self, wanted: list["_Wanted"]) -> Found:
        """Draw rows for all that is wanted; return those that transitions go out from."""
        assembly = self._assembly
        drawn = [one.draw(self._generator) for one in wanted]
        places = np.concatenate(drawn)
        windows = np.empty((len(places), assembly.width, self._row_floats), np.float32)
        owned = _slices(drawn)
        for one, positions, own in zip(wanted, drawn, owned, strict=True):
            one.ring.windows(positions - assembly.back, one.state, windows[own])
        position, first, last, _ = links(windows[:, assembly.back]).T
        steps = (position == places) & (first <= position) & (position < last)
        chosen = [
            np.flatnonzero(steps[own])[: one.missing] + own.start
            for one, own in zip(wanted, owned, strict=True)
        ]
        rows = np.concatenate(chosen)
        owned = _slices(chosen)
        position, first, last = position[rows], first[rows], last[rows]
        pictures = self._look_at_pictures(wanted, owned, position, first, last)
        # Only now: what was overwritten or taken back while it was copied shows here.
        oldest = np.maximum(position - assembly.back, first)
        whole = np.concatenate(
            [one.still_whole(oldest[own]) for one, own in zip(wanted, owned, strict=True)]
        )
        numbers = np.repeat(np.arange(len(wanted)), list(map(len, chosen)))
        demonstrated = np.array([one.demonstrated for one in wanted])[numbers]
        found = Found(windows, rows, numbers, demonstrated, pictures)
        return found if whole.all() else found.only(whole)

    def _look_at_pictures(
        self,
        wanted: list["_Wanted"],
        owned: list[slice],
        positions: Positions,
        first: Positions,
        last: Positions,
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Return (B, 2 K, H, W, C) by name: up to each position, then up to what follows it."""
        if not self._names:
            return {}
        past = np.arange(1 - max(self._assembly.back, 1), 1)
        following = np.minimum(positions + self._assembly.n_step, last)
        places = np.stack([positions, following], axis=1)[:, :, None] + past
        places = np.maximum(places, first[:, None, None]).reshape(-1, 2 * len(past))
        pictures = {}
        for name in self._names:
            shape = (*places.shape, *self.store.layout.pictures[name])
            pictures[name] = np.empty(shape, np.uint8)
            for one, own in zip(wanted, owned, strict=True):
                one.ring.pictures(name, places[own], one.state, pictures[name][own])
        return pictures


def _batch_by_batch(counts: list[list[int]]) -> npt.NDArray[np.int64]:
    """Return the order that puts each batch's transitions together.

    Args:
        counts: how many of each kind are for each batch; they are given kind by kind.
    """
    lengths = np.array(counts)
    ends = lengths.cumsum().reshape(lengths.shape)
    return np.concatenate(
        [
            np.arange(end - length, end)
            for end, length in zip(ends.T.reshape(-1), lengths.T.reshape(-1), strict=True)
        ]
    )


def _slices(parts: Sequence[Positions]) -> list[slice]:
    """Return where each of ``parts`` is when they are put one after the other."""
    ends = list(accumulate(map(len, parts)))
    return [slice(end - len(part), end) for part, end in zip(parts, ends, strict=True)]


class _Wanted:
    """Transitions that are drawn from a ring, in the state that it is in.

    Attributes:
        counts: how many, for each batch.
        missing: how many in all are still to be found.
    """

    def __init__(self, ring: Ring, state: RingState, demonstrated: bool, counts: list[int]) -> None:
        self.ring, self.state = ring, state
        self.demonstrated = demonstrated
        self.counts = counts
        self.missing = sum(counts)

    def draw(self, generator: torch.Generator) -> Positions:
        """Return positions, all equally likely, of so many rows that enough should be steps."""
        rows = self.state.head - self.state.tail
        if not (self.missing and rows):
            return np.empty(0, np.int64)
        number = self.missing * rows // max(self.state.steps, 1) + self.missing // 32 + 1
        return torch.randint(rows, (number,), generator=generator).numpy() + self.state.tail

    def still_whole(self, oldest: Positions) -> npt.NDArray[np.bool_]:
        """Return whether rows from these positions on are what they were; those count as found."""
        after = self.ring.state()
        if after.epoch == self.state.epoch:
            whole = oldest >= after.floor
        else:
            whole = np.zeros(len(oldest), np.bool_)
        self.state = after
        self.missing -= int(np.count_nonzero(whole))
        return whole
