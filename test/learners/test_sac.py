from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.experience.replay import Batch
from rl_robot.learners import make_learner
from rl_robot.learners.sac import Critics
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import PolicySpec
from rl_robot.robots.description import load_robot
from rl_robot.tasks import Grasp, Reach, flat_size

ROBOT = load_robot("arm")
TASK = Reach()
D, A = flat_size(TASK.observation_spec), len(TASK.action_names)
SMALL = {"hidden": (32, 32), "batch_size": 64}


def sac(seed=0, **options):
    return make_learner("sac", TASK, ROBOT, seed=seed, **{**SMALL, **options})


def batch(seed=0, size=64, *, demonstration=True, **values):
    random = torch.Generator().manual_seed(seed)
    whole = Batch(
        observations=2 * torch.rand(size, D, generator=random) - 1,
        actions=2 * torch.rand(size, A, generator=random) - 1,
        returns=torch.rand(size, generator=random) - 0.5,
        discounts=torch.full((size,), 0.9),
        next_observations=2 * torch.rand(size, D, generator=random) - 1,
        demonstration=torch.full((size,), demonstration),
    )
    return whole._replace(**values)


def weights(state, begin):
    return {name: value for name, value in state.items() if name.startswith(begin)}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_critics_come_to_the_discounted_sum_of_a_reward_that_never_ends():
    """Value 1 / (1 - 0.9): targets that don't follow would leave it at about 1."""
    learner = sac(learning_rate=3e-3, target_rate=0.1, initial_temperature=1e-6)
    forever = batch(returns=torch.ones(64))
    forever = forever._replace(next_observations=forever.observations)
    for _ in range(600):
        metrics = learner.update(forever)
    assert float(metrics["value"]) == pytest.approx(10.0, rel=0.1)


def test_a_true_end_has_no_value_after_it():
    learner = sac(learning_rate=3e-3, initial_temperature=1e-6)
    ending = batch(returns=torch.ones(64), discounts=torch.zeros(64))
    for _ in range(200):
        metrics = learner.update(ending)
    assert float(metrics["value"]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_policy_comes_to_the_action_that_pays(sign):
    learner = sac(learning_rate=3e-3, average_rate=0.1, imitation_weight=0.0)
    for seed in range(200):
        paid = batch(seed, discounts=torch.zeros(64))
        learner.update(paid._replace(returns=sign * paid.actions[:, 0]))
    with torch.no_grad():
        mean, _ = learner.policy(1).actor(batch().observations)
    assert bool((sign * torch.tanh(mean[:, 0]) > 0.8).all())


def test_what_is_valued_is_what_the_low_pass_lets_through():
    learner = sac(action_cutoff=0.5)
    policy = learner.policy(1)
    assert policy.spec.low_pass == pytest.approx((1 - np.exp(-0.1 * np.pi),) * 4 + (1.0,))
    seen = batch()
    with torch.no_grad():
        actions, _ = learner._act(seen.observations)
    last = seen.observations[:, -A:]  # reach observes its history last
    assert float((actions - last)[:, :4].abs().max()) <= 2.0 * policy.spec.low_pass[0] + 1e-6
    assert set(actions[:, 4].tolist()) == {-1.0, 1.0}


def test_the_exploration_is_as_correlated_as_asked_for():
    assert sac().policy(0).spec.noise_correlation == PolicySpec.noise_correlation
    assert sac(noise_correlation=0.0).explorer(0).spec.noise_correlation == 0.0
    with pytest.raises(UserError, match=r"noise_correlation 1\.0.*below 1"):
        sac(noise_correlation=1.0)
    with pytest.raises(UserError, match="action_cutoff -1"):
        sac(action_cutoff=-1.0)


def test_only_demonstrated_actions_are_imitated_and_only_better_ones():
    for demonstration in (True, False):
        learner = sac(actor_interval=1)
        metrics = learner.update(batch(demonstration=demonstration))
        assert (float(metrics["imitated"]) > 0) == demonstration
        assert (float(metrics["imitation_loss"]) > 0) == demonstration
        assert float(metrics["imitated"]) < 1.0


def test_targets_and_average_follow_at_their_rates():
    learner = sac(actor_interval=1, target_rate=0.25, average_rate=0.5)
    before = learner.state_dict()
    learner.update(batch())
    after = learner.state_dict()
    for follower, leader, rate in (("targets", "critics", 0.25), ("average", "actor", 0.5)):
        for name, value in weights(before, f"{follower}.").items():
            new = after[name.replace(follower, leader)]
            torch.testing.assert_close(after[name], value + rate * (new - value))


def test_the_actor_waits_for_its_turn():
    learner = sac(actor_interval=3)
    before = learner.state_dict()
    for turn in range(1, 4):
        learner.update(batch())
        unchanged = same(weights(before, "actor."), weights(learner.state_dict(), "actor."))
        assert unchanged == (turn < 3)


def test_the_temperature_falls_when_there_is_more_entropy_than_asked_for():
    for wanted, rises in ((-50.0, False), (50.0, True)):
        learner = sac(target_entropy=wanted, actor_interval=1)
        first = float(learner.update(batch())["temperature"])
        for _ in range(5):
            metrics = learner.update(batch())
        assert (float(metrics["temperature"]) > first) == rises


@given(st.integers(0, 2**31))
def test_the_critics_are_independent_networks(seed):
    torch.manual_seed(seed)
    critics = Critics(D, A, (16, 8), 3)
    observations, actions = batch(seed, 7).observations, batch(seed, 7).actions
    together = critics(observations, actions)
    assert together.shape == (3, 7)
    with torch.no_grad():
        for parameter in critics.parameters():
            parameter[1] += 1.0
    apart = critics(observations, actions)
    assert torch.equal(apart[[0, 2]], together[[0, 2]])
    assert not torch.equal(apart[1], together[1])


def test_the_same_seed_and_batches_give_the_same_weights_and_another_seed_does_not():
    learners = [sac(seed) for seed in (1, 1, 2)]
    for learner in learners:
        for number in range(4):
            learner.update(batch(number))
    first, again, other = (learner.state_dict() for learner in learners)
    assert same(first, again)
    assert not same(weights(first, "actor."), weights(other, "actor."))


@pytest.mark.parametrize("name", ["sac", "bc"])
def test_a_learner_goes_on_from_its_state_as_if_nothing_had_happened(name):
    learner = make_learner(name, TASK, ROBOT, **SMALL)
    for number in range(5):
        learner.update(batch(number))
    state = {key: value.clone() for key, value in learner.state_dict().items()}
    other = make_learner(name, TASK, ROBOT, seed=9, **SMALL)
    other.load_state_dict(state)
    for number in range(5):
        learner.update(batch(number))
        other.update(batch(number))
    assert same(learner.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ["sac", "bc"])
def test_a_state_of_something_else_is_refused(name):
    learner = make_learner(name, TASK, ROBOT, **SMALL)
    learner.update(batch())
    state = learner.state_dict()
    wide = make_learner(name, TASK, ROBOT, **{**SMALL, "hidden": (16, 16)})
    with pytest.raises(ValueError, match="not the state of this learner"):
        wide.load_state_dict(state)
    with pytest.raises(ValueError, match="not the state of this learner"):
        learner.load_state_dict({})


@pytest.mark.parametrize("name", ["sac", "bc"])
def test_policies_are_copies_that_say_what_made_them(name):
    learner = make_learner(name, TASK, ROBOT, **SMALL)
    for make in (learner.policy, learner.explorer):
        policy = make(7)
        assert (policy.spec.version, policy.spec.learner) == (7, name)
        kept = {key: value.clone() for key, value in policy.actor.state_dict().items()}
        learner.update(batch())
        learner.update(batch())
        assert same(kept, policy.actor.state_dict())
        assert NetworkPolicy.from_bytes(policy.to_bytes()).spec == policy.spec


def test_what_explores_is_the_newest_actor_and_what_is_judged_is_its_average():
    learner = sac(actor_interval=1, average_rate=0.0)
    learner.update(batch())
    explorer, judged = learner.explorer(1).actor.state_dict(), learner.policy(1).actor.state_dict()
    assert same(judged, sac().policy(1).actor.state_dict())
    assert not same(judged, explorer)


def test_unknown_learners_and_settings_are_refused():
    with pytest.raises(UserError, match="expected sac or bc"):
        make_learner("dqn", TASK, ROBOT)
    with pytest.raises(UserError, match="no speed: expected hidden, learning_rate"):
        make_learner("sac", TASK, ROBOT, speed=3)


def test_a_learner_fits_the_task_it_is_made_for():
    grasp = Grasp()
    policy = make_learner("sac", grasp, ROBOT).policy(0)
    policy.spec.require(grasp, ROBOT, "policy")
    with pytest.raises(UserError, match="made for"):
        policy.spec.require(replace(grasp, version=2), ROBOT, "policy")
    observation = {n: np.zeros(e.shape, np.float32) for n, e in grasp.observation_spec.items()}
    assert policy.act(observation, explore=True).shape == (5,)
