"""Does learning work at all? Small enough for every run of the tests, and for the whole chain.

Breaking the sign of the actor's loss, the targets' updates or the reward's sign makes it fail.
"""

import numpy as np
import pytest

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.training import Training, run_episodes
from rl_robot.learners import make_learner
from rl_robot.policies import script
from rl_robot.tasks import ScriptStrength

# Small and quick: the recipe itself is tried on the grasp.
QUICK = {
    "hidden": (64, 64),
    "batch_size": 128,
    "average_rate": 0.01,
    "initial_temperature": 0.03,
}
SLOW = ScriptStrength(speed=0.4, noise=0.4)


@pytest.fixture(scope="module")
def reach():
    env = RobotEnv("reach", perception="truth")
    yield env
    env.close()


def test_it_learns_to_reach_quicker_than_its_demonstrator(reach):
    demonstrator = script(reach.task, reach.robot, SLOW)
    demonstrations = run_episodes(reach, demonstrator, "train", range(20), explore=True)
    learner = make_learner("sac", reach.task, reach.robot, seed=0, **QUICK)
    training = Training(reach, learner, [d.transitions for d in demonstrations])
    training.update(500)
    training.explore(1600, updates_per_step=2.0)
    learned = run_episodes(reach, learner.policy(1), "test", range(20))
    shown = run_episodes(reach, demonstrator, "test", range(20))
    assert np.mean([result.success for result in learned]) >= 0.9
    assert np.mean([r.steps for r in learned]) < 0.7 * np.mean([r.steps for r in shown])
