import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.experience.replay import Replay
from rl_robot.experience.transitions import EpisodeTransitions

D, A = 3, 2


def episode(steps, *, terminated=False, seed=0, gaps=()):
    """The observation at step t begins with t, so that a sampled row says where it is from."""
    random = np.random.default_rng(seed)
    observations = random.uniform(-1, 1, (steps + 1, D)).astype(np.float32)
    observations[:, 0] = np.arange(steps + 1)
    return EpisodeTransitions(
        observations=observations,
        proposed=random.uniform(-1, 1, (steps, A)).astype(np.float32),
        executed=random.uniform(-1, 1, (steps, A)).astype(np.float32),
        rewards=random.uniform(-1, 1, steps).astype(np.float32),
        terminated=terminated,
        gaps=gaps,
    )


def replay(**options):
    return Replay(D, A, **{"discount": 0.9, "n_step": 3, "seed": 0, **options})


@given(
    steps=st.integers(1, 12),
    n_step=st.integers(1, 5),
    terminated=st.booleans(),
    discount=st.floats(0.5, 1.0),
)
def test_every_row_is_the_return_of_the_next_steps_by_its_definition(
    steps, n_step, terminated, discount
):
    source = episode(steps, terminated=terminated, seed=steps)
    memory = replay(n_step=n_step, discount=discount)
    memory.add(source, demonstration=False)
    assert memory.experience == steps
    batch = memory.sample(64, 0.5)
    for row in range(64):
        t = int(batch.observations[row, 0])
        end = min(t + n_step, steps)
        rewards = sum(discount**k * source.rewards[t + k] for k in range(end - t))
        ended = terminated and end == steps
        assert float(batch.returns[row]) == pytest.approx(rewards, abs=1e-5)
        assert float(batch.discounts[row]) == pytest.approx(0 if ended else discount ** (end - t))
        assert np.array_equal(batch.next_observations[row], source.observations[end])
        assert np.array_equal(batch.actions[row], source.executed[t])


def test_the_value_at_a_time_out_counts_and_at_a_true_end_does_not():
    for terminated in (False, True):
        memory = replay(n_step=1)
        memory.add(episode(1, terminated=terminated), demonstration=False)
        assert float(memory.sample(1, 0.0).discounts[0]) == pytest.approx(0.9 * (not terminated))


def test_no_return_reaches_over_a_gap():
    source = episode(6, terminated=True, gaps=(2,))
    memory = replay()
    memory.add(source, demonstration=False)
    assert memory.experience == 5
    batch = memory.sample(200, 0.0)
    begin, end = batch.observations[:, 0], batch.next_observations[:, 0]
    assert set(begin.int().tolist()) == {0, 1, 3, 4, 5}
    assert bool((end[begin < 2] <= 2).all())
    assert bool((batch.discounts[begin < 2] > 0).all())


@given(st.integers(1, 200), st.floats(0.0, 1.0))
def test_the_asked_part_of_a_batch_is_demonstrated(size, fraction):
    memory = replay()
    memory.add(episode(5), demonstration=True)
    own = episode(5)
    memory.add(own, demonstration=False)
    batch = memory.sample(size, fraction)
    assert len(batch.observations) == size
    assert int(batch.demonstration.sum()) == round(size * fraction)


def test_where_there_is_one_kind_only_the_whole_batch_is_of_it():
    memory = replay()
    with pytest.raises(ValueError, match="nothing to sample"):
        memory.sample(4, 0.5)
    memory.add(episode(5), demonstration=True)
    assert bool(memory.sample(10, 0.5).demonstration.all())
    other = replay()
    other.add(episode(5), demonstration=False)
    assert not bool(other.sample(10, 0.5).demonstration.any())


def test_it_grows_and_keeps_what_it_has():
    memory = replay()
    for k in range(40):
        memory.add(episode(60, seed=k), demonstration=k % 2 == 0)
    assert (memory.demonstrations, memory.experience) == (1200, 1200)
    seen = memory.sample(20_000, 0.5).observations[:, 0]
    assert set(seen.int().tolist()) == set(range(60))


def test_samples_repeat_from_a_kept_generator_state():
    memory = replay()
    memory.add(episode(50), demonstration=True)
    memory.add(episode(50, seed=1), demonstration=False)
    state = memory.generator_state()
    first = memory.sample(32, 0.5)
    assert not torch.equal(memory.sample(32, 0.5).actions, first.actions)
    memory.set_generator_state(state)
    assert torch.equal(memory.sample(32, 0.5).actions, first.actions)


def test_an_episode_that_does_not_fit_is_refused():
    memory = Replay(D + 1, A, discount=0.9)
    with pytest.raises(ValueError, match="expected observations"):
        memory.add(episode(5), demonstration=False)
    broken = episode(5)
    broken.rewards[2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        replay().add(broken, demonstration=False)
