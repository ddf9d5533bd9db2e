"""Sampling, against the definition of what a transition is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replays import ALL, LAYOUT, OWN, PICTURE, SHOWN, A, D, episode, pictures, require_consistent

from rl_robot.errors import UserError
from rl_robot.experience import mapped
from rl_robot.experience.replay import Replay
from rl_robot.experience.ring import Layout
from rl_robot.experience.sources import Mixture, Source
from rl_robot.experience.store import ReplayStore

HALF = Mixture.demonstrated(0.5)

episodes = st.lists(
    st.integers(1, 9).flatmap(
        lambda steps: st.tuples(
            st.just(steps),
            st.booleans(),
            st.sets(st.integers(0, steps - 1), max_size=3).map(lambda gaps: tuple(sorted(gaps))),
        )
    ),
    min_size=1,
    max_size=12,
)


def replay(*added, store=None, **options):
    """A replay of (source, episode), in memory."""
    store = store or ReplayStore.in_memory(LAYOUT, options.pop("capacity", 1000))
    for source, one in added:
        store.add(source, one)
    return Replay(store, **{"discount": 0.9, "n_step": 3, "seed": 0, **options})


def kept(given, capacity):
    """The episodes that a ring of this many rows still holds: the newest that fit."""
    found, room = [], capacity
    for one in reversed(given):
        room -= sum(len(stretch) + 1 for stretch in one.contiguous())
        if room < 0:
            break
        found.append(one)
    return found


def transition(stretch, t, n_step, discount, history):
    """What a sampled row has to hold, from its definition; keys are those of Batch."""
    steps = len(stretch)
    end = min(t + n_step, steps)
    ended = stretch.terminated and end == steps
    expected = {
        "observations": stretch.observations[t],
        "actions": stretch.executed[t],
        "proposed": stretch.proposed[t],
        "returns": sum(discount**k * stretch.rewards[t + k] for k in range(end - t)),
        "discounts": 0.0 if ended else discount ** (end - t),
        "next_observations": stretch.observations[end],
    }
    for prefix, at in (("", t), ("next_", end)):
        seen = [max(at - k, 0) for k in reversed(range(max(history, 1)))]
        expected[f"{prefix}pictures"] = stretch.pictures["camera"][seen]
        if history:
            expected[f"{prefix}observation_history"] = stretch.observations[seen]
            before = range(at - history, at)
            expected[f"{prefix}action_history"] = np.stack(
                [stretch.executed[k] if k >= 0 else np.zeros(A, np.float32) for k in before]
            )
    return expected


@given(
    given=episodes,
    capacity=st.integers(18, 70),
    n_step=st.integers(1, 5),
    history=st.integers(0, 4),
    discount=st.floats(0.5, 1.0),
    mapped_bytes=st.sampled_from([0, mapped.MAPPED_BYTES]),
)
@settings(deadline=None)
def test_every_sampled_row_is_a_transition_by_its_definition(
    given, capacity, n_step, history, discount, mapped_bytes
):
    made = [
        episode(steps, number, terminated=terminated, gaps=gaps)
        for number, (steps, terminated, gaps) in enumerate(given)
    ]
    expected = {
        tuple(stretch.observations[t, :2]): transition(stretch, t, n_step, discount, history)
        for one in kept(made, capacity)
        for stretch in one.contiguous()
        for t in range(len(stretch))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "MAPPED_BYTES", mapped_bytes)
        memory = replay(
            *((OWN, one) for one in made),
            capacity=capacity,
            n_step=n_step,
            history=history,
            discount=discount,
            pictures=["camera"],
        )
        assert memory.experience == len(expected)
        if not expected:
            return
        batch = memory.sample(40, ALL)
    for row in range(40):
        wanted = expected[tuple(batch.observations[row, :2].tolist())]
        for name, values in wanted.items():
            found = getattr(batch, name)
            found = found["camera"] if isinstance(found, dict) else found
            np.testing.assert_allclose(found[row].numpy(), values, rtol=1e-5, err_msg=name)


def test_what_is_not_asked_for_is_not_there():
    store = ReplayStore.in_memory(Layout(D, A))
    store.add(OWN, episode(5))
    batch = replay(store=store).sample(4, ALL)
    assert batch.proposed is None
    assert batch.observation_history is None
    assert batch.pictures == {}
    asked = replay((OWN, episode(5, 7)), pictures=["camera"]).sample(4, ALL)
    assert asked.pictures["camera"].shape == (4, 1, *PICTURE)
    ticks = asked.observations[:, 1].numpy()
    np.testing.assert_array_equal(asked.pictures["camera"][:, 0], pictures(7, ticks))
    with pytest.raises(UserError, match="no pictures depth: it has camera"):
        replay(pictures=["depth"])


@pytest.mark.parametrize("mapped_bytes", [0, mapped.MAPPED_BYTES])
def test_all_transitions_are_equally_likely_whatever_their_episodes_lengths(
    monkeypatch, mapped_bytes
):
    monkeypatch.setattr(mapped, "MAPPED_BYTES", mapped_bytes)
    other = Source("online", "crane", "reach")
    memory = replay(
        (OWN, episode(1, 0)), (OWN, episode(30, 1)), (other, episode(2, 2)), (other, episode(7, 3))
    )
    seen = torch.cat([memory.sample(200, ALL).observations[:, :2] for _ in range(200)])
    _, counts = torch.unique(seen, dim=0, return_counts=True)
    assert len(counts) == 40
    assert counts.sum() == 40_000
    assert counts.min() > 1000 - 6 * 32  # of a binomial with standard deviation 31.2
    assert counts.max() < 1000 + 6 * 32


def test_the_value_at_a_time_out_counts_and_at_a_true_end_does_not():
    for terminated in (False, True):
        memory = replay((OWN, episode(1, terminated=terminated)), n_step=1)
        assert float(memory.sample(1, ALL).discounts[0]) == pytest.approx(0.9 * (not terminated))


def test_no_return_reaches_over_a_gap():
    memory = replay((OWN, episode(6, terminated=True, gaps=(2,))))
    assert memory.experience == 5
    batch = memory.sample(200, ALL)
    begin, end = batch.observations[:, 1], batch.next_observations[:, 1]
    assert set(begin.int().tolist()) == {0, 1, 3, 4, 5}
    assert bool((end[begin < 2] <= 2).all())
    assert bool((batch.discounts[begin < 2] > 0).all())


@given(st.integers(1, 200), st.floats(0.0, 1.0))
def test_the_asked_part_of_a_batch_is_demonstrated(size, fraction):
    memory = replay((SHOWN, episode(5, 1)), (OWN, episode(5, 2)))
    batch = memory.sample(size, Mixture.demonstrated(fraction))
    assert len(batch.observations) == size
    assert abs(int(batch.demonstration.sum()) - size * fraction) <= 0.5
    assert torch.equal(batch.demonstration, batch.observations[:, 0] == 1)


def test_where_there_is_one_kind_only_the_whole_batch_is_of_it():
    memory = replay()
    with pytest.raises(ValueError, match="nothing to sample"):
        memory.sample(4, HALF)
    memory.store.add(SHOWN, episode(5))
    assert bool(memory.sample(10, HALF).demonstration.all())
    assert bool(memory.sample(10, Mixture.demonstrated(0.0)).demonstration.all())
    other = replay((OWN, episode(5)))
    assert not bool(other.sample(10, HALF).demonstration.any())
    with pytest.raises(UserError, match="matches none of the sources: online/arm/reach"):
        other.sample(10, Mixture.of({"online/crane/*": 1.0}))


def test_samples_repeat_from_a_kept_generator_state():
    def filled():
        crane = Source("offline", "crane", "reach")
        shown, own = episode(50, 0), episode(50, 1)
        return replay((SHOWN, shown), (OWN, own), (crane, episode(9, 2)))

    memory, same = filled(), filled()
    state = memory.generator_state()
    first = memory.sample(32, HALF)
    assert not torch.equal(memory.sample(32, HALF).observations, first.observations)
    memory.set_generator_state(state)
    for again in (memory.sample(32, HALF), same.sample(32, HALF)):
        assert torch.equal(again.observations, first.observations)
        assert torch.equal(again.returns, first.returns)


@pytest.mark.parametrize("mapped_bytes", [0, mapped.MAPPED_BYTES])
def test_batches_drawn_together_are_each_as_one_drawn_by_itself(monkeypatch, mapped_bytes):
    monkeypatch.setattr(mapped, "MAPPED_BYTES", mapped_bytes)
    crane = Source("online", "crane", "reach")
    memory = replay(
        *((SHOWN, episode(3, number)) for number in range(20)),
        *((OWN, episode(1, number)) for number in range(20, 60)),
        (crane, episode(40, 60)),
        discount=1.0,
        history=2,
        pictures=["camera"],
    )
    batches = memory.samples(30, 200, Mixture.demonstrated(0.4))
    for batch in batches:
        assert batch.observation_history.shape == (30, 2, D)
        assert torch.equal(batch.demonstration, torch.arange(30) < 12)
        assert torch.equal(batch.demonstration, batch.observations[:, 0] < 20)
        require_consistent(batch)
    # Of 18 that are not demonstrated, half is of either robot on average, in the first as the last.
    from_crane = torch.stack([(b.observations[:, 0] == 60).sum() for b in batches]).float()
    for part in (from_crane[:100], from_crane[100:]):
        assert abs(float(part.mean()) - 9) < 6 * 2.1 / 10  # of a binomial, and its mean of 100
    one = torch.stack([batch.observations[0] for batch in batches])
    assert len(torch.unique(one, dim=0)) > 30


def test_an_episode_that_does_not_fit_is_refused_whole():
    memory = replay(capacity=20)
    wrong = ReplayStore.in_memory(Layout(D + 1, A))
    with pytest.raises(ValueError, match="expected observations"):
        wrong.add(OWN, episode(5))
    broken = episode(5, gaps=(1,))
    broken.rewards[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        memory.store.add(OWN, broken)
    with pytest.raises(ValueError, match="21 rows is too long for 20"):
        memory.store.add(OWN, episode(20))
    blind = episode(5)
    del blind.pictures["camera"]
    with pytest.raises(ValueError, match="expected pictures 'camera'"):
        memory.store.add(OWN, blind)
    assert memory.experience == 0
