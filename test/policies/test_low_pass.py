"""The low-pass on actions: the same for one action and a batch, and of the cut-off asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rl_robot.errors import UserError
from rl_robot.policies import PolicySpec
from rl_robot.policies.low_pass import LowPass
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import low_pass_gains
from rl_robot.robots.description import load_robot
from rl_robot.tasks import ObservationSpec, Reach, flat_size, flatten

TASK = Reach()
SPEC = PolicySpec.of(TASK, load_robot("arm"))
ACTIONS = arrays(np.float32, 5, elements=st.floats(-1, 1, width=32))
CUTOFFS = st.floats(0.01, 100.0)


def low_pass(cutoff):
    return LowPass(replace(SPEC, low_pass=low_pass_gains(TASK, cutoff)))


def observed(last):
    """Return a flat observation (D,) after the executed action ``last`` (5,)."""
    values = {name: np.full(e.shape, 0.05) for name, e in TASK.observation_spec.items()}
    values["action_history"] = np.array([np.full(5, 0.5), last])
    return torch.from_numpy(flatten(TASK.observation_spec, values))


def filtered(cutoff, asked, last):
    return low_pass(cutoff)(torch.tensor(asked), observed(last)).numpy()


@given(CUTOFFS, ACTIONS, ACTIONS)
def test_it_ends_between_the_executed_action_and_the_one_asked_for(cutoff, asked, last):
    result = filtered(cutoff, asked, last)
    assert np.all(result >= np.minimum(asked, last) - 1e-6)
    assert np.all(result <= np.maximum(asked, last) + 1e-6)


@given(CUTOFFS, ACTIONS, ACTIONS)
def test_binary_components_pass_unchanged(cutoff, asked, last):
    binary = np.array(TASK.binary_actions)
    assert np.array_equal(filtered(cutoff, asked, last)[binary], asked[binary])


@given(CUTOFFS, CUTOFFS, ACTIONS, ACTIONS)
def test_a_lower_cutoff_changes_less(one, other, asked, last):
    low, high = sorted((one, other))
    less, more = (np.abs(filtered(cutoff, asked, last) - last)[:4] for cutoff in (low, high))
    assert np.all(less <= more + 1e-6)


@given(st.floats(0.1, 3.0), st.integers(1, 20))
def test_a_step_is_answered_as_by_a_first_order_low_pass(cutoff, steps):
    asked, last = np.ones(5, np.float32), np.zeros(5, np.float32)
    for _ in range(steps):
        last = filtered(cutoff, asked, last)
    assert last[0] == pytest.approx(
        1 - math.exp(-math.tau * cutoff * steps * TASK.period), abs=1e-4
    )


def test_a_batch_is_filtered_row_by_row():
    random = np.random.default_rng(0)
    asked, last = random.uniform(-1, 1, (2, 6, 5)).astype(np.float32)
    together = low_pass(1.0)(torch.tensor(asked), torch.stack([observed(row) for row in last]))
    rows = [filtered(1.0, a, b) for a, b in zip(asked, last, strict=True)]
    np.testing.assert_allclose(together, rows, atol=1e-7)


def test_without_a_cutoff_nothing_is_changed():
    asked = torch.rand(3, 5)
    assert low_pass_gains(TASK, 0.0) == ()
    assert LowPass(SPEC)(asked, torch.zeros(3, flat_size(TASK.observation_spec))) is asked


def test_a_policy_acts_through_its_low_pass_and_its_file_keeps_it():
    spec = replace(SPEC, low_pass=low_pass_gains(TASK, 1.0), noise_correlation=0.25)
    policy = NetworkPolicy(spec, hidden=(8,))
    unfiltered = NetworkPolicy(SPEC, hidden=(8,))
    unfiltered.actor = policy.actor
    observation = {name: np.zeros(e.shape) for name, e in TASK.observation_spec.items()}
    observation["action_history"] = np.array([np.zeros(5), np.full(5, 0.9)])
    asked = unfiltered.act(observation, explore=False)
    wanted = filtered(1.0, asked, np.full(5, 0.9, np.float32))
    read = NetworkPolicy.from_bytes(policy.to_bytes())
    assert read.spec == spec
    unfiltered.adopt(read)
    for acting in (policy, read, unfiltered, policy.with_version(4)):
        np.testing.assert_allclose(acting.act(observation, explore=False), wanted, atol=1e-6)


class Forgetful(Reach):
    """Does not observe its executed actions."""

    @property
    def observation_spec(self):
        return {"goal_relative": ObservationSpec((3,), "m")}


def test_a_low_pass_that_can_not_be_is_refused():
    for cutoff in (-1.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"action_cutoff .*0 for no low-pass"):
            low_pass_gains(TASK, cutoff)
    with pytest.raises(UserError, match="observe action_history"):
        low_pass_gains(Forgetful(), 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"low_pass": (0.5,) * 4},
        {"low_pass": (0.5, 0.5, 0.5, 0.0, 1.0)},
        {"low_pass": (0.5, 0.5, 0.5, 1.5, 1.0)},
        {"low_pass": (0.5, 0.5, 0.5, math.nan, 1.0)},
        {"observation": {}},
        {"observation": {"action_history": ObservationSpec((5,), "1")}},
        {"observation": {"action_history": ObservationSpec((0, 5), "1")}},
        {"observation": {"action_history": ObservationSpec((2, 5), "1", -2.0, 2.0)}},
    ],
)
def test_a_specification_of_no_low_pass_is_refused(changes):
    spec = replace(SPEC, low_pass=(0.5,) * 5)
    with pytest.raises(ValueError, match=r"low|history"):
        LowPass(replace(spec, **changes))
