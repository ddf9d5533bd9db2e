"""Batches drawn at random from a replay, in the ratio of a mixture of sources."""

from collections.abc import Sequence
from dataclasses import dataclass

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
        """Return ``size`` transitions, drawn uniformly within each pattern of ``mixture``.

        Raises:
            ValueError: there are no transitions yet, or none are asked for.
            UserError: no source with transitions is in the mixture, or the store is damaged.
        """
        if size < 1:
            raise ValueError(f"{size} transitions are asked for: expected 1 or more")
        self.store.refresh()
        states = {source: ring.state() for source, ring in sorted(self.store.rings.items())}
        filled = tuple(source for source, state in states.items() if state.steps)
        if not filled:
            raise ValueError("nothing to sample from: no transitions were added")
        wanted = [
            _Wanted(self.store.rings[source], states[source], source.kind == DEMONSTRATION, number)
            for sources, count in mixture.shares(size, filled)
            for source, number in self._split(count, [(s, states[s].steps) for s in sources])
        ]
        found: list[Found] = []
        for _ in range(_ROUNDS):
            wanted = [one for one in wanted if one.count]
            if not wanted:
                return self._assembly.batch(Found.join(found))
            found.append(self._draw(wanted))
        raise UserError("the replay is damaged: almost no row of it is what it should be")

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

    def _split(self, count: int, steps: list[tuple[Source, int]]) -> list[tuple[Source, int]]:
        """Split ``count`` among sources as that many uniform draws from all their steps would."""
        if len(steps) == 1:
            return [(steps[0][0], count)]
        ends = np.cumsum([number for _, number in steps])
        drawn = torch.randint(int(ends[-1]), (count,), generator=self._generator).numpy()
        counts = np.bincount(np.searchsorted(ends, drawn, side="right"), minlength=len(steps))
        return [(source, int(n)) for (source, _), n in zip(steps, counts, strict=True)]

    def _draw(self, wanted: list["_Wanted"]) -> Found:
        """Draw rows for all that is wanted; return those that transitions go out from."""
        back, width = self._assembly.back, self._assembly.width
        drawn = [one.draw(self._generator) for one in wanted]
        windows = np.concatenate(
            [
                one.ring.windows(positions - back, width, one.state)
                for one, positions in zip(wanted, drawn, strict=True)
            ]
        )
        position, first, last, _ = links(windows[:, back]).T
        steps = (position == np.concatenate(drawn)) & (first <= position) & (position < last)
        parts = []
        begin = 0
        for one, positions in zip(wanted, drawn, strict=True):
            end = begin + len(positions)
            rows = np.flatnonzero(steps[begin:end])[: one.count] + begin
            pictures = self._look_at_pictures(one, position[rows], first[rows], last[rows])
            # Only now: what was overwritten or taken back while it was copied shows here.
            whole = one.still_whole(np.maximum(position[rows] - back, first[rows]))
            if not whole.all():
                rows = rows[whole]
                pictures = {name: these[whole] for name, these in pictures.items()}
            one.count -= len(rows)
            parts.append((rows, np.full(len(rows), one.demonstrated), pictures))
            begin = end
        return Found(
            windows,
            np.concatenate([rows for rows, _, _ in parts]),
            np.concatenate([demonstrated for _, demonstrated, _ in parts]),
            {
                name: np.concatenate([pictures[name] for _, _, pictures in parts])
                for name in self._names
            },
        )

    def _look_at_pictures(
        self, one: "_Wanted", positions: Positions, first: Positions, last: Positions
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Return (B, 2 K, H, W, C) by name: up to each position, then up to what follows it."""
        if not self._names:
            return {}
        past = np.arange(1 - max(self._assembly.back, 1), 1)
        following = np.minimum(positions + self._assembly.n_step, last)
        places = np.stack([positions, following], axis=1)[:, :, None] + past
        places = np.maximum(places, first[:, None, None]).reshape(-1, 2 * len(past))
        return {name: one.ring.pictures(name, places, one.state) for name in self._names}


@dataclass
class _Wanted:
    """Transitions still to be drawn from a ring, in the state that it is in."""

    ring: Ring
    state: RingState
    demonstrated: bool
    count: int

    def draw(self, generator: torch.Generator) -> Positions:
        """Return positions, all equally likely, of so many rows that enough should be steps."""
        rows = self.state.head - self.state.tail
        number = self.count * rows // max(self.state.steps, 1) + self.count // 32 + 1
        return torch.randint(rows, (number,), generator=generator).numpy() + self.state.tail

    def still_whole(self, oldest: Positions) -> npt.NDArray[np.bool_]:
        """Return whether rows from these positions on are what they were; go on with what is."""
        after = self.ring.state()
        whole = (oldest >= after.floor) & (after.epoch == self.state.epoch)
        self.state = after
        return whole
